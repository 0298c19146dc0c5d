"""From the records of runs to the table: a row per method, mean and deviation over seeds."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from nmt_feat.analysis.render import ReportTable
from nmt_feat.analysis.row_labels import (
    ANNOTATOR,
    HEADINGS,
    NO_DIALS,
    RowLabels,
    choose_labels,
    classify_label,
    label_settings,
    name_annotators,
    name_method_and_features,
)
from nmt_feat.base.checksums import hash_json
from nmt_feat.config.identity import is_earlier
from nmt_feat.evaluation.metrics import Scores
from nmt_feat.runs.records import RunRecord, search_of
from nmt_feat.runs.run_summary import list_signatures

CORPORA = {"data", "data.source_lang", "data.target_lang"}
"""Labels of rows whose scores are of different references."""
DECIMALS = {"%": 1, "parameters": 0, "minutes": 1}
"""By the last word of a figure's heading; two for the others."""
LOWER_IS_BETTER = ("TER", "perplexity")
"""By the last word of their heading."""
ENSEMBLES = (
    "An ensemble translates with the mean probabilities of its runs. It is one measurement, "
    "without interval or test of significance. Its parameters and minutes are its runs', added up."
)
COSTS = ("parameters", "minutes")
"""The last figures: without deviation."""


def describe_scoring(scores: Scores) -> str:
    """sacreBLEU's signatures of BLEU and chrF without its version: equal ones can be compared."""
    bleu, chrf = drop_version(scores.bleu_signature), drop_version(scores.chrf_signature)
    return f"BLEU {bleu}, chrF {chrf}"


def drop_version(signature: str) -> str:
    """A signature without the version of the package: equal ones can be compared."""
    return re.sub(r"\|version:[^|]*", "", signature)


def collect_figures(record: RunRecord) -> dict[str, float]:
    """What a finished run reached and what it took, by heading, as far as it is known."""
    figures: dict[str, float | None] = {}
    for name, scores in record.scores.items():
        figures |= {f"{name} BLEU": scores.bleu, f"{name} chrF": scores.chrf}
        further = {f"{name} {metric}": one.score for metric, one in scores.metrics.items()}
        if name == "dev":
            figures |= further
            continue
        # Per word it has no unit in the heading.
        unit = "character " if scores.perplexity_unit == "character" else ""
        figures |= {f"{name} TER": scores.ter, f"{name} {unit}perplexity": scores.perplexity}
        figures |= further
        if scores.reading:
            reading = scores.reading
            shares = {"readings": reading.accuracy, "settled": reading.settled_accuracy}
            figures |= {f"{name} {n} %": 100 * v for n, v in shares.items() if v is not None}
    for name, result in record.contrast.items():
        figures[f"{name} contrast %"] = result.accuracy
    if record.finished:
        figures["parameters"] = record.parameters.get("total")
        figures["minutes"] = record.train_seconds / 60
    return {name: value for name, value in figures.items() if value is not None}


def feature_bits(record: RunRecord) -> list[tuple[float, float]]:
    """H(feature) and H(feature | word) of each feature; empty where unknown, and for controls."""
    features = record.data_report.get("features") or {}
    bits = [(f.get("entropy"), f.get("given_word")) for f in features.values()]
    if "control" in record.settings or any(None in pair for pair in bits):
        return []
    return bits


def _unify_data_hashes(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records, those with an earlier identity with today's hash of their data, if it is known.

    So runs of both are in one row where all else is equal.
    """
    today: dict[str, str] = {}
    for record in records:
        data_hash = str(record.settings.get("data", {}).get("hash"))
        if is_earlier(record.settings) and "training" in record.data_hashes:
            today[data_hash] = record.data_hashes["training"]
        elif not is_earlier(record.settings) and "earlier" in record.data_hashes:
            today[record.data_hashes["earlier"]] = data_hash
    unified = []
    for record in records:
        data = record.settings.get("data", {})
        if is_earlier(record.settings) and data.get("hash") in today:
            data = data | {"hash": today[data["hash"]]}
            record = replace(record, settings=record.settings | {"data": data})
        unified.append(record)
    return unified


def mean_and_deviation(
    runs: Iterable[RunRecord], name: str
) -> tuple[float | None, float | None, int]:
    """Mean, sample standard deviation and number of a figure's values."""
    values = [figures[name] for figures in map(collect_figures, runs) if name in figures]
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None, len(values)


class ResultTable:
    """The table of some runs, in the order in which they are first seen.

    Runs are averaged only if all their settings but the seed are equal; settings that differ
    label the rows. A run that stands twice (equal hash and seed) counts once. Runs that have no
    scores (unfinished, failed) count as expected and are missing in the means.
    """

    def __init__(self, records: Iterable[RunRecord], notes: Sequence[str] = ()) -> None:
        runs = _drop_repeated_runs(records)
        started = [record for record in runs if record.hash]
        keys = choose_labels(started)
        has_scale = any(record.config.get("scale") for record in runs)
        self.labels = [HEADINGS.get(key, key) for key in keys]
        self._kinds = [classify_label(key) for key in keys]
        if has_scale:
            self.labels.append("scale")
            self._kinds.append("conditions")
        self.rows = _group_rows(runs, keys, has_scale)
        names = ["dev BLEU", "dev chrF", *(n for run in started for n in collect_figures(run))]
        self.figures = [*(name for name in dict.fromkeys(names) if name not in COSTS), *COSTS]
        self.notes = [*_describe_mixed_runs(self.rows.values()), *list_signatures(started), *notes]
        if any(sum(run.finished for run in row) > 1 for row in self.rows.values()):
            self.notes.insert(0, "Mean ± sample standard deviation over n seeds.")
        if any(run.members for run in started):
            self.notes.append(ENSEMBLES)

    def format_cells(self) -> tuple[list[str], list[list[str]]]:
        """Heading and rows as they are printed."""
        heading, rows = ["method", "features", *self.labels, "n", *self.figures], []
        for (method, _, *labels), runs in self.rows.items():
            n = sum(run.finished for run in runs)
            cells = [method, ", ".join(runs[0].features) or "-", *labels]
            cells.append(str(n) if n == len(runs) else f"{n}/{len(runs)}")
            cells += [_format_figure(runs, name, n) for name in self.figures]
            rows.append(cells)
        return heading, rows

    def to_report_table(self) -> ReportTable:
        """The table as it is printed."""
        heading, rows = self.format_cells()
        text_columns = frozenset({"method", "features", *self.labels})
        return ReportTable("", heading, rows, self.notes, text_columns, self.best_cells())

    def best_cells(self) -> frozenset[tuple[int, int]]:
        """Row and column of the best mean of each score of a test set, if one corpus is shown."""
        if not CORPORA.isdisjoint(self.labels):
            return frozenset()
        cells: set[tuple[int, int]] = set()
        first_figure = len(("method", "features", *self.labels, "n"))
        for column, name in enumerate(self.figures, first_figure):
            # An ensemble costs as much as several runs: it is no method's mean.
            means = [
                None if runs[0].members else mean_and_deviation(runs, name)[0]
                for runs in self.rows.values()
            ]
            present = [mean for mean in means if mean is not None]
            if len(present) > 1 and name not in COSTS and self._scored_alike(name):
                best = min(present) if self._lower_is_better(name) else max(present)
                cells |= {(row, column) for row, mean in enumerate(means) if mean == best}
        return frozenset(cells)

    def _scores_of_figure(self, figure: str) -> tuple[str, list[Scores]]:
        """A figure's metric, and the scores of its test set; none for dev."""
        test, _, metric = figure.partition(" ")
        scores = (run.tests.get(test) for runs in self.rows.values() for run in runs)
        return metric, [some for some in scores if some]

    def _scored_alike(self, figure: str) -> bool:
        """Whether all runs have the same kind of scores on a test set; false for dev."""
        metric, scores = self._scores_of_figure(figure)
        kinds = {describe_scoring(some) for some in scores}
        further = {drop_version(s.metrics[metric].signature) for s in scores if metric in s.metrics}
        return len(kinds) == 1 and len(further) < 2

    def _lower_is_better(self, figure: str) -> bool:
        metric, scores = self._scores_of_figure(figure)
        if metric.split()[-1] in LOWER_IS_BETTER:
            return True
        return any(s.metrics[metric].lower_is_better for s in scores if metric in s.metrics)

    def runs_by_name(self) -> dict[str, list[RunRecord]]:
        """The runs of each row by its shortest name: the method, its control, what else is needed.

        A control is always named: a row of shuffled values is no result of its method.
        """
        named = {}
        for key, runs in self.rows.items():
            same_method = [row for row in self.rows if row[0] == key[0]]
            method, comma, ensemble = key[0].partition(", ")
            parts = [method]
            for i, label in enumerate(("features", *self.labels), 1):
                is_needed = label == "control" or len({row[i] for row in same_method}) > 1
                if is_needed and (label, key[i]) not in NO_DIALS:
                    value = key[i].replace(" ", "+")
                    parts.append(value if label in ("features", "control") else f"{label}={value}")
            named[" ".join(part for part in parts if part != "-") + comma + ensemble] = runs
        return named

    def labels_by_name(self) -> dict[str, RowLabels]:
        """By a row's name, the labels that tell it apart from others, by their kind."""
        by_name = {}
        for name, (_, features, *values) in zip(self.runs_by_name(), self.rows, strict=True):
            parts: dict[str, list[str]] = {}
            if features:
                parts["information"] = [features.replace(" ", "+")]
            for label, value, kind in zip(self.labels, values, self._kinds, strict=True):
                if (label, value) not in NO_DIALS and kind != "control":
                    parts.setdefault(kind, []).append(f"{label}={value}")
            by_name[name] = RowLabels(**{kind: " ".join(texts) for kind, texts in parts.items()})
        return by_name

    def to_rows(self) -> list[dict[str, Any]]:
        """Each row with the figures of all its runs, for JSON."""
        return [
            {
                "name": name,
                "method": runs[0].method,
                "features": runs[0].features,
                "settings": dict(zip(self.labels, key[2:], strict=True)),
                "runs": [
                    {**_name_seeds(run), "hash": run.hash, **collect_figures(run)} for run in runs
                ],
                "statistics": {
                    figure: dict(
                        zip(("mean", "sd", "n"), mean_and_deviation(runs, figure), strict=True)
                    )
                    for figure in self.figures
                },
            }
            for (name, runs), key in zip(self.runs_by_name().items(), self.rows, strict=True)
        ]

    def to_csv(self) -> str:
        """Comma-separated values in full precision: mean, sd and n of each figure."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        heading = [f"{name} {value}" for name in self.figures for value in ("mean", "sd", "n")]
        writer.writerow(["method", "features", *self.labels, "n", "expected", "seeds", *heading])
        for (method, _, *labels), runs in self.rows.items():
            finished = [run for run in runs if run.finished]
            cells: list[Any] = [method, " ".join(runs[0].features), *labels]
            cells += [len(finished), len(runs), " ".join(map(_format_seeds, finished))]
            for name in self.figures:
                cells += mean_and_deviation(runs, name)
            writer.writerow(cells)
        return text.getvalue()


def _group_rows(
    runs: Sequence[RunRecord], keys: Sequence[str], has_scale: bool
) -> dict[tuple[str, ...], list[RunRecord]]:
    """The runs of each row, by the names of method and features and the values of its labels."""
    rows: dict[tuple[str, ...], list[RunRecord]] = {}
    annotators = name_annotators(runs)
    for record in runs:
        settings = label_settings(record)
        labels = [settings.get(key, "-") for key in keys]
        if ANNOTATOR in keys:
            column = keys.index(ANNOTATOR)
            labels[column] = annotators.get(labels[column], labels[column])
        if has_scale:
            labels.append(record.config.get("scale") or "-")
        rows.setdefault((*name_method_and_features(record), *labels), []).append(record)
    return rows


def _name_seeds(run: RunRecord) -> dict[str, Any]:
    """A run's seed, or those of an ensemble's runs, for JSON."""
    return {"seeds": [m.seed for m in run.members]} if run.members else {"seed": run.seed}


def _format_seeds(run: RunRecord) -> str:
    return "+".join(str(m.seed) for m in run.members) or str(run.seed)


def _drop_repeated_runs(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Each run once, the finished one of two."""
    runs: dict[tuple[str, ...], RunRecord] = {}
    for record in records:
        # What failed before it had a hash is told apart by all that was asked for.
        request = record.hash or json.dumps(record.settings, sort_keys=True)
        search = json.dumps(search_of(record), sort_keys=True)
        key = (request, str(record.seed), *name_method_and_features(record), search)
        if key not in runs or record.finished:
            runs[key] = record
    return _unify_names(_unify_data_hashes(list(runs.values())))


def _unify_names(records: list[RunRecord]) -> list[RunRecord]:
    """The records, those of one row with the name that its combiner was last given, if any."""

    def name_row(record: RunRecord) -> str:
        return hash_json({name: v for name, v in record.settings.items() if name != "seed"})

    named = [run for run in records if (run.config.get("combiner") or {}).get("name")]
    names = {name_row(run): run.method for run in named}
    if not names:
        return records
    return [replace(run, method=names.get(name_row(run), run.method)) for run in records]


def _format_figure(runs: Sequence[RunRecord], name: str, n: int) -> str:
    """Mean and deviation, with the number of values where not all n finished runs have one."""
    mean, deviation, count = mean_and_deviation(runs, name)
    if mean is None:
        return "-"
    decimals = DECIMALS.get(name.split()[-1], 2)
    cell = f"{mean:,.{decimals}f}"
    if deviation is not None and name not in COSTS:
        cell += f" ± {deviation:.{decimals}f}"
    return f"{cell} (n={count})" if count < n else cell


def _describe_mixed_runs(rows: Iterable[Sequence[RunRecord]]) -> list[str]:
    """Where averaged runs are of several revisions of the program, or of several devices."""
    mixed: dict[str, dict[str, None]] = {"revisions": {}, "devices": {}}
    for runs in rows:
        done = [run for run in runs if run.finished]
        values_of = {
            "revisions": [_shorten_revision(run.code.get("revision", "")) for run in done],
            "devices": [run.machine.get("gpu") or run.machine.get("cpu", "") for run in done],
        }
        for name, values in values_of.items():
            if len({*values}) > 1:
                mixed[name] |= dict.fromkeys(values)
    return [
        f"Means are over runs of {len(values)} {name}: {', '.join(v or 'unknown' for v in values)}."
        for name, values in mixed.items()
        if values
    ]


def _shorten_revision(revision: str) -> str:
    """Of git, with the `+` of changed files."""
    return revision[:7] + ("+" if revision.endswith("+") else "")
