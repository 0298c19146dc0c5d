"""What a metric is: an object that measures sentences, and makes a score of the sums.

Records have all that a report needs of a metric: each sentence's statistics, and the `form` in
which their sums give the score. So a report never imports a user-defined class.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nmt_feat.config.instantiate import build_object, naming_failures, user_code_hash
from nmt_feat.config.schema import MetricConfig
from nmt_feat.errors import UserError, short_repr, suggest
from nmt_feat.evaluation.forms import COMMON_METRICS, FORMS, Statistics
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.scores import MetricScore, Scores, scored_line

RESERVED_NAMES = (*COMMON_METRICS, "TER", "perplexity")
"""Names that a user-defined metric cannot have."""


class Metric(ABC):
    """A score of translations that is a weighted mean over sentences: sum / weight.

    Derive from it, or from `SentenceMetric` if the score is the mean of the sentences' scores.

    Args:
        scoring: how translations into the target language are scored.

    Attributes:
        name: its name in tables. Choose the scale so that two decimals are enough.
        lower_is_better: whether a lower score is better.
        form: how the summed statistics give the score: `mean` is the first column's sum over the
            second's; `bleu` and `chrf` are for sacreBLEU's counts.
    """

    name: str = ""
    lower_is_better: bool = False
    form: str = "mean"

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring

    @property
    def signature(self) -> str:
        """All that the score depends on, as `name:value` between `|`.

        Scores are comparable only if it is equal. A checksum of a user-defined class is added.
        """
        return ""

    @classmethod
    def identify_args(cls, args: Mapping[str, Any], scoring: Scoring) -> dict[str, Any]:
        """The arguments that identify a run whose checkpoint this metric chooses.

        A metric that reads a file gives the hash of its content in place of its path.
        """
        return dict(args)

    @abstractmethod
    def measure_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> Statistics:
        """The statistics of each sentence: (sentences, 2), the sum and the weight."""

    def score_corpus(self, statistics: Statistics) -> float:
        """The score of all sentences together."""
        total, weight = statistics.sum(axis=0).tolist()
        return float(total / weight) if weight else 0.0


class SentenceMetric(Metric):
    """A metric whose score is the mean of the sentences' scores."""

    @abstractmethod
    def score_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> Sequence[float]:
        """The score of each sentence."""

    def measure_sentences(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> Statistics:
        """Each sentence's score, with weight 1."""
        scores = np.asarray(self.score_sentences(sources, hypotheses, references), float)
        return np.stack([scores, np.ones_like(scores)], axis=-1)


def build_metrics(configs: Mapping[str, MetricConfig], scoring: Scoring) -> dict[str, Metric]:
    """The metrics by their names in the settings; wrong settings are a `UserError`."""
    metrics: dict[str, Metric] = {}
    for key, config in configs.items():
        metric = build_object(config._target_, Metric, config.args, scoring=scoring)
        where = f"metrics.{key}._target_={config._target_}"
        name, form = metric.name, metric.form  # a user's class may set anything
        is_text = isinstance(name, str)
        if not is_text or not re.fullmatch(r"\w[\w .+%-]*", name) or name.endswith(" "):
            raise UserError(
                f"{where}: its name is {short_repr(name)}; a name is text of letters, digits, "
                "spaces and _ . + - %"
            )
        if form not in FORMS:
            raise UserError(f"{where}: its form is {form}; {suggest(str(form), FORMS)}")
        shipped = type(metric).__module__.startswith("nmt_feat.")
        if name in RESERVED_NAMES and not shipped:
            raise UserError(f"{where}: the name {name} is taken; choose another")
        if name in (earlier.name for earlier in metrics.values()):
            raise UserError(f"{where}: another metric has the name {name}; leave one out")
        metrics[key] = metric
    return metrics


def check_selecting_metric(name: str, metrics: Mapping[str, Metric]) -> None:
    """Refuse to choose the checkpoint by a metric that is not among those of the run."""
    if name not in ("bleu", *metrics):
        raise UserError(
            f"trainer.select_metric={name}: not a metric of this run; {suggest(name, metrics)}; or "
            f"choose it too: metrics=[{','.join([*metrics, name])}]"
        )


def full_signature(metric: Metric) -> str:
    """A metric's signature, with a checksum of the code if its class is user-defined."""
    code = user_code_hash(type(metric)).get("code")
    return "|".join(part for part in (metric.signature, code and f"code:{code}") if part)


def measure_texts(
    metric: Metric, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
) -> Statistics:
    """The statistics of each sentence; a mistake of a user-defined class is a `UserError`."""
    texts = ([scored_line(text) for text in side] for side in (sources, hypotheses, references))
    with naming_failures(type(metric), Metric):
        statistics = np.asarray(metric.measure_sentences(*texts))
    where = f"{type(metric).__module__}.{type(metric).__qualname__}"
    if statistics.dtype.kind not in "biuf":
        raise UserError(f"{where}: gives {short_repr(statistics.tolist())}; give numbers")
    size = " x ".join(map(str, statistics.shape)) or "1"
    if statistics.ndim != 2 or len(statistics) != len(references):
        raise UserError(
            f"{where}: gives {size} numbers for {len(references)} sentences; give each sentence a "
            "row"
        )
    if metric.form == "mean" and statistics.shape[1] != 2:
        raise UserError(
            f"{where}: gives {size} numbers; give two for each sentence, a sum and its weight"
        )
    if not np.isfinite(statistics).all():
        first = int(np.flatnonzero(~np.isfinite(statistics).all(axis=1))[0])
        raise UserError(
            f"{where}: sentence {first + 1} has a score that is not finite; give a number"
        )
    return statistics


def score_statistics(metric: Metric, statistics: Statistics) -> float:
    """The score of all sentences; a mistake of a user-defined class is a `UserError`."""
    with naming_failures(type(metric), Metric):
        score = float(metric.score_corpus(statistics))
    if not np.isfinite(score):
        where = f"{type(metric).__module__}.{type(metric).__qualname__}"
        raise UserError(f"{where}: score_corpus returns {score}; give a finite number")
    return score


def score_texts(
    metric: Metric, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
) -> float:
    """The score of translations."""
    return score_statistics(metric, measure_texts(metric, sources, hypotheses, references))


def add_scores(
    metrics: Mapping[str, Metric],
    scores: Scores,
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
) -> dict[str, Statistics]:
    """Add scores by metrics that not every record has to `scores`; the statistics of these."""
    statistics: dict[str, Statistics] = {}
    for metric in metrics.values():
        if metric.name in COMMON_METRICS:
            continue
        measured = measure_texts(metric, sources, hypotheses, references)
        statistics[metric.name] = measured
        score, signature = score_statistics(metric, measured), full_signature(metric)
        if metric.name == "TER":  # has had its own field since the first records
            scores.ter, scores.ter_signature = score, signature
        else:
            scores.metrics[metric.name] = MetricScore(
                score, signature, metric.form, metric.lower_is_better
            )
    return statistics


def list_missing(metrics: Mapping[str, Metric], scores: Scores) -> dict[str, Metric]:
    """The metrics that scores lack, or have by another signature."""
    return {key: metric for key, metric in metrics.items() if not _has_score(scores, metric)}


def _has_score(scores: Scores, metric: Metric) -> bool:
    if metric.name in COMMON_METRICS:
        return True
    if metric.name in scores.metrics:
        return scores.metrics[metric.name].signature == full_signature(metric)
    # TER of earlier records stays, whatever the version of sacreBLEU in its signature.
    return metric.name == "TER" and scores.ter is not None
