"""Features that are ready-made word vectors: a second embedding of the same token."""

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nmt_feat.embedders.categorical import make_table
from nmt_feat.embedders.ids import FIRST


class Vectors(nn.Module):
    """`P v + p` for a ready-made vector v of a word, as Kiela et al. (2018) project theirs.

    Averaged or concatenated with the word's own embedding it is the meta-embedding of Coates &
    Bollegala (2018), whose vectors are not trained together. The vectors are divided by the root
    mean square of their elements, and P starts N(0, std) divided by the square root of `width`, so
    that the result has the scale of other tables. Words that are not in the file share one trained
    embedding, and the end symbol has another.

    Args:
        size: number of ids, special ones included.
        dim: width of the result.
        std: scale at the start.
        width: of the vectors.
        frozen: whether the vectors stay as they are; P is always trained.
    """

    def __init__(self, size: int, dim: int, std: float, width: int, frozen: bool = True) -> None:
        super().__init__()
        self.special = make_table(FIRST, dim, std)
        rows = max(1, size - FIRST)
        self.table = nn.Embedding(rows, width, _weight=torch.zeros(rows, width))
        self.table.weight.requires_grad_(not frozen)
        self.projection = nn.Linear(width, dim)
        nn.init.normal_(self.projection.weight, std=std * width**-0.5)
        nn.init.zeros_(self.projection.bias)

    @torch.no_grad()
    def load_vectors(self, vectors: NDArray) -> None:  # type: ignore[type-arg]
        """Copy the scaled vectors, `(size - FIRST, width)`, into the table."""
        numbers = torch.from_numpy(vectors)
        scale = numbers.square().mean().sqrt().clamp(min=1e-12)
        self.table.weight.copy_(numbers / scale)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids to (B, T, dim)."""
        x = self.projection(self.table((ids - FIRST).clamp(min=0)))
        special = self.special(ids.clamp(max=FIRST - 1)).to(x.dtype)
        return torch.where((ids < FIRST)[..., None], special, x)
