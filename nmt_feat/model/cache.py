"""What the decoder remembers between the steps of search, in a layout that is never reordered.

R hypotheses (rows) of B sentences. Attention sees them as a grid: W slots for each sentence, W the
largest number of hypotheses that a sentence has. A step writes the keys and values of its whole
grid behind those of the steps before, and they stay there; what a hypothesis may look at is a row
of booleans, `visible`. So continuing some hypotheses and dropping others moves booleans, not keys
and values, and the memory's projection is there once for a sentence.

    two sentences, W = 2                       keys of sentence A after three steps:

    rows        grid                           BOS  -  | the  a | cat dog
    A the       A: the  a                      visible to "the cat":  1 0   1 0   1 0
    A a         B: she  (empty)                visible to "the dog":  1 0   1 0   0 1
    B she                                      "a" was dropped: no row sees its keys any more
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

COMPACTION_SHARE = 0.75
"""When less than this share of the sentences is still searched, the cache drops the others."""


@dataclass
class LayerCache:
    """Keys and values of a decoder layer, each `(B, H, positions, D / H)`.

    The keys and values of n memories stand side by side, `(B, n * H, positions, D / H)`.
    """

    cross_key: Tensor
    cross_value: Tensor
    key: Tensor
    value: Tensor

    def append_grid(self, key: Tensor, value: Tensor, written: int) -> tuple[Tensor, Tensor]:
        """Write the keys and values of a grid, `(B, H, W, D / H)`, behind the `written` positions.

        Returns:
            Keys and values of all positions so far, `(B, H, written + W, D / H)`.
        """
        end = written + key.shape[2]
        if end > self.key.shape[2]:  # double the room, so that copies are rare
            self.key, self.value = (
                torch.cat(
                    [old[:, :, :written], new.new_empty(*new.shape[:2], end, new.shape[3])], 2
                )
                for old, new in ((self.key, key), (self.value, value))
            )
        self.key[:, :, written:end] = key
        self.value[:, :, written:end] = value
        return self.key[:, :, :end], self.value[:, :, :end]

    def select_sentences(self, sentences: Tensor, written: int) -> LayerCache:
        """The cache of only these sentences `(B',)`."""
        return LayerCache(
            self.cross_key[sentences],
            self.cross_value[sentences],
            self.key[sentences, :, :written],
            self.value[sentences, :, :written],
        )


@dataclass
class Cache:
    """The caches of all layers, and the position of each hypothesis in them."""

    layers: list[LayerCache]
    mask: Tensor
    """`(B, 1, 1, S)`, true at real source pieces."""
    sentence: Tensor
    """`(R,)`, the sentence of each row."""
    slot: Tensor
    """`(R,)`, its slot in the grid."""
    width: int
    """W, the number of slots."""
    visible: Tensor
    """`(R, written_count)`, true at the positions that hold the row's own prefix."""

    @classmethod
    def from_memory(cls, memory: list[tuple[Tensor, Tensor]], mask: Tensor, heads: int) -> Cache:
        """The cache before the first step, with one row for each sentence.

        Args:
            memory: keys and values of the memory, by layer.
            mask: `(B, S)`, true at real source pieces.
            heads: H of self-attention. Of n memories, `memory` has n * H heads.
        """
        layers = [LayerCache(k, v, k[:, :heads, :0], v[:, :heads, :0]) for k, v in memory]
        rows = torch.arange(len(mask), device=mask.device)
        no_positions = mask.new_zeros((len(mask), 0))
        return cls(layers, mask[:, None, None], rows, torch.zeros_like(rows), 1, no_positions)

    @property
    def written_count(self) -> int:
        """The number of written positions."""
        return self.visible.shape[1]

    def select_rows(self, index: Tensor) -> Cache:
        """The cache with the rows `index` `(R',)` of this one, which is not used any more."""
        cache = replace(self, sentence=self.sentence[index], visible=self.visible[index])
        alive = torch.unique(cache.sentence)
        if len(alive) < COMPACTION_SHARE * len(self.mask):
            cache.sentence = torch.searchsorted(alive, cache.sentence)
            cache.layers = [
                layer.select_sentences(alive, self.written_count) for layer in self.layers
            ]
            cache.mask = self.mask[alive]
        # A row's slot is its number among the rows of its sentence:
        #     sentence 1 0 1 0 0  ->  sorted 0 0 0 1 1  ->  slots 0 1 2 0 1, put back: 0 0 1 1 2
        sentences, order = cache.sentence.sort(stable=True)
        ranks = torch.arange(len(order), device=order.device)
        first_ranks = torch.searchsorted(sentences, sentences)  # of each row's sentence
        cache.slot = torch.empty_like(order)
        cache.slot[order] = ranks - first_ranks
        cache.width = int(cache.slot.max()) + 1
        return cache

    def to_grid(self, rows: Tensor) -> Tensor:
        """Rows `(R, N)` as a grid `(B, W, N)`, zero in empty slots."""
        grid = rows.new_zeros((len(self.mask), self.width, rows.shape[1]))
        grid[self.sentence, self.slot] = rows
        return grid

    def from_grid(self, grid: Tensor) -> Tensor:
        """The inverse of `to_grid`: `(B, W, N)` to `(R, N)`."""
        return grid[self.sentence, self.slot]

    def record_written_positions(self) -> Tensor:
        """Count the positions of this step as written; each row sees its own.

        Returns:
            The positions that each slot sees, `(B, 1, W, written_count)`.
        """
        is_own_slot = torch.arange(self.width, device=self.slot.device) == self.slot[:, None]
        self.visible = torch.cat([self.visible, is_own_slot], dim=1)
        # An empty slot sees everything, because a softmax over nothing is nan.
        seen = self.visible.new_ones((len(self.mask), self.width, self.written_count))
        seen[self.sentence, self.slot] = self.visible
        return seen[:, None]
