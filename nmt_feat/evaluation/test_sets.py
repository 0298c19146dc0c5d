"""What a trained model makes of a split, each process its share, and the scores of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.store import EncodedSplit
from nmt_feat.decoding.search import Hypothesis, nbest_line, score_split, translate_split
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.metrics import (
    Reading,
    Scores,
    edit_rate,
    reading_accuracy,
    score,
    word_perplexity,
)
from nmt_feat.evaluation.statistics import counts_file, sentence_counts, write_counts
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.processes import shared
from nmt_feat.runs.records import write_hypotheses
from nmt_feat.text.subwords import Subwords

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Tested(NamedTuple):
    """Of each sentence of a split, in order."""

    found: list[list[Hypothesis]]
    """The translations that search finds, best first."""
    logprobs: list[float]
    """The natural log-probability of the reference, its end symbol included."""


def tested(
    fabric: Fabric, cfg: TrainConfig, model: Transformer, split: EncodedSplit
) -> Tested | None:
    """A split by the run's decoding: each process does its share and has all; None after a signal.

    As `processes.shared` says.
    """
    names, device, budget = list(cfg.features), fabric.device, cfg.trainer.batch_tokens

    def translate(share: slice) -> list[list[float]]:
        found = translate_split(model, split, names, cfg.decoding, device, share=share)
        return [[i, h.score, h.logprob, *h.ids] for i, best in enumerate(found) for h in best]

    def force(share: slice) -> list[list[float]]:
        forced = score_split(model, split, names, budget, device, share)
        return [[i, logprob] for i, (logprob, pieces) in enumerate(forced) if pieces]

    found, forced = (shared(fabric, work) for work in (translate, force))
    if found is None or forced is None:
        return None
    whole = Tested([[] for _ in range(len(split))], [0.0] * len(split))
    for i, normalised, logprob, *ids in found:
        whole.found[int(i)].append(Hypothesis(list(map(int, ids)), normalised, logprob))
    for i, logprob in forced:
        whole.logprobs[int(i)] = logprob
    return whole


def evaluate(
    cfg: TrainConfig, tested: Tested, target: Subwords, split: EncodedSplit, folder: Path, name: str
) -> Scores:
    """Write the translations of a split into the run's folder, and score them."""
    texts = [[target.decode(h.ids) for h in several] for several in tested.found]
    best = [several[0] for several in texts]
    write_hypotheses(folder, name, best)
    if cfg.decoding.nbest > 1:
        lines = [
            nbest_line(i, text, hypothesis)
            for i, several in enumerate(tested.found)
            for text, hypothesis in zip(texts[i], several, strict=True)
        ]
        write_hypotheses(folder, f"{name}.nbest", lines)
    references, scoring = split.target_texts, choose_scoring(cfg.data)
    tokens = scoring.tokenized, scoring.tokenizer
    scores = score(best, references, *tokens)
    scores.ter, scores.ter_signature = edit_rate(best, references, scoring.asian)
    scores.perplexity = word_perplexity(tested.logprobs, references, scoring.unit)
    scores.perplexity_unit = scoring.unit
    counts = sentence_counts(best, references, *tokens)
    write_counts(folder / counts_file(name), counts, references)
    if cfg.data.readings:
        scores.reading = readings(cfg, split, best)
    return scores


def readings(cfg: TrainConfig, split: EncodedSplit, hypotheses: Sequence[str]) -> Reading:
    """Reading accuracy of the translations of a split."""
    values = [[split.feature_text(n, i) for n in cfg.features] for i in range(len(split))]
    return reading_accuracy(split.source_texts, split.target_texts, hypotheses, values)
