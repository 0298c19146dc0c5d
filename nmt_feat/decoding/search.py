"""Beam search with key/value caches, and the log-probability of given translations.

Both take log-probabilities from the softmax over the whole vocabulary, so the `logprob` of a
hypothesis is what forced scoring gives the same pieces.

All live prefixes of all sentences are rows of one step of the model. A prefix that continues in
two ways becomes two rows, one without a good continuation goes:

    beam 2            step 0     step 1        step 2
    sentence A        BOS        the           the cat
                                 a             the dog     "the" twice; "a" has gone
    sentence B        BOS        she           she </s>    finished; B leaves the batch
                                 her
    parent rows                  0 0 1 1       0 0         rows of the step before, for the cache
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nmt_feat.embedders.ids import BOS, EOS, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.model.batch import Batch

Stop = Literal["proven", "likely"]
"""When a sentence's search ends: see `SentenceSearch.is_decided`."""
FORBIDDEN = (PAD, UNK, BOS)
"""Pieces that search never produces. Their probability mass still counts in the softmax."""
SCORING_CHUNK = 2048
"""Positions whose logits forced scoring holds at once."""


class Cache(Protocol):
    """What a model remembers between the steps of R hypotheses, its rows."""

    def select_rows(self, index: Tensor, /) -> Self:
        """Rows `index` (R',), with repetition: any later step sees these in this order."""


SomeCache = TypeVar("SomeCache", bound=Cache)


class Seq2Seq(Protocol[SomeCache]):
    """The model as search sees it. B sentences, S and T pieces, R rows, D width, V vocabulary."""

    @property
    def training(self) -> bool:
        """Whether dropout is on."""

    def train(self, mode: bool = True, /) -> Any:
        """Switch dropout."""

    def encode(self, source: Tensor, features: dict[str, Tensor], mask: Tensor, /) -> Tensor:
        """Source ids (B, S), features (B, S) each, mask (B, S) true = real: memory (B, S, D)."""

    def start_cache(self, memory: Tensor, mask: Tensor, /) -> SomeCache:
        """Memory (B, S, D), mask (B, S): the cache of B rows before the first step."""

    def decode_step(self, tokens: Tensor, position: int, cache: SomeCache, /) -> Tensor:
        """Last pieces (R,), all at `position`: logits (R, V) of the next; the cache grows."""

    def decode(self, target_in: Tensor, memory: Tensor, mask: Tensor, /) -> Tensor:
        """Target ids (B, T) that begin with BOS: hidden states (B, T, D)."""

    def compute_logits(self, hidden: Tensor, /) -> Tensor:
        """Hidden states (..., D): logits (..., V)."""


class Hypothesis(NamedTuple):
    """A translation: pieces without BOS and EOS, normalised score, natural log-probability."""

    ids: list[int]
    score: float
    logprob: float


class Continuations(NamedTuple):
    """Of R prefixes: log-probabilities and ids (R, k) of the next k best pieces, those of EOS."""

    logprobs: list[list[float]]
    pieces: list[list[int]]
    end_logprobs: list[float]


Candidate = tuple[float, int, int]
"""A continuation: its negative log-probability, the rank of its prefix, its last piece."""


@dataclass(slots=True)
class SentenceSearch:
    """The search of one sentence: live prefixes with their log-probabilities, best first."""

    limit: int
    """Pieces of a prefix that has to end."""
    live: list[tuple[float, list[int]]] = field(default_factory=lambda: [(0.0, [])])
    finished: list[Hypothesis] = field(default_factory=list)

    def best_hypotheses(self, count: int) -> list[Hypothesis]:
        """The best finished ones; of equal scores the shorter first, then the smaller ids."""
        return sorted(self.finished, key=lambda h: (-h.score, len(h.ids), h.ids))[:count]

    def extend_prefixes(
        self, rows: range, position: int, best: Continuations, beam: int, penalty: float
    ) -> list[int]:
        """Continue the live prefixes, which are `rows` of the step.

        Returns:
            Of each prefix that is live now, the row that it continues.
        """
        candidates: list[Candidate] = []
        for rank, (row, (logprob, _)) in enumerate(zip(rows, self.live, strict=True)):
            if position == self.limit:
                candidates.append((-logprob - best.end_logprobs[row], rank, EOS))
            else:
                pairs = zip(best.logprobs[row], best.pieces[row], strict=True)
                candidates += [(-logprob - v, rank, i) for v, i in pairs if v > -math.inf]
        candidates.sort()  # so equal candidates: the earlier prefix, then the smaller id
        prefixes, self.live = self.live, []
        parents = []
        for negative, rank, piece in self.select_candidates(candidates, beam):
            ids = prefixes[rank][1]
            if piece == EOS:
                score = -negative / math.pow(len(ids) + 1, penalty)
                self.finished.append(Hypothesis(ids, score, -negative))
            else:
                self.live.append((-negative, [*ids, piece]))
                parents.append(rows[rank])
        return parents

    def select_candidates(self, candidates: list[Candidate], beam: int) -> list[Candidate]:
        """Of the candidates, best first, those that stay."""
        return candidates[: beam - len(self.finished)]

    def is_decided(self, nbest: int, penalty: float, stop: Stop = "proven") -> bool:
        """Whether no completion of a live prefix can come among the n best.

        A completion has at most its prefix's log-probability and at most limit + 1 pieces, so
        its score is at most logprob / (limit + 1)**penalty. Only a strictly better n-th finished
        hypothesis stops the search, hence stopping never changes the result.

        Where `likely` is enough, a completion counts as one that ends with its next piece: a longer
        one could have a better score, divided by a greater length, and seldom has.
        """
        if not self.live or len(self.finished) < nbest:
            return not self.live
        longest = self.limit if stop == "proven" else len(self.live[0][1])
        bound = max(logprob for logprob, _ in self.live) / math.pow(longest + 1, penalty)
        return self.best_hypotheses(nbest)[-1].score > bound


@dataclass(slots=True)
class RefilledSearch(SentenceSearch):
    """The search of one sentence with a beam that stays full: `generate` of `transformers`.

    With `likely` results it is that with early_stopping=False, with `proven` ones, "never".
    """

    beam: int = field(kw_only=True)

    def select_candidates(self, candidates: list[Candidate], beam: int) -> list[Candidate]:
        """The best `beam` that go on, and those of the best `beam` of all that end."""
        going_on = [candidate for candidate in candidates if candidate[2] != EOS][:beam]
        return sorted([*(c for c in candidates[:beam] if c[2] == EOS), *going_on])

    def is_decided(self, nbest: int, penalty: float, stop: Stop = "proven") -> bool:
        """As of any search; `likely` once no live prefix is better than the worst of the beam."""
        if stop == "proven":
            # By name: a dataclass with slots is another class than the one that `super` would use.
            return SentenceSearch.is_decided(self, nbest, penalty)
        if not self.live or len(self.finished) < self.beam:
            return not self.live
        logprob, ids = self.live[0]
        worst = self.best_hypotheses(self.beam)[-1]
        return worst.score >= logprob / math.pow(len(ids), penalty)


@contextmanager
def inference_mode(model: Seq2Seq[SomeCache]) -> Iterator[None]:
    """No gradients and no dropout inside; the model has its mode again after it."""
    mode = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(mode)


def best_continuations(logits: Tensor, beam: int) -> Continuations:
    """Of logits (R, V): log-probabilities and ids of the best `beam` pieces, and that of EOS.

    Of several equal pieces the smaller ids are the best.
    """
    logprobs = F.log_softmax(logits.float(), -1)  # four times faster than logsumexp on CPU
    end_logprobs = logprobs[:, EOS].tolist()
    logprobs[:, FORBIDDEN] = -math.inf
    k = min(beam, logprobs.shape[1])
    # `topk` takes any of several equal pieces. Where the last one that it takes equals the next,
    # a stable sort, which is slower, decides by id.
    values, ids = logprobs.topk(min(k + 1, logprobs.shape[1]))
    is_tied = values[:, k - 1 : k].eq(values[:, k:]).any(1)
    values, ids = values[:, :k], ids[:, :k]
    if is_tied.any():
        by_id = logprobs[is_tied].sort(dim=1, descending=True, stable=True)
        values[is_tied], ids[is_tied] = by_id.values[:, :k], by_id.indices[:, :k]
    if any(map(math.isnan, end_logprobs)):
        raise UserError(
            "search: the model's probabilities are not numbers (nan), its training diverged; "
            "train with a lower optimizer.lr or a longer optimizer.warmup"
        )
    return Continuations(values.tolist(), ids.tolist(), end_logprobs)


def check_search(beam: int, nbest: int, length_penalty: float) -> None:
    """Refuse what no engine can search with."""
    if not 1 <= nbest <= beam:
        raise UserError(f"decoding.nbest={nbest}: give 1 to decoding.beam={beam}")
    if not length_penalty >= 0:  # nor nan
        raise UserError(f"decoding.length_penalty={length_penalty}: give 0 or more")


def search(
    model: Seq2Seq[SomeCache],
    source: Tensor,
    features: dict[str, Tensor],
    mask: Tensor,
    *,
    beam: int = 5,
    length_penalty: float = 1.0,
    max_ratio: float = 2.0,
    max_extra: int = 20,
    nbest: int = 1,
    stop: Stop = "proven",
    refill: bool = False,
) -> list[list[Hypothesis]]:
    """Translate source (B, S), features (B, S) each, mask (B, S): per sentence, the n best.

    At each step, of all continuations of a sentence's live prefixes the best by log-probability
    stay, `beam` less the number already finished; those that end in EOS are finished. So beam 1
    is greedy search. A prefix of int(max_ratio * source pieces) + max_extra pieces must end.
    Finished hypotheses are ranked by logprob / length**length_penalty, length with EOS (Wu et
    al. 2016 without the constant 5). Equal candidates: the earlier prefix, then the smaller id.
    A sentence leaves the batch when no prefix is live or when its result is decided: `proven`, or
    `likely` as in many toolkits, which is sooner. With `refill` the beam is as wide at each step as
    at the first, see `RefilledSearch`; greedy search is the same.
    """
    check_search(beam, nbest, length_penalty)
    limits = [int(max_ratio * (n - 1)) + max_extra for n in mask.sum(1).tolist()]
    sentences: list[SentenceSearch]
    width = beam
    if refill and beam > 1:
        sentences = [RefilledSearch(max(0, limit), beam=beam) for limit in limits]
        width += 1  # one of a prefix's continuations may end
    else:
        sentences = [SentenceSearch(max(0, limit)) for limit in limits]
    with inference_mode(model):
        cache = model.start_cache(model.encode(source, features, mask), mask)
        tokens = torch.full((len(sentences),), BOS, device=source.device)
        active, position = sentences, 0
        while active:
            best = best_continuations(model.decode_step(tokens, position, cache), width)
            parents: list[int] = []  # of each prefix that stays, its row (R',) in this step
            row = 0
            for sentence in active:
                rows = range(row, row + len(sentence.live))
                continued_rows = sentence.extend_prefixes(
                    rows, position, best, beam, length_penalty
                )
                if sentence.is_decided(nbest, length_penalty, stop):
                    sentence.live = []
                else:
                    parents += continued_rows
                row = rows.stop
            active = [sentence for sentence in active if sentence.live]
            if parents and parents != list(range(row)):
                cache = cache.select_rows(torch.tensor(parents, device=source.device))
            last = [ids[-1] for sentence in active for _, ids in sentence.live]
            tokens = torch.tensor(last, device=source.device)
            position += 1
    return [sentence.best_hypotheses(nbest) for sentence in sentences]


def score_batch(model: Seq2Seq[SomeCache], batch: Batch) -> list[tuple[float, int]]:
    """Of each sentence of the batch: natural log-probability of its target with EOS, pieces."""
    with inference_mode(model):
        memory = model.encode(batch.source, batch.features, batch.source_mask)
        hidden = model.decode(batch.target_in, memory, batch.source_mask)  # (B, T, D)
        is_real = batch.target_out != PAD  # (B, T)
        sentence_of = is_real.nonzero()[:, 0]  # (N,) of N real pieces
        totals = torch.zeros(len(is_real), dtype=torch.float64)
        states, pieces = hidden[is_real], batch.target_out[is_real]  # (N, D), (N,)
        for first in range(0, len(pieces), SCORING_CHUNK):
            chunk = slice(first, first + SCORING_CHUNK)
            logits = model.compute_logits(states[chunk]).float()
            losses = F.cross_entropy(logits, pieces[chunk], reduction="none")
            # Sums in fp64 on the CPU: the same however the pieces fall into chunks.
            totals.index_add_(0, sentence_of[chunk].cpu(), -losses.double().cpu())
        return list(zip(totals.tolist(), is_real.sum(1).tolist(), strict=True))
