"""Translates a split with a trained model, in one or several processes, and scores the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from nmt_feat.base.checksums import write_summed
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.store import EncodedSplit
from nmt_feat.decoding.search import Hypothesis, Seq2Seq
from nmt_feat.evaluation.counts import count_sentences, counts_file, write_counts
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.metric import add_scores, build_metrics
from nmt_feat.evaluation.readings import measure_readings
from nmt_feat.evaluation.scores import (
    Reading,
    Scores,
    measure_perplexity,
    score_translations,
    scored_line,
)
from nmt_feat.evaluation.split_decoding import format_nbest_line, score_split, translate_split
from nmt_feat.text.subwords import Subwords

Rows = Sequence[Sequence[float]]
Gather = Callable[[Callable[[slice], Rows]], Rows | None]
"""Makes each process compute the rows of its share; returns all rows, or None after a signal."""


class DecodedSplit(NamedTuple):
    """Translations and scores of a split, for each sentence in order."""

    hypotheses: list[list[Hypothesis]]
    """The translations that search finds, best first."""
    logprobs: list[float]
    """The natural log-probability of the reference, its end symbol included."""


def decode_split(
    cfg: TrainConfig,
    model: Seq2Seq[Any],
    split: EncodedSplit,
    device: torch.device,
    gather: Gather,
) -> DecodedSplit | None:
    """Translate a split and score its references; None if a signal interrupts a process."""
    names, budget = list(cfg.features), cfg.trainer.batch_tokens

    def translate_share(share: slice) -> list[list[float]]:
        nbest = translate_split(model, split, names, cfg.decoding, device, share=share)
        return [[i, h.score, h.logprob, *h.ids] for i, best in enumerate(nbest) for h in best]

    def score_share(share: slice) -> list[list[float]]:
        forced = score_split(model, split, names, budget, device, share)
        return [[i, logprob] for i, (logprob, pieces) in enumerate(forced) if pieces]

    translated, scored = gather(translate_share), gather(score_share)
    if translated is None or scored is None:
        return None
    decoded = DecodedSplit([[] for _ in range(len(split))], [0.0] * len(split))
    for i, score_by_length, logprob, *ids in translated:
        hypothesis = Hypothesis(list(map(int, ids)), score_by_length, logprob)
        decoded.hypotheses[int(i)].append(hypothesis)
    for i, logprob in scored:
        decoded.logprobs[int(i)] = logprob
    return decoded


def evaluate_split(
    cfg: TrainConfig,
    decoded: DecodedSplit,
    target: Subwords,
    split: EncodedSplit,
    folder: Path,
    name: str,
) -> Scores:
    """Write the translations of a split into the run's folder, and score them."""
    texts = [[target.decode(h.ids) for h in nbest] for nbest in decoded.hypotheses]
    best = [nbest[0] for nbest in texts]
    write_hypotheses(folder, name, best)
    if cfg.decoding.nbest > 1:
        lines = [
            format_nbest_line(i, text, hypothesis)
            for i, nbest in enumerate(decoded.hypotheses)
            for text, hypothesis in zip(texts[i], nbest, strict=True)
        ]
        write_hypotheses(folder, f"{name}.nbest", lines)
    references, scoring = split.target_texts, choose_scoring(cfg.data)
    scores = score_translations(best, references, scoring)
    scores.perplexity = measure_perplexity(decoded.logprobs, references, scoring.unit)
    scores.perplexity_unit = scoring.unit
    counts = count_sentences(best, references, scoring)
    metrics = build_metrics(cfg.metrics, scoring)
    counts |= add_scores(metrics, scores, split.source_texts, best, references)
    write_counts(folder / counts_file(name), counts, references)
    if cfg.data.readings:
        scores.reading = score_readings(cfg, split, best)
    return scores


def write_hypotheses(folder: Path, name: str, hypotheses: Sequence[str]) -> str:
    """Write `<name>.hyp` with exactly the lines that are scored; the name of the file."""
    text = "".join(scored_line(hypothesis) + "\n" for hypothesis in hypotheses)
    write_summed(folder / f"{name}.hyp", text.encode())
    return f"{name}.hyp"


def score_readings(cfg: TrainConfig, split: EncodedSplit, hypotheses: Sequence[str]) -> Reading:
    """Reading accuracy of the translations of a split."""
    values = [[split.feature_text(n, i) for n in cfg.features] for i in range(len(split))]
    return measure_readings(split.source_texts, split.target_texts, hypotheses, values)
