"""What the decoder keeps between the steps of search, in a layout that is never reordered.

R hypotheses (rows) of B sentences. Attention sees them as a grid, W slots a sentence. A step writes
the keys and values of its whole grid behind those of the steps before, and they stay there; what a
hypothesis may look at is a row of booleans, `visible`. So continuing some hypotheses and dropping
others moves booleans, not keys and values, and the memory's projection is kept once a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

SHRINK = 0.75
"""The share of sentences still searched below which the others are cut out of the cache."""


@dataclass
class LayerCache:
    """Keys and values of a decoder layer, each `(B, H, places, D / H)`."""

    cross_key: Tensor
    cross_value: Tensor
    key: Tensor
    value: Tensor

    def append(self, key: Tensor, value: Tensor, used: int) -> tuple[Tensor, Tensor]:
        """Write a grid's, `(B, H, W, D / H)`, behind the `used` places; all of them so far."""
        end = used + key.shape[2]
        if end > self.key.shape[2]:  # twice as many places: copied a few times, not at each step
            self.key, self.value = (
                torch.cat([old[:, :, :used], new.new_empty(*new.shape[:2], end, new.shape[3])], 2)
                for old, new in ((self.key, key), (self.value, value))
            )
        self.key[:, :, used:end] = key
        self.value[:, :, used:end] = value
        return self.key[:, :, :end], self.value[:, :, :end]

    def select_sentences(self, sentences: Tensor, used: int) -> LayerCache:
        """Only these sentences `(B',)`."""
        return LayerCache(
            self.cross_key[sentences],
            self.cross_value[sentences],
            self.key[sentences, :, :used],
            self.value[sentences, :, :used],
        )


@dataclass
class Cache:
    """The layers' caches, and where in them each hypothesis is."""

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
    """`(R, used)`, true at the places that a row's prefix was written to."""

    @classmethod
    def start(cls, memory: list[tuple[Tensor, Tensor]], mask: Tensor) -> Cache:
        """One row a sentence; the memory's keys and values for each layer, mask `(B, S)`."""
        layers = [LayerCache(k, v, k[:, :, :0], v[:, :, :0]) for k, v in memory]
        rows = torch.arange(len(mask), device=mask.device)
        nothing = mask.new_zeros((len(mask), 0))
        return cls(layers, mask[:, None, None], rows, torch.zeros_like(rows), 1, nothing)

    @property
    def used(self) -> int:
        """Places that are written."""
        return self.visible.shape[1]

    def select_rows(self, index: Tensor) -> Cache:
        """The cache whose rows are `index` `(R',)` of this one's, in that order; replaces it."""
        cache = replace(self, sentence=self.sentence[index], visible=self.visible[index])
        alive = torch.unique(cache.sentence)
        if len(alive) < SHRINK * len(self.mask):
            cache.sentence = torch.searchsorted(alive, cache.sentence)
            cache.layers = [layer.select_sentences(alive, self.used) for layer in self.layers]
            cache.mask = self.mask[alive]
        grouped, order = cache.sentence.sort(stable=True)
        place = torch.arange(len(order), device=order.device)
        cache.slot = torch.empty_like(order)
        cache.slot[order] = place - torch.searchsorted(grouped, grouped)
        cache.width = int(cache.slot.max()) + 1
        return cache

    def lay(self, rows: Tensor) -> Tensor:
        """Rows `(R, N)` as a grid `(B, W, N)`, zero in empty slots."""
        grid = rows.new_zeros((len(self.mask), self.width, rows.shape[1]))
        grid[self.sentence, self.slot] = rows
        return grid

    def pick(self, grid: Tensor) -> Tensor:
        """The inverse of `lay`."""
        return grid[self.sentence, self.slot]

    def look(self) -> Tensor:
        """Mark the places that this step writes; what each slot sees, `(B, 1, W, used)`."""
        own = torch.arange(self.width, device=self.slot.device) == self.slot[:, None]
        self.visible = torch.cat([self.visible, own], dim=1)
        seen = self.visible.new_ones((len(self.mask), self.width, self.used))  # empty slots: all
        seen[self.sentence, self.slot] = self.visible
        return seen[:, None]
