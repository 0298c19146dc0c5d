"""Attention that reads the dependency tree of the source sentence."""

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
"""The feature that gives the positions of heads, unless a setting names another feature."""


def find_heads(ids: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
    """For each piece, the number of its word and that of the word's head; -1 if there is no head.

    All pieces of a word share its head, and a root is its own head:

        pieces     the  bak ers  wait  </s>
        ids        +1    +1 <in>    0   END    (words to the head)
        words        0    1    1    2     3
        heads        1    2    2    2    -1

    Args:
        ids: `(B, S)`; the first piece of a word has the distance to its head, the others `FIRST`.
        distances: `(values,)`, the distance of each id, in words; nan if the id is not a distance.
    """
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    begins = (ids != PAD) & (ids != FIRST)
    words = (begins.cumsum(1) - 1).clamp(min=0)
    word_starts = torch.where(begins, positions, 0).cummax(1).values  # of each piece's word
    heads = words + distances[ids].gather(1, word_starts)
    is_word = (heads >= 0) & (heads < ids.shape[1])  # false for nan
    return words, torch.where(is_word, heads, -1).long()


def find_parents(ids: Tensor, distances: Tensor) -> Tensor:
    """For each piece, the middle position of the pieces of its word's head; nan without a head.

    In the example above the middles of the words are 0, 1.5, 3 and 4, and the parents 1.5, 3, 3, 3
    and nan. For the arguments see `find_heads`.
    """
    words, heads = find_heads(ids, distances)
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    is_real = ids != PAD
    counts = torch.zeros_like(ids).scatter_add(1, words, is_real.long())
    sums = torch.zeros_like(ids).scatter_add(1, words, positions * is_real)
    middles = sums / counts  # (B, S) by word; nan behind the last word
    return middles.gather(1, heads.clamp(min=0)).masked_fill(heads < 0, math.nan)


def measure_distances(ids: Tensor, distances: Tensor, most: int) -> Tensor:
    """How many edges of the tree lie between the words of two pieces, `(B, S, S)`.

    `most` stands for this distance and all larger ones, -1 for a pair in which a word has no head.
    For the other arguments see `find_heads`. In the example there, `the` and `wait` are 2 apart,
    and the pieces of `bakers` 0.
    """
    words, heads = find_heads(ids, distances)
    count = ids.shape[1]
    has_head, rows = heads >= 0, torch.arange(len(ids), device=ids.device)[:, None]
    # Words without a head get an edge to one column more, which is cut off. To select the others
    # instead would mean waiting for a GPU.
    edges = torch.zeros(len(ids), count, count + 1, device=ids.device)  # from word to word
    edges[rows, words, torch.where(has_head, heads, count)] = 1
    edges = edges[:, :, :count]
    edges = edges + edges.transpose(1, 2)
    # Before round n, `is_near` is 1 exactly for words that are at most n edges apart, else 0. The
    # numbers of paths between them would grow beyond what a float holds, and inf * 0 is nan.
    is_near = torch.eye(count, device=ids.device).expand_as(edges)
    between = torch.full_like(edges, most)
    for distance in range(most):
        between = torch.where((is_near > 0) & (between == most), distance, between)
        is_near = (is_near + is_near @ edges > 0).to(edges.dtype)
    by_piece = between.gather(1, words[:, :, None].expand(-1, -1, count))
    by_piece = by_piece.gather(2, words[:, None, :].expand(-1, count, -1))
    both_have_heads = has_head[:, :, None] & has_head[:, None, :]
    return by_piece.masked_fill(~both_have_heads, -1).long()


class HeadReader(Method):
    """Base class of methods whose attention reads heads, from a feature that is not embedded.

    This feature gives the distance to the head, in words, at the first piece of each word. The
    combiner merges the other features with the word.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        heads: the name of this feature.
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
        """Whether the feature is another one than the heads."""
        return name != str(args.get("heads", HEADS))

    def load_values(self, values: Mapping[str, Sequence[str]]) -> None:
        """Store the distance that each id stands for."""
        for number, value in enumerate(values[self.heads], start=FIRST):
            try:
                self.distances[number] = float(value)
            except ValueError:  # a piece inside of a word, or no head
                self.distances[number] = math.nan


class TreeAttention(HeadReader):
    """`softmax((Q K^T / sqrt(d)) * D) V`, `D_ij = N(j; p_i, s^2)`: attention scaled by the tree.

    Parent-scaled self-attention, PASCAL, of Bugliarello & Okazaki (2020). The score of pieces i and
    j is multiplied by the density at j of a normal distribution around p_i. This is the middle of
    the pieces of the head of i's word; a root is its own head. It happens in the first layers of
    the encoder (in the paper, in the first one) and in all attention heads, and adds no parameters.
    Parent ignoring: in training, with probability q, the factors of a piece are 1; here one draw
    counts for all attention heads. The end symbol and words without a head have the factor 1.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `Method`.
        heads: the name of the feature that gives the positions of heads.
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
        self.changed_layers, self.deviation, self.ignored = layers, deviation, ignored

    def scale_attention(self, layer: int, features: Mapping[str, Tensor]) -> Tensor | None:
        """The factors `(B, 1, S, S)`; a row belongs to the piece that attends."""
        if layer >= self.changed_layers:
            return None
        ids = features[self.heads]
        parents = find_parents(ids, self.distances)[..., None]  # (B, S, 1)
        positions = torch.arange(ids.shape[1], device=ids.device)
        exponents = -((positions - parents) ** 2) / (2 * self.deviation**2)
        factors = exponents.exp() / (self.deviation * math.sqrt(2 * math.pi))
        is_free = parents.isnan()
        if self.training and self.ignored:
            is_free = is_free | (torch.rand(parents.shape, device=ids.device) < self.ignored)
        return torch.where(is_free, 1.0, factors)[:, None]


class TreeDistance(HeadReader):
    """`softmax(Q K^T / sqrt(d) + b[min(t_ij, n)]) V`: attention with a bias by tree distance.

    Dependency-distance attention. t_ij is the number of edges of the tree between the words of
    pieces i and j, in either direction. Each layer learns its own b, which its attention heads
    share. This follows the dependency-aware attention of Chi et al. (2026), which also turns
    distances into a bias; we could not read how they scale it. Here the bias is added, like that of
    relative positions, and starts at `-strength * t`. It is 0 if one of the words has no head, so
    also at the end symbol.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `Method`.
        heads: the name of the feature that gives the positions of heads.
        layers: how many layers of the encoder, from the first on.
        most: the largest distance n; larger ones count as n.
        strength: how fast b falls with the distance at the start; 0 starts with plain attention.
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
        self.changed_layers, self.most = layers, most
        self.bias = nn.Parameter(-strength * torch.arange(most + 1.0).repeat(layers, 1))

    def bias_attention(self, layer: int, features: Mapping[str, Tensor]) -> Tensor | None:
        """The bias `(B, 1, S, S)`."""
        if layer >= self.changed_layers:
            return None
        between = measure_distances(features[self.heads], self.distances, self.most)
        bias = self.bias[layer][between.clamp(min=0)]
        return torch.where(between < 0, 0.0, bias)[:, None]
