"""What a table of runs supports: intervals, p-values and shares of resamples; docs/statistics.md.

The unit of inference is the seed. BLEU and chrF of any set of sentences follow from the sums of
their n-gram counts, so that resampling sentences is a matrix product.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest, Result
from scipy import special

from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import DEFAULT
from nmt_feat.evaluation.metrics import make_metrics, one_line
from nmt_feat.evaluation.packed_runs import read_packed_counts
from nmt_feat.training.checkpoints import check_sums, write_summed

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]

ORDERS = {"BLEU": range(1, 5), "chrF": range(1, 7)}
COLUMNS = {
    "BLEU": [
        *("length", "reference"),
        *(f"right{n}" for n in ORDERS["BLEU"]),
        *(f"all{n}" for n in ORDERS["BLEU"]),
    ],
    "chrF": [f"{what}{n}" for n in ORDERS["chrF"] for what in ("all", "reference", "right")],
}
"""The counts of one sentence by metric, in sacreBLEU's order; n is the n-gram's length."""
RESAMPLES = 2000
SEED = 12345  # sacreBLEU's own
LEVEL = 0.95


def sentence_counts(
    hypotheses: Sequence[str],
    references: Sequence[str],
    tokenized: bool = False,
    tokenizer: str = DEFAULT,
) -> dict[str, Counts]:
    """Each metric's counts, (sentences, columns); their sums give the corpus's score."""
    hypotheses, references = list(map(one_line, hypotheses)), list(map(one_line, references))
    return {
        name: np.array(metric._extract_corpus_statistics(hypotheses, [references]), np.int64)
        for name, metric in zip(COLUMNS, make_metrics(tokenized, tokenizer), strict=True)
    }


def digest(references: Sequence[str]) -> str:
    """SHA-256 of the references: tells whether two files of counts are of one test set."""
    return hashlib.sha256("\n".join(map(one_line, references)).encode()).hexdigest()


def counts_file(name: str) -> str:
    """The name of the file of a set's counts in a run's folder."""
    return f"{name}.counts.parquet"


def write_counts(path: Path, counts: Mapping[str, Counts], references: Sequence[str]) -> None:
    """Write a Parquet file: a row a sentence, a column a count, no text."""
    columns = {
        f"{metric} {name}": pa.array(counts[metric][:, i].astype(np.int32))
        for metric, names in COLUMNS.items()
        for i, name in enumerate(names)
    }
    table = pa.table(columns).replace_schema_metadata({"references": digest(references)})
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd", write_statistics=False)
    write_summed(path, content.getvalue().to_pybytes())


def read_counts(path: Path) -> tuple[dict[str, Counts], str]:
    """What `write_counts` wrote: the counts and the digest of the references.

    Where the run has no folder, it is packed; see `packed_runs`.
    """
    check_sums(path.parent, only=[path.name])
    try:
        table = pq.read_table(path) if path.parent.is_dir() else read_packed_counts(path)
        counts = {
            metric: np.stack([table[f"{metric} {name}"].to_numpy() for name in names], axis=1)
            for metric, names in COLUMNS.items()
        }
        return counts, table.schema.metadata[b"references"].decode()
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: no file of counts ({reason}); run the run again") from None


def bleu(counts: Numbers | Counts) -> Numbers:
    """BLEU of summed counts (..., 10): sacreBLEU's, with its exponential smoothing."""
    length, reference, right, total = np.split(counts.astype(float), [1, 2, 6], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        missing = np.cumsum(right == 0, axis=-1)
        log = np.log(np.where(right == 0, 0.5**missing, right)) - np.log(total)
        brevity = np.minimum(0, 1 - reference / length)[..., 0]
    found = 100 * np.exp(log.mean(axis=-1) + brevity)
    return np.where((total == 0).any(axis=-1) | (right == 0).all(axis=-1), 0.0, found)


def chrf(counts: Numbers | Counts) -> Numbers:
    """chrF of summed counts (..., 18): sacreBLEU's, beta 2, over the orders that occur."""
    grams = counts.reshape(*counts.shape[:-1], 6, 3).astype(float)
    hypothesis, reference, right = np.moveaxis(grams, -1, 0)
    occurs = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(occurs.sum(axis=-1), 1)
    precision = (right / np.maximum(hypothesis, 1) * occurs).sum(axis=-1) / orders
    recall = (right / np.maximum(reference, 1) * occurs).sum(axis=-1) / orders
    below = 4 * precision + recall
    return np.where(below > 0, 500 * precision * recall / np.where(below > 0, below, 1), 0.0)


METRICS: dict[str, Callable[[Numbers | Counts], Numbers]] = {"BLEU": bleu, "chrF": chrf}


def sentence_weights(sentences: int, resamples: int = RESAMPLES, seed: int = SEED) -> Numbers:
    """How often each resample has each sentence: (resamples, sentences), rows sum to sentences."""
    drawn = np.random.default_rng(seed).integers(sentences, size=(resamples, sentences))
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
    def of(
        cls, runs: Sequence[Counts], score: Callable[[Numbers | Counts], Numbers], weights: Numbers
    ) -> Sample:
        """From the sentence counts of each run, all of the same test set."""
        counts = np.stack(runs, axis=1).astype(float)  # (sentences, n, columns)
        sums = weights @ counts.reshape(len(counts), -1)
        return cls(score(counts.sum(axis=0)), score(sums.reshape(len(weights), *counts.shape[1:])))

    @classmethod
    def combined(cls, samples: Sequence[Sample], weights: Sequence[float]) -> Sample:
        """Their weighted sum, seed by seed: all have the same seeds in the same order."""
        pairs = list(zip(weights, samples, strict=True))
        scores = sum((w * s.scores for w, s in pairs), np.zeros(1))
        return cls(scores, sum((w * s.resampled for w, s in pairs), np.zeros(1)))

    def chosen(self, places: Sequence[int]) -> Sample:
        """The runs at these places."""
        return Sample(self.scores[list(places)], self.resampled[:, list(places)])

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(self.scores.mean())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds."""
        return float(self.scores.std(ddof=1)) if len(self.scores) > 1 else None

    @property
    def _seeds(self) -> float:
        """Variance of the mean that comes with the seeds: s^2 / n."""
        return float(self.scores.var(ddof=1)) / len(self.scores)

    @property
    def _both(self) -> float:
        """The part of `_seeds` that comes with the sentences too: seeds differ by sentence."""
        n = len(self.scores)
        apart = self.resampled - self.resampled.mean(axis=1, keepdims=True)
        return float(apart.var(axis=0, ddof=1).sum()) / (n * (n - 1))

    def _drawn(self, random: np.random.Generator) -> Numbers:
        """Mean of seeds drawn with replacement less the mean, (B,), of variance s^2 / n."""
        n = len(self.scores)
        drawn = random.integers(n, size=(len(self.resampled), n))
        moved: Numbers = self.scores[drawn].mean(axis=1) - self.mean
        return moved * math.sqrt(n / (n - 1))


@dataclass(frozen=True)
class Difference:
    """One method less another: both have at least two seeds."""

    value: float
    low: float
    """The interval's ends, at `LEVEL`."""
    high: float
    p: float
    """Two-sided, of the same statistic; not corrected."""
    share: float
    """Of the resamples over seeds and sentences, those in which the first is above."""
    seed_variance: float
    sentence_variance: float
    df: float


def difference(one: Sample, other: Sample, sentences: int, corrected: bool = True) -> Difference:
    """Welch's t on the means over seeds, with the variance that the sentences add.

    The variance is s1^2/n1 + s2^2/n2 + max(0, b - i): b is the variance of the difference over
    resampled sentences with the seeds fixed; i, what of b stands in s1^2/n1 + s2^2/n2 already,
    since each seed has its own luck with each sentence. `corrected=False` leaves i out.
    Degrees of freedom: Welch's, with the sentences as a third part.
    """
    value = one.mean - other.mean
    moved = one.resampled.mean(axis=1) - other.resampled.mean(axis=1)
    both = (one._both + other._both) if corrected else 0.0
    bootstrap = float(moved.var(ddof=1))
    sentence = max(0.0, bootstrap - both)
    parts = [(one._seeds, len(one.scores) - 1), (other._seeds, len(other.scores) - 1)]
    parts.append((sentence, sentences - 1))
    variance = sum(v for v, _ in parts)
    below = sum(v**2 / df for v, df in parts if v > 0)
    df = variance**2 / below if below else math.inf
    error = math.sqrt(variance)
    half = float(special.stdtrit(df, (1 + LEVEL) / 2)) * error
    p = float(2 * special.stdtr(df, -abs(value) / error)) if error else float(value == 0)

    random = np.random.default_rng(SEED)
    scale = math.sqrt(sentence / bootstrap) if bootstrap else 0.0
    drawn = value + one._drawn(random) - other._drawn(random) + scale * (moved - moved.mean())
    share = float((drawn > 0).mean() + (drawn == 0).mean() / 2)
    return Difference(
        *(value, value - half, value + half, p, share),
        *(variance - sentence, sentence, df),
    )


def against_zero(sample: Sample, sentences: int) -> Difference:
    """`difference` of a sample of differences, paired by seed, to none: one sample's t."""
    nothing = Sample(np.zeros(2), np.zeros((len(sample.resampled), 2)))
    return difference(sample, nothing, sentences)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that any false one is as rare as said (Holm 1979)."""
    corrected, largest = [0.0] * len(values), 0.0
    for rank, i in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = largest
    return corrected


class _Stored:
    """Lets sacreBLEU's tests read counts where they expect texts."""

    def _extract_corpus_statistics(self, hypotheses: Counts, references: object) -> Numbers:
        self.num_refs = 1  # for the signature
        return hypotheses.astype(float)  # sums of floats are much faster


class _StoredBLEU(_Stored, BLEU):  # type: ignore[misc]
    pass


class _StoredCHRF(_Stored, CHRF):  # type: ignore[misc]
    pass


def paired_tests(baseline: Counts, others: Sequence[Counts], metric: str) -> list[dict[str, float]]:
    """sacreBLEU's tests of pairs of models on one test set: p by `bootstrap`, `randomization`.

    Each is about two models, not about two methods (Koehn 2004; Riezler & Maxwell 2005).
    """
    stored = {"BLEU": _StoredBLEU, "chrF": _StoredCHRF}[metric]()
    systems: list[tuple[str, Any]] = [
        (str(i), counts) for i, counts in enumerate([baseline, *others])
    ]
    found: list[dict[str, float]] = [{} for _ in others]
    for name, kind in (("bootstrap", "bs"), ("randomization", "ar")):
        _, scores = PairedTest(systems, {metric: stored}, None, test_type=kind)()
        (results,) = (results for key, results in scores.items() if key != "System")
        base, *tested = results
        for into, result in zip(found, tested, strict=True):
            assert isinstance(base, Result)
            assert isinstance(result, Result)
            assert result.p_value is not None
            equal = result.score == base.score  # which sacreBLEU gives the least p there is
            into[name] = 1.0 if equal else result.p_value
    return found
