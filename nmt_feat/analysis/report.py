"""A report on runs: the table, and what it supports; printed and written."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nmt_feat.analysis import dial_trends as leads
from nmt_feat.analysis.answer import answer_blocks
from nmt_feat.analysis.comparisons import gather
from nmt_feat.analysis.corpora import folder_names, split_by_corpus
from nmt_feat.analysis.published import published
from nmt_feat.analysis.render import latex, markdown, show
from nmt_feat.analysis.result_tables import Table
from nmt_feat.base.files import write_atomically
from nmt_feat.base.typed_json import without_nan
from nmt_feat.errors import legible
from nmt_feat.runs.records import RunRecord

FILES = re.compile(
    r"table\.(md|csv|json|tex)|comparisons\.csv"
    r"|((differences|lengths|gain|information|gates)-.*|(curves|shares)(--\d+)?)\.(png|pdf)"
)
"""Names of the files that a report writes, figures (see `figures.draw`) among them."""


class Report:
    """Of runs, each with its folder if it has one; `pairs` adds sacreBLEU's slower tests."""

    def __init__(
        self,
        runs: Iterable[tuple[RunRecord, Path | None]],
        notes: Sequence[str] = (),
        baseline: str | None = None,
        pairs: bool = True,
    ) -> None:
        self.runs = list(runs)
        self.table = Table([record for record, _ in self.runs])
        # A copy of a run that did not finish has no counts, and may stand beside the finished one.
        finished = [(r, folder) for r, folder in self.runs if r.finished]
        self.folders = {r.hash: folder for r, folder in finished if folder is not None}
        self.evidence, missing = gather(self.table, self.folders, baseline)
        self.table.notes += [*missing, *notes]
        self.leads = [leads.leads(evidence) for evidence in self.evidence]
        self.leads_chrf = [leads.leads(evidence, "chrF") for evidence in self.evidence]
        self.blocks = [self.table.block(), *answer_blocks(self.evidence)]
        for evidence, *both in zip(self.evidence, self.leads, self.leads_chrf, strict=True):
            self.blocks += [leads.block(some, evidence.where) for some in both if some]
            self.blocks += evidence.blocks(pairs)
        self.blocks += published(record for record, _ in self.runs)

    def print(self, console: Console) -> None:
        """Everything, for a terminal."""
        for block in self.blocks:
            show(block, console)

    def json(self) -> str:
        """Rows, comparisons and sentences in full precision."""
        content = {
            "rows": self.table.data(),
            "evidence": [
                {
                    "test": e.test,
                    "conditions": e.conditions,
                    "baseline": e.baseline,
                    "comparisons": e.rows(),
                    "leads": leads.rows(bleu),
                    "leads in chrF": leads.rows(chrf),
                    "sentences": {metric: e.sentences(metric) for metric in e.samples},
                }
                for e, bleu, chrf in zip(self.evidence, self.leads, self.leads_chrf, strict=True)
            ],
            "notes": self.table.notes,
        }
        return json.dumps(without_nan(content), indent=1, ensure_ascii=False) + "\n"

    def comparisons(self) -> str:
        """The comparisons as comma-separated values."""
        text = io.StringIO()
        rows = [row for e in self.evidence for row in e.rows()]
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def write(self, folder: Path) -> list[Path]:
        """Write `table.md`, `.csv`, `.json`, `.tex` and, if any, `comparisons.csv`; their paths.

        Files of an earlier report in the folder are removed, figures among them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = {
            "table.md": "\n".join(map(markdown, self.blocks)),
            "table.csv": self.table.csv(),
            "table.json": self.json(),
            "table.tex": "\n".join(["% \\usepackage{booktabs}", *map(latex, self.blocks)]),
        }
        if any(e.rows() for e in self.evidence):
            written["comparisons.csv"] = self.comparisons()
        for name, content in written.items():
            write_atomically(folder / name, content.encode())
        for path in folder.iterdir():
            if FILES.fullmatch(path.name) and path.name not in written and not path.is_dir():
                path.unlink()
        return [folder / name for name in written]


def make_reports(
    runs: Iterable[tuple[RunRecord, Path | None]],
    notes: Sequence[str] = (),
    baseline: str | None = None,
) -> dict[str, Report]:
    """A report for each corpus, by its name: scores on different text are never ranked together.

    The notes are with the first. Of one corpus the name is empty, since nothing must be told apart.
    """
    corpora = split_by_corpus(runs)
    if len(corpora) < 2:
        return {"": Report([run for some in corpora.values() for run in some], notes, baseline)}
    reports = {}
    for number, (name, some) in enumerate(corpora.items()):
        reports[name] = Report(some, notes if number == 0 else (), baseline)
    return reports


def print_reports(reports: Mapping[str, Report], console: Console) -> None:
    """Each report, below the name of its corpus where there are several."""
    for name, report in reports.items():
        if name:
            console.rule(Text(legible(name)))
        report.print(console)


def write_reports(reports: Mapping[str, Report], folder: Path) -> list[Path]:
    """Write each report, those of several corpora into a folder each; the paths of all files."""
    paths, folders = [], folder_names(reports)
    for name, report in reports.items():
        paths += report.write(folder / folders[name] if name else folder)
    return paths
