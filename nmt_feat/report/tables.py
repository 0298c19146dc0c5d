"""From the records of runs to the table: a row per method, mean and deviation over seeds."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable

from nmt_feat.evaluation.metrics import Scores
from nmt_feat.report.records import RunRecord
from nmt_feat.training.checkpoints import write_atomically

SHOWN = {"data.name": "data", "model.tie": "tie"}
"""Settings that always label the rows when they differ, and their headings."""
FOLLOWING = ("combiner", "features", "annotator", "data.hash")
"""Settings that follow from method and features; labels only where they split such a row."""


@dataclass(frozen=True)
class Column:
    """A figure of a run: its heading, value and decimals."""

    name: str
    value: Callable[[RunRecord], float | None]
    decimals: int
    deviates: bool = True
    """Whether its deviation between seeds is shown."""


@dataclass
class Row:
    """Runs that differ in nothing but their seed."""

    method: str
    features: list[str]
    labels: list[str]
    runs: list[RunRecord] = field(default_factory=list)
    """The finished ones."""
    expected: int = 0
    """Runs with the unfinished and failed ones."""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and JSON values, without the seed."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif prefix + key != "seed":
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _method(record: RunRecord) -> tuple[str, ...]:
    return (record.method, *sorted(record.features))


def _follows(key: str) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in FOLLOWING)


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """The fewest settings that tell apart all runs whose settings differ in more than the seed."""
    flat = [_flat(record.settings) for record in records]
    keys = sorted({k for f in flat for k in f}, key=lambda k: (k not in SHOWN, k))
    chosen: list[str] = []
    for following in (False, True):
        for key in (k for k in keys if _follows(k) == following):
            group = [
                (*(_method(r) if following else ()), *(f.get(k, "-") for k in chosen))
                for r, f in zip(records, flat, strict=True)
            ]
            split = {(*g, f.get(key, "-")) for g, f in zip(group, flat, strict=True)}
            if len(split) > len(set(group)):
                chosen.append(key)
    return chosen


def _columns(records: Iterable[RunRecord]) -> list[Column]:
    """BLEU and chrF of dev and of each test set, reading accuracy where there is one."""
    tests = list(dict.fromkeys(name for record in records for name in record.tests))

    def of(name: str, figure: Callable[[Scores], float | None]) -> Callable[..., float | None]:
        return lambda r: figure(r.tests[name]) if name in r.tests else None

    def percent(part: float | None) -> float | None:
        return None if part is None else 100 * part

    columns = [
        Column("dev BLEU", lambda r: r.dev.bleu if r.dev else None, 2),
        Column("dev chrF", lambda r: r.dev.chrf if r.dev else None, 2),
    ]
    for name in tests:
        reading = of(name, lambda s: percent(s.reading.accuracy) if s.reading else None)
        settled = of(name, lambda s: percent(s.reading.settled_accuracy) if s.reading else None)
        columns += [
            Column(f"{name} BLEU", of(name, lambda s: s.bleu), 2),
            Column(f"{name} chrF", of(name, lambda s: s.chrf), 2),
            Column(f"{name} readings %", reading, 1),
            Column(f"{name} settled %", settled, 1),
        ]
    columns += [
        Column("parameters", lambda r: r.parameters.get("total"), 0, False),
        Column("minutes", lambda r: r.train_seconds / 60, 1, False),
    ]
    optional = ("readings %", "settled %")
    return [
        c
        for c in columns
        if not c.name.endswith(optional) or any(c.value(r) is not None for r in records)
    ]


class Table:
    """The table of some runs, in the order in which they are first seen.

    Runs are averaged only if all their settings but the seed are equal; settings that differ
    label the rows. A run that stands twice (equal hash and seed) counts once. Runs that have no
    scores (unfinished, failed) count as expected and are missing in the means.
    """

    def __init__(self, records: Iterable[RunRecord], notes: Sequence[str] = ()) -> None:
        runs: dict[tuple[str, ...], RunRecord] = {}
        for record in records:
            key = (record.hash, str(record.seed), *_method(record))
            if key not in runs or record.finished:
                runs[key] = record
        known = [record for record in runs.values() if record.hash]
        keys = _labels(known)
        rows: dict[tuple[str, ...], Row] = {}
        for record in runs.values():
            flat = _flat(record.settings)
            labels = [flat.get(key, "-") for key in keys]
            row = rows.setdefault(
                (*_method(record), *labels), Row(record.method, record.features, labels)
            )
            row.expected += 1
            row.runs += [record] if record.finished else []
        self.rows = list(rows.values())
        self.columns = _columns(known)
        self.labels = [SHOWN.get(key, key) for key in keys]
        several = any(len(row.runs) > 1 for row in self.rows)
        means = ["Mean ± sample standard deviation over n seeds."] if several else []
        self.notes = [*means, *_signatures(known), *notes]

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Heading and rows as they are printed."""
        heading = ["method", "features", *self.labels, "n", *(c.name for c in self.columns)]
        return heading, [self._row(row) for row in self.rows]

    def _row(self, row: Row) -> list[str]:
        n = len(row.runs)
        cells = [row.method, ", ".join(row.features) or "-", *row.labels]
        cells.append(str(n) if n == row.expected else f"{n}/{row.expected}")
        for column in self.columns:
            values = _values(row, column)
            cell = f"{statistics.fmean(values):,.{column.decimals}f}" if values else "-"
            if len(values) > 1 and column.deviates:
                cell += f" ± {statistics.stdev(values):.{column.decimals}f}"
            cells.append(cell + (f" (n={len(values)})" if 0 < len(values) < n else ""))
        return cells

    def markdown(self) -> str:
        """A Markdown table, the notes as a list below it."""
        heading, rows = self.cells()
        lines = [heading, ["---"] * len(heading), *rows]
        table = ["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines]
        return "\n".join([*table, "", *(f"- {note}" for note in self.notes), ""])

    def csv(self) -> str:
        """Comma-separated values in full precision: mean, sd and n of each figure."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        figures = [f"{c.name} {what}" for c in self.columns for what in ("mean", "sd", "n")]
        writer.writerow(["method", "features", *self.labels, "n", "expected", "seeds", *figures])
        for row in self.rows:
            cells: list[Any] = [row.method, " ".join(row.features), *row.labels]
            cells += [len(row.runs), row.expected, " ".join(str(r.seed) for r in row.runs)]
            for values in (_values(row, column) for column in self.columns):
                cells.append(statistics.fmean(values) if values else "")
                cells += [statistics.stdev(values) if len(values) > 1 else "", len(values)]
            writer.writerow(cells)
        return text.getvalue()

    def print(self, console: Console) -> None:
        """Print the table and its notes; what a terminal has no room for is wrapped, never cut."""
        heading, rows = self.cells()
        table = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in heading:
            left = name in ("method", "features", *self.labels)
            table.add_column(name, justify="left" if left else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        if not console.is_terminal:
            wide = console.options.update(width=10_000)
            console.width = max(console.width, Measurement.get(console, wide, table).maximum)
        console.print(table)
        for note in self.notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)

    def write(self, folder: Path) -> list[Path]:
        """Write `table.md` and `table.csv`; their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "table.md", folder / "table.csv"]
        for path, text in zip(paths, (self.markdown(), self.csv()), strict=True):
            write_atomically(path, text.encode())
        return paths


def summary(record: RunRecord) -> RichTable:
    """One run, a line per fact: what it was, what it reached, what it took."""
    table = RichTable(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    parts = ", ".join(f"{n:,} {name}" for name, n in record.parameters.items() if name != "total")
    table.add_row("method", record.method)
    table.add_row("features", ", ".join(record.features) or "none: words only")
    table.add_row("parameters", f"{record.parameters['total']:,} (of these {parts})")
    for name, scores in {"dev": record.dev, **record.tests}.items():
        if scores is None:
            continue
        figures = f"BLEU {scores.bleu:.2f}, chrF {scores.chrf:.2f}"
        if (reading := scores.reading) and reading.accuracy is not None:
            figures += f", right readings {reading.accuracy:.1%} of {reading.readings}"
            if reading.settled_accuracy is not None:
                figures += f", {reading.settled_accuracy:.1%} of {reading.settled} settled"
        table.add_row(name, figures)
    for signature in _signatures([record]):
        table.add_row("scored by", escape(signature))
    speed = f"{record.tokens_per_second:,.0f} target pieces/s"
    table.add_row("training", f"{record.updates} updates, {record.train_seconds:.0f} s, {speed}")
    table.add_row("tested", escape(record.selected))
    return table


def _values(row: Row, column: Column) -> list[float]:
    """The figures that the row's runs have."""
    return [v for v in map(column.value, row.runs) if v is not None]


def _signatures(records: Iterable[RunRecord]) -> list[str]:
    """Each different pair of sacreBLEU signatures."""
    scores = [s for r in records for s in (r.dev, *r.tests.values()) if s is not None]
    pairs = dict.fromkeys((s.bleu_signature, s.chrf_signature) for s in scores)
    return [f"BLEU `{bleu}`, chrF `{chrf}`" for bleu, chrf in pairs]
