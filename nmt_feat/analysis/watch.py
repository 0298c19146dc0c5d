"""A live view of a sweep in the terminal, from nothing but the files in the runs' folders."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from nmt_feat.analysis.corpora import split_by_corpus
from nmt_feat.analysis.render import Block, drawn
from nmt_feat.analysis.result_tables import Table
from nmt_feat.base.terminal import literal, say
from nmt_feat.cli.sweep import JOBS, OWN, STATE
from nmt_feat.errors import UserError
from nmt_feat.runs.locks import held
from nmt_feat.runs.records import FINISHED, STARTED, RunRecord, find_packed_runs, read_run
from nmt_feat.training.checkpoints import CHECKPOINTS, Checkpoints

SECONDS = 2.0
"""Between two looks."""


@dataclass
class Watched:
    """What the folders hold at one moment."""

    finished: list[RunRecord] = field(default_factory=list)
    running: dict[Path, RunRecord] = field(default_factory=dict)
    stopped: dict[Path, RunRecord] = field(default_factory=dict)
    """Unfinished runs that no process works at."""
    failed: list[str] = field(default_factory=list)
    """The sweeps' failed jobs whose runs are not finished since: number and reason."""
    left: int | None = 0
    """Jobs of running sweeps that have not begun; None where their sweeper alone knows."""
    sweeping: bool = False
    """Whether a sweep runs."""
    broken: list[str] = field(default_factory=list)
    """Sweeps that have been killed, and how many of their jobs have not ended."""
    damaged: list[str] = field(default_factory=list)
    """Why runs that no process works at cannot be read."""

    @property
    def over(self) -> bool:
        """Whether there is something, and nothing more to come."""
        some = self.finished or self.failed or self.stopped or self.broken or self.damaged
        return not self.sweeping and not self.running and bool(some)


def look(folders: Sequence[Path]) -> Watched:
    """What is in or below `folders` now; a run that is just being written waits for the next."""
    found, failed = Watched(), list[tuple[Path, str]]()
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; give folders of runs, or folders above them"
            )
    for path in sorted({path.resolve() for top in folders for path in top.rglob(STATE)}):
        works = held(path.parent)  # before its state is read, which is the last that it writes
        state = _json(path)
        files = (path.parent / JOBS).glob("*.json")
        jobs = [_json(job) for job in files if OWN.fullmatch(job.name)]
        for job in sorted(jobs, key=lambda job: int(job.get("number", 0))):
            if job.get("error"):
                place = Path(job.get("folder") or "").resolve()
                failed.append((place, f"job {job['number']}: {job['error']}"))
        if state and not state.get("ended"):
            total = state.get("total")
            if works:
                found.sweeping = True
                known = total is not None and found.left is not None
                found.left = found.left + total - len(jobs) if known else None  # type: ignore[operator]
            else:
                count = "" if total is None else f" ({total - len(jobs)} of {total} jobs)"
                found.broken.append(f"sweep {path.parent.name}{count}")
    names = (STARTED, FINISHED)
    places = {p.parent.resolve() for top in folders for name in names for p in top.rglob(name)}
    for top in folders:
        found.finished += find_packed_runs(top).values()
    done, failed_runs = set[Path](), {place for place, _ in failed}
    for place in sorted(places):
        works = held(place)  # before its record is read, as above
        try:
            record = read_run(place)
        except UserError as error:
            found.damaged += [str(error)] * (not works)
            continue
        if record.finished:
            found.finished.append(record)
            done.add(place)
        elif place not in failed_runs:
            (found.running if works else found.stopped)[place] = record
    found.failed = [line for place, line in failed if place not in done]
    if found.sweeping and found.left is not None:
        found.left = max(0, found.left - len(found.running))
    return found


def counted(found: Watched) -> str:
    """How many runs are in which state, in a line."""
    left = "an unknown number" if found.left is None else str(found.left)
    counts = [f"{len(found.finished)} done", f"{len(found.running)} running"]
    counts += [f"{len(found.stopped)} stopped"] * bool(found.stopped)
    counts += [f"{len(found.failed)} failed"] * bool(found.failed)
    counts += [f"{left} left"] * found.sweeping
    return ", ".join(counts)


def view(found: Watched, width: int = 10_000) -> RenderableType:
    """The moment as it is shown, in so many columns."""
    parts: list[RenderableType] = [Text(counted(found), style="bold")]
    running = RichTable.grid(padding=(0, 2, 0, 0))
    unfinished = found.running | found.stopped
    for place, record in unfinished.items():
        step, bleu = _progress(place)
        most = int(record.settings.get("trainer", {}).get("max_steps", 0))
        bar = ProgressBar(total=max(most, 1), completed=min(step, most), width=24)
        state = "" if place in found.running else "stopped, "
        shown = f"{state}saved at {step:,} of {most:,}" + (
            f", dev BLEU {bleu:.1f}" if bleu >= 0 else ""
        )
        running.add_row(literal(place.name), bar, literal(shown))
    if unfinished:
        parts.append(running)
    parts += [literal(f"Failed: {line}") for line in found.failed]
    parts += [literal(f"Not shown: {line}") for line in found.damaged]
    for name, runs in split_by_corpus((record, None) for record in found.finished).items():
        parts += [literal(f"\n{name}")]
        parts.append(drawn(_fitting(Table([record for record, _ in runs]), width)))
    return Group(*parts)


def _fitting(table: Table, width: int) -> Block:
    """The whole table or, where it has more columns than there is room, the scores of each row."""
    block = table.block()
    cells = (block.heading, *block.rows)
    if sum(max(map(len, column)) + 1 for column in zip(*cells, strict=True)) <= width:
        return block
    scores = [name for name in block.heading if name.endswith("BLEU")]
    columns = [block.heading.index(name) for name in ("n", *scores)]
    rows = [
        [name, *(row[column] for column in columns)]
        for name, row in zip(table.named(), block.rows, strict=True)
    ]
    return Block("", ["method", "n", *scores], rows, left=frozenset({"method"}))


def watch(
    folders: Sequence[Path], console: Console, pause: Callable[[float], None] = time.sleep
) -> None:
    """Show the moment again and again, until nothing runs any more or Ctrl-C is pressed.

    What is unfinished then is named in a last line.
    """
    with contextlib.suppress(KeyboardInterrupt):
        found = look(folders)
        if console.is_terminal:
            with Live(view(found, console.width), console=console, auto_refresh=False) as live:
                while not found.over:
                    pause(SECONDS)
                    found = look(folders)
                    live.update(view(found, console.width), refresh=True)
        else:
            found = _watch_in_lines(folders, found, pause)
            console.print(view(found, console.width))
        if unfinished := found.broken + [place.name for place in found.stopped]:
            line = f"Nothing runs, unfinished: {', '.join(unfinished)}; the same command continues"
            console.print(literal(line), highlight=False, soft_wrap=True)


def _watch_in_lines(
    folders: Sequence[Path], found: Watched, pause: Callable[[float], None]
) -> Watched:
    """A line whenever something has changed, for a pipe or a file; the last moment."""
    line = counted(found)
    say(line)
    while not found.over:
        pause(SECONDS)
        found = look(folders)
        if counted(found) != line:
            line = counted(found)
            say(line)
    return found


def _progress(place: Path) -> tuple[int, float]:
    """The update and the dev BLEU of the newest checkpoint; 0 and -1 without."""
    try:
        index = Checkpoints(place / CHECKPOINTS, 1, verify=False).index
    except UserError:  # it has just been replaced
        return 0, -1.0
    if not index:
        return 0, -1.0
    curve = index["meta"]["curve"]
    return int(index["step"]), float(curve[-1]["bleu"]) if curve else -1.0


def _json(path: Path) -> dict[str, Any]:
    """A file's object; empty where it has just gone."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found
