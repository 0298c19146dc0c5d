"""The rows of a table with their runs' counts, so that they can be compared; notes on the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nmt_feat.analysis.result_tables import describe_scoring, drop_version, feature_bits
from nmt_feat.analysis.row_labels import RowLabels, describe_dials
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import Counts, read_counts
from nmt_feat.evaluation.forms import COMMON_METRICS
from nmt_feat.evaluation.scores import Scores
from nmt_feat.runs.stored.records import RunRecord, file_of_run

TestKey = tuple[str, str, str]
"""A test set's name, the hash of its references, and how translations are scored."""
COMPARED_ON_REQUEST = ("TER",)
"""Metrics that are compared only in a report about them."""


@dataclass(frozen=True)
class MetricKind:
    """What a report knows of a metric that is not BLEU or chrF."""

    form: str
    signature: str
    lower_is_better: bool


@dataclass(frozen=True)
class MethodRuns:
    """A row of the table: its runs by seed and their counts on one test set, by metric."""

    name: str
    seeds: list[int]
    counts: list[dict[str, Counts]]
    level: str = ""
    """`information`, if the table has dials: only methods at the same level are ordered."""
    information: str = ""
    """Its features and, where that differs in the table, how much the dials leave of them."""
    kind: str = ""
    """The method without its features, such as `concat`, and settings that distinguish it."""
    features: str = ""
    bits: list[float] | None = None
    """The sum of its features' bits, for each seed; None for controls and if it is unknown."""
    conditions: str = ""
    """What distinguishes the row from others, apart from the method."""
    words_only: bool = False
    control: str = ""
    """What replaces the values of its features, or `matched`."""
    row: str = ""
    """Its name in the table; `name` leaves out what all methods of a comparison share."""
    is_ensemble: bool = False
    """Whether it is one measurement of several runs together, for which there is no test."""
    further: dict[str, MetricKind] = field(default_factory=dict)
    """Metrics other than BLEU and chrF of which all its runs have statistics."""

    def count_conditions(self) -> int:
        """How many of its conditions have a value; `-` stands for a setting that it lacks."""
        return sum(not condition.endswith("=-") for condition in self.conditions.split())

    def shorten_name(self, shared: str) -> MethodRuns:
        """The method with a name for a comparison in which all share these conditions."""
        name, comma, ensemble = self.name.partition(", ")
        parts = [part for part in name.split() if part not in shared.split()]
        return replace(self, name=" ".join(parts) + comma + ensemble)


def read_methods(
    rows: Mapping[str, Sequence[RunRecord]],
    labels: Mapping[str, RowLabels],
    folders: Mapping[str, Path],
    metric: str,
) -> tuple[dict[TestKey, list[MethodRuns]], list[str]]:
    """The rows with their counts by first test set, and notes on rows that cannot be compared."""
    has_dials = any(describe_dials(run) for runs in rows.values() for run in runs)
    tests: dict[TestKey, list[MethodRuns]] = {}
    without_counts: list[str] = []
    without_metric: list[str] = []
    for name, runs in rows.items():
        finished = [run for run in runs if run.finished and run.tests]
        if not finished:
            continue
        test = next(iter(finished[0].tests))
        paths = [
            file_of_run(folders[run.hash], run.counts[test])
            for run in finished
            if run.hash in folders and test in run.counts
        ]
        if len(paths) < len(finished):
            without_counts.append(name)
            continue
        method, references = _read_method(name, finished, labels[name], paths, has_dials)
        if metric not in (*COMMON_METRICS, *method.further):
            without_metric.append(name)
            continue
        # Counts of different tokenisers are of different n-grams.
        scoring = describe_scoring(finished[0].tests[test])
        if kind := method.further.get(metric):  # scores of unlike kinds have no difference
            better = "lower" if kind.lower_is_better else "higher"
            scoring += f", {metric} {kind.signature} ({kind.form}, {better} is better)"
        tests.setdefault((test, references, scoring), []).append(method)
    notes = _describe_scorings(tests)
    if without_counts:
        names = ", ".join(without_counts)
        notes.insert(0, f"Not compared, for lack of counts per sentence: {names}.")
    if without_metric:
        notes.append(
            f"Not compared, for lack of {metric} per sentence: {', '.join(without_metric)}. "
            "See docs/how-to/metric.md."
        )
    return tests, notes


def _read_method(
    name: str, runs: Sequence[RunRecord], labels: RowLabels, paths: Sequence[Path], has_dials: bool
) -> tuple[MethodRuns, str]:
    """A row's finished runs with their counts, and the hash of the references."""
    run = runs[0]
    test = next(iter(run.tests))
    counts, references = zip(*map(read_counts, paths), strict=True)
    scorings = {describe_scoring(each_run.tests[test]) for each_run in runs}
    if len({*references}) > 1 or len(scorings) > 1:
        raise UserError(
            f"{paths[0].parent}: its test set {test} is not the one of the other runs of {name}; "
            "report on them apart (--where)"
        )
    is_ensemble = bool(run.members)
    bits = [sum(b for b, _ in feature_bits(run)) for run in runs if feature_bits(run)]
    method = MethodRuns(
        *(name, [run.seed for run in runs], list(counts)),
        information=labels.information,
        level=labels.information if has_dials else "",
        kind=" ".join(filter(None, (run.method, labels.variant))),
        features="+".join(sorted(run.features)),
        bits=bits if len(bits) == len(runs) and not is_ensemble else None,
        conditions=labels.conditions,
        words_only=run.method == "none" and "control" not in run.settings,
        is_ensemble=is_ensemble,
        control=str(run.settings.get("control", "")),
        row=name,
        further=_find_further([each_run.tests[test] for each_run in runs], counts),
    )
    return method, references[0]


def _find_further(
    scores: Sequence[Scores], counts: Sequence[Mapping[str, Counts]]
) -> dict[str, MetricKind]:
    """Metrics other than BLEU and chrF of which all runs have statistics, of one kind."""
    kinds: dict[str, set[MetricKind]] = {}
    for scores_of_run in scores:
        for name, metric in scores_of_run.all_metrics().items():
            kind = MetricKind(metric.form, drop_version(metric.signature), metric.lower_is_better)
            kinds.setdefault(name, set()).add(kind)
    return {
        name: next(iter(of_runs))
        for name, of_runs in kinds.items()
        if name not in COMMON_METRICS and len(of_runs) == 1 and all(name in c for c in counts)
    }


def describe_partial_metrics(test: str, methods: Sequence[MethodRuns]) -> list[str]:
    """A sentence for each metric that only some methods have, or by another signature."""
    kinds: dict[str, list[MetricKind]] = {}
    for method in methods:
        for name, kind in method.further.items():
            kinds.setdefault(name, []).append(kind)
    return [
        f"Not compared in {name} on {test}: not all rows have it, or not with the same signature."
        for name, of_methods in kinds.items()
        if name not in COMPARED_ON_REQUEST
        and (len(of_methods) < len(methods) or len(set(of_methods)) > 1)
    ]


def _describe_scorings(tests: Mapping[TestKey, Sequence[MethodRuns]]) -> list[str]:
    """A sentence for each test set on which methods are scored in different ways."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for (test, references, scoring), methods in tests.items():
        names = groups.setdefault((test, references), {}).setdefault(scoring, [])
        names += [method.name for method in methods]
    return [
        f"Not compared with one another, for they are scored on {test} in different ways: "
        + "; ".join(f"{', '.join(names)} ({scoring})" for scoring, names in scorings.items())
        + "."
        for (test, _), scorings in groups.items()
        if len(scorings) > 1
    ]
