"""Several models with one vocabulary as one: the mean of their probabilities, piece by piece.

Search and forced scoring use an ensemble like any other model. Tensors that they only pass on (the
encoder's memory, hidden states) hold those of the members side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nmt_feat.decoding.search import Cache, Seq2Seq


class EnsembleCache:
    """The cache of each member."""

    def __init__(self, caches: Sequence[Cache]) -> None:
        self.caches = list(caches)

    def select_rows(self, index: Tensor) -> EnsembleCache:
        """Select the rows `index` of each cache."""
        return EnsembleCache([cache.select_rows(index) for cache in self.caches])


class Ensemble:
    """Models whose probabilities are averaged: at least one, with the same pieces and features.

    Shapes are those of `Seq2Seq`, with D the sum of the members' widths: of their memories or of
    their hidden states.
    """

    def __init__(self, models: Sequence[Seq2Seq[Any]]) -> None:
        self.models = list(models)
        # A decoder that attends to several encoders reads a memory wider than its own states.
        self._memory_widths: list[int] = []
        self._state_widths: list[int] = []

    @property
    def training(self) -> bool:
        """Whether dropout is on."""
        return any(model.training for model in self.models)

    @property
    def longest_target(self) -> int:
        """Pieces of a target at most."""
        return min(model.longest_target for model in self.models)

    def train(self, mode: bool = True) -> None:
        """Switch dropout on or off."""
        for model in self.models:
            model.train(mode)

    def encode(self, source: Tensor, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """The memories of the members, (B, S, D)."""
        memories = [model.encode(source, features, mask) for model in self.models]
        self._memory_widths = [memory.shape[-1] for memory in memories]
        return torch.cat(memories, dim=-1)

    def _split_memory(self, memory: Tensor) -> list[Tensor]:
        """Each member's part of the memory (B, S, D)."""
        return list(torch.split(memory, self._memory_widths, dim=-1))

    def start_cache(self, memory: Tensor, mask: Tensor) -> EnsembleCache:
        """A cache for each member."""
        parts = zip(self.models, self._split_memory(memory), strict=True)
        return EnsembleCache([model.start_cache(part, mask) for model, part in parts])

    def decode_step(self, tokens: Tensor, position: int, cache: EnsembleCache) -> Tensor:
        """Log-probabilities (R, V) of the next piece."""
        members = zip(self.models, cache.caches, strict=True)
        return average_logits(
            [model.decode_step(tokens, position, member_cache) for model, member_cache in members]
        )

    def decode(self, target_in: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """The hidden states of the members, (B, T, D)."""
        parts = zip(self.models, self._split_memory(memory), strict=True)
        states = [model.decode(target_in, part, mask) for model, part in parts]
        self._state_widths = [member_states.shape[-1] for member_states in states]
        return torch.cat(states, dim=-1)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (..., V)."""
        states = torch.split(hidden, self._state_widths, dim=-1)
        parts = zip(self.models, states, strict=True)
        return average_logits([model.compute_logits(part) for model, part in parts])


def average_logits(logits: Sequence[Tensor]) -> Tensor:
    """The log of the members' mean probabilities; the logits of a member are (..., V)."""
    logprobs = torch.stack([F.log_softmax(member_logits.float(), -1) for member_logits in logits])
    return logprobs.logsumexp(0) - math.log(len(logits))
