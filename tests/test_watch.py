"""The live view tells what the folders hold, and ends when all is done."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from nmt_feat.errors import UserError
from nmt_feat.evaluation.metrics import Scores
from nmt_feat.report.records import RunRecord, write_record
from nmt_feat.report.sweep import JOBS, STATE
from nmt_feat.report.watch import look, view, watch


def run(runs: Path, method: str, finished: bool) -> Path:
    folder = runs / f"{method}-s1"
    folder.mkdir(parents=True, exist_ok=True)
    record = RunRecord(method, ["upos"], 1, "toy", method, {"trainer": {"max_steps": 1000}}, {})
    if finished:
        record.dev = Scores(31.25, 50.0, "BS", "CS", 10)
        record.tests = {"test": Scores(30.5, 50.0, "BS", "CS", 10)}
    write_record(folder, record, finished=finished)
    return folder


def sweep(runs: Path, total: int | None, ended: bool, **errors: str | None) -> None:
    """A sweep's folder: its jobs that have ended, by method, with their errors."""
    folder = runs / "sweeps" / "one"
    (folder / JOBS).mkdir(parents=True, exist_ok=True)
    (folder / STATE).write_text(json.dumps({"total": total, "ended": ended}))
    for number, (method, error) in enumerate(errors.items(), 1):
        job = {"number": number, "folder": str(runs / f"{method}-s1"), "error": error}
        (folder / JOBS / f"{number}.json").write_text(json.dumps(job))


def shown(runs: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(view(look([runs])))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_done_running_failed_and_left(tmp_path: Path) -> None:
    run(tmp_path, "add", finished=True)
    run(tmp_path, "gate", finished=False)
    run(tmp_path, "dme[/]", finished=False)
    sweep(tmp_path, 5, False, add=None, **{"dme[/]": "no space [red]left"})
    found = look([tmp_path])
    assert (len(found.finished), found.left, found.over) == (1, 2, False)
    text = shown(tmp_path)
    assert "1 done, 1 running or stopped, 1 failed, 2 left" in text
    assert "saved at 0 of 1,000" in text
    assert "Failed: job 2: no space [red]left" in text
    assert "30.50" in text
    sweep(tmp_path, None, False, add=None)
    assert "an unknown number left" in shown(tmp_path)


def test_a_half_written_file_waits(tmp_path: Path) -> None:
    run(tmp_path, "add", finished=True)
    (run(tmp_path, "gate", finished=False) / "run.json").write_text('{"method"')
    assert len(look([tmp_path]).finished) == 1


def test_it_ends_when_all_is_done(tmp_path: Path) -> None:
    sweep(tmp_path, 2, False)
    moments = [
        lambda: run(tmp_path, "add", finished=False),
        lambda: (run(tmp_path, "add", finished=True), sweep(tmp_path, 2, False, add=None)),
        lambda: (run(tmp_path, "gate", True), sweep(tmp_path, 2, False, add=None, gate=None)),
        lambda: sweep(tmp_path, 2, True, add=None, gate=None),
    ]
    left = iter(moments)
    console = Console(file=io.StringIO(), width=200)
    watch([tmp_path], console, lambda seconds: next(left)())
    assert next(left, None) is None
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 done, 0 running or stopped\n" in "".join(f"{x.rstrip()}\n" for x in text.split("\n"))


def test_it_ends_on_ctrl_c(tmp_path: Path) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    watch([tmp_path], Console(file=io.StringIO()), stop)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; give folders of runs"):
        watch([tmp_path / "nowhere"], Console(file=io.StringIO()))
