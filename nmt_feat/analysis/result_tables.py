"""The table of runs: a row for each method, with mean and deviation over its seeds."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from nmt_feat.analysis.render import ReportTable
from nmt_feat.analysis.row_labels import (
    ANNOTATOR,
    HEADINGS,
    NO_DIALS,
    PARENT,
    RowLabels,
    choose_labels,
    classify_label,
    label_settings,
    list_hidden_settings,
    name_annotators,
    name_method_and_features,
    name_parents,
)
from nmt_feat.base.checksums import hash_json
from nmt_feat.config.identity import is_earlier
from nmt_feat.evaluation.scores import Scores
from nmt_feat.runs.stored.records import RunRecord, search_of
from nmt_feat.runs.stored.run_summary import list_signatures

CORPORA = {"data", "data.source_lang", "data.target_lang"}
"""Labels of rows whose references differ, so that their scores cannot be compared."""
DECIMALS = {"%": 1, "parameters": 0, "minutes": 1}
"""Decimals by the last word of a figure's heading; others have two."""
LOWER_IS_BETTER = ("TER", "perplexity")
"""The last words of the headings of these figures."""
ENSEMBLES = (
    "An ensemble translates with the mean probabilities of its runs. It is one measurement, "
    "without interval or test of significance. Its parameters and minutes are its runs', added up."
)
COSTS = ("parameters", "minutes")
"""The last figures, which have no deviation."""


def describe_scoring(scores: Scores) -> str:
    """The signatures of BLEU and chrF without the version: runs with equal ones are comparable."""
    bleu, chrf = drop_version(scores.bleu_signature), drop_version(scores.chrf_signature)
    return f"BLEU {bleu}, chrF {chrf}"


def drop_version(signature: str) -> str:
    """A signature without the package's version: scores with equal ones are comparable."""
    return re.sub(r"\|version:[^|]*", "", signature)


def collect_figures(record: RunRecord) -> dict[str, float]:
    """The scores and costs of a run by heading, as far as they are known."""
    figures: dict[str, float | None] = {}
    for name, scores in record.scores.items():
        figures |= {f"{name} BLEU": scores.bleu, f"{name} chrF": scores.chrf}
        metrics = scores.metrics.items()
        further = {f"{name} {metric}": result.score for metric, result in metrics}
        if name == "dev":
            figures |= further
            continue
        # The heading names the unit of perplexity unless it is the word.
        unit = "character " if scores.perplexity_unit == "character" else ""
        figures |= {f"{name} TER": scores.ter, f"{name} {unit}perplexity": scores.perplexity}
        figures |= further
        if scores.reading:
            reading = scores.reading
            shares = {"readings": reading.accuracy, "settled": reading.settled_accuracy}
            figures |= {
                f"{name} {label} %": 100 * share
                for label, share in shares.items()
                if share is not None
            }
    for name, result in record.contrast.items():
        figures[f"{name} contrast %"] = result.accuracy
    if record.finished:
        figures["parameters"] = record.parameters.get("total")
        figures["minutes"] = record.train_seconds / 60
    return {name: value for name, value in figures.items() if value is not None}


def feature_bits(record: RunRecord) -> list[tuple[float, float]]:
    """H(feature) and H(feature | word) of each feature; empty if unknown, and for controls."""
    features = record.data_report.get("features") or {}
    bits = [(f.get("entropy"), f.get("given_word")) for f in features.values()]
    if "control" in record.settings or any(None in pair for pair in bits):
        return []
    return bits


def _unify_data_hashes(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records; those of an earlier identity get today's hash of their data, if it is known.

    So runs of both identities are in one row if all other settings are equal.
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
    """The table of some runs, whose rows are in the order of their first runs.

    Runs are averaged only if all their settings but the seed are equal; settings that differ label
    the rows. A run that occurs twice (with equal hash and seed) counts once. Runs without scores
    (unfinished, failed) count as expected, and are missing in the means.
    """

    def __init__(self, records: Iterable[RunRecord]) -> None:
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
        self.notes = [*_describe_mixed_runs(self.rows.values()), *list_signatures(started)]
        self.notes += _describe_mixed_tests(self.rows.values())
        if any(sum(run.finished for run in row) > 1 for row in self.rows.values()):
            self.notes.insert(0, "Mean ± sample standard deviation over n seeds.")
        if any(run.members for run in started):
            self.notes.append(ENSEMBLES)
        if hidden := list_hidden_settings(started, keys):
            self.notes.append(f"Further settings in which rows differ: {', '.join(hidden)}.")

    def format_cells(self) -> tuple[list[str], list[list[str]]]:
        """Heading and rows as text."""
        heading, rows = ["method", "features", *self.labels, "n", *self.figures], []
        for (method, _, *labels), runs in self.rows.items():
            n = sum(run.finished for run in runs)
            cells = [method, ", ".join(runs[0].features) or "-", *labels]
            cells.append(str(n) if n == len(runs) else f"{n}/{len(runs)}")
            cells += [_format_figure(runs, name, n) for name in self.figures]
            rows.append(cells)
        return heading, rows

    def to_report_table(self) -> ReportTable:
        """The table in the form that reports print and write."""
        heading, rows = self.format_cells()
        text_columns = frozenset({"method", "features", *self.labels})
        return ReportTable("", heading, rows, self.notes, text_columns, self.best_cells())

    def best_cells(self) -> frozenset[tuple[int, int]]:
        """Row and column of the best mean of each score, if all rows are of one corpus."""
        if not CORPORA.isdisjoint(self.labels):
            return frozenset()
        cells: set[tuple[int, int]] = set()
        first_figure = len(("method", "features", *self.labels, "n"))
        for column, name in enumerate(self.figures, first_figure):
            # An ensemble costs as much as several runs, and is not the mean of a method.
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
        """A figure's metric, and the scores of its test set; empty for dev."""
        test, _, metric = figure.partition(" ")
        tested = (run for runs in self.rows.values() for run in runs if test in run.tests)
        return metric, [run.tests[test] for run in tested]

    def _scored_alike(self, figure: str) -> bool:
        """Whether all runs are scored in the same way on a figure's test set; false for dev."""
        metric, scores = self._scores_of_figure(figure)
        kinds = {describe_scoring(scores_of_run) for scores_of_run in scores}
        further = {drop_version(s.metrics[metric].signature) for s in scores if metric in s.metrics}
        return len(kinds) == 1 and len(further) < 2

    def _lower_is_better(self, figure: str) -> bool:
        metric, scores = self._scores_of_figure(figure)
        if metric.split()[-1] in LOWER_IS_BETTER:
            return True
        return any(s.metrics[metric].lower_is_better for s in scores if metric in s.metrics)

    def runs_by_name(self) -> dict[str, list[RunRecord]]:
        """The runs of each row by its shortest name: method, control, and other labels if needed.

        A control is always named, because a row of shuffled values is not a result of its method.
        """
        by_name = {}
        for key, runs in self.rows.items():
            same_method = [row for row in self.rows if row[0] == key[0]]
            method, comma, ensemble = key[0].partition(", ")
            parts = [method]
            for i, label in enumerate(("features", *self.labels), 1):
                is_needed = label == "control" or len({row[i] for row in same_method}) > 1
                if is_needed and (label, key[i]) not in NO_DIALS:
                    value = key[i].replace(" ", "+")
                    parts.append(value if label in ("features", "control") else f"{label}={value}")
            by_name[" ".join(part for part in parts if part != "-") + comma + ensemble] = runs
        return by_name

    def labels_by_name(self) -> dict[str, RowLabels]:
        """For each row by its name, the labels that distinguish it, by their kind."""
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
    """The runs of each row, by method, features, and the values of its labels."""
    rows: dict[tuple[str, ...], list[RunRecord]] = {}
    names_by_key = {ANNOTATOR: name_annotators(runs), PARENT: name_parents(runs)}
    for record in runs:
        settings = label_settings(record)
        labels = []
        for key in keys:
            value = settings.get(key, "-")
            labels.append(names_by_key.get(key, {}).get(value, value))
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
    """The records without repetition; of a run's records the finished one."""
    runs: dict[tuple[str, ...], RunRecord] = {}
    for record in records:
        # Jobs that failed before they had a hash are identified by all their settings.
        request = record.hash or json.dumps(record.settings, sort_keys=True)
        search = json.dumps(search_of(record), sort_keys=True)
        key = (request, str(record.seed), *name_method_and_features(record), search)
        if key not in runs or record.finished:
            runs[key] = record
    return _distinguish_suites(_unify_names(_unify_data_hashes(list(runs.values()))))


def _distinguish_suites(records: list[RunRecord]) -> list[RunRecord]:
    """The records; if suites of one name differ, the name has a part of their checksum behind it.

    Otherwise a row's mean would be over the accuracies on several suites.
    """
    pairs = {(name, result.suite) for run in records for name, result in run.contrast.items()}
    counts = Counter(name for name, _ in pairs)
    if max(counts.values(), default=1) == 1:
        return records

    def distinguish(name: str, suite: str) -> str:
        return f"{name}@{suite[:8]}" if counts[name] > 1 else name

    return [
        replace(run, contrast={distinguish(n, r.suite): r for n, r in run.contrast.items()})
        for run in records
    ]


def _unify_names(records: list[RunRecord]) -> list[RunRecord]:
    """The records; those with the same settings, apart from the seed, get one method name.

    It is the `combiner.name` of the last record that has one. Such a name is no part of a run's
    identity, so runs of one method may have different names, or none.
    """

    def hash_row(record: RunRecord) -> str:
        return hash_json({name: v for name, v in record.settings.items() if name != "seed"})

    with_name = [run for run in records if (run.config.get("combiner") or {}).get("name")]
    names = {hash_row(run): run.method for run in with_name}
    if not names:
        return records
    return [replace(run, method=names.get(hash_row(run), run.method)) for run in records]


def _format_figure(runs: Sequence[RunRecord], name: str, n: int) -> str:
    """Mean and deviation, with the number of values if not all n finished runs have one."""
    mean, deviation, count = mean_and_deviation(runs, name)
    if mean is None:
        return "-"
    decimals = DECIMALS.get(name.split()[-1], 2)
    cell = f"{mean:,.{decimals}f}"
    if deviation is not None and name not in COSTS:
        cell += f" ± {deviation:.{decimals}f}"
    return f"{cell} (n={count})" if count < n else cell


def _describe_mixed_runs(rows: Iterable[Sequence[RunRecord]]) -> list[str]:
    """Notes if averaged runs are of several revisions of the program, or of several devices."""
    mixed: dict[str, dict[str, None]] = {"revisions": {}, "devices": {}}
    for runs in rows:
        finished = [run for run in runs if run.finished]
        values_of = {
            "revisions": [_shorten_revision(run.code.get("revision", "")) for run in finished],
            "devices": [run.machine.get("gpu") or run.machine.get("cpu", "") for run in finished],
        }
        for name, values in values_of.items():
            if len({*values}) > 1:
                mixed[name] |= dict.fromkeys(values)
    return [
        f"Means are over runs of {len(values)} {name}: {', '.join(v or 'unknown' for v in values)}."
        for name, values in mixed.items()
        if values
    ]


def _describe_mixed_tests(rows: Iterable[Sequence[RunRecord]]) -> list[str]:
    """A note if averaged runs were tested on unlike files under the name of one test set."""
    hashes_by_name: dict[tuple[int, str], set[str]] = {}
    for number, runs in enumerate(rows):
        for run in runs:
            for name in run.tests.keys() & run.test_hashes.keys():
                hashes_by_name.setdefault((number, name), set()).add(run.test_hashes[name])
    mixed = sorted({name for (_, name), hashes in hashes_by_name.items() if len(hashes) > 1})
    if not mixed:
        return []
    names = ", ".join(mixed)
    return [f"Means of {names} are over runs that were tested on unlike files of this name."]


def _shorten_revision(revision: str) -> str:
    """The short form of a git revision, with the `+` of changed files."""
    return revision[:7] + ("+" if revision.endswith("+") else "")
