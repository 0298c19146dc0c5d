"""The live view tells what the folders hold, and ends when all is done."""

from __future__ import annotations

import fcntl
import io
import json
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console

from nmt_feat.analysis.watch import (
    describe_snapshot,
    read_snapshot,
    render_snapshot,
    watch_runs,
)
from nmt_feat.errors import UserError
from nmt_feat.evaluation.scores import Scores
from nmt_feat.runs.stored.find_runs import SWEEP_JOBS, SWEEP_STATE
from nmt_feat.runs.stored.locks import is_locked, lock_of
from nmt_feat.runs.stored.records import RunRecord, write_record
from tests.support.lives import SERVER, command, saved, wait_for
from tests.support.small import Small

SWEEP = Path("sweeps", "one")


def run(runs: Path, method: str, finished: bool) -> Path:
    folder = runs / f"{method}-s1"
    folder.mkdir(parents=True, exist_ok=True)
    record = RunRecord(method, ["upos"], 1, "toy", method, {"trainer": {"max_steps": 1000}}, {})
    if finished:
        record.dev = Scores(31.25, 50.0, "BS", "CS", 10)
        record.tests = {"test": Scores(30.5, 50.0, "BS", "CS", 10)}
    write_record(folder, record)
    return folder


def sweep(runs: Path, total: int | None, ended: bool, **errors: str | None) -> None:
    """A sweep's folder: its jobs that have ended, by method, with their errors."""
    folder = runs / SWEEP
    (folder / SWEEP_JOBS).mkdir(parents=True, exist_ok=True)
    (folder / SWEEP_STATE).write_text(json.dumps({"total": total, "ended": ended}))
    for number, (method, error) in enumerate(errors.items(), 1):
        job = {"number": number, "folder": str(runs / f"{method}-s1"), "error": error}
        (folder / SWEEP_JOBS / f"{number}.json").write_text(json.dumps(job))


def shown(runs: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render_snapshot(read_snapshot([runs])))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_done_running_failed_and_left(tmp_path: Path) -> None:
    run(tmp_path, "add", finished=True)
    run(tmp_path, "average", finished=False)
    gate = run(tmp_path, "gate", finished=False)
    run(tmp_path, "dme[/]", finished=False)
    sweep(tmp_path, 5, False, add=None, **{"dme[/]": "no space [red]left"})
    with lock_of(tmp_path / SWEEP), lock_of(gate):
        result = read_snapshot([tmp_path])
        text = shown(tmp_path)
    assert (len(result.finished), result.waiting, result.is_over) == (1, 2, False)
    assert "1 done, 1 running, 1 stopped, 1 failed, 2 left" in text
    assert re.search(r"gate-s1 .* saved at 0 of 1,000", text)
    assert re.search(r"average-s1 .* stopped, saved at 0 of 1,000", text)
    assert "Failed: job 2: no space [red]left" in text
    assert "30.50" in text
    sweep(tmp_path, None, False, add=None)
    with lock_of(tmp_path / SWEEP):
        assert "an unknown number left" in shown(tmp_path)


def test_how_long_the_rest_takes(tmp_path: Path) -> None:
    """By hand: a job took 600 s; one runs, saved at 0 of 1,000, and two wait: 3 * 600 s."""
    run(tmp_path, "add", finished=True)
    gate = run(tmp_path, "gate", finished=False)
    sweep(tmp_path, 4, False, add=None)
    assert "to go" not in describe_snapshot(read_snapshot([tmp_path]))
    job = tmp_path / SWEEP / SWEEP_JOBS / "1.json"
    job.write_text(json.dumps(json.loads(job.read_text()) | {"seconds": 600, "trained": True}))
    with lock_of(tmp_path / SWEEP), lock_of(gate):
        line = describe_snapshot(read_snapshot([tmp_path]))
        assert line == "1 done, 1 running, 2 left; running: gate-s1; about 30 min to go"
        assert "2 left; about 30 min to go" in shown(tmp_path)


def test_a_failed_run_that_was_finished_since_has_not_failed(tmp_path: Path) -> None:
    for method, finished in (("add", True), ("gate", False)):
        run(tmp_path, method, finished)
    sweep(tmp_path, 2, True, add="out of memory", gate="no space left")
    assert read_snapshot([tmp_path]).failed == ["job 2: no space left"]


def test_a_half_written_file_waits(tmp_path: Path) -> None:
    run(tmp_path, "add", finished=True)
    gate = run(tmp_path, "gate", finished=False)
    (gate / "run.json").write_text('{"method"')
    assert len(read_snapshot([tmp_path]).finished) == 1
    with lock_of(gate):
        assert read_snapshot([tmp_path]).damaged == []


def test_a_damaged_run_is_named_and_not_waited_for(tmp_path: Path) -> None:
    (run(tmp_path, "gate", finished=True) / "result.json").write_text('{"method"')
    result = read_snapshot([tmp_path])
    assert (result.is_over, result.finished) == (True, [])
    assert "0 done, 0 running" in shown(tmp_path)
    assert f"Not shown: {tmp_path}/gate-s1/result.json: not readable as JSON" in shown(tmp_path)


def test_it_ends_when_all_is_done(tmp_path: Path) -> None:
    sweep(tmp_path, 2, False)
    moments = [
        lambda: run(tmp_path, "add", finished=False),
        lambda: (run(tmp_path, "add", finished=True), sweep(tmp_path, 2, False, add=None)),
        lambda: (run(tmp_path, "gate", True), sweep(tmp_path, 2, False, add=None, gate=None)),
        lambda: sweep(tmp_path, 2, True, add=None, gate=None),
    ]
    rest = iter(moments)
    console = Console(file=io.StringIO(), width=200)
    with lock_of(tmp_path / SWEEP):
        watch_runs([tmp_path], console, lambda seconds: next(rest)())
    assert next(rest, None) is None
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 done, 0 running\n" in "".join(f"{x.rstrip()}\n" for x in text.split("\n"))
    assert "unfinished" not in text


@pytest.mark.slow
def test_it_ends_when_the_sweep_was_killed(small: Small) -> None:
    runs = small.folder / "runs"
    settings = small.overrides("combiner=none,add", "seed=1,2", "trainer.max_steps=100000")
    process = SERVER.Process(target=command, args=(["-m", *settings], small.folder))
    process.start()
    wait_for(lambda: saved(runs), process, small.folder)
    seen = []

    def kill(seconds: float) -> None:
        seen.append(read_snapshot([runs]))
        process.kill()
        process.join()

    console = Console(file=io.StringIO(), width=40)
    watch_runs([runs], console, kill)
    assert [(len(f.running), len(f.stopped), f.waiting, f.is_over) for f in seen] == [
        (1, 0, 3, False)
    ]
    [one], [batch] = runs.glob("none-*"), (runs / "sweeps").glob("[!.]*")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines()[-1] == (
        f"Nothing runs, unfinished: sweep {batch.name} (4 of 4 jobs), {one.name}; "
        "the same command continues"
    )


def test_a_lock_that_is_looked_at_stays_free(tmp_path: Path) -> None:
    """Also one in a folder that cannot be written, and for who looks at the same time."""
    folder = tmp_path / "run"
    assert not is_locked(folder)
    assert not list(tmp_path.iterdir())
    with lock_of(folder) as lock:
        assert is_locked(folder)
        lock.release()
        (tmp_path / ".run.lock").chmod(0o400)
        assert not is_locked(folder)
        with (tmp_path / ".run.lock").open("rb") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_SH)
            assert not is_locked(folder)


def test_who_looks_holds_nobody_up(tmp_path: Path) -> None:
    """A run begins although its lock is being looked at."""
    (tmp_path / ".run.lock").touch()
    with (tmp_path / ".run.lock").open("rb") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_SH)
        threading.Timer(0.02, lambda: fcntl.flock(lock_file, fcntl.LOCK_UN)).start()
        with lock_of(tmp_path / "run"):
            assert is_locked(tmp_path / "run")


def test_it_ends_on_ctrl_c(tmp_path: Path) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    watch_runs([tmp_path], Console(file=io.StringIO()), stop)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; give folders of runs"):
        watch_runs([tmp_path / "nowhere"], Console(file=io.StringIO()))
