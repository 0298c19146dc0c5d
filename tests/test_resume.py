"""A stopped run, started again by the same command, ends in the same bits."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Small, outcome, record

from nmt_feat import cli
from nmt_feat.errors import UserError
from nmt_feat.report.sweep import current
from nmt_feat.training.checkpoints import Checkpoints
from nmt_feat.training.loop import Trainer

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nmt_feat.cli"])
"""Imports PyTorch once; its children start at once and can be killed."""


def command(overrides: list[str], folder: Path) -> None:
    """`python train.py OVERRIDES`, in a child process."""
    os.chdir(folder)
    with (folder / "out").open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["train.py", *overrides]
    cli.train()


def wait_for(what: Callable[[], object], process: Any, folder: Path) -> None:
    """Until it is true; an error if the process ends before."""
    deadline = time.monotonic() + 60
    while not what():
        text = (folder / "out").read_text() if (folder / "out").exists() else ""
        assert process.is_alive(), text
        assert time.monotonic() < deadline, text
        time.sleep(0.002)


def saved(runs: Path) -> int:
    """Step of the newest checkpoint of the only run."""
    for path in runs.glob("*/checkpoints/checkpoints.json"):
        with contextlib.suppress(FileNotFoundError):
            return int(json.loads(path.read_text())["steps"][-1])
    return 0


@pytest.mark.parametrize(("threads", "steps"), [(1, [0, 2, 8]), (2, [4])])
def test_sigkill(small: Small, threads: int, steps: list[int]) -> None:
    """Killed before the first checkpoint, then after each of several others."""
    # wide enough for PyTorch to use both threads
    settings = [f"trainer.threads={threads}", "combiner=gate", "model.dim=64"]
    total = 10 + steps[-1]
    settings += ["trainer.batch_tokens=1024", f"trainer.max_steps={total}"]
    with small.elsewhere("whole") as other:
        expected = other.train(*settings)
    assert torch.get_num_threads() == threads
    runs = small.folder / "runs"
    for step in steps:
        process = SERVER.Process(target=command, args=(small.overrides(*settings), small.folder))
        process.start()

        def reached(step: int = step) -> bool:
            return saved(runs) >= step if step else any(runs.glob("*/run.json"))

        wait_for(reached, process, small.folder)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert not list(runs.glob("*/result.json")), "killed too late; the test proves nothing"
    stopped = saved(runs)
    process = SERVER.Process(target=command, args=(small.overrides(*settings), small.folder))
    process.start()
    process.join(100)
    text = (small.folder / "out").read_text()
    assert process.exitcode == 0, text
    assert f"resumed at update {stopped} of {total}" in text
    (run,) = runs.glob("gate-*")
    assert outcome(run) == outcome(expected)
    assert not (run / "checkpoints").exists()
    assert not list(run.rglob("*.tmp"))


class Killed(BaseException):
    """What stops a run in this process, at an exact place."""


def stop_at(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int, after: bool
) -> list[int]:
    """Let the `call`-th call of a method raise, before or after it has done its work."""
    original = getattr(owner, name)
    calls = [0]

    def method(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == call and not after:
            raise Killed
        result = original(*args, **kwargs)
        if calls[0] == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, method)
    return calls


def test_stopped_at_every_file(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files are renamed into place: stopped before each one, so after the one before."""
    settings = ["trainer.max_steps=4", "trainer.accumulate=2", "trainer.select=average"]
    with small.elsewhere("whole") as other:
        calls = stop_at(monkeypatch, Path, "replace", 0, after=False)
        expected = outcome(other.train(*settings))
        monkeypatch.undo()
    assert calls[0] >= 11  # settings, record; twice weights, state, index; weights, texts, result
    for call in range(1, calls[0] + 1):
        with small.elsewhere(f"call {call}") as other:
            with monkeypatch.context() as patch:
                stop_at(patch, Path, "replace", call, after=False)
                with pytest.raises(Killed):
                    other.train(*settings)
            folder = other.train(*settings)
            assert outcome(folder) == expected
            assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("update", [1, 3, 4])
def test_stopped_between_updates(
    small: Small, monkeypatch: pytest.MonkeyPatch, update: int
) -> None:
    """Also in the middle of an interval, twice, with dropout of attention and with patience."""
    settings = ["model.attention_dropout=0.2", "trainer.accumulate=2", "trainer.patience=9"]
    with small.elsewhere("whole") as other:
        expected = outcome(other.train(*settings))
    for after in (False, True):
        with monkeypatch.context() as patch:
            stop_at(patch, Trainer, "update", 2 if after else update, after)
            try:
                small.train(*settings)
            except Killed:
                continue
            pytest.fail("not stopped")
    assert outcome(small.train(*settings)) == expected


def test_generators_of_others_do_not_matter(small: Small) -> None:
    """A run after another in one process is the run alone."""
    with small.elsewhere("alone") as other:
        expected = outcome(other.train("combiner=gate", "seed=3"))
    small.train("combiner=none")
    torch.manual_seed(12345)
    torch.rand(17)
    assert outcome(small.train("combiner=gate", "seed=3")) == expected


@pytest.fixture
def stopped(small: Small, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run with checkpoints after updates 2 and 4 that was stopped."""
    with monkeypatch.context() as patch:
        stop_at(patch, Trainer, "update", 6, after=False)
        with pytest.raises(Killed):
            small.train()
    assert current.folder is not None
    return current.folder


def test_files_of_a_checkpoint(stopped: Path) -> None:
    index = json.loads((stopped / "checkpoints" / "checkpoints.json").read_text())
    names = {"weights-2.safetensors", "weights-4.safetensors", "state-4.safetensors"}
    assert {path.name for path in (stopped / "checkpoints").iterdir()} == {
        "checkpoints.json",
        *names,
    }
    assert index["steps"] == [2, 4]
    assert index["sha256"].keys() == names
    assert index["meta"]["step"] == 4
    assert [point["step"] for point in index["meta"]["curve"]] == [2, 4]


@pytest.mark.parametrize("name", ["weights-4.safetensors", "state-4.safetensors"])
def test_a_flipped_bit(small: Small, stopped: Path, name: str) -> None:
    path = stopped / "checkpoints" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        small.train()
    assert str(error.value) == (
        f"{path}: damaged, its SHA-256 is not the one in checkpoints.json; "
        f"to train from the start, delete {stopped}"
    )
    path.unlink()
    with pytest.raises(UserError) as error:
        small.train()
    assert str(error.value) == f"{path}: cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"batches": ', '"batches": 1'),
        lambda text: text.replace('"best": 2', '"best": 4'),
        lambda text: text.replace('"meta"', '"beta"'),
    ],
)
def test_a_damaged_index(small: Small, stopped: Path, damage: Callable[[str], str]) -> None:
    path = stopped / "checkpoints" / "checkpoints.json"
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(UserError) as error:
        small.train()
    assert str(error.value) == f"{path}: damaged; to train from the start, delete {stopped}"


def test_deleted_as_the_message_says(small: Small, stopped: Path) -> None:
    (stopped / "checkpoints" / "checkpoints.json").write_text("x")
    with small.elsewhere("whole") as other:
        expected = outcome(other.train())
    for path in sorted(stopped.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert outcome(small.train()) == expected


def test_time_counts_all_starts(small: Small, stopped: Path) -> None:
    before = json.loads((stopped / "checkpoints" / "checkpoints.json").read_text())["meta"]
    begun = time.perf_counter()
    found = record(small.train())
    last = time.perf_counter() - begun
    assert before["elapsed"] < found["train_seconds"] < before["elapsed"] + last
    assert found["train_seconds"] < found["seconds"] < before["elapsed"] + last


def save(checkpoints: Checkpoints, step: int, value: float, best: int) -> torch.nn.Module:
    module = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(module.weight, value)
    torch.nn.init.constant_(module.bias, -value)
    checkpoints.save(step, module, {"x": torch.tensor(step)}, {"step": step}, best)
    return module


def test_what_is_kept(tmp_path: Path) -> None:
    """The last two and the best; states only of the newest; nothing else."""
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / ".weights-9.safetensors.1.tmp").write_text("left by a killed process")
    for step, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        save(checkpoints, step, float(step), best)
    names = {path.name for path in (tmp_path / "c").iterdir()}
    assert names == {
        "checkpoints.json",
        "state-5.safetensors",
        *(f"weights-{step}.safetensors" for step in (2, 4, 5)),
    }
    again = Checkpoints(tmp_path / "c", keep=2)
    assert again.step == 5
    assert again.index["meta"] == {"step": 5}
    assert again.state()["x"] == 5
    tensors, steps = again.select("best")
    assert steps == [2]
    assert tensors["weight"].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    tensors, steps = again.select("average")
    assert steps == [4, 5]
    assert tensors["weight"].tolist() == [[4.5, 4.5], [4.5, 4.5]]
    assert tensors["bias"].tolist() == [-4.5, -4.5]
    assert tensors["bias"].dtype == torch.float32


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_failed_write_leaves_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    checkpoints = Checkpoints(tmp_path / "c", keep=1)
    save(checkpoints, 1, 1.0, 1)
    with monkeypatch.context() as patch:
        stop_at(patch, Path, "replace", call, after=False)
        with pytest.raises(Killed):
            save(checkpoints, 2, 2.0, 2)
    again = Checkpoints(tmp_path / "c", keep=1)
    assert again.step == 1
    assert again.weights(1)["weight"].unique().tolist() == [1.0]
    assert again.state()["x"] == 1
    save(again, 2, 2.0, 2)
    assert len(list((tmp_path / "c").iterdir())) == 3


def test_synced_before_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append(f"rename {self.name} {target.name}")
        return replace(self, target)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name what is synced")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    save(Checkpoints(tmp_path / "c", keep=1), 1, 1.0, 1)
    expected = []
    for name in ("weights-1.safetensors", "state-1.safetensors", "checkpoints.json"):
        temporary = f".{name}.{os.getpid()}.tmp"
        expected += [f"fsync {temporary}", f"rename {temporary} {name}", "fsync c"]
    assert done == expected
