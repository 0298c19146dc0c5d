"""From the records of runs to the table: a row per method, mean and deviation over seeds."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from nmt_feat.analysis.render import Block
from nmt_feat.config.identity import is_earlier, upgrade_settings
from nmt_feat.evaluation.metrics import Scores
from nmt_feat.runs.records import DIALS, RunRecord, search_of
from nmt_feat.runs.run_summary import list_signatures

FULL = {(dial, "-") for dial in DIALS}
"""What is not dialled down has no need to be named."""
SHOWN = {"control": "control", "data.name": "data", "model.tie": "tie"} | {d: d for d in DIALS}
"""Settings that always label the rows when they differ, and their headings."""
CORPORA = {"data", "data.source_lang", "data.target_lang"}
"""Labels of rows whose scores are of different references."""
HASH = "data.hash"
FOLLOWING = ("combiner.", "features.", "annotator.", f"{HASH}.")
"""Settings that follow from method and features; labels only where they split such a row."""
VARIANT = re.compile(r"combiner\..*|features\.[^.]+\.(dim|dropout|sentence_dropout|args.*)")
"""Settings of a method that leave what its features say as it is."""
DECIMALS = {"%": 1, "parameters": 0, "minutes": 1}
"""By the last word of a figure's heading; two for the others."""
LESS = ("TER", "perplexity")
"""Scores of which less is better, by the last word of their heading."""
COSTS = ("parameters", "minutes")
"""The last figures: without deviation."""


def scored_by(scores: Scores) -> str:
    """sacreBLEU's signatures of BLEU and chrF without its version: equal ones can be compared."""
    both = (scores.bleu_signature, scores.chrf_signature)
    bleu, chrf = (re.sub(r"\|version:[^|]*", "", signature) for signature in both)
    return f"BLEU {bleu}, chrF {chrf}"


def figures(record: RunRecord) -> dict[str, float]:
    """What a finished run reached and what it took, by heading, as far as it is known."""
    found: dict[str, float | None] = {}
    for name, scores in record.scores.items():
        found |= {f"{name} BLEU": scores.bleu, f"{name} chrF": scores.chrf}
        if name == "dev":
            continue
        # Per word it has no unit in the heading.
        unit = "character " * (scores.perplexity_unit == "character")
        found |= {f"{name} TER": scores.ter, f"{name} {unit}perplexity": scores.perplexity}
        if scores.reading:
            found[f"{name} readings %"] = scores.reading.accuracy
            found[f"{name} settled %"] = scores.reading.settled_accuracy
    if record.finished:
        found["parameters"] = record.parameters.get("total")
        found["minutes"] = record.train_seconds / 60
    known = {name: value for name, value in found.items() if value is not None}
    return {name: 100 * v if name.endswith("%") else v for name, v in known.items()}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and JSON values, without the seed."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif prefix + key != "seed":
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def dials(record: RunRecord) -> dict[str, str]:
    """How far a run's features are dialled down: each dial's value, by feature if they differ."""
    features, found = record.settings.get("features", {}), {}
    for dial in DIALS:
        values = {name: feature[dial] for name, feature in features.items() if dial in feature}
        if values:
            alike = len(values) == len(features) and len(set(values.values())) == 1
            each = [f"{name}={value}" for name, value in values.items()]
            found[dial] = str(*set(values.values())) if alike else " ".join(each)
    return found


def bits(record: RunRecord) -> list[tuple[float, float]]:
    """H(feature) and H(feature | word) of each feature; empty where unknown, and for controls."""
    features = record.data_report.get("features") or {}
    each = [(f.get("entropy"), f.get("given_word")) for f in features.values()]
    whole = "control" not in record.settings and all(None not in pair for pair in each)
    return each if whole else []


def _settings(record: RunRecord) -> dict[str, str]:
    """The settings that may label a row: those of the trained model, and the search."""
    dialled = {f"features.{name}.{dial}" for name in record.features for dial in DIALS}
    settings = upgrade_settings(record.settings) | {"decoding": search_of(record)}
    flat = {k: v for k, v in _flat(settings).items() if k not in dialled}
    if HASH in flat:
        flat[HASH] = flat[HASH][:8]
    return flat | dials(record)


def _alike_data(records: Sequence[RunRecord]) -> list[RunRecord]:
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
    found = []
    for record in records:
        data = record.settings.get("data", {})
        if is_earlier(record.settings) and data.get("hash") in today:
            data = data | {"hash": today[data["hash"]]}
            record = replace(record, settings=record.settings | {"data": data})
        found.append(record)
    return found


def _method(record: RunRecord) -> tuple[str, str]:
    return record.method, " ".join(sorted(record.features))


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """The fewest settings that tell apart all runs whose settings differ in more than the seed."""
    flat = [_settings(record) for record in records]
    follows = {key: f"{key}.".startswith(FOLLOWING) for settings in flat for key in settings}
    chosen: list[str] = []
    for key in sorted(follows, key=lambda k: (follows[k], k not in SHOWN, k == HASH, k)):
        groups, split = set(), set()
        for record, settings in zip(records, flat, strict=True):
            labels = tuple(settings.get(k, "-") for k in chosen)
            group = (*labels, *_method(record)) if follows[key] else labels
            groups.add(group)
            split.add((*group, settings.get(key, "-")))
        if len(split) > len(groups):
            chosen.append(key)
    return chosen


def _statistics(runs: Iterable[RunRecord], name: str) -> tuple[float | None, float | None, int]:
    """Mean, sample standard deviation and number of a figure's values."""
    values = [found[name] for found in map(figures, runs) if name in found]
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None, len(values)


@dataclass(frozen=True)
class Apart:
    """What tells a row apart from others, as `label=value` between spaces."""

    said: str
    """What its features are and how much of it they say."""
    variant: str
    """How its method is set."""
    conditions: str
    """All else but the control: other data, another model, other training."""


def _kind(key: str) -> str:
    if key == "control" or VARIANT.fullmatch(key):
        return "control" if key == "control" else "variant"
    return "said" if f"{key}.".startswith(FOLLOWING) or key in DIALS else "conditions"


class Table:
    """The table of some runs, in the order in which they are first seen.

    Runs are averaged only if all their settings but the seed are equal; settings that differ
    label the rows. A run that stands twice (equal hash and seed) counts once. Runs that have no
    scores (unfinished, failed) count as expected and are missing in the means.
    """

    def __init__(self, records: Iterable[RunRecord], notes: Sequence[str] = ()) -> None:
        runs: dict[tuple[str, ...], RunRecord] = {}
        for record in records:
            # What failed before it had a hash is told apart by all that was asked for.
            asked = record.hash or json.dumps(record.settings, sort_keys=True)
            search = json.dumps(search_of(record), sort_keys=True)
            key = (asked, str(record.seed), *_method(record), search)
            if key not in runs or record.finished:
                runs[key] = record
        runs = dict(zip(runs, _alike_data(list(runs.values())), strict=True))
        known = [record for record in runs.values() if record.hash]
        keys = _labels(known)
        self.labels = [SHOWN.get(key, key) for key in keys]
        self._kinds = [_kind(key) for key in keys]
        self.rows: dict[tuple[str, ...], list[RunRecord]] = {}
        scaled = any(record.config.get("scale") for record in runs.values())
        self.labels += ["scale"] * scaled
        self._kinds += ["conditions"] * scaled
        for record in runs.values():
            flat = _settings(record)
            labels = [flat.get(key, "-") for key in keys]
            labels += [record.config.get("scale") or "-"] * scaled
            self.rows.setdefault((*_method(record), *labels), []).append(record)
        found = dict.fromkeys(name for record in known for name in figures(record))
        found = {"dev BLEU": None, "dev chrF": None, **found}
        self.figures = [*(name for name in found if name not in COSTS), *COSTS]
        several = any(sum(run.finished for run in row) > 1 for row in self.rows.values())
        means = ["Mean ± sample standard deviation over n seeds."] if several else []
        mixed = _mixed(self.rows.values())
        self.notes = [*means, *mixed, *list_signatures(known), *notes]

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Heading and rows as they are printed."""
        heading, rows = ["method", "features", *self.labels, "n", *self.figures], []
        for (method, _, *labels), runs in self.rows.items():
            n = sum(run.finished for run in runs)
            cells = [method, ", ".join(runs[0].features) or "-", *labels]
            cells.append(str(n) if n == len(runs) else f"{n}/{len(runs)}")
            for name in self.figures:
                mean, deviation, count = _statistics(runs, name)
                decimals = DECIMALS.get(name.split()[-1], 2)
                cell = "-" if mean is None else f"{mean:,.{decimals}f}"
                if deviation is not None and name not in COSTS:
                    cell += f" ± {deviation:.{decimals}f}"
                cells.append(f"{cell} (n={count})" if 0 < count < n else cell)
            rows.append(cells)
        return heading, rows

    def block(self) -> Block:
        """The table as it is printed."""
        heading, rows = self.cells()
        left = frozenset({"method", "features", *self.labels})
        return Block("", heading, rows, self.notes, left, self.best())

    def best(self) -> frozenset[tuple[int, int]]:
        """Row and column of the best mean of each score of a test set, if one corpus is shown."""
        found: set[tuple[int, int]] = set()
        before = len(("method", "features", *self.labels, "n"))
        for column, name in enumerate(self.figures, before):
            means = [_statistics(runs, name)[0] for runs in self.rows.values()]
            known = [mean for mean in means if mean is not None]
            if len(known) > 1 and name not in COSTS and self._scored_alike(name.split()[0]):
                best = min(known) if name.split()[-1] in LESS else max(known)
                found |= {(row, column) for row, mean in enumerate(means) if mean == best}
        return frozenset(found if CORPORA.isdisjoint(self.labels) else ())

    def _scored_alike(self, test: str) -> bool:
        """Whether all runs have the same kind of scores on a test set; false for dev."""
        scores = (run.tests.get(test) for runs in self.rows.values() for run in runs)
        return len({scored_by(some) for some in scores if some}) == 1

    def named(self) -> dict[str, list[RunRecord]]:
        """The runs of each row by its shortest name: the method, and what tells its rows apart."""
        named = {}
        for key, runs in self.rows.items():
            alike = [other for other in self.rows if other[0] == key[0]]
            parts = [key[0]]
            for i, label in enumerate(("features", *self.labels), 1):
                if len({other[i] for other in alike}) > 1 and (label, key[i]) not in FULL:
                    value = key[i].replace(" ", "+")
                    parts.append(value if label in ("features", "control") else f"{label}={value}")
            named[" ".join(part for part in parts if part != "-")] = runs
        return named

    def apart(self) -> dict[str, Apart]:
        """By a row's name, the labels that tell it apart from others, by their kind."""
        found = {}
        for name, (_, features, *values) in zip(self.named(), self.rows, strict=True):
            parts: dict[str, list[str]] = {"said": [features.replace(" ", "+")] * bool(features)}
            for label, value, kind in zip(self.labels, values, self._kinds, strict=True):
                if (label, value) not in FULL:
                    parts.setdefault(kind, []).append(f"{label}={value}")
            joined = {kind: " ".join(texts) for kind, texts in parts.items()}
            found[name] = Apart(**{f.name: joined.get(f.name, "") for f in fields(Apart)})
        return found

    def data(self) -> list[dict[str, Any]]:
        """Each row with the figures of all its runs, for JSON."""
        return [
            {
                "name": name,
                "method": runs[0].method,
                "features": runs[0].features,
                "settings": dict(zip(self.labels, key[2:], strict=True)),
                "runs": [{"seed": r.seed, "hash": r.hash, **figures(r)} for r in runs],
                "statistics": {
                    figure: dict(zip(("mean", "sd", "n"), _statistics(runs, figure), strict=True))
                    for figure in self.figures
                },
            }
            for (name, runs), key in zip(self.named().items(), self.rows, strict=True)
        ]

    def csv(self) -> str:
        """Comma-separated values in full precision: mean, sd and n of each figure."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        heading = [f"{name} {what}" for name in self.figures for what in ("mean", "sd", "n")]
        writer.writerow(["method", "features", *self.labels, "n", "expected", "seeds", *heading])
        for (method, _, *labels), runs in self.rows.items():
            done = [run for run in runs if run.finished]
            cells: list[Any] = [method, " ".join(runs[0].features), *labels, len(done), len(runs)]
            cells.append(" ".join(str(run.seed) for run in done))
            for name in self.figures:
                cells += _statistics(runs, name)
            writer.writerow(cells)
        return text.getvalue()


def _mixed(rows: Iterable[Sequence[RunRecord]]) -> list[str]:
    """What else than settings and seeds differs between runs that are averaged, and not in bits."""
    found: dict[str, dict[str, None]] = {"revisions": {}, "devices": {}}
    for runs in rows:
        done = [run for run in runs if run.finished]
        revisions = dict.fromkeys(_short(run.code.get("revision", "")) for run in done)
        devices = dict.fromkeys(
            run.machine.get("gpu") or run.machine.get("cpu", "") for run in done
        )
        for name, values in (("revisions", revisions), ("devices", devices)):
            found[name] |= values if len(values) > 1 else {}
    return [
        f"Means are over runs of {len(values)} {name}: {', '.join(v or 'unknown' for v in values)}."
        for name, values in found.items()
        if values
    ]


def _short(revision: str) -> str:
    """Of git, with the `+` of changed files."""
    return revision[:7] + "+" * revision.endswith("+")
