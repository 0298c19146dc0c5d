"""Features that are a number per token."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nmt_feat.embedders.categorical import make_table
from nmt_feat.embedders.ids import FIRST

NON_NUMBERS = FIRST + 2
"""Only ids below this may stand for no number: the special ids, `<inside>`, and `_`."""


class Linear(nn.Module):
    """`x w + b` for the number x of an id, standardised: mean 0 and deviation 1 in train.

    w starts N(0, std), b at 0, so that the result has the scale of other tables. An id that stands
    for no number, such as padding, has an embedding instead.

    Args:
        size: number of ids, special ones included.
        dim: width of the result.
        std: scale at the start.
    """

    reads = "numbers"
    """What it reads: ids that stand for numbers."""
    numbers: Tensor
    """`(size,)`: the standardised number of each id."""
    is_number: Tensor
    """`(size,)`: whether the id stands for a number."""

    def __init__(self, size: int, dim: int, std: float) -> None:
        super().__init__()
        self.special = make_table(NON_NUMBERS, dim, std)
        self.line = nn.Linear(1, dim)
        nn.init.normal_(self.line.weight, std=std)
        nn.init.zeros_(self.line.bias)
        # Both follow from the vocabulary, so no checkpoint has them.
        self.register_buffer("numbers", torch.zeros(size), persistent=False)
        self.register_buffer("is_number", torch.zeros(size, dtype=torch.bool), persistent=False)

    def load_numbers(self, numbers: Sequence[float | None], counts: Sequence[int]) -> None:
        """Standardise and store the numbers.

        Args:
            numbers: what the ids from `FIRST` on stand for; None where that is no number.
            counts: how often each of these ids stands in the training text.
        """
        pairs = [(x, n) for x, n in zip(numbers, counts, strict=True) if x is not None]
        total = max(sum(n for _, n in pairs), 1)
        mean = sum(x * n for x, n in pairs) / total
        variance = sum((x - mean) ** 2 * n for x, n in pairs) / total
        deviation = math.sqrt(variance) or 1.0
        for i, number in enumerate(numbers, FIRST):
            if number is not None:
                self.numbers[i] = (number - mean) / deviation
                self.is_number[i] = True

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids to (B, T, dim)."""
        on_line = self.line(self.numbers[ids][..., None])
        special = self.special(ids.clamp(max=NON_NUMBERS - 1)).to(on_line.dtype)
        return torch.where(self.is_number[ids][..., None], on_line, special)
