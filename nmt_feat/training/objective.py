"""What an update makes smaller: the loss of a batch by the model."""

from torch import Tensor, nn

from nmt_feat.embedders.ids import PAD
from nmt_feat.model.loss import fused_loss, plain_loss
from nmt_feat.model.transformer import Transformer


class Objective(nn.Module):
    """Model and loss in one module, so that data-parallel training wraps both."""

    def __init__(self, model: Transformer, smoothing: float, fused: bool) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.loss = fused_loss if fused else plain_loss

    def forward(
        self,
        source: Tensor,
        features: dict[str, Tensor],
        target_in: Tensor,
        target_out: Tensor,
        real: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss and negative log-likelihood, in nats.

        Ids `(B, S)` and `(B, T)`; `real` are the positions `(N,)` in the flattened target that are
        not padding. The batch brings them, because finding them would mean waiting for a GPU.
        """
        hidden = self.model(source, features, source != PAD, target_in).flatten(0, 1)  # (B * T, D)
        states, right = hidden.index_select(0, real), target_out.flatten().index_select(0, real)
        return self.loss(states, self.model.target.words.weight, right, self.smoothing)
