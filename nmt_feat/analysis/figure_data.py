"""What the figures of a report show, taken from the runs: plain numbers by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nmt_feat.analysis.comparisons import Evidence
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.result_tables import ResultTable, feature_bits
from nmt_feat.analysis.statistics import Difference
from nmt_feat.runs.records import RunRecord

BUCKETS = 5
"""Ranges of lengths."""
Gain = tuple[float, Difference | None, int]
"""Score above words only; the difference with its interval where both have two seeds; seeds."""
Points = dict[tuple[float, float], list[float]]
"""By bits and bits given the word, the scores of runs."""
Gates = dict[str, dict[str, tuple[int, dict[str, list[float]]]]]
"""By feature, then by value: its pieces, and by part the mean weight in each run."""


def score_by_length(evidence: Evidence) -> dict[str, dict[str, list[float]]]:
    """By method, then by length of the reference in BLEU's tokens, the score of each seed's run.

    About equally many sentences in each range; the score is that of all of them together.
    """
    reference = evidence.methods[0].counts[0]["BLEU"][:, 1]
    quantiles = np.arange(1, BUCKETS + 1) / BUCKETS
    ends = np.unique(np.quantile(reference, quantiles, method="inverted_cdf"))
    if len(ends) < 2:
        return {}
    bucket = np.searchsorted(ends, reference)
    names, metric = [], evidence.metric
    score = evidence.scorings[metric]
    for i in range(len(ends)):
        inside = reference[bucket == i]
        span = "–".join(map(str, np.unique([inside.min(), inside.max()])))
        names.append(f"{span}\n({len(inside):,})")
    return {
        method.name: {
            name: [
                float(score(counts[metric][bucket == i].sum(axis=0))) for counts in method.counts
            ]
            for i, name in enumerate(names)
        }
        for method in evidence.methods
    }


def compute_gains(report: Report) -> dict[str, dict[str, dict[int, Gain]]]:
    """By corpus, method and number of training pairs: the gain over words only.

    Of corpora with several sizes. Methods of one size are compared as in a report of their own.
    """
    sizes: dict[str, dict[int, list[tuple[RunRecord, Path | None]]]] = {}
    for run, folder in report.runs:
        if (size := count_pairs(run)) and run.finished:
            sizes.setdefault(run.data, {}).setdefault(size, []).append((run, folder))
    gains: dict[str, dict[str, dict[int, Gain]]] = {}
    for data, by_size in sizes.items():
        if len(by_size) < 2:
            continue
        for size, runs in sorted(by_size.items()):
            for evidence in Report(runs, pairs=False, metric=report.metric).comparisons:
                for row, gain in _gains_of_rows(evidence).items():
                    gains.setdefault(data, {}).setdefault(row, {})[size] = gain
    return gains


def _gains_of_rows(evidence: Evidence) -> dict[str, Gain]:
    """By the row's name in the table."""
    if evidence.baseline is None:
        return {}
    samples, against = evidence.samples[evidence.metric], evidence.against[evidence.metric]
    base = samples[evidence.baseline].mean
    gains: dict[str, Gain] = {}
    for method in evidence.methods:
        if method.name != evidence.baseline:
            compared, sample = against.get(method.name), samples[method.name]
            interval = compared.difference if compared else None
            gains[method.row] = sample.mean - base, interval, len(sample.scores)
    return gains


def score_by_information(table: ResultTable, metric: str = "BLEU") -> dict[str, dict[str, Points]]:
    """By corpus, then by method, the scores of a row's runs by the bits of its features, added up.

    Words only have no bits; controls are left out. Of corpora where a method has features that say
    more and features that say less. Where dials reduce several features, these are series of their
    own; so are methods that differ in their settings. Each size of a corpus, and whatever else was
    trained differently, stands for itself.
    """
    labels = table.labels_by_name()
    corpora: dict[tuple[str, int, str], dict[tuple[str, str], Points]] = {}
    for name, runs in table.runs_by_name().items():
        tested = [
            run
            for run in runs
            if run.tests and (_is_words_only(run) or feature_bits(run))
            if metric in next(iter(run.tests.values())).all_metrics()
        ]
        if not tested:
            continue
        run = runs[0]
        columns = (run.settings["features"][n].get("column", n) for n in run.features)
        corpus = run.data, count_pairs(run) or 0, labels[name].conditions
        method = " ".join(filter(None, (run.method, labels[name].variant)))
        points = corpora.setdefault(corpus, {}).setdefault((method, "+".join(columns)), {})
        sums = [np.sum(feature_bits(run) or [(0.0, 0.0)], axis=0) for run in tested]
        entropy, given_word = np.mean(sums, axis=0).round(6).tolist()
        scores = [next(iter(run.tests.values())).all_metrics()[metric].score for run in tested]
        points.setdefault((entropy, given_word), []).extend(scores)
    names = [data for data, *_ in corpora]
    return {
        f"{data} {shared or format(size, ',')}" if names.count(data) > 1 else data: named
        for (data, size, shared), series in corpora.items()
        if (named := _name_series(series))
    }


def _is_words_only(run: RunRecord) -> bool:
    return run.data_report.get("features") == {} and "control" not in run.settings


def count_pairs(run: RunRecord) -> int | None:
    """Training pairs."""
    pairs: int | None = run.data_report.get("splits", {}).get("train", {}).get("sentences")
    return pairs


def _name_series(series: Mapping[tuple[str, str], Points]) -> dict[str, Points]:
    """By method, or by method and features where dials reduce several; empty if nothing varies."""
    varied = {features for (_, features), points in series.items() if len(points) > 1}
    named: dict[str, Points] = {}
    for (method, features), points in series.items():
        if not varied or not features or features in varied:
            name = f"{method} {features}" if len(varied) > 1 and features else method
            named.setdefault(name, {}).update(points)
    return named if any(len(points) > 1 for points in named.values()) else {}


def mean_gates(runs: Sequence[RunRecord]) -> Gates:
    """The mean gates of runs; only of values that all of them have.

    Without features reduced to `classes`, whose values have no name: each seed draws its own.
    """
    gates = [run.parts.gates for run in runs if run.parts and run.parts.gates]
    if not gates:
        return {}
    features = (item for run in runs for item in run.settings.get("features", {}).items())
    drawn = {name for name, settings in features if settings.get("classes")}
    by_feature: Gates = {}
    for feature in gates[0]:
        if feature in drawn:
            continue
        by_value = [{v.value: v for v in of_run[feature]} for of_run in gates]
        for value in by_value[0]:
            if all(value in values for values in by_value):
                gate_values = [values[value] for values in by_value]
                first = gate_values[0]
                weights = {part: [v.weights[part] for v in gate_values] for part in first.weights}
                by_feature.setdefault(feature, {})[value] = first.pieces, weights
    return by_feature


def mean_norm_shares(rows: Mapping[str, Sequence[RunRecord]]) -> dict[str, dict[str, float]]:
    """By row, with its number of runs, the mean of each part's share of the squared norm."""
    means = {}
    for name, runs in rows.items():
        shares = [run.parts.shares for run in runs if run.parts and run.parts.shares]
        if shares:
            label = f"{name} (n={len(shares)})"
            means[label] = {p: float(np.mean([run[p] for run in shares])) for p in shares[0]}
    return means
