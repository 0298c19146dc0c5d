"""Scores by sacreBLEU (Post 2018), perplexity, and reading accuracy on ambiguous sources."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import DEFAULT, check_packages
from nmt_feat.text.files import one_line as text_on_one_line


@dataclass
class Reading:
    """How often the meant reading of a source text with several was translated.

    A reading is one of the different references of one source text; one that stands in several
    lines counts once, by the share of its lines.
    """

    readings: int
    """Readings of source texts that have more than one."""
    accuracy: float | None
    """Share of them that are right; 0 to 1, none where there are none."""
    settled: int
    """Those whose feature values differ from those of every other reading of the text."""
    settled_accuracy: float | None
    """Share of these that are right."""


@dataclass
class MetricScore:
    """The score of one metric; see `evaluation.metric`."""

    score: float
    signature: str
    form: str
    """How the sums of the sentences' statistics give the score: `mean`, `bleu` or `chrf`."""
    lower_is_better: bool = False


@dataclass
class Scores:
    """The scores of one set of translations; BLEU and chrF from 0 to 100, the higher the better."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str
    sentences: int
    reading: Reading | None = None
    ter: float | None = None
    """Edits for each 100 words of the reference, the lower the better."""
    ter_signature: str | None = None
    perplexity: float | None = None
    """Of the references; see `word_perplexity`."""
    perplexity_unit: str = "word"
    """What it is per: `word`, or `character` in languages without spaces between words."""
    metrics: dict[str, MetricScore] = field(default_factory=dict)
    """Further metrics by name; records without any do not have the entry."""

    def all_metrics(self) -> dict[str, MetricScore]:
        """Each metric of this text by its name."""
        named = {
            "BLEU": MetricScore(self.bleu, self.bleu_signature, "bleu"),
            "chrF": MetricScore(self.chrf, self.chrf_signature, "chrf"),
        }
        if self.ter is not None:
            named["TER"] = MetricScore(self.ter, self.ter_signature or "", "mean", True)
        return named | self.metrics


def one_line(text: str) -> str:
    """The text as a line of a file: inner line separators are spaces, none at the end."""
    return text_on_one_line(text).rstrip()


def make_metrics(tokenized: bool, tokenizer: str = DEFAULT) -> tuple[BLEU, CHRF]:
    """BLEU and chrF as `score` says."""
    if tokenized:
        bleu = BLEU(tokenize="none", lowercase=True, force=True)
    else:
        check_packages(tokenizer, "scoring")
        bleu = BLEU(tokenize=tokenizer, force=True)
    return bleu, CHRF(lowercase=tokenized)


def score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    tokenized: bool = False,
    tokenizer: str = DEFAULT,
) -> Scores:
    """BLEU (cased) and chrF, as the `sacrebleu` command gives on the written files.

    `tokenizer` is sacreBLEU's; see `languages.choose_scoring`. With `tokenized` it is not used:
    as the literature scores lower-cased tokens, `--tokenize none --lowercase --chrf-lowercase`.
    """
    if len(hypotheses) != len(references) or not references:
        raise UserError(
            f"scoring: {len(hypotheses)} hypotheses for {len(references)} references; "
            "give one hypothesis for each of at least one reference"
        )
    hypotheses, references = list(map(one_line, hypotheses)), list(map(one_line, references))
    bleu, chrf = make_metrics(tokenized, tokenizer)
    return Scores(
        bleu=bleu.corpus_score(hypotheses, [references]).score,
        chrf=chrf.corpus_score(hypotheses, [references]).score,
        bleu_signature=bleu.get_signature().format(),
        chrf_signature=chrf.get_signature().format(),
        sentences=len(references),
    )


def word_perplexity(
    logprobs: Sequence[float], references: Sequence[str], unit: str = "word"
) -> float:
    """`exp(-L / W)`: L the sum of the references' log-probabilities (natural, with the end symbol).

    W counts the words between spaces and an end for each reference, so that models of different
    subwords can be compared; of each reference the one segmentation that the model uses counts.
    With the unit `character` W counts characters in place of words, white space not among them:
    where no spaces stand between words, what stands between spaces is a clause.
    """
    parts = (reference.split() for reference in references)
    if unit == "character":
        units = sum(len("".join(words)) + 1 for words in parts)
    else:
        units = sum(len(words) + 1 for words in parts)
    nats = -sum(logprobs) / units
    return math.exp(nats) if nats < 700 else math.inf


def reading_accuracy(
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    features: Sequence[Sequence[str]] | None = None,
) -> Reading:
    """Reading accuracy; `features` has the values of each line, one string a feature.

    Lines with the same source text are readings of one another. A hypothesis is right when it
    equals its own reference, or its sentence chrF with it is higher than with every other
    reading's; equal is wrong. So one output per source is right on at most 1 of k readings.
    A line is settled by the features when no other reading of its source has its values. Blank
    lines are no readings of one another.
    """
    chrf = CHRF()
    lines: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (source, reference) in enumerate(zip(sources, references, strict=True)):
        if source.strip():
            lines[source][one_line(reference)].append(index)

    def is_right(hypothesis: str, reference: str, others: list[str]) -> bool:
        if hypothesis == reference or hypothesis in others:
            return hypothesis == reference
        near = chrf.sentence_score(hypothesis, [reference]).score
        return all(near > chrf.sentence_score(hypothesis, [o]).score for o in others)

    every: list[float] = []
    settled: list[float] = []
    for readings in lines.values():
        if len(readings) < 2:
            continue
        for reference, places in readings.items():
            others = [r for r in readings if r != reference]
            right = {i: is_right(one_line(hypotheses[i]), reference, others) for i in places}
            every.append(sum(right.values()) / len(right))
            if features:
                values = {tuple(features[i]) for r in others for i in readings[r]}
                clear = [right[i] for i in places if tuple(features[i]) not in values]
                if clear:
                    settled.append(sum(clear) / len(clear))
    return Reading(
        readings=len(every),
        accuracy=sum(every) / len(every) if every else None,
        settled=len(settled),
        settled_accuracy=sum(settled) / len(settled) if settled else None,
    )
