"""Intervals, p-values and shares of resamples of a table of runs; docs/explanation/statistics.md.

The unit of inference is the seed. BLEU and chrF of any set of sentences follow from the sums of
their n-gram counts, so resampling sentences is a matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF, CHRFScore
from sacrebleu.significance import PairedTest, Result

from nmt_feat.evaluation.counts import Counts
from nmt_feat.evaluation.forms import Numbers, ScoreFunction, score_mean
from nmt_feat.extras import import_optional

RESAMPLES = 2000
SEED = 12345  # sacreBLEU's own
LEVEL = 0.95
CHRF_COLUMNS = 18
"""Columns of chrF's counts; chrF++ has more."""


def sentence_weights(sentences: int, resamples: int = RESAMPLES) -> Numbers:
    """How often each sentence is in each resample: (resamples, sentences)."""
    drawn = np.random.default_rng(SEED).integers(sentences, size=(resamples, sentences))
    drawn += np.arange(resamples)[:, None] * sentences
    counted = np.bincount(drawn.ravel(), minlength=drawn.size)
    weights: Numbers = counted.reshape(drawn.shape).astype(np.float64)
    return weights


@dataclass(frozen=True)
class Sample:
    """The scores of a method's runs, (n,), and those in each resample of sentences, (B, n)."""

    scores: Numbers
    resampled: Numbers

    @classmethod
    def from_counts(cls, runs: Sequence[Counts], score: ScoreFunction, weights: Numbers) -> Sample:
        """The sample of runs with these counts of sentences, all of one test set."""
        counts = np.stack(runs, axis=1).astype(float)  # (sentences, n, columns)
        sums = weights @ counts.reshape(len(counts), -1)
        return cls(score(counts.sum(axis=0)), score(sums.reshape(len(weights), *counts.shape[1:])))

    @classmethod
    def weighted_sum(cls, samples: Sequence[Sample], weights: Sequence[float]) -> Sample:
        """The weighted sum of samples with the same seeds in the same order, seed by seed."""
        pairs = list(zip(weights, samples, strict=True))
        scores = sum((w * s.scores for w, s in pairs), np.zeros(1))
        return cls(scores, sum((w * s.resampled for w, s in pairs), np.zeros(1)))

    def select_runs(self, indices: Sequence[int]) -> Sample:
        """The sample of the runs with these indices."""
        return Sample(self.scores[list(indices)], self.resampled[:, list(indices)])

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(self.scores.mean())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds."""
        return float(self.scores.std(ddof=1)) if len(self.scores) > 1 else None

    @property
    def _seed_variance(self) -> float:
        """The variance of the mean that seeds cause: s^2 / n."""
        return float(self.scores.var(ddof=1)) / len(self.scores)

    @property
    def _seed_sentence_variance(self) -> float:
        """The part of `_seed_variance` that sentences cause: seeds differ by sentence."""
        n = len(self.scores)
        deviations = self.resampled - self.resampled.mean(axis=1, keepdims=True)
        return float(deviations.var(axis=0, ddof=1).sum()) / (n * (n - 1))

    def _draw_seeds(self, random: np.random.Generator) -> Numbers:
        """The mean of seeds drawn with replacement, minus the mean: (B,), of variance s^2 / n."""
        n = len(self.scores)
        drawn = random.integers(n, size=(len(self.resampled), n))
        moved: Numbers = self.scores[drawn].mean(axis=1) - self.mean
        return moved * math.sqrt(n / (n - 1))  # n draws from n seeds vary too little by this factor


@dataclass(frozen=True)
class Difference:
    """The difference of two methods, which both have at least two seeds."""

    value: float
    low: float
    """The lower end of the interval, at `LEVEL`."""
    high: float
    p: float
    """The two-sided p-value of the same statistic, not corrected."""
    share: float
    """The share of resamples over seeds and sentences in which the first method is above."""
    seed_variance: float
    sentence_variance: float
    df: float


def compare_samples(
    one: Sample, base: Sample, sentences: int, corrected: bool = True
) -> Difference:
    """`one` minus `base`: Welch's t on the means over seeds, with the variance of the sentences.

    The variance is V = s1^2/n1 + s2^2/n2 + max(0, b - i):

    - s^2 is the sample variance over the n seeds of a method;
    - b is the variance of the difference over resampled sentences, the seeds fixed (the paired
      bootstrap of Koehn 2004, of means over seeds);
    - i is the part of b that is also in s1^2/n1 + s2^2/n2: each seed is lucky with some sentences,
      which makes seeds differ, and also changes the difference when sentences are drawn again. It
      must not count twice. `corrected=False` leaves i out.

    Degrees of freedom are those of Welch (1947) and Satterthwaite (1946), with the sentences as a
    third part of N - 1: V^2 over the sum of v^2 / df of the three parts.
    """
    value = one.mean - base.mean
    moved = one.resampled.mean(axis=1) - base.resampled.mean(axis=1)
    overlap = 0.0
    if corrected:
        overlap = one._seed_sentence_variance + base._seed_sentence_variance
    bootstrap = float(moved.var(ddof=1))
    sentence = max(0.0, bootstrap - overlap)
    parts = [(sample._seed_variance, len(sample.scores) - 1) for sample in (one, base)]
    parts.append((sentence, sentences - 1))
    variance = sum(v for v, _ in parts)
    below = sum(v**2 / df for v, df in parts if v > 0)
    df = variance**2 / below if below else math.inf
    error = math.sqrt(variance)
    import_optional("scipy", "a p-value", "analysis")
    from scipy import special

    half = float(special.stdtrit(df, (1 + LEVEL) / 2)) * error
    p = float(2 * special.stdtr(df, -abs(value) / error)) if error else float(value == 0)

    # The share: every pair uses an equal generator, and draws seeds of `one` first. Sentences are
    # those of the resamples, scaled to the variance that sentences add.
    random = np.random.default_rng(SEED)
    scale = math.sqrt(sentence / bootstrap) if bootstrap else 0.0
    drawn = value + one._draw_seeds(random) - base._draw_seeds(random)
    drawn += scale * (moved - moved.mean())
    share = float((drawn > 0).mean() + (drawn == 0).mean() / 2)
    return Difference(
        *(value, value - half, value + half, p, share),
        *(variance - sentence, sentence, df),
    )


def compare_with_zero(sample: Sample, sentences: int) -> Difference:
    """A sample of differences, paired by seed, compared with 0: the t test of one sample."""
    zero = Sample(np.zeros(2), np.zeros((len(sample.resampled), 2)))
    return compare_samples(sample, zero, sentences)


def correct_by_holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979).

    The chance that any of them is falsely below 0.05 is at most 5 %. The k-th smallest of m is
    multiplied by m - k + 1. None becomes smaller than one that was below it, or larger than 1.
    """
    corrected, largest = [0.0] * len(values), 0.0
    for rank, i in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = largest
    return corrected


class _Stored:
    """Makes a metric of sacreBLEU accept counts instead of texts, for its tests of pairs."""

    def _extract_corpus_statistics(self, hypotheses: Counts, references: object) -> Numbers:
        self.num_refs = 1  # for the signature
        return hypotheses.astype(float)  # sums of floats are much faster


class _StoredBLEU(_Stored, BLEU):  # type: ignore[misc]
    pass


class _StoredCHRF(_Stored, CHRF):  # type: ignore[misc]
    pass


class _StoredMean(_StoredCHRF):
    """A mean with the interface of sacreBLEU's metrics."""

    def _compute_score_from_stats(self, stats: Any) -> Any:
        return CHRFScore(float(score_mean(np.asarray(stats))), 6, 0, 2)

    def _aggregate_and_compute(self, stats: Any) -> Any:
        return self._compute_score_from_stats(np.sum(stats, axis=0))


def paired_tests(
    baseline: Counts, others: Sequence[Counts], form: str = "bleu"
) -> list[dict[str, float]]:
    """sacreBLEU's tests of pairs of models on one test set: p by `bootstrap`, `randomization`.

    They compare two models, not two methods (Koehn 2004; Riezler & Maxwell 2005). `form` is the
    form of the metric whose counts these are.
    """
    stored: Any = _StoredBLEU() if form == "bleu" else _StoredMean()
    if form == "chrf":
        stored = _StoredCHRF(word_order=2 if baseline.shape[1] > CHRF_COLUMNS else 0)
    systems: list[tuple[str, Any]] = [
        (str(i), counts) for i, counts in enumerate([baseline, *others])
    ]
    p_values: list[dict[str, float]] = [{} for _ in others]
    for name, kind in (("bootstrap", "bs"), ("randomization", "ar")):
        _, scores = PairedTest(systems, {form: stored}, None, test_type=kind)()
        (results,) = (results for key, results in scores.items() if key != "System")
        base, *tested = results
        for p_values_of_model, result in zip(p_values, tested, strict=True):
            assert isinstance(base, Result)
            assert isinstance(result, Result)
            assert result.p_value is not None
            is_equal = result.score == base.score  # sacreBLEU gives these its smallest p
            p_values_of_model[name] = 1.0 if is_equal else result.p_value
    return p_values
