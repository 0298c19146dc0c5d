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
    """Perplexity of the references; see `word_perplexity`."""
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


def one_line(text: str) -> str:
    """The text as a line of a file: line separators become spaces; none at the end."""
    return text_on_one_line(text).rstrip()


def make_metrics(tokenized: bool, tokenizer: str = DEFAULT) -> tuple[BLEU, CHRF]:
    """BLEU and chrF with the settings of `score`."""
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
    """BLEU (cased) and chrF, equal to those of the `sacrebleu` command for the written files.

    `tokenizer` is sacreBLEU's; see `languages.choose_scoring`. With `tokenized` it is not used, and
    the command is `--tokenize none --lowercase --chrf-lowercase`, as in the literature.
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


def reading_accuracy(
    sources: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    features: Sequence[Sequence[str]] | None = None,
) -> Reading:
    """Reading accuracy; `features` has the values of each line, one string for each feature.

    Lines with the same source text, unless it is blank, are readings of one another. A hypothesis
    is right if it equals its reference, or if its sentence chrF with the reference is higher than
    with every other reading. Equal chrF is wrong. So if all lines of a source have one output, at
    most 1 of its k readings is right. The features settle a line if no other reading of its source
    has its values.
    """
    lines_of: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for line, (source, reference) in enumerate(zip(sources, references, strict=True)):
        if source.strip():
            lines_of[source][one_line(reference)].append(line)
    shares: list[float] = []
    settled_shares: list[float] = []
    for readings in lines_of.values():
        if len(readings) < 2:
            continue
        for reference, lines in readings.items():
            rivals = [rival for rival in readings if rival != reference]
            right = {i: _is_right(one_line(hypotheses[i]), reference, rivals) for i in lines}
            shares.append(sum(right.values()) / len(right))
            if features:
                rival_values = {tuple(features[i]) for rival in rivals for i in readings[rival]}
                settled = [right[i] for i in lines if tuple(features[i]) not in rival_values]
                if settled:
                    settled_shares.append(sum(settled) / len(settled))
    return Reading(
        readings=len(shares),
        accuracy=sum(shares) / len(shares) if shares else None,
        settled=len(settled_shares),
        settled_accuracy=sum(settled_shares) / len(settled_shares) if settled_shares else None,
    )


def _is_right(hypothesis: str, reference: str, rivals: Sequence[str]) -> bool:
    """Whether a hypothesis is nearer to its reference than to those of all rival readings."""
    if hypothesis == reference or hypothesis in rivals:
        return hypothesis == reference
    chrf = CHRF()
    similarity = chrf.sentence_score(hypothesis, [reference]).score
    return all(similarity > chrf.sentence_score(hypothesis, [rival]).score for rival in rivals)
