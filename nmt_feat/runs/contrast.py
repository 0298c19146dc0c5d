"""A trained model's decisions on a suite of contrastive translations, by forced scoring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nmt_feat.errors import UserError
from nmt_feat.evaluation.contrastive_suites import Decision
from nmt_feat.runs.inputs import Reader
from nmt_feat.runs.long_lines import MostPieces
from nmt_feat.runs.trained_model import TrainedModel
from nmt_feat.text.conllu import Sentence

LONGEST = 4096
"""Most pieces of a side, as in `score.py`."""


def read_sources(
    model: TrainedModel, decisions: Sequence[Decision], path: Path, reader: Reader | None
) -> dict[int, Sentence]:
    """The source sentence of each entry, annotated as the model needs it.

    Args:
        model: the model.
        decisions: of the suite.
        path: the suite's file, for messages.
        reader: sources, one for each entry of the suite, which may be annotated; without it, the
            annotator of training annotates the suite's.
    """
    texts = {decision.entry: decision.source for decision in decisions}
    if reader is None:
        sentences = model.annotation.annotate_texts(list(texts.values()), None, str(path))
        return dict(zip(texts, sentences, strict=True))
    annotated = model.read_source(reader)
    if len(annotated) <= max(texts):
        raise UserError(
            f"{reader.label} has {len(annotated)} sentences, {path} has an entry {max(texts) + 1}; "
            "give one sentence for each entry, in order"
        )
    for entry, text in zip(texts, model.normalize_texts([*texts.values()]), strict=True):
        if "".join(annotated[entry].text.split()) != "".join(text.split()):
            raise UserError(
                f"{reader.label}: sentence {entry + 1} differs from the text of entry {entry + 1} "
                f"of {path}; give one sentence for each entry, in order"
            )
    return {entry: annotated[entry] for entry in texts}


def decide(
    model: TrainedModel, decisions: Sequence[Decision], sources: dict[int, Sentence], path: Path
) -> list[bool]:
    """For each decision, whether the reference is more probable than every wrong translation."""
    pairs = dict.fromkeys(
        (decision.entry, target)
        for decision in decisions
        for target in (decision.reference, *decision.contrastives)
    )
    sentences = [sources[entry] for entry, _ in pairs]
    targets = model.normalize_texts([target for _, target in pairs])
    where = [f"{path}: entry {entry + 1}" for entry, _ in pairs]
    references = {decision.entry: decision.reference for decision in decisions}
    model.encode_pairs(  # counts what is unknown, once for each entry
        [sources[entry] for entry in references],
        list(references.values()),
        [f"{path}: entry {entry + 1}" for entry in references],
    )
    limit = MostPieces(min(LONGEST, model.longest_side), is_setting=False)
    scores = model.score_pairs(sentences, targets, where, limit, count=False)
    logprobs = {pair: logprob for pair, (logprob, _) in zip(pairs, scores, strict=True)}
    return [
        all(logprobs[d.entry, d.reference] > logprobs[d.entry, wrong] for wrong in d.contrastives)
        for d in decisions
    ]
