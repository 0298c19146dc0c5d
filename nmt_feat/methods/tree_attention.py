"""Attention that knows which word each word depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmt_feat.base.names import to_snake_case
from nmt_feat.embedders.ids import FIRST, PAD
from nmt_feat.errors import UserError
from nmt_feat.methods.base import Method

HEADS = "heads"
"""The feature that says where heads are, unless a setting names another one."""


def find_heads(ids: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
    """The number of each piece's word, and of the head of that word; -1 where it has none.

    All pieces of a word share its head, and a root is its own head:

        pieces     the  bak ers  wait  </s>
        ids        +1    +1 <in>    0   END    (as words further on)
        words        0    1    1    2     3
        heads        1    2    2    2    -1

    Args:
        ids: `(B, S)`; the first piece of a word has the distance of its head, the others `FIRST`.
        distances: `(values,)`, what ids stand for, in words; nan where that is no number.
    """
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    begins = (ids != PAD) & (ids != FIRST)
    words = (begins.cumsum(1) - 1).clamp(min=0)
    first = torch.where(begins, places, 0).cummax(1).values  # the place where the word begins
    heads = words + distances[ids].gather(1, first)
    is_word = (heads >= 0) & (heads < ids.shape[1])  # false for nan
    return words, torch.where(is_word, heads, -1).long()


def find_parents(ids: Tensor, distances: Tensor) -> Tensor:
    """Where the head of each piece's word is: the middle of its pieces; nan where it has none.

    In the example above the middles of the words are 0, 1.5, 3 and 4, and the parents 1.5, 3, 3, 3
    and nan. Arguments as of `find_heads`.
    """
    words, heads = find_heads(ids, distances)
    places, real = torch.arange(ids.shape[1], device=ids.device).expand_as(ids), ids != PAD
    counts = torch.zeros_like(ids).scatter_add(1, words, real.long())
    sums = torch.zeros_like(ids).scatter_add(1, words, places * real)
    middles = sums / counts  # (B, S) by word; nan behind the last one
    return middles.gather(1, heads.clamp(min=0)).masked_fill(heads < 0, math.nan)


def measure_distances(ids: Tensor, distances: Tensor, most: int) -> Tensor:
    """How many steps of the tree lie between the words of two pieces, `(B, S, S)`.

    `most` where there are as many or more; -1 where one of both words has no head. Arguments as of
    `find_heads`. In its example `the` and `wait` are 2 apart, the pieces of `bakers` 0.
    """
    words, heads = find_heads(ids, distances)
    count = ids.shape[1]
    has_head, rows = heads >= 0, torch.arange(len(ids), device=ids.device)[:, None]
    # A last column, which is cut off, is that of words without a head. To leave these out instead
    # would mean waiting for a GPU.
    steps = torch.zeros(len(ids), count, count + 1, device=ids.device)  # from word to word
    steps[rows, words, torch.where(has_head, heads, count)] = 1
    steps = steps[:, :, :count]
    steps = steps + steps.transpose(1, 2)
    reached = torch.eye(count, device=ids.device).expand_as(steps)
    between = torch.full_like(steps, most)
    for number in range(most):  # `reached`: above 0 for words at most so far away
        between = torch.where((reached > 0) & (between == most), number, between)
        reached = reached + reached @ steps
    by_piece = between.gather(1, words[:, :, None].expand(-1, -1, count))
    by_piece = by_piece.gather(2, words[:, None, :].expand(-1, count, -1))
    return by_piece.masked_fill(~(has_head[:, :, None] & has_head[:, None, :]), -1).long()


class HeadReader(Method):
    """The base of methods whose attention reads heads, from a feature that is not embedded.

    This feature gives distances to heads, in words, on the first piece of each word. The combiner
    merges the other features with the word.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        heads: the name of that feature.
    """

    reads_heads = True

    def __init__(self, dim: int, sizes: Mapping[str, int], heads: str) -> None:
        super().__init__(dim, sizes)
        if heads not in sizes:
            raise UserError(
                f"method={to_snake_case(type(self).__name__)}: needs the feature {heads}, which "
                f"says where heads are; choose it: features=[{','.join((*sizes, heads))}]"
            )
        self.heads = heads
        self.distances: Tensor
        # They follow from the vocabulary, so no checkpoint has them.
        distances = torch.full((sizes[heads],), math.nan)
        self.register_buffer("distances", distances, persistent=False)

    @classmethod
    def merges_feature(cls, name: str, args: Mapping[str, Any]) -> bool:
        """All but the heads."""
        return name != str(args.get("heads", HEADS))

    def load_values(self, values: Mapping[str, Sequence[str]]) -> None:
        """Note the distances that ids stand for."""
        for number, value in enumerate(values[self.heads], start=FIRST):
            try:
                self.distances[number] = float(value)
            except ValueError:  # inside of a word, or no head
                self.distances[number] = math.nan


class TreeAttention(HeadReader):
    """`softmax((Q K^T / sqrt(d)) * D) V`, `D_ij = N(j; p_i, s^2)`: attention scaled by the tree.

    Parent-scaled self-attention, PASCAL, of Bugliarello & Okazaki (2020): in the first layers of
    the encoder (theirs: in the first one, in all of its attention heads) the score of pieces i and
    j is multiplied by the density at j of a normal distribution around p_i, the middle of the
    pieces of the head of i's word. A root is its own head. It has no parameters. Parent ignoring:
    in training, with probability q, a piece's factors are 1; here drawn once for all attention
    heads. The end symbol, and words without a head, have the factor 1.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `Method`.
        heads: the name of that feature.
        layers: how many layers of the encoder, from the first on.
        deviation: s, in pieces.
        ignored: the probability q.
    """

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
        super().__init__(dim, sizes, heads)
        if layers < 1 or not deviation > 0 or not 0 <= ignored < 1:
            raise UserError(
                f"method=tree_attention: layers={layers}, deviation={deviation}, ignored="
                f"{ignored}: at least 1 layer, a deviation above 0, a probability below 1"
            )
        self.layers, self.deviation, self.ignored = layers, deviation, ignored

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


class TreeDistance(HeadReader):
    """`softmax(Q K^T / sqrt(d) + b[min(t_ij, n)]) V`: attention with a bias by tree distance.

    Dependency-distance attention: t_ij is the number of steps of the tree between the words of
    pieces i and j, in either direction; b, of each layer, is learned, and shared by its attention
    heads. After the dependency-aware attention of Chi et al. (2026), who also make a bias of the
    distances; how they scale it could not be read. Here it is added, as those of relative positions
    are, and starts at `-strength * t`. It is 0 where one of the words has no head, so also at the
    end symbol.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `Method`.
        heads: the name of the feature that says where heads are.
        layers: how many layers of the encoder, from the first on.
        most: the largest distance n; others count as this one.
        strength: how fast b falls at the start; 0 starts with plain attention.
    """

    def __init__(
        self,
        dim: int,
        sizes: Mapping[str, int],
        embedding: nn.Module | None = None,
        heads: str = HEADS,
        layers: int = 1,
        most: int = 4,
        strength: float = 1.0,
    ) -> None:
        super().__init__(dim, sizes, heads)
        if layers < 1 or most < 1 or most % 1 or not strength >= 0:
            raise UserError(
                f"method=tree_distance: layers={layers}, most={most}, strength={strength}: at "
                "least 1 layer, a whole distance of at least 1, a strength of at least 0"
            )
        self.layers, self.most = layers, most
        self.bias = nn.Parameter(-strength * torch.arange(most + 1.0).repeat(layers, 1))

    def bias_attention(self, layer: int, features: Mapping[str, Tensor]) -> Tensor | None:
        """The bias `(B, 1, S, S)`."""
        if layer >= self.layers:
            return None
        between = measure_distances(features[self.heads], self.distances, self.most)
        bias = self.bias[layer][between.clamp(min=0)]
        return torch.where(between < 0, 0.0, bias)[:, None]
