"""Embedding layer: look up, combine, times sqrt(dim), plus positions, dropout. Always so."""

import math

import torch
from torch import Tensor, nn

from nmt_feat.combiners import Combiner
from nmt_feat.model.dropout import dropout


def positions(first: int, length: int, dim: int, like: Tensor) -> Tensor:
    """Sinusoidal positions `(length, dim)` from `first` on (Vaswani et al. 2017, section 3.5).

    Sines, then cosines, of rates that fall from 1 to 1/10000: as that paper's code has it, where
    its formula has them alternate and ends just above 1/10000.
    """
    step = -math.log(10000.0) / max(dim // 2 - 1, 1)
    rates = torch.exp(torch.arange((dim + 1) // 2, device=like.device, dtype=torch.float32) * step)
    places = torch.arange(first, first + length, device=like.device, dtype=torch.float32)
    angles = places[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :dim].to(like.dtype)


class TargetEmbedding(nn.Module):
    """Target pieces, `(batch, time)` ids, to `(batch, time, dim)`."""

    def __init__(self, words: nn.Embedding, dropout: float) -> None:
        super().__init__()
        self.words = words
        self.dropout = dropout

    def forward(self, ids: Tensor, first: int = 0) -> Tensor:
        """Embed `ids` that stand at positions `first`, `first + 1` and so on."""
        dim = self.words.embedding_dim
        x = self.words(ids) * math.sqrt(dim)
        x = x + positions(first, ids.shape[1], dim, x)
        return dropout(x, self.dropout, self.training)


class SourceEmbedding(nn.Module):
    """Source pieces and their features, merged by a combiner.

    Args:
        words: table of the pieces, as wide as `combiner.widths` says.
        features: the features' embedders by name, in the combiner's order.
        combiner: the method.
        dropout: dropout of the result.
    """

    def __init__(
        self,
        words: nn.Embedding,
        features: dict[str, nn.Module],
        combiner: Combiner,
        dropout: float,
    ) -> None:
        super().__init__()
        self.words = words
        self.features = nn.ModuleDict(features)
        self.combiner = combiner
        self.dropout = dropout

    def forward(self, ids: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Embed `ids` and `features`, each `(batch, time)`, as `(batch, time, dim)`."""
        parts = [self.words(ids)]
        parts += [embed(features[name]) for name, embed in self.features.items()]
        x = self.combiner(parts)
        dim = x.shape[-1]
        x = x * math.sqrt(dim)
        x = x + positions(0, ids.shape[1], dim, x)
        return dropout(x, self.dropout, self.training)
