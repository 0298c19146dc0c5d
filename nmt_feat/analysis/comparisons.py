"""Compares the rows of a table: differences to the baseline, and orders of two methods."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from nmt_feat.analysis.claims import ALPHA
from nmt_feat.analysis.method_runs import (
    COMPARED_ON_REQUEST,
    MethodRuns,
    MetricKind,
    describe_partial_metrics,
    read_methods,
)
from nmt_feat.analysis.result_tables import ResultTable
from nmt_feat.analysis.statistics import (
    Difference,
    Sample,
    compare_samples,
    correct_by_holm,
    sentence_weights,
)
from nmt_feat.errors import UserError, suggest
from nmt_feat.evaluation.forms import COMMON_METRICS, ScoreFunction, score_by_form

Key = TypeVar("Key")


@dataclass(frozen=True)
class CorrectedDifference:
    """A difference and its p-value, corrected for the number of comparisons beside it."""

    difference: Difference
    p: float

    @property
    def is_supported(self) -> bool:
        """Whether chance alone would seldom give a difference of this size."""
        return self.p < ALPHA

    @property
    def sign(self) -> int:
        """1 if a gain is supported, -1 if a loss is, else 0."""
        if not self.is_supported:
            return 0
        return 1 if self.difference.value > 0 else -1

    def to_row(self) -> dict[str, Any]:
        """All figures in full precision, for JSON."""
        return vars(self.difference) | {"corrected p": self.p}


@dataclass
class Evidence:
    """The comparison of methods on one test set.

    Results are by metric, then by method or pair of methods.
    """

    test: str
    methods: list[MethodRuns]
    baseline: str | None
    conditions: str = ""
    """What all its methods share, if a table has several comparisons on one test set."""
    metric: str = "BLEU"
    """The metric of the answer, the shares, the tests of pairs and the figures."""
    samples: dict[str, dict[str, Sample]] = field(default_factory=dict)
    against: dict[str, dict[str, CorrectedDifference]] = field(default_factory=dict)
    """For each method, its difference to the baseline."""
    orders: dict[str, dict[tuple[str, str], CorrectedDifference]] = field(default_factory=dict)
    """For each pair of methods at the same level, their difference; the higher mean comes first."""
    shares: dict[str, dict[tuple[str, str], float]] = field(default_factory=dict)
    """The share of resamples in which the first is above the second."""

    def __post_init__(self) -> None:
        sentences = len(self.methods[0].counts[0]["BLEU"])
        weights = sentence_weights(sentences)  # the same resamples for all methods: paired
        for metric, score in self.scorings.items():
            self.samples[metric] = {
                m.name: Sample.from_counts([counts[metric] for counts in m.counts], score, weights)
                for m in self.methods
            }
            self._compare_in(metric, sentences)

    def _compare_in(self, metric: str, sentences: int) -> None:
        """Compare all methods of two seeds or more in one metric."""
        samples = self.samples[metric]
        level = {m.name: m.level for m in self.methods}
        repeated = [m.name for m in self.methods if len(m.seeds) > 1]
        ranked = sorted(repeated, key=lambda name: -samples[name].mean)
        pairs = {
            (one, two): compare_samples(samples[one], samples[two], sentences)
            for one, two in combinations(ranked, 2)
        }
        base = self.baseline if self.baseline in repeated else None
        against: dict[str, Difference] = {}
        if base is not None:
            against = {
                name: compare_samples(samples[name], samples[base], sentences)
                for name in repeated
                if name != base
            }
        orders = {
            (one, two): difference
            for (one, two), difference in pairs.items()
            if base not in (one, two) and level[one] == level[two]
        }
        self.shares[metric] = {pair: difference.share for pair, difference in pairs.items()}
        self.against[metric] = correct_differences(against)
        self.orders[metric] = correct_differences(orders)

    @functools.cached_property
    def further(self) -> dict[str, MetricKind]:
        """Metrics other than BLEU and chrF that all methods have, of one kind."""
        return {
            name: kind
            for name, kind in self.methods[0].further.items()
            if all(method.further.get(name) == kind for method in self.methods)
            and (name not in COMPARED_ON_REQUEST or name == self.metric)
        }

    @property
    def scorings(self) -> dict[str, ScoreFunction]:
        """By metric, the function from summed statistics to the score."""
        return COMMON_METRICS | {
            name: score_by_form(kind.form) for name, kind in self.further.items()
        }

    def form_of(self, metric: str) -> str:
        """The form of a metric's statistics."""
        return self.further[metric].form if metric in self.further else metric.lower()

    def lower_is_better(self, metric: str) -> bool:
        """Whether a lower score of a metric is better."""
        return metric in self.further and self.further[metric].lower_is_better

    @property
    def baseline_row(self) -> str | None:
        """The baseline's name in the table."""
        return next((m.row for m in self.methods if m.name == self.baseline), None)

    @property
    def test_name(self) -> str:
        """The test set and what the methods share, in words."""
        return f"{self.test} ({self.conditions})" if self.conditions else self.test

    def subtract_by_seed(
        self, metric: str, first: MethodRuns, second: MethodRuns, seeds: Sequence[int]
    ) -> Sample:
        """The sample of `first` less `second`, for seeds that both have."""
        samples = [
            self.samples[metric][m.name].select_runs([m.seeds.index(seed) for seed in seeds])
            for m in (first, second)
        ]
        return Sample.weighted_sum(samples, [1, -1])

    def to_rows(self) -> list[dict[str, Any]]:
        """All comparisons in full precision: with the baseline, then of other methods."""
        rows: list[dict[str, Any]] = []
        for metric, against in self.against.items():
            pairs = {(name, str(self.baseline)): c for name, c in against.items()}
            for (one, two), compared in (pairs | self.orders[metric]).items():
                names = {"test": self.test, "conditions": self.conditions, "metric": metric}
                names |= {"method": one, "other": two}
                rows.append(names | compared.to_row())
        return rows


def correct_differences(
    differences: Mapping[Key, Difference], missing: int = 0
) -> dict[Key, CorrectedDifference]:
    """The differences with p-values corrected (Holm) for their number and for `missing` ones."""
    p_values = [difference.p for difference in differences.values()]
    corrected = correct_by_holm([*p_values, *[1.0] * missing])[: len(p_values)]
    return {
        key: CorrectedDifference(difference, p)
        for (key, difference), p in zip(differences.items(), corrected, strict=True)
    }


def compare_rows(
    table: ResultTable,
    folders: Mapping[str, Path],
    baseline: str | None = None,
    metric: str = "BLEU",
) -> tuple[list[Evidence], list[str]]:
    """Compare rows on their first test set; notes on rows that are not compared.

    Rows with different test sets are compared separately.

    Args:
        table: the runs.
        folders: the folder of each run by its hash, which has the counts that are compared.
        baseline: name of the row with which all others are compared; by default words only, see
            `group_methods`.
        metric: the metric of the answer; rows without it are not compared.
    """
    rows = table.runs_by_name()
    if baseline is not None and baseline not in rows:
        raise UserError(f"baseline={baseline}: no such row; {suggest(baseline, rows)}")
    if importlib.util.find_spec("scipy") is None:
        return [], [
            "No intervals and p-values: they need the package scipy. Install it with pip install "
            "'nmt_feat[analysis]' and print the report again; nothing is trained again."
        ]
    tests, notes = read_methods(rows, table.labels_by_name(), folders, metric)
    comparisons = []
    for (test, *_), methods in tests.items():
        notes += describe_partial_metrics(test, methods)
        for shared, group, base in group_methods(methods, baseline):
            name = group[0].name
            if len(group) > 1:
                comparisons.append(Evidence(test, group, base, shared, metric))
            elif len(group) < len(methods):
                notes.append(f"Not compared, for no other row has its settings: {name}.")
            elif len(group[0].seeds) == 1 and not group[0].is_ensemble:
                notes.append(f"One seed supports no ranking: {name}.")
    return comparisons, notes


def group_methods(
    methods: Sequence[MethodRuns], baseline: str | None
) -> list[tuple[str, list[MethodRuns], str | None]]:
    """The comparisons to make: shared conditions, methods, and their baseline.

    Usually it is one comparison of all methods. Its baseline is the row of that name, or else words
    only that shares its conditions with another method. If no row does, it is the words only with
    the fewest settings of its own, such as the one whose text has no terms written into it. If
    words only and other methods share conditions several times, as with each size of a corpus, each
    time is a comparison.
    """
    if any(m.name == baseline for m in methods):
        return [("", list(methods), baseline)]
    groups: dict[str, list[MethodRuns]] = {}
    for method in methods:
        groups.setdefault(method.conditions, []).append(method)
    # Groups with both words only and other methods.
    complete = {c: group for c, group in groups.items() if len({m.words_only for m in group}) == 2}
    if len(complete) < 2:
        candidates = [m for m in next(iter(complete.values()), methods) if m.words_only]
        words_only = min(candidates, key=MethodRuns.count_conditions, default=None)
        return [("", list(methods), words_only.name if words_only else None)]
    comparisons: list[tuple[str, list[MethodRuns], str | None]] = []
    for conditions, group in complete.items():
        short = [method.shorten_name(conditions) for method in group]
        comparisons.append((conditions, short, next(m.name for m in short if m.words_only)))
    if rest := [m for m in methods if m.conditions not in complete]:
        comparisons.append(("other settings", rest, None))
    return comparisons
