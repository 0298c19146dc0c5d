"""A signal lets training finish its update and write; the same command continues to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import nmt_feat.runs.run
from nmt_feat.base.pool import Pool
from nmt_feat.runs.setup import build_trainer
from nmt_feat.training.checkpoints import Checkpoints, Index
from nmt_feat.training.loop import Trainer
from tests.support.entry import Done, call
from tests.support.lives import SERVER, command, saved
from tests.support.small import ROOT, Small, outcome
from tests.support.stops import send_at

SLOW = pytest.mark.slow
NUMBERS = [signal.SIGTERM, *(pytest.param(n, marks=SLOW) for n in (signal.SIGINT, signal.SIGUSR1))]


def newest(small: Small) -> Index:
    """The newest checkpoint of the only run."""
    (folder,) = (small.folder / "runs").glob("*/checkpoints")
    index = Checkpoints(folder, 5).newest
    assert index is not None
    return index


def continues(small: Small) -> None:
    """The same command ends as a run that nobody stopped."""
    expected = small.whole()
    folder = small.train()
    assert outcome(folder) == expected
    assert not (folder / "checkpoints").exists()


def stopped(done: Done, small: Small, name: str, update: int) -> None:
    """Exit code and the one line."""
    (run,) = (small.folder / "runs").glob("concat-*")
    assert done.code == 75
    assert done.err == (
        f"{name}: stopped after update {update} of 6, saved in {run}; the same command continues\n"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("number", NUMBERS)
def test_in_an_update(small: Small, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        send_at(patch, Trainer, "update", 3, number)
        done = call("train", *small.overrides())
    stopped(done, small, signal.Signals(number).name, 3)
    assert (newest(small).step, newest(small).steps) == (3, [2])
    assert signal.getsignal(number) == before
    continues(small)


@pytest.mark.parametrize("place", ["compute_dev_loss", "translate_split", "score_translations"])
def test_in_a_validation(small: Small, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """It is given up, and made when training continues."""
    with monkeypatch.context() as patch:
        send_at(patch, build_trainer, place, 2)
        done = call("train", *small.overrides())
    stopped(done, small, "SIGTERM", 4)
    assert (newest(small).step, newest(small).steps) == (4, [2])
    continues(small)


def test_a_validation_given_up_is_no_training(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is in that of the run, not in that which speed is computed from."""
    original = build_trainer.compute_dev_loss  # type: ignore[attr-defined]

    def slow(*args: Any) -> tuple[float, int]:
        time.sleep(0.3)
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(build_trainer, "compute_dev_loss", slow)
        send_at(patch, build_trainer, "score_translations", 1)
        call("train", *small.overrides())
    state = newest(small).meta
    assert state.elapsed - state.seconds > 0.25


@pytest.mark.parametrize("write", [1, *(pytest.param(n, marks=SLOW) for n in (2, 3))])
def test_in_the_writer(small: Small, monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    """What is being written is finished, and not written twice."""
    with monkeypatch.context() as patch:
        send_at(patch, Path, "replace", 2 + write)  # after the settings and the record
        done = call("train", *small.overrides())
    stopped(done, small, "SIGTERM", 2)
    assert (newest(small).step, newest(small).steps) == (2, [2])
    continues(small)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("owner", "name"), [(nmt_feat.runs.run, "prepare_run"), (nmt_feat.runs.run, "evaluate_split")]
)
def test_elsewhere(small: Small, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Where there is no checkpoint to write, at once."""
    with monkeypatch.context() as patch:
        send_at(patch, owner, name, 1)
        done = call("train", *small.overrides())
    assert (done.code, done.err) == (75, "SIGTERM: stopped; the same command continues\n")
    continues(small)


def interrupted_twice(overrides: list[str], folder: Path) -> None:
    patch = pytest.MonkeyPatch()
    for at in (1, 2):  # both in the third update
        send_at(patch, Trainer, "draw_batch", at + 2, signal.SIGINT)
    overrides.append("trainer.accumulate=2")
    command(overrides, folder)


@pytest.mark.thorough
def test_a_second_interrupt_leaves_at_once(small: Small) -> None:
    settings = small.overrides("trainer.validate_every=1", "trainer.max_steps=6")
    process = SERVER.Process(target=interrupted_twice, args=(settings, small.folder))
    process.start()
    process.join(100)
    text = (small.folder / "out").read_text()
    assert process.exitcode == 130, text
    assert text.splitlines()[-1] == (
        "ended at once; the same command continues from the last checkpoint"
    )
    assert saved(small.folder / "runs") == 1  # in the second update


@pytest.mark.slow
def test_a_sweep_ends_with_its_table(small: Small) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
import pytest, test_signals
from nmt_feat.cli.main import run_subcommand
from nmt_feat.training.loop import Trainer
test_signals.send_at(pytest.MonkeyPatch(), Trainer, "update", 3)
run_subcommand("train")
"""
    settings = small.overrides("combiner=none", "seed=1,2,3", "trainer.max_steps=2")
    done = subprocess.run(
        [sys.executable, "-c", program, "-m", *settings],
        cwd=small.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 75, done.stderr
    assert "stopped after update 1 of 2" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Job 2 of 3" in done.stdout
    assert "Job 3 of 3" not in done.stdout
    assert "Not run: 2 of 3 jobs" in done.stdout
    (table,) = (small.folder / "runs").glob("sweeps/*/table.json")
    assert len(json.loads(table.read_text())["rows"]) == 1


def wait(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def pool(queue: Any) -> None:
    with Pool(2, "waiting", "") as workers:
        for result in workers.map(wait, [0.01] * 100_000):
            queue.put(result)


@pytest.mark.slow
def test_a_killed_parent_leaves_no_children() -> None:
    queue = SERVER.Queue()
    parent = SERVER.Process(target=pool, args=(queue,))
    parent.start()
    children: set[int] = set()
    while len(children) < 2:
        children.add(queue.get(timeout=100))
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 60
    for child in children:
        while running(child):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def running(process: int) -> bool:
    """Whether it has not ended, on a system that tells."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
