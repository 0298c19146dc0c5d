"""Features that are a number per token."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nmt_feat.embedders.categorical import make_table
from nmt_feat.embedders.ids import FIRST

WITHOUT_NUMBER = FIRST + 2
"""Ids that may stand for no number: the special ones, `<inside>`, and `_`."""


class Linear(nn.Module):
    """`x w + b` for the number x of an id, standardised: mean 0 and deviation 1 in train.

    w starts N(0, std), b at 0, so that the result has the scale of other tables. Ids that stand for
    no number, as those of padding, have embeddings of their own.

    Args:
        size: number of ids, special ones included.
        dim: width of the result.
        std: scale at the start.
    """

    numeric = True
    """Reads ids that stand for numbers."""
    numbers: Tensor
    is_number: Tensor

    def __init__(self, size: int, dim: int, std: float) -> None:
        super().__init__()
        self.special = make_table(WITHOUT_NUMBER, dim, std)
        self.line = nn.Linear(1, dim)
        nn.init.normal_(self.line.weight, std=std)
        nn.init.zeros_(self.line.bias)
        # Both follow from the vocabulary, so no checkpoint has them.
        self.register_buffer("numbers", torch.zeros(size), persistent=False)
        self.register_buffer("is_number", torch.zeros(size, dtype=torch.bool), persistent=False)

    def load_numbers(self, numbers: Sequence[float | None], counts: Sequence[int]) -> None:
        """Take over what the ids from `FIRST` on stand for, and how often train has each."""
        pairs = [(x, n) for x, n in zip(numbers, counts, strict=True) if x is not None]
        total = max(sum(n for _, n in pairs), 1)
        mean = sum(x * n for x, n in pairs) / total
        deviation = math.sqrt(sum((x - mean) ** 2 * n for x, n in pairs) / total) or 1.0
        for i, number in enumerate(numbers, FIRST):
            if number is not None:
                self.numbers[i], self.is_number[i] = (number - mean) / deviation, True

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids to (B, T, dim)."""
        on_line = self.line(self.numbers[ids][..., None])
        special = self.special(ids.clamp(max=WITHOUT_NUMBER - 1)).to(on_line.dtype)
        return torch.where(self.is_number[ids][..., None], on_line, special)
