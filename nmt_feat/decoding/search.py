"""Beam search with key/value caches, and the log-probability of given translations.

Both take log-probabilities from the softmax over the whole vocabulary, so the `logprob` of a
hypothesis is what forced scoring gives the same pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nmt_feat.config.schema import DecodingConfig
from nmt_feat.data.batches import collate, ordered
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import BOS, EOS, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.model.batch import Batch

NEVER = (PAD, UNK, BOS)
"""Pieces that search never produces; their probability mass still counts in the softmax."""
SCORED = 2048
"""Positions whose logits forced scoring holds at once."""
WHOLE = slice(None)
"""All batches: the share of a process that is alone."""


class Cache(Protocol):
    """What a model keeps between the steps of R hypotheses: its rows."""

    def select(self, index: Tensor, /) -> Self:
        """Rows `index` (R',), with repetition: any later step sees these in this order."""


C = TypeVar("C", bound=Cache)


class Seq2Seq(Protocol[C]):
    """The model as search sees it. B sentences, S and T pieces, R rows, D width, V vocabulary."""

    @property
    def training(self) -> bool:
        """Whether dropout is on."""

    def train(self, mode: bool = True, /) -> Any:
        """Switch dropout."""

    def encode(self, source: Tensor, features: dict[str, Tensor], mask: Tensor, /) -> Tensor:
        """Source ids (B, S), features (B, S) each, mask (B, S) true = real: memory (B, S, D)."""

    def start(self, memory: Tensor, mask: Tensor, /) -> C:
        """Memory (B, S, D), mask (B, S): the cache of B rows before the first step."""

    def step(self, tokens: Tensor, position: int, cache: C, /) -> Tensor:
        """Last pieces (R,), all at `position`: logits (R, V) of the next; the cache grows."""

    def decode(self, target_in: Tensor, memory: Tensor, mask: Tensor, /) -> Tensor:
        """Target ids (B, T) that begin with BOS: hidden states (B, T, D)."""

    def logits(self, hidden: Tensor, /) -> Tensor:
        """Hidden states (..., D): logits (..., V)."""


class Hypothesis(NamedTuple):
    """A translation: pieces without BOS and EOS, normalised score, natural log-probability."""

    ids: list[int]
    score: float
    logprob: float


def nbest_line(number: int, text: str, hypothesis: Hypothesis) -> str:
    """One of several translations of a sentence, as it is written."""
    return f"{number} ||| {text} ||| {hypothesis.score:.4f}"


class Continuations(NamedTuple):
    """Of R prefixes: log-probabilities and ids (R, k) of the next k best pieces, those of EOS."""

    values: list[list[float]]
    ids: list[list[int]]
    end: list[float]


@dataclass(slots=True)
class _Beam:
    """The search of one sentence: live prefixes with their log-probabilities, best first."""

    limit: int
    live: list[tuple[float, list[int]]] = field(default_factory=lambda: [(0.0, [])])
    done: list[Hypothesis] = field(default_factory=list)

    def best(self, n: int) -> list[Hypothesis]:
        """The n best finished; equal scores: the shorter, then the smaller ids."""
        return sorted(self.done, key=lambda h: (-h.score, len(h.ids), h.ids))[:n]

    def advance(
        self, rows: range, position: int, best: Continuations, beam: int, penalty: float
    ) -> list[int]:
        """Continue the live prefixes, which are `rows` of the step; of those kept, their rows."""
        candidates: list[tuple[float, int, int]] = []  # (-logprob, rank of the prefix, piece)
        for rank, (row, (logprob, _)) in enumerate(zip(rows, self.live, strict=True)):
            if position == self.limit:
                candidates.append((-logprob - best.end[row], rank, EOS))
            else:
                pairs = zip(best.values[row], best.ids[row], strict=True)
                candidates += [(-logprob - v, rank, i) for v, i in pairs if v > -math.inf]
        candidates.sort()
        prefixes, self.live = self.live, []
        kept = []
        for negative, rank, piece in candidates[: beam - len(self.done)]:
            ids = prefixes[rank][1]
            if piece == EOS:
                score = -negative / math.pow(len(ids) + 1, penalty)
                self.done.append(Hypothesis(ids, score, -negative))
            else:
                self.live.append((-negative, [*ids, piece]))
                kept.append(rows[rank])
        return kept

    def settled(self, n: int, penalty: float) -> bool:
        """Whether no completion of a live prefix can come among the n best.

        A completion has at most its prefix's log-probability and at most limit + 1 pieces, so
        its score is at most logprob / (limit + 1)**penalty. Only a strictly better n-th finished
        hypothesis stops the search, hence stopping never changes the result.
        """
        if not self.live or len(self.done) < n:
            return not self.live
        bound = max(logprob for logprob, _ in self.live) / math.pow(self.limit + 1, penalty)
        return self.best(n)[-1].score > bound


@contextmanager
def _inference(model: Seq2Seq[C]) -> Iterator[None]:
    """No gradients and no dropout inside; the model's mode is put back after."""
    mode = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(mode)


def _continuations(logits: Tensor, beam: int) -> Continuations:
    """Of logits (R, V): log-probabilities and ids of the best `beam` pieces, and that of EOS.

    Which of several equal pieces are among the best is decided by the smaller id.
    """
    logprobs = F.log_softmax(logits.float(), -1)  # four times faster than logsumexp on CPU
    end = logprobs[:, EOS].tolist()
    logprobs[:, NEVER] = -math.inf
    k = min(beam, logprobs.shape[1])
    values, ids = logprobs.topk(min(k + 1, logprobs.shape[1]))
    tied = values[:, k - 1 : k].eq(values[:, k:]).any(1)
    values, ids = values[:, :k], ids[:, :k]
    if tied.any():
        by_id = logprobs[tied].sort(dim=1, descending=True, stable=True)
        values[tied], ids[tied] = by_id.values[:, :k], by_id.indices[:, :k]
    if any(map(math.isnan, end)):
        raise UserError(
            "search: the model's probabilities are not numbers (nan), its training diverged; "
            "train with a lower optimizer.lr or a longer optimizer.warmup"
        )
    return Continuations(values.tolist(), ids.tolist(), end)


def check_search(beam: int, nbest: int, length_penalty: float) -> None:
    """Refuse what no engine can search with."""
    if not 1 <= nbest <= beam:
        raise UserError(f"decoding.nbest={nbest}: give 1 to decoding.beam={beam}")
    if not length_penalty >= 0:  # nor nan
        raise UserError(f"decoding.length_penalty={length_penalty}: give 0 or more")


def search(
    model: Seq2Seq[C],
    source: Tensor,
    features: dict[str, Tensor],
    mask: Tensor,
    *,
    beam: int = 5,
    length_penalty: float = 1.0,
    max_ratio: float = 2.0,
    max_extra: int = 20,
    nbest: int = 1,
) -> list[list[Hypothesis]]:
    """Translate source (B, S), features (B, S) each, mask (B, S): per sentence, the n best.

    At each step, of all continuations of a sentence's live prefixes the best by log-probability
    stay, `beam` less the number already finished; those that end in EOS are finished. So beam 1
    is greedy search. A prefix of int(max_ratio * source pieces) + max_extra pieces must end.
    Finished hypotheses are ranked by logprob / length**length_penalty, length with EOS (Wu et
    al. 2016 without the constant 5). Equal candidates: the earlier prefix, then the smaller id.
    A sentence leaves the batch when no prefix is live or when the result is settled.
    """
    check_search(beam, nbest, length_penalty)
    limits = [int(max_ratio * (n - 1)) + max_extra for n in mask.sum(1).tolist()]
    beams = [_Beam(max(0, limit)) for limit in limits]
    with _inference(model):
        cache = model.start(model.encode(source, features, mask), mask)
        tokens = torch.full((len(beams),), BOS, device=source.device)
        active, position = beams, 0
        while active:
            best = _continuations(model.step(tokens, position, cache), beam)
            parents: list[int] = []  # of each prefix that stays, its row (R',) in this step
            row = 0
            for sentence in active:
                rows = range(row, row + len(sentence.live))
                kept = sentence.advance(rows, position, best, beam, length_penalty)
                if sentence.settled(nbest, length_penalty):
                    sentence.live = []
                else:
                    parents += kept
                row = rows.stop
            active = [sentence for sentence in active if sentence.live]
            if parents and parents != list(range(row)):
                cache = cache.select(torch.tensor(parents, device=source.device))
            last = [ids[-1] for sentence in active for _, ids in sentence.live]
            tokens = torch.tensor(last, device=source.device)
            position += 1
    return [sentence.best(nbest) for sentence in beams]


def translate_split(
    model: Seq2Seq[C],
    split: EncodedSplit,
    features: Sequence[str],
    cfg: DecodingConfig,
    device: torch.device,
    advance: Callable[[int], None] | None = None,
    share: slice = WHOLE,
) -> list[list[Hypothesis]]:
    """The n best translations of each sentence, in the split's order, from length-sorted batches.

    `advance` is called with the number of sentences of each finished batch. Those of other shares
    have no translation. That of a sentence without pieces, a blank line, is empty.
    """
    results: list[list[Hypothesis]] = [[] for _ in range(len(split))]
    for indices in ordered(split, max(1, cfg.batch_tokens // cfg.beam))[share]:
        batch = collate(split, indices, features).to(device)
        found = search(
            model,
            batch.source,
            batch.features,
            batch.source_mask,
            beam=cfg.beam,
            length_penalty=cfg.length_penalty,
            max_ratio=cfg.max_ratio,
            max_extra=cfg.max_extra,
            nbest=cfg.nbest,
        )
        blank = (batch.source_mask.sum(1) == 1).tolist()  # only the end symbol
        for index, hypotheses, empty in zip(batch.indices, found, blank, strict=True):
            results[index] = [Hypothesis([], 0.0, 0.0)] if empty else hypotheses
        if advance is not None:
            advance(len(found))
    return results


def score_batch(model: Seq2Seq[C], batch: Batch) -> list[tuple[float, int]]:
    """Of each sentence of the batch: natural log-probability of its target with EOS, pieces."""
    with _inference(model):
        memory = model.encode(batch.source, batch.features, batch.source_mask)
        hidden = model.decode(batch.target_in, memory, batch.source_mask)  # (B, T, D)
        real = batch.target_out != PAD  # (B, T)
        sentence = real.nonzero()[:, 0]  # (N,) of N real pieces
        total = torch.zeros(len(real), dtype=torch.float64)
        states, pieces = hidden[real], batch.target_out[real]  # (N, D), (N,)
        for first in range(0, len(pieces), SCORED):
            part = slice(first, first + SCORED)
            logits = model.logits(states[part]).float()
            loss = F.cross_entropy(logits, pieces[part], reduction="none")
            total.index_add_(0, sentence[part].cpu(), -loss.double().cpu())
        return list(zip(total.tolist(), real.sum(1).tolist(), strict=True))


def score_split(
    model: Seq2Seq[C],
    split: EncodedSplit,
    features: Sequence[str],
    batch_tokens: int,
    device: torch.device,
    share: slice = WHOLE,
) -> list[tuple[float, int]]:
    """`score_batch` of each sentence, in the split's order, from length-sorted batches.

    Those of other shares have no pieces.
    """
    results: list[tuple[float, int]] = [(0.0, 0)] * len(split)
    for indices in ordered(split, batch_tokens)[share]:
        batch = collate(split, indices, features).to(device)
        for index, score in zip(batch.indices, score_batch(model, batch), strict=True):
            results[index] = score
    return results
