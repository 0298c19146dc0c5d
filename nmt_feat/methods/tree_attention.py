"""Attention that knows which word each word depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmt_feat.embedders.ids import FIRST, PAD
from nmt_feat.errors import UserError
from nmt_feat.methods.base import Method

HEADS = "heads"
"""The feature that says where heads are, unless a setting names another one."""


def find_parents(ids: Tensor, distances: Tensor) -> Tensor:
    """Where the head of each piece's word is: the middle of its pieces; nan where it has none.

    All pieces of a word share its head, and a root is its own head:

        pieces     the  bak ers  wait  </s>
        ids        +1    +1 <in>    0   END    (as words further on)
        words        0    1    1    2     3
        middles      0  1.5  1.5    3
        parents    1.5    3    3    3   nan

    Args:
        ids: `(B, S)`; the first piece of a word has the distance of its head, the others `FIRST`.
        distances: `(values,)`, what ids stand for, in words; nan where that is no number.
    """
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    real = ids != PAD
    begins = real & (ids != FIRST)
    words = (begins.cumsum(1) - 1).clamp(min=0)  # (B, S), the number of each piece's word
    first = torch.where(begins, places, 0).cummax(1).values  # the place where it begins
    counts = torch.zeros_like(ids).scatter_add(1, words, real.long())
    sums = torch.zeros_like(ids).scatter_add(1, words, places * real)
    middles = sums / counts  # (B, S) by word; nan behind the last one
    heads = words + distances[ids].gather(1, first)
    is_word = (heads >= 0) & (heads < ids.shape[1])  # false for nan
    parents = middles.gather(1, torch.where(is_word, heads, 0).long())
    return parents.masked_fill(~is_word, math.nan)


class TreeAttention(Method):
    """`softmax((Q K^T / sqrt(d)) * D) V`, `D_ij = N(j; p_i, s^2)`: attention scaled by the tree.

    Parent-scaled self-attention, PASCAL, of Bugliarello & Okazaki (2020): in the first layers of
    the encoder (theirs: in the first one, in all of its attention heads) the score of pieces i and
    j is multiplied by the density at j of a normal distribution around p_i, the middle of the
    pieces of the head of i's word. A root is its own head. It has no parameters. Parent ignoring:
    in training, with probability q, a piece's factors are 1; here drawn once for all attention
    heads. The end symbol, and words without a head, have the factor 1.

    The heads are those of a feature, as distances in words on the first piece of each word. It is
    not embedded; the combiner merges the other features with the word.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `Method`.
        heads: the name of that feature.
        layers: how many layers of the encoder, from the first on.
        deviation: s, in pieces.
        ignored: q.
    """

    reads_heads = True

    def __init__(
        self,
        dim: int,
        sizes: Mapping[str, int],
        embedding: nn.Module | None = None,
        heads: str = HEADS,
        layers: int = 1,
        deviation: float = 1.0,
        ignored: float = 0.0,
    ) -> None:
        super().__init__(dim, sizes)
        if heads not in sizes:
            raise UserError(
                f"method=tree_attention: needs the feature {heads}, which says where heads are; "
                f"choose it: features=[{','.join((*sizes, heads))}]"
            )
        if layers < 1 or not deviation > 0 or not 0 <= ignored < 1:
            raise UserError(
                f"method=tree_attention: layers={layers}, deviation={deviation}, ignored="
                f"{ignored}: at least 1 layer, a deviation above 0, a probability below 1"
            )
        self.heads, self.layers, self.deviation, self.ignored = heads, layers, deviation, ignored
        self.distances: Tensor
        # They follow from the vocabulary, so no checkpoint has them.
        distances = torch.full((sizes[heads],), math.nan)
        self.register_buffer("distances", distances, persistent=False)

    @classmethod
    def merges_feature(cls, name: str, args: Mapping[str, Any]) -> bool:
        """All but the heads."""
        return name != str(args.get("heads", HEADS))

    def load_values(self, values: Mapping[str, Sequence[str]]) -> None:
        """Take over the distances that ids stand for."""
        for number, value in enumerate(values[self.heads], start=FIRST):
            try:
                self.distances[number] = float(value)
            except ValueError:  # inside of a word, or no head
                self.distances[number] = math.nan

    def scale_attention(self, layer: int, features: Mapping[str, Tensor]) -> Tensor | None:
        """The factors `(B, 1, S, S)`: rows are the pieces that attend."""
        if layer >= self.layers:
            return None
        ids = features[self.heads]
        parents = find_parents(ids, self.distances)[..., None]  # (B, S, 1)
        places = torch.arange(ids.shape[1], device=ids.device)
        exponents = -((places - parents) ** 2) / (2 * self.deviation**2)
        factors = exponents.exp() / (self.deviation * math.sqrt(2 * math.pi))
        is_free = parents.isnan()
        if self.training and self.ignored:
            is_free = is_free | (torch.rand(parents.shape, device=ids.device) < self.ignored)
        return torch.where(is_free, 1.0, factors)[:, None]
