"""Features that are one value per token."""

import torch
from torch import Tensor, nn


def make_table(size: int, dim: int, std: float) -> nn.Embedding:
    """A table of `size` embeddings ~ N(0, std^2); row 0, for padding, is zero and not trained."""
    embedding = nn.Embedding(size, dim, padding_idx=0)
    nn.init.normal_(embedding.weight, std=std)
    with torch.no_grad():
        embedding.weight[0].zero_()
    return embedding


def extend_table(table: nn.Embedding, count: int, std: float) -> nn.Embedding:
    """A copy of the table with `count` more rows, which are drawn as by `make_table`."""
    size, dim = table.weight.shape
    longer = make_table(size + count, dim, std)
    with torch.no_grad():
        longer.weight[:size] = table.weight
    return longer


class Categorical(nn.Module):
    """A table with a vector per value, see `make_table`."""

    def __init__(self, size: int, dim: int, std: float) -> None:
        super().__init__()
        self.table = make_table(size, dim, std)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids to (B, T, dim)."""
        embedded: Tensor = self.table(ids)
        return embedded
