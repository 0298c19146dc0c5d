"""Features that are predicted, not read."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from nmt_feat.combiners.base import make_linear
from nmt_feat.embedders.ids import FIRST
from nmt_feat.errors import UserError
from nmt_feat.methods.base import Method


class Multitask(Method):
    """`L + weight * (-log softmax(U h + c)[t])`: the encoder's output h predicts the tag t.

    Multi-task learning after Niehues & Cho (2017), where translation and tagging share an encoder.
    Here each feature has one linear layer, and both tasks learn from the same sentences. The second
    loss is summed over features and pieces, as L is over target pieces, without end symbols and
    pieces whose value is unknown. Translation needs no features.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `Method`.
        weight: of the loss of a tag; that of a target piece has weight 1.
    """

    uses_combiner = False
    reads_features = False
    exportable = True

    def __init__(
        self,
        dim: int,
        sizes: Mapping[str, int],
        embedding: nn.Module | None = None,
        weight: float = 0.1,
    ) -> None:
        super().__init__(dim, sizes)
        if not weight > 0:
            raise UserError(f"method.args.weight={weight}: must be above 0")
        self.weight = weight
        self.taggers = nn.ModuleDict(
            {name: make_linear(dim, size - FIRST) for name, size in sizes.items()}
        )

    def compute_loss(self, memory: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """The weighted second loss of the encoder's output `(B, S, dim)`; features `(B, S)`."""
        loss = memory.new_zeros(())
        for name, tagger in self.taggers.items():
            logits = tagger(memory).flatten(0, 1).float()  # (B * S, values)
            tags = (features[name].flatten() - FIRST).clamp(min=-1)  # -1: padding, unknown, end
            loss = loss + F.cross_entropy(logits, tags, ignore_index=-1, reduction="sum")
        return self.weight * loss
