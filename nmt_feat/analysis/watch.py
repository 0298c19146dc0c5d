"""A live view of a sweep in the terminal, which only reads the files in the runs' folders."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from nmt_feat.analysis.corpora import split_by_corpus
from nmt_feat.analysis.render import ReportTable, make_text_table
from nmt_feat.analysis.result_tables import ResultTable
from nmt_feat.base.terminal import format_duration, literal, say
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.find_runs import JOB_FILE, SWEEP_JOBS, SWEEP_STATE, find_packed_runs
from nmt_feat.runs.stored.locks import is_locked
from nmt_feat.runs.stored.records import FINISHED, STARTED, RunRecord, read_run
from nmt_feat.training.checkpoints import CHECKPOINTS, Checkpoints

INTERVAL = 2.0
"""Seconds between two snapshots."""


@dataclass
class Snapshot:
    """The state of the runs in some folders at one moment."""

    finished: list[RunRecord] = field(default_factory=list)
    running: dict[Path, RunRecord] = field(default_factory=dict)
    stopped: dict[Path, RunRecord] = field(default_factory=dict)
    """Unfinished runs on which no process works."""
    failed: list[str] = field(default_factory=list)
    """Number and error of failed jobs of sweeps whose runs have not been finished since."""
    waiting: int | None = 0
    """Jobs of running sweeps that have not begun; None if only their sweeper knows."""
    job_seconds: list[float] = field(default_factory=list)
    """The seconds of each job of running sweeps that has trained a run."""
    sweeping: bool = False
    """Whether a sweep runs."""
    broken: list[str] = field(default_factory=list)
    """Sweeps that were killed, with the number of their jobs that have not ended."""
    damaged: list[str] = field(default_factory=list)
    """The errors of records that cannot be read, of runs on which no process works."""

    @property
    def is_over(self) -> bool:
        """Whether there are runs or jobs, and none of them will change any more."""
        ended = self.finished or self.failed or self.stopped or self.broken or self.damaged
        return bool(ended) and not self.sweeping and not self.running


def read_snapshot(folders: Sequence[Path]) -> Snapshot:
    """The runs in or below `folders` now; unreadable records of running ones are left out."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; give folders of runs, or folders above them"
            )
    snapshot, failed = Snapshot(), list[tuple[Path, str]]()
    for path in sorted({path.resolve() for top in folders for path in top.rglob(SWEEP_STATE)}):
        failed += _add_sweep(snapshot, path)
    finished_folders = _add_runs(snapshot, folders, {folder for folder, _ in failed})
    snapshot.failed = [line for folder, line in failed if folder not in finished_folders]
    if snapshot.sweeping and snapshot.waiting is not None:
        snapshot.waiting = max(0, snapshot.waiting - len(snapshot.running))
    return snapshot


def _add_sweep(snapshot: Snapshot, path: Path) -> list[tuple[Path, str]]:
    """Add a sweep's jobs; the lines of the failed ones, each with the folder of its run."""
    # Asked before its state is read: a sweep writes its last state, then gives up its lock.
    is_running = is_locked(path.parent)
    state = _read_object(path)
    files = (path.parent / SWEEP_JOBS).glob("*.json")
    jobs = [_read_object(file) for file in files if JOB_FILE.fullmatch(file.name)]
    jobs.sort(key=lambda job: int(job.get("number", 0)))
    if state and not state.get("ended"):
        total = state.get("total")
        rest = None if total is None else total - len(jobs)
        if is_running:
            snapshot.sweeping = True
            snapshot.job_seconds += [float(job["seconds"]) for job in jobs if job.get("trained")]
            waiting = snapshot.waiting
            snapshot.waiting = None if rest is None or waiting is None else waiting + rest
        else:
            count = "" if rest is None else f" ({rest} of {total} jobs)"
            snapshot.broken.append(f"sweep {path.parent.name}{count}")
    return [
        (Path(job.get("folder") or "").resolve(), f"job {job['number']}: {job['error']}")
        for job in jobs
        if job.get("error")
    ]


def _add_runs(snapshot: Snapshot, tops: Sequence[Path], failed: AbstractSet[Path]) -> set[Path]:
    """Add the runs by their state; the folders of the finished ones."""
    for top in tops:
        snapshot.finished += find_packed_runs(top).values()
    paths = (path for top in tops for name in (STARTED, FINISHED) for path in top.rglob(name))
    finished_folders = set[Path]()
    for folder in sorted({path.parent.resolve() for path in paths}):
        is_running = is_locked(folder)  # asked before its record is read, as above
        try:
            record = read_run(folder)
        except UserError as error:
            if not is_running:
                snapshot.damaged.append(str(error))
            continue
        if record.finished:
            snapshot.finished.append(record)
            finished_folders.add(folder)
        elif folder not in failed:
            (snapshot.running if is_running else snapshot.stopped)[folder] = record
    return finished_folders


def count_runs(snapshot: Snapshot) -> str:
    """The numbers of runs in each state, in a line."""
    counts = [f"{len(snapshot.finished)} done", f"{len(snapshot.running)} running"]
    if snapshot.stopped:
        counts.append(f"{len(snapshot.stopped)} stopped")
    if snapshot.failed:
        counts.append(f"{len(snapshot.failed)} failed")
    if snapshot.sweeping:
        unknown = snapshot.waiting is None
        counts.append(f"{'an unknown number' if unknown else snapshot.waiting} left")
    return ", ".join(counts)


def estimate_rest(snapshot: Snapshot) -> float | None:
    """Seconds that the running sweeps still take, if as many jobs run in parallel as now.

    It is estimated from the mean of the jobs that have trained a run; None before the first.
    """
    if not snapshot.sweeping or snapshot.waiting is None or not snapshot.job_seconds:
        return None
    jobs = float(snapshot.waiting)
    for folder, record in snapshot.running.items():
        max_steps = int(record.settings.get("trainer", {}).get("max_steps", 0))
        jobs += 1 - min(_read_progress(folder)[0] / max(max_steps, 1), 1)
    return jobs * statistics.fmean(snapshot.job_seconds) / max(1, len(snapshot.running))


def describe_snapshot(snapshot: Snapshot, named: bool = True) -> str:
    """Numbers of runs and the remaining time, in a line; with `named`, also the running runs."""
    line, rest = count_runs(snapshot), estimate_rest(snapshot)
    if named and (names := ", ".join(folder.name for folder in snapshot.running)):
        line += f"; running: {names}"
    return line if rest is None else f"{line}; about {format_duration(rest)} to go"


def render_snapshot(snapshot: Snapshot, width: int = 10_000) -> RenderableType:
    """The snapshot for a terminal with so many columns."""
    # Running runs have separate lines below.
    parts: list[RenderableType] = [Text(describe_snapshot(snapshot, named=False), style="bold")]
    progress = RichTable.grid(padding=(0, 2, 0, 0))
    unfinished = snapshot.running | snapshot.stopped
    for folder, record in unfinished.items():
        step, bleu = _read_progress(folder)
        max_steps = int(record.settings.get("trainer", {}).get("max_steps", 0))
        bar = ProgressBar(total=max(max_steps, 1), completed=min(step, max_steps), width=24)
        text = f"saved at {step:,} of {max_steps:,}"
        if folder in snapshot.stopped:
            text = f"stopped, {text}"
        if bleu >= 0:
            text += f", dev BLEU {bleu:.1f}"
        progress.add_row(literal(folder.name), bar, literal(text))
    if unfinished:
        parts.append(progress)
    parts += [literal(f"Failed: {line}") for line in snapshot.failed]
    parts += [literal(f"Not shown: {line}") for line in snapshot.damaged]
    for name, runs in split_by_corpus((record, None) for record in snapshot.finished).items():
        table = ResultTable([record for record, _ in runs])
        parts += [literal(f"\n{name}"), make_text_table(_fit_width(table, width))]
    return Group(*parts)


def _fit_width(table: ResultTable, width: int) -> ReportTable:
    """The whole table or, if it is too wide, only the BLEU scores of each row."""
    whole = table.to_report_table()
    cells = (whole.heading, *whole.rows)
    if sum(max(map(len, column)) + 1 for column in zip(*cells, strict=True)) <= width:
        return whole
    scores = [name for name in whole.heading if name.endswith("BLEU")]
    columns = [whole.heading.index(name) for name in ("n", *scores)]
    rows = [
        [name, *(row[column] for column in columns)]
        for name, row in zip(table.runs_by_name(), whole.rows, strict=True)
    ]
    return ReportTable("", ["method", "n", *scores], rows, text_columns=frozenset({"method"}))


def watch_runs(
    folders: Sequence[Path], console: Console, pause: Callable[[float], None] = time.sleep
) -> None:
    """Show a snapshot again and again, until nothing runs any more or Ctrl-C is pressed.

    Unfinished runs are then named in a last line.
    """
    with contextlib.suppress(KeyboardInterrupt):
        snapshot = read_snapshot(folders)
        if console.is_terminal:
            first = render_snapshot(snapshot, console.width)
            with Live(first, console=console, auto_refresh=False) as live:
                while not snapshot.is_over:
                    pause(INTERVAL)
                    snapshot = read_snapshot(folders)
                    live.update(render_snapshot(snapshot, console.width), refresh=True)
        else:
            snapshot = _watch_in_lines(folders, snapshot, pause)
            console.print(render_snapshot(snapshot, console.width))
        if unfinished := snapshot.broken + [folder.name for folder in snapshot.stopped]:
            line = f"Nothing runs, unfinished: {', '.join(unfinished)}; the same command continues"
            console.print(literal(line), highlight=False, soft_wrap=True)


def _watch_in_lines(
    folders: Sequence[Path], snapshot: Snapshot, pause: Callable[[float], None]
) -> Snapshot:
    """Print a line whenever something has changed, for a pipe or a file; the last snapshot."""
    counts = count_runs(snapshot), list(snapshot.running)
    say(describe_snapshot(snapshot))
    while not snapshot.is_over:
        pause(INTERVAL)
        snapshot = read_snapshot(folders)
        if (count_runs(snapshot), list(snapshot.running)) != counts:
            counts = count_runs(snapshot), list(snapshot.running)
            say(describe_snapshot(snapshot))
    return snapshot


def _read_progress(folder: Path) -> tuple[int, float]:
    """The update and the dev BLEU of the newest checkpoint; 0 and -1 if there is none."""
    try:
        newest = Checkpoints(folder / CHECKPOINTS, 1, verify=False).newest
    except UserError:  # a process has just replaced it
        return 0, -1.0
    if newest is None:
        return 0, -1.0
    curve = newest.meta.curve
    return newest.step, curve[-1]["bleu"] if curve else -1.0


def _read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty if the file has just disappeared."""
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content
