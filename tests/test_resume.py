"""A stopped run, started again by the same command, ends in the same bits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from nmt_feat.base.checksums import hash_json
from nmt_feat.errors import UserError
from nmt_feat.training.checkpoints import Checkpoints, TrainingState
from nmt_feat.training.loop import Trainer
from tests.support.lives import Life, saved, send_after
from tests.support.small import Small, outcome, record
from tests.support.stops import Killed, stop_at


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "steps"), [(1, [0, 2, 8]), (2, [4])])
def test_sigkill(small: Small, threads: int, steps: list[int]) -> None:
    """Killed before the first checkpoint, then after each of several others."""
    # wide enough for PyTorch to use both threads
    settings = [f"trainer.threads={threads}", "combiner=gate", "model.dim=64"]
    total = 10 + steps[-1]
    settings += ["trainer.batch_tokens=1024", f"trainer.max_steps={total}"]
    with small.elsewhere("whole") as twin:
        expected = twin.train(*settings)
    assert torch.get_num_threads() == threads
    runs = small.folder / "runs"
    for step in steps:
        die = partial(send_after, step, signal.SIGKILL)
        code, out, err = Life(small.folder).begin(*small.overrides(*settings), prepare=die).end()
        assert code == -signal.SIGKILL, f"{out}{err}"
        assert not list(runs.glob("*/result.json")), "killed too late; the test proves nothing"
    stopped = saved(runs)
    code, out, err = Life(small.folder).begin(*small.overrides(*settings)).end()
    assert code == 0, err
    assert f"resumed at update {stopped} of {total}" in out
    (run,) = runs.glob("gate-*")
    assert outcome(run) == outcome(expected)
    assert not (run / "checkpoints").exists()
    assert not list(run.rglob("*.tmp"))


@pytest.mark.slow
def test_stopped_at_every_file(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files are renamed into place: stopped before each one, so after the one before."""
    settings = ["trainer.max_steps=4", "trainer.accumulate=2", "trainer.select=average"]
    with small.elsewhere("whole") as twin:
        calls = stop_at(monkeypatch, Path, "replace", 0, after=False)
        expected = outcome(twin.train(*settings))
        monkeypatch.undo()
    assert calls[0] >= 11  # settings, record; twice weights, state, index; weights, texts, result
    for call in range(1, calls[0] + 1):
        with small.elsewhere(f"call {call}") as twin:
            with monkeypatch.context() as patch:
                stop_at(patch, Path, "replace", call, after=False)
                with pytest.raises(Killed):
                    twin.train(*settings)
            folder = twin.train(*settings)
            assert outcome(folder) == expected
            assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("update", [1, 3, 4])
def test_stopped_between_updates(
    small: Small, monkeypatch: pytest.MonkeyPatch, update: int
) -> None:
    """Also in the middle of an interval, twice, with dropout of attention and with patience."""
    settings = ["model.attention_dropout=0.2", "trainer.accumulate=2", "trainer.patience=9"]
    expected = small.whole(*settings)
    for after in (False, True):
        with monkeypatch.context() as patch:
            stop_at(patch, Trainer, "update", 2 if after else update, after)
            try:
                small.train(*settings)
            except Killed:
                continue
            pytest.fail("not stopped")
    assert outcome(small.train(*settings)) == expected


@pytest.mark.thorough
def test_generators_of_others_do_not_matter(small: Small) -> None:
    """A run after another in one process is the run alone."""
    with small.elsewhere("alone") as twin:
        expected = outcome(twin.train("combiner=gate", "seed=3"))
    small.train("combiner=none")
    torch.manual_seed(12345)
    torch.rand(17)
    assert outcome(small.train("combiner=gate", "seed=3")) == expected


@pytest.fixture(scope="module")
def killed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with checkpoints after updates 2 and 4 that was stopped."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("killed"))
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, Trainer, "update", 6, after=False)
        with pytest.raises(Killed):
            small.train()
    (folder,) = (small.folder / "runs").glob("*/checkpoints")
    return folder.parent


@pytest.fixture
def stopped(small: Small, killed: Path) -> Path:
    """That run among this test's own."""
    return Path(shutil.copytree(killed, small.folder / "runs" / killed.name))


def test_files_of_a_checkpoint(stopped: Path) -> None:
    """Two whole ones, each with its own index."""
    names = {f"{kind}-{step}.safetensors" for kind in ("weights", "state") for step in (2, 4)}
    assert {path.name for path in (stopped / "checkpoints").iterdir()} == {
        "checkpoint-2.json",
        "checkpoint-4.json",
        *names,
    }
    index = json.loads((stopped / "checkpoints" / "checkpoint-4.json").read_text())
    assert index["format"] == 1
    assert (index["step"], index["steps"]) == (4, [2, 4])
    assert index["sha256"].keys() == names - {"state-2.safetensors"}
    assert index["meta"]["step"] == 4
    assert [point["step"] for point in index["meta"]["curve"]] == [2, 4]


def flip(path: Path) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


OTHER_SUM = "damaged, its SHA-256 is not the one in checkpoint-4.json"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("weights-4.safetensors", flip, OTHER_SUM),
        ("state-4.safetensors", lambda path: path.write_bytes(b""), OTHER_SUM),
        ("state-4.safetensors", Path.unlink, "missing"),
        ("checkpoint-4.json", flip, "damaged"),
    ],
)
def test_damaged_the_one_before_is_used(
    small: Small,
    stopped: Path,
    name: str,
    how: Callable[[Path], None],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = small.whole()
    path = stopped / "checkpoints" / name
    how(path)
    capsys.readouterr()
    assert outcome(small.train()) == expected
    out = "".join(capsys.readouterr().out.split())  # lines are wrapped
    assert f"{path}:{said};the checkpoint before is used".replace(" ", "") in out
    assert "resumedatupdate2of6" in out


def test_all_damaged(small: Small, stopped: Path) -> None:
    """One of the files that both need, too."""
    text = f"; to train from the start, delete {stopped}"
    for path in (stopped / "checkpoints").glob("weights-*"):
        flip(path)
    path = stopped / "checkpoints" / "weights-2.safetensors"
    with pytest.raises(UserError) as error:
        small.train()
    assert str(error.value) == f"{path}: {OTHER_SUM}{text}"
    for path in sorted((stopped / "checkpoints").glob("checkpoint-*")):
        flip(path)
    with pytest.raises(UserError) as error:
        small.train()
    assert str(error.value) == f"{path}: damaged{text}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"batches": ', '"batches": 1'),
        lambda text: re.sub('"best": [24]', '"best": 3', text),
        lambda text: text.replace('"meta"', '"beta"'),
    ],
)
def test_a_damaged_index(stopped: Path, damage: Callable[[str], str]) -> None:
    path = stopped / "checkpoints" / "checkpoint-4.json"
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    result = Checkpoints(stopped / "checkpoints", 5)
    assert (result.step, result.damaged) == (2, f"{path}: damaged")


def test_of_a_later_version(small: Small, stopped: Path) -> None:
    path = stopped / "checkpoints" / "checkpoint-4.json"
    index = json.loads(path.read_text()) | {"format": 2}
    del index["sum"]
    path.write_text(json.dumps({"sum": hash_json(index), **index}))
    with pytest.raises(UserError) as error:
        small.train()
    assert str(error.value) == (
        f"{path}: format 2, this version of nmt_feat reads up to 1; update nmt_feat"
    )


@pytest.mark.thorough
def test_deleted_as_the_message_says(small: Small, stopped: Path) -> None:
    for path in (stopped / "checkpoints").glob("checkpoint-*"):
        path.write_text("x")
    expected = small.whole()
    for path in sorted(stopped.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert outcome(small.train()) == expected


def test_time_counts_all_starts(small: Small, stopped: Path) -> None:
    before = json.loads((stopped / "checkpoints" / "checkpoint-4.json").read_text())["meta"]
    begun = time.perf_counter()
    run_record = record(small.train())
    last = time.perf_counter() - begun
    assert before["elapsed"] < run_record["train_seconds"] < before["elapsed"] + last
    assert run_record["train_seconds"] < run_record["seconds"] < before["elapsed"] + last


def save(checkpoints: Checkpoints, step: int, value: float, best: int) -> torch.nn.Module:
    module = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(module.weight, value)
    torch.nn.init.constant_(module.bias, -value)
    state = TrainingState(step=step, best_step=best)
    checkpoints.save(module, {"x": torch.tensor(step)}, state)
    return module


def test_what_is_kept(tmp_path: Path) -> None:
    """Of each of the newest two the last two and the best weights, and the state; nothing else."""
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / ".weights-9.safetensors.1.tmp").write_text("left by a killed process")
    for step, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        save(checkpoints, step, float(step), best)
    names = {path.name for path in (tmp_path / "c").iterdir()}
    assert names == {
        *(f"checkpoint-{step}.json" for step in (4, 5)),
        *(f"state-{step}.safetensors" for step in (4, 5)),
        *(f"weights-{step}.safetensors" for step in (2, 3, 4, 5)),
    }
    again = Checkpoints(tmp_path / "c", keep=2)
    assert again.step == 5
    assert again.newest
    assert again.newest.meta == TrainingState(step=5, best_step=2)
    assert again.read_state()["x"] == 5
    tensors, steps = again.select_weights("best")
    assert steps == [2]
    assert tensors["weight"].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    tensors, steps = again.select_weights("average")
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
    assert again.read_weights(1)["weight"].unique().tolist() == [1.0]
    assert again.read_state()["x"] == 1
    save(again, 2, 2.0, 2)
    assert len(list((tmp_path / "c").iterdir())) == 6


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
    for name in ("weights-1.safetensors", "state-1.safetensors", "checkpoint-1.json"):
        temporary = f".{name}.{os.getpid()}.tmp"
        expected += [f"fsync {temporary}", f"rename {temporary} {name}", "fsync c"]
    assert done == expected
