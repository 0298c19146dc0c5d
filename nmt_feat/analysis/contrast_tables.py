"""Tables of contrastive suites: accuracy by category and by distance, over seeds."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nmt_feat.analysis.claims import format_p
from nmt_feat.analysis.render import ReportTable
from nmt_feat.analysis.statistics import Sample, compare_samples, sentence_weights
from nmt_feat.evaluation.contrastive_suites import ContrastResult
from nmt_feat.evaluation.forms import score_mean
from nmt_feat.runs.stored.records import RunRecord

MOST_CATEGORIES = 40
"""The most categories of a table; a suite of word senses has hundreds."""
Results = dict[str, list[ContrastResult]]
"""By the name of a row, the results of its runs on one suite."""


def make_contrast_tables(
    rows: Mapping[str, Sequence[RunRecord]], baseline: str | None
) -> list[ReportTable]:
    """For each suite, accuracies and, with several seeds, differences to the baseline."""
    tables = []
    for (name, _), results in _group_by_suite(rows).items():
        tables.append(_make_table(name, results))
        if comparison := _compare(name, results, baseline):
            tables.append(comparison)
    return tables


def _group_by_suite(rows: Mapping[str, Sequence[RunRecord]]) -> dict[tuple[str, str], Results]:
    """By name and checksum of a suite, the results of the rows."""
    suites: dict[tuple[str, str], Results] = {}
    for row, records in rows.items():
        for record in records:
            for name, result in record.contrast.items():
                of_suite = suites.setdefault((name, result.suite), {})
                of_suite.setdefault(row, []).append(result)
    return suites


def _make_table(suite: str, results: Results) -> ReportTable:
    """A line for all pairs, each category and each distance; a column for each method."""
    first = next(iter(results.values()))[0]
    lines = [["all", str(len(first.outcomes))]]
    lines[0] += [_format_share(result.accuracy for result in runs) for runs in results.values()]
    categories = sorted(first.categories, key=lambda name: -first.categories[name][1])
    for name in categories[:MOST_CATEGORIES]:
        counts = {row: [r.categories[name] for r in runs] for row, runs in results.items()}
        lines.append(_make_line(name, counts))
    for name in first.distances:
        counts = {row: [r.distances[name] for r in runs] for row, runs in results.items()}
        lines.append(_make_line(f"distance {name}", counts))
    notes = ["% of decisions where the reference has a higher log-probability than what is wrong."]
    if len(categories) > MOST_CATEGORIES:
        notes.append(f"Of {len(categories)} categories those with most decisions are shown.")
    heading = ["pairs of", "decisions", *results]
    return ReportTable(f"Contrastive suite {suite}", heading, lines, notes, frozenset({"pairs of"}))


def _make_line(name: str, counts: Mapping[str, Sequence[Sequence[int]]]) -> list[str]:
    total = next(iter(counts.values()))[0][1]
    shares = [_format_share(right / count for right, count in runs) for runs in counts.values()]
    return [name, str(total), *shares]


def _format_share(shares: Iterable[float]) -> str:
    percent = [100 * share for share in shares]
    mean = f"{statistics.fmean(percent):.1f}"
    return f"{mean} ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else mean


def _compare(suite: str, results: Results, baseline: str | None) -> ReportTable | None:
    """A table of differences to the baseline over all decisions, with intervals as for metrics."""
    if baseline not in results or importlib.util.find_spec("scipy") is None:
        return None
    count = len(results[baseline][0].outcomes)
    if count < 2:
        return None
    weights = sentence_weights(count)
    samples = {
        row: Sample.from_counts([_to_counts(r) for r in runs], score_mean, weights)
        for row, runs in results.items()
        if len(runs) > 1
    }
    lines = []
    for row, sample in samples.items():
        if row != baseline and baseline in samples:
            difference = compare_samples(sample, samples[baseline], count)
            interval = f"{difference.low:+.1f} to {difference.high:+.1f}"
            lines.append([row, f"{difference.value:+.1f}", interval, format_p(difference.p)])
    heading = ["method", "difference", "95 % interval", "p"]
    title = f"Contrastive suite {suite}: differences to {baseline}, in points of %"
    notes = ["Over seeds and pairs; p is not corrected for several comparisons."]
    return ReportTable(title, heading, lines, notes, frozenset({"method"})) if lines else None


def _to_counts(result: ContrastResult) -> np.ndarray:
    """The statistics of each decision, in the form of a metric that is a mean."""
    right = np.frombuffer(result.outcomes.encode(), np.uint8) - ord("0")
    return np.stack([100 * right.astype(np.int64), np.ones(len(right), np.int64)], axis=1)
