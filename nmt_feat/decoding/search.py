"""Beam search with key/value caches, and the log-probability of given translations.

Both take log-probabilities from the softmax over the whole vocabulary. So forced scoring gives a
hypothesis the same `logprob` as search.

In one step of the model, each live prefix of each sentence is a row. A prefix that continues in two
ways becomes two rows; one without a good continuation disappears:

    beam 2            step 0     step 1        step 2
    sentence A        BOS        the           the cat
                                 a             the dog     "the" continues twice, "a" not at all
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
"""Pieces that search never produces. Their probability still counts in the softmax."""
SCORING_CHUNK = 2048
"""Forced scoring holds the logits of this many positions at once."""


class Cache(Protocol):
    """What a model remembers between the steps of R hypotheses, which are its rows."""

    def select_rows(self, index: Tensor, /) -> Self:
        """The cache with the rows `index` (R',), in this order; a row may stand there twice."""


SomeCache = TypeVar("SomeCache", bound=Cache)


class Seq2Seq(Protocol[SomeCache]):
    """A model as search sees it. B sentences, S and T pieces, R rows, D width, V vocabulary."""

    @property
    def training(self) -> bool:
        """Whether dropout is on."""

    @property
    def longest_target(self) -> int:
        """Pieces of a target at most, without its end symbol."""

    def train(self, mode: bool = True, /) -> Any:
        """Switch dropout on or off."""

    def encode(self, source: Tensor, features: dict[str, Tensor], mask: Tensor, /) -> Tensor:
        """From source ids, features and mask, (B, S) each, to the memory (B, S, D)."""

    def start_cache(self, memory: Tensor, mask: Tensor, /) -> SomeCache:
        """The cache of B rows before the first step; memory (B, S, D), mask (B, S)."""

    def decode_step(self, tokens: Tensor, position: int, cache: SomeCache, /) -> Tensor:
        """From the pieces (R,) at `position` to logits (R, V) of the next ones; extends `cache`."""

    def decode(self, target_in: Tensor, memory: Tensor, mask: Tensor, /) -> Tensor:
        """From target ids (B, T) that begin with BOS to hidden states (B, T, D)."""

    def compute_logits(self, hidden: Tensor, /) -> Tensor:
        """From hidden states (..., D) to logits (..., V)."""


class Hypothesis(NamedTuple):
    """A translation."""

    ids: list[int]
    """Its pieces, without BOS and EOS."""
    score: float
    """`logprob`, normalised by length."""
    logprob: float
    """The natural log-probability, with EOS."""


class Continuations(NamedTuple):
    """The best k next pieces of each of R prefixes."""

    logprobs: list[list[float]]
    """(R, k)"""
    pieces: list[list[int]]
    """(R, k), ids"""
    end_logprobs: list[float]
    """(R,), the log-probability of EOS, also where EOS is not among the best."""


@dataclass(frozen=True)
class SearchOptions:
    """How search goes on, and what it returns; wrong options are a `UserError`."""

    beam: int = 5
    """How many prefixes of a sentence stay at each step, less the finished hypotheses."""
    length_penalty: float = 1.0
    """The exponent of the length by which a log-probability is divided, for the score."""
    max_ratio: float = 2.0
    max_extra: int = 20
    """A prefix of int(max_ratio * source pieces) + max_extra pieces must end."""
    nbest: int = 1
    """How many hypotheses to return for each sentence."""
    stop: Stop = "proven"
    """A sentence without live prefixes leaves the batch; and so does one whose result is `proven`,
    or `likely`: this is sooner, and usual in toolkits."""
    refill: bool = False
    """Keep the beam as wide at each step as at the first, see `RefilledSearch`."""

    def __post_init__(self) -> None:
        check_search(self.beam, self.nbest, self.length_penalty)

    @property
    def refills_beam(self) -> bool:
        """Whether `refill` makes a difference: in greedy search it makes none."""
        return self.refill and self.beam > 1

    def limit_target(self, source_pieces: int, longest: int) -> int:
        """The largest number of pieces of a target, which a model limits to `longest`."""
        return min(max(0, int(self.max_ratio * source_pieces) + self.max_extra), longest)


def check_search(beam: int, nbest: int, length_penalty: float) -> None:
    """Refuse settings with which no engine can search."""
    if not 1 <= nbest <= beam:
        raise UserError(
            f"decoding.nbest={nbest}: must be at least 1 and at most decoding.beam={beam}"
        )
    if not length_penalty >= 0:  # refuses nan, too
        raise UserError(f"decoding.length_penalty={length_penalty}: give 0 or more")


Candidate = tuple[float, int, int]
"""A continuation: its negative log-probability, the rank of its prefix, its last piece."""


@dataclass(slots=True)
class SentenceSearch:
    """The search for the translation of one sentence."""

    limit: int
    """The largest number of pieces: a prefix as long as this must end."""
    live: list[tuple[float, list[int]]] = field(default_factory=lambda: [(0.0, [])])
    """Prefixes that may continue, each with its log-probability, the best first."""
    finished: list[Hypothesis] = field(default_factory=list)

    def best_hypotheses(self, count: int) -> list[Hypothesis]:
        """The best finished hypotheses; of equal scores, shorter ones first, then smaller ids."""
        return sorted(self.finished, key=lambda h: (-h.score, len(h.ids), h.ids))[:count]

    def extend_prefixes(
        self, rows: range, position: int, best: Continuations, options: SearchOptions
    ) -> list[int]:
        """Continue the live prefixes, which are the rows `rows` of this step.

        Returns:
            For each new live prefix, the row that it continues.
        """
        candidates: list[Candidate] = []
        for rank, (row, (logprob, _)) in enumerate(zip(rows, self.live, strict=True)):
            if position == self.limit:
                candidates.append((-logprob - best.end_logprobs[row], rank, EOS))
                continue
            for piece_logprob, piece in zip(best.logprobs[row], best.pieces[row], strict=True):
                if piece_logprob > -math.inf:
                    candidates.append((-logprob - piece_logprob, rank, piece))
        candidates.sort()  # of equal candidates: first the earlier prefix, then the smaller id
        prefixes, self.live = self.live, []
        parents = []
        for negative_logprob, rank, piece in self.select_candidates(candidates, options.beam):
            ids = prefixes[rank][1]
            if piece == EOS:
                score = -negative_logprob / math.pow(len(ids) + 1, options.length_penalty)
                self.finished.append(Hypothesis(ids, score, -negative_logprob))
            else:
                self.live.append((-negative_logprob, [*ids, piece]))
                parents.append(rows[rank])
        return parents

    def select_candidates(self, candidates: list[Candidate], beam: int) -> list[Candidate]:
        """The candidates that stay; `candidates` has the best first."""
        return candidates[: beam - len(self.finished)]

    def is_decided(self, options: SearchOptions) -> bool:
        """Whether no completion of a live prefix can get among the n best.

        A completion has at most the log-probability of its prefix and at most limit + 1 pieces. So
        its score is at most logprob / (limit + 1)**penalty. The search stops only if the n-th
        finished hypothesis is strictly better than that, so stopping never changes the result.

        With the stop `likely`, a completion counts as if it ended with its next piece. A longer one
        could have a better score, since it is divided by a greater length, but this is rare.
        """
        if not self.live:
            return True
        if len(self.finished) < options.nbest:
            return False
        longest = self.limit if options.stop == "proven" else len(self.live[0][1])
        best_logprob = max(logprob for logprob, _ in self.live)
        bound = best_logprob / math.pow(longest + 1, options.length_penalty)
        return self.best_hypotheses(options.nbest)[-1].score > bound


class RefilledSearch(SentenceSearch):
    """The search for one sentence with a beam that stays full, as `generate` of `transformers`.

    `likely` is its early_stopping=False, `proven` its early_stopping="never".
    """

    __slots__ = ()

    def select_candidates(self, candidates: list[Candidate], beam: int) -> list[Candidate]:
        """The best `beam` candidates that continue, and those among the best `beam` that end."""
        ending = [candidate for candidate in candidates[:beam] if candidate[2] == EOS]
        continuing = [candidate for candidate in candidates if candidate[2] != EOS][:beam]
        return sorted([*ending, *continuing])

    def is_decided(self, options: SearchOptions) -> bool:
        """See `SentenceSearch`; `likely`: no live prefix beats the worst hypothesis of the beam."""
        if options.stop == "proven":
            return super().is_decided(options)
        if not self.live:
            return True
        if len(self.finished) < options.beam:
            return False
        logprob, ids = self.live[0]
        worst = self.best_hypotheses(options.beam)[-1]
        return worst.score >= logprob / math.pow(len(ids), options.length_penalty)


@contextmanager
def inference_mode(model: Seq2Seq[SomeCache]) -> Iterator[None]:
    """Switch gradients and dropout off; at the end, the model gets its mode back."""
    mode = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(mode)


def find_continuations(logits: Tensor, beam: int) -> Continuations:
    """The best `beam` pieces by logits (R, V); among equal ones, those with the smaller ids."""
    logprobs = F.log_softmax(logits.float(), -1)  # four times faster than logsumexp on CPU
    end_logprobs = logprobs[:, EOS].tolist()
    logprobs[:, FORBIDDEN] = -math.inf
    k = min(beam, logprobs.shape[1])
    # Among equal pieces `topk` takes any. In rows where its last piece equals the next one, a
    # stable sort, which is slower, decides by id.
    values, ids = logprobs.topk(min(k + 1, logprobs.shape[1]))
    is_tied = values[:, k - 1 : k].eq(values[:, k:]).any(1)
    values, ids = values[:, :k], ids[:, :k]
    if is_tied.any():
        by_id = logprobs[is_tied].sort(dim=1, descending=True, stable=True)
        values[is_tied], ids[is_tied] = by_id.values[:, :k], by_id.indices[:, :k]
    if any(map(math.isnan, end_logprobs)):
        raise UserError(
            "search: the model's probabilities are not numbers (nan), so its training diverged; "
            "train with a lower optimizer.lr or a longer optimizer.warmup"
        )
    return Continuations(values.tolist(), ids.tolist(), end_logprobs)


def search(
    model: Seq2Seq[SomeCache],
    source: Tensor,
    features: dict[str, Tensor],
    mask: Tensor,
    options: SearchOptions,
) -> list[list[Hypothesis]]:
    """Translate source (B, S), with features (B, S) each and mask (B, S).

    At each step, the best continuations of a sentence's live prefixes by log-probability stay:
    `beam`, less the number of finished hypotheses. Those that end in EOS are finished. So beam 1 is
    greedy search. Among equal candidates the earlier prefix comes first, then the smaller id.

    Finished hypotheses are ranked by logprob / length**length_penalty, where the length counts EOS
    (Wu et al. 2016 without the constant 5).

    Returns:
        For each sentence, its best hypotheses, the best first.
    """
    piece_counts = [count - 1 for count in mask.sum(1).tolist()]  # without EOS
    sentence_class = RefilledSearch if options.refills_beam else SentenceSearch
    sentences = [
        sentence_class(options.limit_target(count, model.longest_target)) for count in piece_counts
    ]
    # In a beam that is refilled, one of a prefix's continuations may end and others must fill it.
    width = options.beam + 1 if options.refills_beam else options.beam
    with inference_mode(model):
        cache = model.start_cache(model.encode(source, features, mask), mask)
        tokens = torch.full((len(sentences),), BOS, device=source.device)
        active, position = sentences, 0
        while active:
            best = find_continuations(model.decode_step(tokens, position, cache), width)
            parents: list[int] = []  # of each prefix that stays, its row (R',) in this step
            row = 0
            for sentence in active:
                rows = range(row, row + len(sentence.live))
                continued_rows = sentence.extend_prefixes(rows, position, best, options)
                if sentence.is_decided(options):
                    sentence.live = []
                else:
                    parents += continued_rows
                row = rows.stop
            active = [sentence for sentence in active if sentence.live]
            if parents and parents != list(range(row)):
                cache = cache.select_rows(torch.tensor(parents, device=source.device))
            last_pieces = [ids[-1] for sentence in active for _, ids in sentence.live]
            tokens = torch.tensor(last_pieces, device=source.device)
            position += 1
    return [sentence.best_hypotheses(options.nbest) for sentence in sentences]


def score_batch(model: Seq2Seq[SomeCache], batch: Batch) -> list[tuple[float, int]]:
    """For each sentence, the log-probability of its target, and how many pieces: both with EOS."""
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
            # In fp64 on the CPU, sums do not depend on how the pieces fall into chunks.
            totals.index_add_(0, sentence_of[chunk].cpu(), -losses.double().cpu())
        return list(zip(totals.tolist(), is_real.sum(1).tolist(), strict=True))
