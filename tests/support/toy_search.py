"""A toy model for search, and search by brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nmt_feat.decoding.search import Hypothesis, SearchOptions, search
from nmt_feat.embedders.ids import BOS, EOS
from nmt_feat.model.translation_model import ANY_LENGTH


class ToyCache:
    """Rows of (source, prefix); remembers how many rows each step had."""

    def __init__(self, sources: Any, prefixes: Any) -> None:
        self.sources, self.prefixes = sources, prefixes

    def select_rows(self, index: Tensor) -> ToyCache:
        rows = index.tolist()
        return ToyCache([self.sources[r] for r in rows], [self.prefixes[r] for r in rows])


class ToyModel:
    """Logits are a fixed random function of (source, prefix), or what `table` says."""

    longest_target = ANY_LENGTH

    def __init__(self, vocab: int = 7, table: Any = None, scale: float = 2.0) -> None:
        self.vocab, self.table, self.scale = vocab, table, scale
        self.training = True
        self.rows: list[int] = []

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def encode(self, source: Any, features: Any, mask: Tensor) -> Tensor:
        assert not self.training
        return source.masked_fill(~mask, -1).float()[..., None]

    def start_cache(self, memory: Tensor, mask: Tensor) -> ToyCache:
        rows = memory[..., 0].long().tolist()
        return ToyCache([tuple(i for i in row if i >= 0) for row in rows], [()] * len(rows))

    def next(self, source: Any, prefix: tuple[int, ...]) -> Tensor:
        if self.table is not None:
            return torch.tensor(self.table.get(prefix, [0.0] * self.vocab))
        generator = np.random.default_rng([len(source), *source, 99, *prefix])
        return torch.tensor(generator.normal(0, self.scale, self.vocab), dtype=torch.float32)

    def decode_step(self, tokens: Tensor, position: int, cache: ToyCache) -> Tensor:
        assert len(tokens) == len(cache.prefixes)
        self.rows.append(len(tokens))
        cache.prefixes = [(*p, t) for p, t in zip(cache.prefixes, tokens.tolist(), strict=True)]
        assert all(len(p) == position + 1 and p[0] == BOS for p in cache.prefixes)
        pairs = zip(cache.sources, cache.prefixes, strict=True)
        return torch.stack([self.next(s, p) for s, p in pairs])

    def decode(self, target_in: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        sources = self.start_cache(memory, mask).sources
        rows = target_in.tolist()
        return torch.stack(
            [
                torch.stack([self.next(s, tuple(row[: t + 1])) for t in range(len(row))])
                for s, row in zip(sources, rows, strict=True)
            ]
        )

    def compute_logits(self, hidden: Tensor) -> Tensor:
        return hidden


def pad(sentences: Any, value: int = 0) -> Tensor:
    width = max(map(len, sentences))
    return torch.tensor([[*s, *[value] * (width - len(s))] for s in sentences])


def run(model: Any, sources: Any, **settings: Any) -> list[list[Hypothesis]]:
    source = pad([[*s, EOS] for s in sources])
    return search(model, source, {}, source != 0, SearchOptions(**settings))


def exhaustive(
    model: Any, source: Any, limit: int, penalty: float
) -> list[tuple[float, float, list[int]]]:
    """Every target of up to `limit` pieces, by brute force, best first."""
    results = []
    pieces = range(EOS + 1, model.vocab)
    for length in range(limit + 1):
        for ids in itertools.product(pieces, repeat=length):
            logprob = 0.0
            for t, piece in enumerate((*ids, EOS)):
                logits = model.next((*source, EOS), (BOS, *ids[:t]))
                logprob += float(torch.log_softmax(logits.double(), 0)[piece])
            results.append((logprob / (length + 1) ** penalty, logprob, list(ids)))
    return sorted(results, key=lambda f: -f[0])


SOURCES = [[4, 5], [6], [5, 4, 4, 6], [4], [6, 6, 5]]
