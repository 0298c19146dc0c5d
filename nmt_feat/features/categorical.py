"""Features that are one value per token."""

import torch
from torch import Tensor, nn

from nmt_feat.corpus.columns import FeatureVocab, values

__all__ = ["Categorical", "FeatureVocab", "values"]


class Categorical(nn.Module):
    """A table with a vector per value: N(0, std), zero and without gradient for padding."""

    def __init__(self, size: int, dim: int, std: float) -> None:
        super().__init__()
        self.table = nn.Embedding(size, dim, padding_idx=0)
        nn.init.normal_(self.table.weight, std=std)
        with torch.no_grad():
            self.table.weight[0].zero_()

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids to (B, T, dim)."""
        embedded: Tensor = self.table(ids)
        return embedded
