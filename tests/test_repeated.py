"""Runs at the same time, runs that are moved, and runs of earlier versions."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.data import building
from nmt_feat.runs.stored.records import read_run
from nmt_feat.training.checkpoints import FORMAT, Checkpoints
from tests.support.entry import call
from tests.support.lives import SERVER, command
from tests.support.small import ROOT, Small, outcome, record
from tests.support.stops import stop

pytestmark = pytest.mark.slow

FORMATS = sorted((ROOT / "tests" / "formats").iterdir())
"""Run folders by their format; `make_format` says how they were made."""


def begin(overrides: list[str], folder: Path) -> Any:
    folder.mkdir()
    process = SERVER.Process(target=command, args=(overrides, folder))
    process.start()
    return process


def test_ten_on_one_cache(small: Small) -> None:
    """One prepares the data, the others wait for it; all end well."""
    small.cache = small.folder / "cache"
    settings = ("combiner=none", "trainer.max_steps=1")
    processes = [
        begin(small.overrides(*settings, f"seed={seed}"), small.folder / f"{seed}")
        for seed in range(10)
    ]
    for process in processes:
        process.join(200)
    texts = [(small.folder / f"{seed}" / "out").read_text() for seed in range(10)]
    assert [process.exitcode for process in processes] == [0] * 10, texts
    assert sum("training the subword model" in text for text in texts) == 1
    assert sum("made again" in text for text in texts) == 0
    assert len(list(small.folder.glob("runs/none-*/result.json"))) == 10
    assert len(list(small.cache.glob("prepared-*/"))) == 1


def killed(overrides: list[str], folder: Path) -> None:
    """Dies when the data is nearly prepared."""
    pytest.MonkeyPatch().setattr(
        building, "describe_split", lambda split: os.kill(os.getpid(), signal.SIGKILL)
    )
    command(overrides, folder)


def test_a_killed_builder(small: Small) -> None:
    """Its lock holds nobody up, and what it has left is no data."""
    small.cache = small.folder / "cache"
    process = SERVER.Process(target=killed, args=(small.overrides(), small.folder))
    process.start()
    process.join(100)
    assert process.exitcode == -signal.SIGKILL
    assert list(small.cache.glob("prepared-*.building"))
    with small.elsewhere("other") as twin:
        twin.cache = small.folder / "fresh"
        expected = outcome(twin.train())
    assert outcome(small.train()) == expected
    assert not list(small.cache.glob("prepared-*.building"))


def test_two_at_one_folder(small: Small) -> None:
    """The second is refused; the first is not disturbed."""
    settings = small.overrides("trainer.max_steps=100000")
    first = begin(settings, small.folder / "first")
    while not list((small.folder / "runs").glob("*/run.json")):
        assert first.is_alive()
    second = begin(settings, small.folder / "second")
    second.join(100)
    (run,) = (small.folder / "runs").glob("concat-*")
    assert second.exitcode == 2
    assert (small.folder / "second" / "out").read_text() == (
        f"error: {run}: another process is training this run; wait for it\n"
    )
    os.kill(first.pid, signal.SIGTERM)
    first.join(100)
    assert first.exitcode == 75


def test_moved_it_resumes_and_translates(small: Small) -> None:
    """With another cache, and another place of the same data."""
    expected = small.whole()
    run = stop(small)
    there = small.folder / "there"
    shutil.copytree(small.corpus, there / "corpus")
    (there / "runs").mkdir()
    run.rename(there / "runs" / run.name)
    moved = Small(there / "corpus", there / "cache", there)
    done = call("train", *moved.overrides())
    assert done.code == 0
    assert "resumed at update 5 of 6" in done.out
    assert outcome(there / "runs" / run.name) == expected
    shutil.rmtree(there / "corpus")
    shutil.rmtree(there / "cache")
    (there / "runs" / run.name).rename(result := small.folder / "found")
    source = small.corpus / "test.conllu"
    done = call("translate", f"run={result}", f"input={source}")
    assert done.out == (result / "test.hyp").read_text()


def make_format(small: Small, folder: Path) -> None:
    """A run of the present format for `tests/formats`, with its last checkpoint:

    PYTHONPATH=.:tests python -c "import test_repeated as t; t.make()"
    """
    settings = ["subword.vocab_size=120", "model.dim=4", "model.ffn_dim=4", "model.heads=1"]
    settings += ["trainer.max_steps=4", "trainer.validate_every=4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "nmt_feat.runs.run.evaluate_split", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
        )
        assert call("train", *small.overrides(*settings)).code == 75
    (run,) = (small.folder / "runs").glob("concat-*")
    shutil.copytree(run / "checkpoints", folder / "checkpoints")
    assert call("train", *small.overrides(*settings)).code == 0
    shutil.copytree(run, folder, dirs_exist_ok=True)
    (folder / "test.scores").write_text(scores(folder, small.corpus), encoding="utf-8")


def scores(run: Path, corpus: Path) -> str:
    """Log-probabilities of the references."""
    files = f"source={corpus / 'test.conllu'}", f"target={corpus / 'test.de'}"
    return call("score", f"run={run}", *files).out


def make() -> None:
    """Make the run of the present format."""
    import tempfile

    from tests.support.small import cut

    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        cut(Path("corpus"))
        make_format(
            Small(Path("corpus"), Path("cache"), Path()), ROOT / "tests" / "formats" / f"{FORMAT}"
        )


def test_the_present_format_is_kept() -> None:
    assert [folder.name for folder in FORMATS] == [f"{n}" for n in range(1, FORMAT + 1)]


@pytest.mark.parametrize("folder", FORMATS, ids=lambda folder: f"format {folder.name}")
def test_earlier_formats(folder: Path, corpus: Path, tmp_path: Path) -> None:
    """Their runs translate, their checkpoints and records are read."""
    run = Path(shutil.copytree(folder, tmp_path / "run"))
    done = call("translate", f"run={run}", f"input={corpus / 'test.conllu'}")
    assert done.err == ""
    assert done.out == (run / "test.hyp").read_text(encoding="utf-8")
    expected = (run / "test.scores").read_text(encoding="utf-8").split()
    scores_of_file = [float(number) for number in scores(run, corpus).split()]
    assert scores_of_file == pytest.approx([float(number) for number in expected], rel=1e-4)
    assert read_run(run).updates == 4
    assert record(run)["format"] == int(folder.name)
    last = Checkpoints(run / "checkpoints", 1)
    assert (last.step, last.damaged) == (4, None)
    assert last.newest
    assert last.newest.meta.finished
    assert last.read_weights(4).keys() == last.select_weights("best")[0].keys()
    assert any(name.startswith("optimizer.") for name in last.read_state())


@pytest.mark.parametrize("name", ["config.yaml", "result.json"])
def test_a_later_format(name: str, corpus: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(FORMATS[-1], tmp_path / "run"))
    path = run / name
    text = path.read_text(encoding="utf-8")
    if name == "config.yaml":
        path.write_text(text.replace("format: 1\n", "format: 9\nmore: of it\n"), encoding="utf-8")
        done = call("translate", f"run={run}", f"input={corpus / 'test.conllu'}")
        assert done.code == 2
        result = done.err
    else:
        path.write_text(json.dumps(json.loads(text) | {"format": 9}), encoding="utf-8")
        with pytest.raises(Exception, match="format 9") as error:
            read_run(run)
        result = f"error: {error.value}\n"
    assert result == (
        f"error: {path}: format 9, this version of nmt_feat reads up to {FORMAT}; update nmt_feat\n"
    )
