"""Continuing with other settings: refused, with the differences, where the result would change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import nmt_feat.runs.run
from nmt_feat.base.files import copy_whole
from nmt_feat.errors import UserError
from nmt_feat.runs import processes
from nmt_feat.runs.stored.locks import lock_folder
from nmt_feat.training.checkpoints import Checkpoints
from tests.support.entry import call
from tests.support.small import Small, outcome
from tests.support.stops import refused, send_at, stop

LEFT = "leave them as they were, or train from the start"


@pytest.mark.thorough
def test_a_longer_limit(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    """As if it had been the limit from the start; the shorter run is left as it is."""
    expected = small.whole("trainer.max_steps=8")
    run = stop(small)
    capsys.readouterr()
    longer = small.train("trainer.max_steps=8", f"resume={run}")
    assert longer != run
    assert "resumed at update 5 of 8" in capsys.readouterr().out
    assert outcome(longer) == expected
    assert (run / "checkpoints").exists()
    expected = small.whole()
    assert outcome(small.train()) == expected


@pytest.mark.thorough
def test_a_limit_that_is_reached(small: Small) -> None:
    """The last checkpoint is the last of the shorter run, too, and no update follows."""
    expected = small.whole("trainer.max_steps=4")
    with pytest.MonkeyPatch.context() as patch:
        send_at(patch, Checkpoints, "save", 2)
        assert call("train", *small.overrides()).code == 75
    (folder,) = (small.folder / "runs").glob("*/checkpoints")
    assert outcome(small.train("trainer.max_steps=4", f"resume={folder.parent}")) == expected


@pytest.mark.thorough
def test_logging_is_harmless(small: Small) -> None:
    run = stop(small, "trainer.log_every=3")
    assert small.train("trainer.log_every=7", "trainer.progress=false") == run


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("settings", "differences"),
    [
        ("trainer.max_steps=4", "trainer.max_steps=6, here 4"),
        (
            "optimizer.lr=0.1 combiner=gate +optimizer.args.amsgrad=true",
            "combiner._target_=nmt_feat.combiners.Concat, here nmt_feat.combiners.Gate; "
            "optimizer.args.amsgrad=None, here True; optimizer.lr=0.002, here 0.1",
        ),
        ("trainer.accumulate=2 trainer.resume_exact=false", "trainer.accumulate=1, here 2"),
    ],
)
def test_other_settings(small: Small, settings: str, differences: str) -> None:
    run = stop(small)
    for _ in range(2):  # it leaves nothing behind
        message = refused(small, *settings.split(), f"resume={run}")
        assert message == f"{run}: was trained with {differences}; {LEFT}"


def test_a_schedule_that_knows_the_limit(small: Small) -> None:
    schedule = "optimizer.schedule=cosine"
    run = stop(small, schedule)
    message = refused(small, schedule, "trainer.max_steps=9", f"resume={run}")
    assert message == f"{run}: was trained with trainer.max_steps=6, here 9; {LEFT}"


@pytest.mark.thorough
def test_a_folder_by_another_name(small: Small) -> None:
    """Its name says what it was trained with; its record knows better."""
    run = stop(small)
    with small.elsewhere("other") as twin:
        name = stop(twin, "seed=1", "trainer.label_smoothing=0.2").name
    shutil.rmtree(small.folder / "other")
    run.rename(moved := run.with_name(name))
    message = refused(small, "trainer.label_smoothing=0.2")
    assert message == f"{moved}: was trained with trainer.label_smoothing=0.1, here 0.2; {LEFT}"


@pytest.mark.thorough
def test_other_threads(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with other cores."""
    monkeypatch.setattr(processes, "DEFAULT_THREADS", 1)
    run = stop(small, "trainer.threads=0")
    monkeypatch.setattr(processes, "DEFAULT_THREADS", 2)
    assert refused(small, "trainer.threads=0") == (
        f"{run}: its updates were made with 1 threads, here are 2, with which the "
        "last bits would differ; give it 1, or set trainer.resume_exact=false"
    )
    assert small.train("trainer.threads=0", "trainer.resume_exact=false") == run


@pytest.mark.thorough
def test_other_processes(small: Small) -> None:
    """Of the same batches; two processes are tested elsewhere."""
    run = stop(small, "trainer.accumulate=2")
    record = json.loads((run / "run.json").read_text())
    record["settings"]["trainer"] |= {"devices": 2, "accumulate": 1}
    (run / "run.json").write_text(json.dumps(record))
    assert refused(small, "trainer.accumulate=2") == (
        f"{run}: was trained with trainer.accumulate=1, here 2; trainer.devices=2, here 1; leave "
        "them as they were, or set trainer.resume_exact=false: only rounding differs"
    )
    assert small.train("trainer.accumulate=2", "trainer.resume_exact=false") == run


@pytest.mark.thorough
def test_nothing_to_resume(small: Small) -> None:
    give = "give the folder of an unfinished run"
    nowhere = small.folder / "nowhere"
    assert refused(small, f"resume={nowhere}") == f"resume={nowhere}: has no checkpoint; {give}"
    run = stop(small)
    with lock_folder(run), pytest.raises(UserError) as error:
        small.train("trainer.max_steps=8", f"resume={run}")
    assert str(error.value) == f"{run}: another process is training this run; wait for it"
    shutil.copytree(run, copied := run.with_name("copied"))
    with pytest.MonkeyPatch.context() as patch:
        send_at(patch, nmt_feat.runs.run, "evaluate_split", 1)
        assert call("train", *small.overrides()).code == 75
    assert refused(small, "trainer.max_steps=8", f"resume={run}") == (
        f"resume={run}: has finished training; {give}"
    )
    assert small.train("trainer.max_steps=8", f"resume={copied}") != run


def test_into_a_folder_killed_in_its_first_checkpoint(tmp_path: Path) -> None:
    """Files without an index are no checkpoint, and not in the way of others."""
    for name in ("run/checkpoints/whole", "folder/checkpoints/half"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    copy_whole(tmp_path / "run" / "checkpoints", tmp_path / "folder" / "checkpoints")
    assert [path.name for path in (tmp_path / "folder").rglob("*")] == ["checkpoints", "whole"]
