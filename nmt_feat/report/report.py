"""A report on runs: the table, and what it supports; printed and written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from nmt_feat.report.evidence import gather
from nmt_feat.report.formats import markdown, show
from nmt_feat.report.records import RunRecord
from nmt_feat.report.tables import Table
from nmt_feat.training.checkpoints import write_atomically


class Report:
    """Of runs, each with its folder if it has one; `pairs` adds sacreBLEU's slower tests."""

    def __init__(
        self,
        runs: Iterable[tuple[RunRecord, Path | None]],
        notes: Sequence[str] = (),
        baseline: str | None = None,
        pairs: bool = True,
    ) -> None:
        found = list(runs)
        self.table = Table([record for record, _ in found])
        folders = {record.hash: folder for record, folder in found if folder is not None}
        self.evidence, missing = gather(self.table.named(), folders, baseline)
        self.table.notes += [*missing, *notes]
        self.blocks = [self.table.block(), *(b for e in self.evidence for b in e.blocks(pairs))]

    def print(self, console: Console) -> None:
        """Everything, for a terminal."""
        for block in self.blocks:
            show(block, console)

    def write(self, folder: Path) -> list[Path]:
        """Write `table.md` and `table.csv`; their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join(map(markdown, self.blocks))
        written = {folder / "table.md": text, folder / "table.csv": self.table.csv()}
        for path, content in written.items():
            write_atomically(path, content.encode())
        return list(written)
