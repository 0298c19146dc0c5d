"""The scores of a set of translations: by sacreBLEU (Post 2018), and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import BY_WORDS, Scoring, check_packages
from nmt_feat.text.files import one_line


@dataclass
class Reading:
    """How often the meant reading of an ambiguous source text was translated.

    The readings of a source text are its different references. A reading of several lines counts
    once, as the share of its lines that are right.
    """

    readings: int
    """Number of readings of source texts that have more than one."""
    accuracy: float | None
    """Share of them that are right, 0 to 1; None if there are no readings."""
    settled: int
    """Number of readings whose feature values differ from those of every other one of the text."""
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
    """Perplexity of the references; see `measure_perplexity`."""
    perplexity_unit: str = "word"
    """Its unit: `word`, or `character` in languages without spaces between words."""
    metrics: dict[str, MetricScore] = field(default_factory=dict)
    """Further metrics by name; in a record without any, the entry is absent."""

    def all_metrics(self) -> dict[str, MetricScore]:
        """Each metric of this text by its name."""
        metrics = {
            "BLEU": MetricScore(self.bleu, self.bleu_signature, "bleu"),
            "chrF": MetricScore(self.chrf, self.chrf_signature, "chrf"),
        }
        if self.ter is not None:
            metrics["TER"] = MetricScore(self.ter, self.ter_signature or "", "mean", True)
        return metrics | self.metrics


def scored_line(text: str) -> str:
    """The text as the line of a file that is scored: without line separators and end spaces."""
    return one_line(text).rstrip()


def make_scorers(scoring: Scoring) -> tuple[BLEU, CHRF]:
    """sacreBLEU's BLEU and chrF, as `score_translations` uses them."""
    if scoring.tokenized:
        bleu = BLEU(tokenize="none", lowercase=True, force=True)
    else:
        check_packages(scoring.tokenizer, "scoring")
        bleu = BLEU(tokenize=scoring.tokenizer, force=True)
    return bleu, CHRF(lowercase=scoring.tokenized)


def score_translations(
    hypotheses: Sequence[str], references: Sequence[str], scoring: Scoring = BY_WORDS
) -> Scores:
    """BLEU (cased) and chrF, equal to those of the `sacrebleu` command for the written files.

    For tokenized text the command is `--tokenize none --lowercase --chrf-lowercase`, as in the
    literature.
    """
    if len(hypotheses) != len(references) or not references:
        raise UserError(
            f"scoring: {len(hypotheses)} hypotheses for {len(references)} references; "
            "give one hypothesis for each of at least one reference"
        )
    hypotheses, references = list(map(scored_line, hypotheses)), list(map(scored_line, references))
    bleu, chrf = make_scorers(scoring)
    return Scores(
        bleu=bleu.corpus_score(hypotheses, [references]).score,
        chrf=chrf.corpus_score(hypotheses, [references]).score,
        bleu_signature=bleu.get_signature().format(),
        chrf_signature=chrf.get_signature().format(),
        sentences=len(references),
    )


def measure_perplexity(
    logprobs: Sequence[float], references: Sequence[str], unit: str = "word"
) -> float:
    """`exp(-L / W)`: L the sum of the references' log-probabilities (natural, with the end symbol).

    W counts the words between spaces and one end for each reference, so that models with different
    subwords can be compared. L is of the one segmentation of a reference that the model uses. With
    the unit `character`, W counts characters that are not white space instead of words: in
    languages without spaces between words, spaces separate clauses.
    """
    parts = (reference.split() for reference in references)
    if unit == "character":
        units = sum(len("".join(words)) + 1 for words in parts)
    else:
        units = sum(len(words) + 1 for words in parts)
    nats = -sum(logprobs) / units
    return math.exp(nats) if nats < 700 else math.inf
