"""A report on runs: the table and what it supports, to print and to write."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from nmt_feat.analysis.answer import make_answer_tables
from nmt_feat.analysis.comparison_tables import describe_evidence, make_comparison_tables
from nmt_feat.analysis.comparisons import compare_rows
from nmt_feat.analysis.contrast_tables import make_contrast_tables
from nmt_feat.analysis.corpora import folder_names, split_by_corpus
from nmt_feat.analysis.dial_trends import compute_leads, lead_rows, make_lead_table
from nmt_feat.analysis.planned_comparisons import (
    Plan,
    compare_as_planned,
    make_plan_table,
    plan_rows,
)
from nmt_feat.analysis.published import make_published_tables
from nmt_feat.analysis.render import print_table, render_latex, render_markdown
from nmt_feat.analysis.result_tables import ResultTable
from nmt_feat.base.files import write_atomically
from nmt_feat.base.typed_json import without_nan
from nmt_feat.errors import UserError, escape_controls
from nmt_feat.runs.stored.records import RunRecord

FILES = re.compile(
    r"table\.(md|csv|json|tex)|comparisons\.csv"
    r"|((differences|lengths|gain|information|gates)-.*|(curves|shares)(--\d+)?)\.(png|pdf)"
)
"""Names of the files that a report writes, figures among them."""


class Report:
    """The answer, the table and what it supports, for runs with their folders.

    Args:
        runs: the records, each with its folder if it has one.
        notes: further lines below the table.
        baseline: name of the baseline's row, see `compare_rows`.
        pairs: whether to add sacreBLEU's slower tests of single models.
        metric: the metric of the answer, the planned comparisons and the figures.
        plan: the planned comparisons.
    """

    def __init__(
        self,
        runs: Iterable[tuple[RunRecord, Path | None]],
        notes: Sequence[str] = (),
        baseline: str | None = None,
        pairs: bool = True,
        metric: str = "BLEU",
        plan: Plan = (),
    ) -> None:
        self.runs, self.metric = list(runs), metric
        self.table = ResultTable([record for record, _ in self.runs])
        # A run may be there twice, finished and unfinished; only the finished one has counts.
        self.folders = {
            record.hash: folder
            for record, folder in self.runs
            if record.finished and folder is not None
        }
        self.comparisons, missing = compare_rows(self.table, self.folders, baseline, metric)
        self.table.notes += [*missing, *notes]
        self.tables = [*make_answer_tables(self.comparisons), self.table.to_report_table()]
        self.planned = compare_as_planned(plan, self.comparisons, metric) if plan else {}
        if plan:
            self.tables.append(make_plan_table(self.planned, metric))
        self.leads = [
            {name: compute_leads(evidence, name) for name in evidence.samples}
            for evidence in self.comparisons
        ]
        """By comparison, then by metric."""
        for evidence, by_metric in zip(self.comparisons, self.leads, strict=True):
            for leads in filter(None, by_metric.values()):
                self.tables.append(make_lead_table(leads, evidence.test_name))
            self.tables += make_comparison_tables(evidence, pairs)
        rows = self.table.runs_by_name()
        bases = (e.baseline for e in self.comparisons if e.baseline)
        self.tables += make_contrast_tables(rows, baseline or next(bases, None))
        self.tables += make_published_tables(record for record, _ in self.runs)

    def print_tables(self, console: Console) -> None:
        """Print all tables on a terminal."""
        for table in self.tables:
            print_table(table, console)

    def to_json(self) -> str:
        """Rows, comparisons and sentences in full precision."""
        content: dict[str, Any] = {
            "rows": self.table.to_rows(),
            "evidence": [
                {
                    "test": e.test,
                    "conditions": e.conditions,
                    "baseline": e.baseline,
                    "comparisons": e.to_rows(),
                    **{
                        "leads" if metric == "BLEU" else f"leads in {metric}": lead_rows(of_metric)
                        for metric, of_metric in leads.items()
                    },
                    "sentences": {metric: describe_evidence(e, metric) for metric in e.samples},
                }
                for e, leads in zip(self.comparisons, self.leads, strict=True)
            ],
            "notes": self.table.notes,
        }
        if self.planned:
            content["planned"] = plan_rows(self.planned, self.metric)
        return json.dumps(without_nan(content), indent=1, ensure_ascii=False) + "\n"

    def comparisons_csv(self) -> str:
        """The comparisons as comma-separated values; empty if there are none."""
        rows = [row for evidence in self.comparisons for row in evidence.to_rows()]
        if not rows:
            return ""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def write_files(self, folder: Path) -> list[Path]:
        """Write `table.md`, `.csv`, `.json`, `.tex` and, if any, `comparisons.csv`; their paths.

        Files of an earlier report in the folder are removed, figures among them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        contents = {
            "table.md": "\n".join(map(render_markdown, self.tables)),
            "table.csv": self.table.to_csv(),
            "table.json": self.to_json(),
            "table.tex": "\n".join(["% \\usepackage{booktabs}", *map(render_latex, self.tables)]),
        }
        if comparisons := self.comparisons_csv():
            contents["comparisons.csv"] = comparisons
        for name, content in contents.items():
            write_atomically(folder / name, content.encode())
        for path in folder.iterdir():
            if FILES.fullmatch(path.name) and path.name not in contents and not path.is_dir():
                path.unlink()
        return [folder / name for name in contents]


def make_reports(
    runs: Iterable[tuple[RunRecord, Path | None]],
    notes: Sequence[str] = (),
    baseline: str | None = None,
    metric: str = "BLEU",
    plan: Plan = (),
) -> dict[str, Report]:
    """A report for each corpus, by its name: scores on different text are never ranked together.

    The notes are in the first report. The name of a single corpus is empty.
    """
    corpora = split_by_corpus(runs)
    if len(corpora) < 2:
        whole = [run for group in corpora.values() for run in group]
        return {"": Report(whole, notes, baseline, metric=metric, plan=plan)}
    if plan:
        raise UserError(
            "--plan: these runs are of several corpora; choose one, for instance --where data=koen"
        )
    reports = {}
    for number, (name, group) in enumerate(corpora.items()):
        reports[name] = Report(group, notes if number == 0 else (), baseline, metric=metric)
    return reports


def print_reports(reports: Mapping[str, Report], console: Console) -> None:
    """Print each report; if there are several, below the names of their corpora."""
    for name, report in reports.items():
        if name:
            console.rule(Text(escape_controls(name)))
        report.print_tables(console)


def write_reports(reports: Mapping[str, Report], folder: Path) -> list[Path]:
    """Write the reports; several into a folder for each corpus. The paths of all files."""
    paths, folders = [], folder_names(reports)
    for name, report in reports.items():
        paths += report.write_files(folder / folders[name] if name else folder)
    return paths
