"""What the figures of a report show, taken from the runs: plain numbers by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nmt_feat.analysis.comparisons import Evidence
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.result_tables import Table, bits
from nmt_feat.analysis.statistics import METRICS, Difference
from nmt_feat.runs.records import RunRecord

BUCKETS = 5
"""Ranges of lengths."""
Gain = tuple[float, Difference | None, int]
"""BLEU above words only; the difference with its interval where both have several seeds; seeds."""
Points = dict[tuple[float, float], list[float]]
"""By bits and bits given the word, the BLEU of runs."""
Gates = dict[str, dict[str, tuple[int, dict[str, list[float]]]]]
"""By feature, then by value: its pieces, and by part the mean weight in each run."""


def lengths(evidence: Evidence) -> dict[str, dict[str, list[float]]]:
    """By method, then by length of the reference in BLEU's tokens, the BLEU of each seed's run.

    About equally many sentences in each range; the BLEU is that of all of them together.
    """
    reference = evidence.methods[0].counts[0]["BLEU"][:, 1]
    shares = np.arange(1, BUCKETS + 1) / BUCKETS
    ends = np.unique(np.quantile(reference, shares, method="inverted_cdf"))
    bucket = np.searchsorted(ends, reference)
    names = []
    for i in range(len(ends)):
        inside = reference[bucket == i]
        span = "–".join(map(str, np.unique([inside.min(), inside.max()])))
        names.append(f"{span}\n({len(inside):,})")
    bleu, found = METRICS["BLEU"], {}
    for method in evidence.methods if len(names) > 1 else ():
        runs = [counts["BLEU"] for counts in method.counts]
        found[method.name] = {
            name: [float(bleu(run[bucket == i].sum(axis=0))) for run in runs]
            for i, name in enumerate(names)
        }
    return found


def gains(report: Report) -> dict[str, dict[str, dict[int, Gain]]]:
    """By corpus, method and number of training pairs: the gain over words only.

    Of corpora with several sizes. Methods of one size are compared as in a report of their own.
    """
    sizes: dict[str, dict[int, list[tuple[RunRecord, Path | None]]]] = {}
    for run, folder in report.runs:
        if (size := _size(run)) and run.finished:
            sizes.setdefault(run.data, {}).setdefault(size, []).append((run, folder))
    found: dict[str, dict[str, dict[int, Gain]]] = {}
    for data, by_size in sizes.items():
        for size, runs in sorted(by_size.items()) if len(by_size) > 1 else ():
            for evidence in Report(runs, pairs=False).evidence:
                samples, against = evidence.samples["BLEU"], evidence.against["BLEU"]
                if evidence.baseline is None:
                    continue
                base = samples.pop(evidence.baseline).mean
                row = {m.name: m.row for m in evidence.methods}
                for name, sample in samples.items():
                    interval = against[name].difference if name in against else None
                    methods = found.setdefault(data, {})
                    gain = sample.mean - base, interval, len(sample.scores)
                    methods.setdefault(row[name], {})[size] = gain
    return found


def informative(table: Table) -> dict[str, dict[str, Points]]:
    """By corpus, then by method, the BLEU of a row's runs by the bits of its features, added up.

    Words only have no bits; controls are left out. Of corpora where a method has features that say
    more and features that say less. Several features that are dialled are series of their own; so
    are methods that differ in their settings, and for itself each size of a corpus and whatever
    else was trained differently.
    """
    apart = table.apart()
    found: dict[tuple[str, int, str], dict[tuple[str, str], Points]] = {}
    for name, runs in table.named().items():
        said: list[tuple[float, float]] = []
        bleu = []
        for run in runs:
            words_only = run.data_report.get("features") == {} and "control" not in run.settings
            each = bits(run)
            if run.tests and (each or words_only):
                said.append((sum(b for b, _ in each), sum(b for _, b in each)))
                bleu.append(next(iter(run.tests.values())).bleu)
        if said:
            run = runs[0]
            columns = (run.settings["features"][n].get("column", n) for n in run.features)
            series = found.setdefault((run.data, _size(run) or 0, apart[name].conditions), {})
            method = " ".join(filter(None, (run.method, apart[name].variant)))
            points = series.setdefault((method, "+".join(columns)), {})
            entropy, given = np.mean(said, axis=0).round(6).tolist()
            points.setdefault((entropy, given), []).extend(bleu)
    several = {data for data, *_ in found if sum(data == other for other, *_ in found) > 1}
    return {
        f"{data} {shared or format(size, ',')}" if data in several else data: named
        for (data, size, shared), series in found.items()
        if (named := _named(series))
    }


def _size(run: RunRecord) -> int | None:
    """Training pairs."""
    size: int | None = run.data_report.get("splits", {}).get("train", {}).get("sentences")
    return size


def _named(series: Mapping[tuple[str, str], Points]) -> dict[str, Points]:
    """By method, or by method and features where several are dialled; empty if nothing varies."""
    dialled = {features for (_, features), points in series.items() if len(points) > 1}
    named: dict[str, Points] = {}
    for (method, features), points in series.items():
        if not dialled or not features or features in dialled:
            name = f"{method} {features}" if len(dialled) > 1 and features else method
            named.setdefault(name, {}).update(points)
    return named if any(len(points) > 1 for points in named.values()) else {}


def gates(runs: Sequence[RunRecord]) -> Gates:
    """The mean gates of runs; only of values that all of them have.

    Without features dialled down to `classes`, whose values have no name: each seed draws its own.
    """
    known = [run.parts.gates for run in runs if run.parts and run.parts.gates]
    features = (item for run in runs for item in run.settings.get("features", {}).items())
    drawn = {name for name, settings in features if settings.get("classes")}
    found: Gates = {}
    for feature in known[0] if known else ():
        if feature in drawn:
            continue
        values = [{v.value: v for v in gates[feature]} for gates in known]
        for value in values[0]:
            each = [run[value] for run in values if value in run]
            if len(each) == len(known):
                weights = {part: [v.weights[part] for v in each] for part in each[0].weights}
                found.setdefault(feature, {})[value] = each[0].pieces, weights
    return found


def shares(rows: Mapping[str, Sequence[RunRecord]]) -> dict[str, dict[str, float]]:
    """By row, with its number of runs, the mean of each part's share of the squared norm."""
    found = {}
    for name, runs in rows.items():
        known = [run.parts.shares for run in runs if run.parts and run.parts.shares]
        if known:
            label = f"{name} (n={len(known)})"
            found[label] = {p: float(np.mean([run[p] for run in known])) for p in known[0]}
    return found
