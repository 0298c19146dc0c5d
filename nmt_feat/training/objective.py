"""What an update makes smaller: the loss of a batch by the model."""

from torch import Tensor, nn

from nmt_feat.embedders.ids import PAD
from nmt_feat.model.loss import fused_loss, plain_loss
from nmt_feat.model.translation_model import LossFunction, TranslationModel


class Objective(nn.Module):
    """Model and loss in one module, so that data-parallel training wraps both."""

    def __init__(self, model: TranslationModel, smoothing: float, fused: bool) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.loss: LossFunction = fused_loss if fused else plain_loss

    def forward(
        self,
        source: Tensor,
        features: dict[str, Tensor],
        target_in: Tensor,
        target_out: Tensor,
        real: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss, with that of a method that has one, and negative log-likelihood.

        Both in nats; the second is that of the translation alone.

        Ids `(B, S)` and `(B, T)`; `real` are the positions `(N,)` in the flattened target that are
        not padding. The batch brings them, because finding them would mean waiting for a GPU.
        """
        mask = source != PAD
        memory = self.model.encode(source, features, mask)  # (B, S, D)
        hidden = self.model.decode(target_in, memory, mask).flatten(0, 1)  # (B * T, D)
        states, right = hidden.index_select(0, real), target_out.flatten().index_select(0, real)
        loss, nll = self.model.compute_loss(states, right, self.smoothing, self.loss)
        further = self.model.method.compute_loss(memory, features)
        return (loss if further is None else loss + further), nll
