"""What an update makes smaller: the loss of a model on a batch."""

from torch import Tensor, nn

from nmt_feat.embedders.ids import PAD
from nmt_feat.model.loss import fused_loss, plain_loss
from nmt_feat.model.translation_model import LossFunction, TranslationModel


class Objective(nn.Module):
    """Model and loss in one module, because data-parallel training wraps one module."""

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
        """The losses of a batch.

        Args:
            source, features: ids `(B, S)`.
            target_in, target_out: ids `(B, T)`.
            real: `(N,)`, the positions in the flattened target that are not padding. The batch
                brings them, because to find them here would mean waiting for a GPU.

        Returns:
            The summed smoothed loss, with the method's own loss if it has one; and the summed
            negative log-likelihood of the translation. Both are in nats.
        """
        mask = source != PAD
        memory = self.model.encode(source, features, mask)  # (B, S, D)
        hidden = self.model.decode(target_in, memory, mask).flatten(0, 1)  # (B * T, D)
        states, right = hidden.index_select(0, real), target_out.flatten().index_select(0, real)
        loss, nll = self.model.compute_loss(states, right, self.smoothing, self.loss)
        method_loss = self.model.method.compute_loss(memory, features)
        if method_loss is not None:
            loss = loss + method_loss
        return loss, nll
