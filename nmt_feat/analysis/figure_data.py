"""The numbers behind the figures of a report, taken from the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nmt_feat.analysis.comparisons import Evidence
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.result_tables import ResultTable, feature_bits
from nmt_feat.analysis.statistics import Difference
from nmt_feat.evaluation.scores import MetricScore
from nmt_feat.runs.stored.records import RunRecord

BUCKETS = 5
"""How many ranges of lengths there are."""
Gain = tuple[float, Difference | None, int]
"""Score above words only; the difference with its interval if both have two seeds; seeds."""
Points = dict[tuple[float, float], list[float]]
"""By bits and bits given the word, the scores of runs."""
Gates = dict[str, dict[str, tuple[int, dict[str, list[float]]]]]
"""By feature, then by value: its number of pieces, and by part the mean weight in each run."""


def score_by_length(evidence: Evidence) -> dict[str, dict[str, list[float]]]:
    """By method, then by length of the reference in BLEU's tokens, the score of each seed's run.

    Each range has about as many sentences, and its score is that of all its sentences together.
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

    Only for corpora with several sizes. Each size is compared as in a separate report.
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
    """The gains of a comparison by the row's name in the table."""
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
    """By corpus, then by method, the scores of runs by the bits of their features, added up.

    Only for corpora in which a method has features with more and with fewer bits. Words only have
    no bits; controls are left out. If dials reduce several features, each is a series; methods with
    different settings are series, too. Each size of a corpus, and rows that were trained in other
    ways, are separate.
    """
    labels = table.labels_by_name()
    corpora: dict[tuple[str, int, str], dict[tuple[str, str], Points]] = {}
    for name, runs in table.runs_by_name().items():
        tested = [run for run in runs if _has_point(run, metric)]
        if not tested:
            continue
        run = runs[0]
        columns = (run.settings["features"][n].get("column", n) for n in run.features)
        corpus = run.data, count_pairs(run) or 0, labels[name].conditions
        method = " ".join(filter(None, (run.method, labels[name].variant)))
        points = corpora.setdefault(corpus, {}).setdefault((method, "+".join(columns)), {})
        sums = [np.sum(feature_bits(run) or [(0.0, 0.0)], axis=0) for run in tested]
        entropy, given_word = np.mean(sums, axis=0).round(6).tolist()
        scores = [_metrics_of_first_test(run)[metric].score for run in tested]
        points.setdefault((entropy, given_word), []).extend(scores)
    names = [data for data, *_ in corpora]
    return {
        f"{data} {shared or format(size, ',')}" if names.count(data) > 1 else data: named
        for (data, size, shared), series in corpora.items()
        if (named := _name_series(series))
    }


def _has_point(run: RunRecord, metric: str) -> bool:
    """Whether a run has a score, and its features, if it has any, have bits."""
    has_bits = _is_words_only(run) or bool(feature_bits(run))
    return has_bits and metric in _metrics_of_first_test(run)


def _metrics_of_first_test(run: RunRecord) -> dict[str, MetricScore]:
    """The scores on a run's first test set by metric; empty if it has none."""
    scores = next(iter(run.tests.values()), None)
    return scores.all_metrics() if scores else {}


def _is_words_only(run: RunRecord) -> bool:
    return run.data_report.get("features") == {} and "control" not in run.settings


def count_pairs(run: RunRecord) -> int | None:
    """The number of training pairs, if it is known."""
    pairs: int | None = run.data_report.get("splits", {}).get("train", {}).get("sentences")
    return pairs


def _name_series(series: Mapping[tuple[str, str], Points]) -> dict[str, Points]:
    """By method, or by method and features if dials reduce several; empty if nothing varies."""
    varied = {features for (_, features), points in series.items() if len(points) > 1}
    named: dict[str, Points] = {}
    for (method, features), points in series.items():
        if not varied or not features or features in varied:
            name = f"{method} {features}" if len(varied) > 1 and features else method
            named.setdefault(name, {}).update(points)
    return named if any(len(points) > 1 for points in named.values()) else {}


def mean_gates(runs: Sequence[RunRecord]) -> Gates:
    """The mean gates of runs, for values that all runs have.

    Features reduced to `classes` are left out: each seed draws its own classes, without names.
    """
    gates = [run.parts.gates for run in runs if run.parts and run.parts.gates]
    if not gates:
        return {}
    features = (item for run in runs for item in run.settings.get("features", {}).items())
    with_classes = {name for name, settings in features if settings.get("classes")}
    by_feature: Gates = {}
    for feature in gates[0]:
        if feature in with_classes:
            continue
        by_run = [{gate.value: gate for gate in gates_of_run[feature]} for gates_of_run in gates]
        for value, first_gate in by_run[0].items():
            if all(value in gates_by_value for gates_by_value in by_run):
                weights = {
                    part: [gates_by_value[value].weights[part] for gates_by_value in by_run]
                    for part in first_gate.weights
                }
                by_feature.setdefault(feature, {})[value] = first_gate.pieces, weights
    return by_feature


def mean_norm_shares(rows: Mapping[str, Sequence[RunRecord]]) -> dict[str, dict[str, float]]:
    """By row (with its number of runs), the mean of each part's share of the squared norm."""
    means = {}
    for name, runs in rows.items():
        shares = [run.parts.shares for run in runs if run.parts and run.parts.shares]
        if shares:
            label = f"{name} (n={len(shares)})"
            means[label] = {p: float(np.mean([run[p] for run in shares])) for p in shares[0]}
    return means
