"""A finished run is whole: after a loss of power, with links, deleted folders, changed bits."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import nmt_feat.runs.training_processes
from nmt_feat.base.checksums import (
    SUMS,
    check_sums,
    hash_files,
    read_sums,
    write_summed,
    write_sums,
)
from nmt_feat.base.files import sync_to_disk
from nmt_feat.data.identity import hash_data
from nmt_feat.data.prepare import prepare
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import read_counts
from nmt_feat.evaluation.test_sets import write_hypotheses
from nmt_feat.runs.run import prepare_resumption
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.records import FINISHED, STARTED, read_record, read_run, write_record
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.training.checkpoints import Checkpoints
from nmt_feat.training.loop import Trainer
from tests.support.power import Disk, recorded
from tests.support.small import Small, outcome

SETTINGS = ("combiner=gate", "trainer.max_steps=4", "decoding.nbest=2", "decoding.beam=2")


@pytest.fixture(scope="module")
def lost(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, Path, Disk]:
    """A run, and what a loss of power at any moment would leave of the folder of runs."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("reads names of open files from /proc")
    folder = tmp_path_factory.mktemp("lost")
    small = Small(corpus, corpus.parent / "cache", folder)
    prepare(small.config(*SETTINGS), small.config(*SETTINGS).features)
    (folder / "runs").mkdir()
    with recorded(folder / "runs", folder / "copies") as disk:
        run = small.train(*SETTINGS)
    return small, run, disk


def whole(run: Path) -> bool:
    """Whether a run counts as finished; then nothing of it is missing or damaged."""
    if not (run / FINISHED).exists():
        return False
    run_record = read_record(run / FINISHED)
    check_sums(run)
    assert set(read_sums(run)) >= {
        *("config.yaml", STARTED, "model.safetensors", "encoder/features.json"),
        *("encoder/source.model", "encoder/target.model"),
        *run_record.files.values(),
        *run_record.counts.values(),
        *(f"{name}.nbest.hyp" for name in run_record.files),
    }
    for name in run_record.counts.values():
        read_counts(run / name)
    TrainedModel(run)
    return True


@pytest.mark.thorough
def test_no_loss_of_power_leaves_half_a_finished_run(
    lost: tuple[Small, Path, Disk],
) -> None:
    """Each folder that may be left is finished and whole, or resumes, or is refused in a line."""
    small, run, disk = lost
    assert len(disk.states) > 30
    cfg, counts = small.config(*SETTINGS), {"finished": 0, "resumed": 0}
    data = hash_data(cfg, cfg.features)
    for state in disk.states:
        here = state / run.name
        if whole(here):
            counts["finished"] += 1
            continue
        settings = json.loads((run / STARTED).read_text(encoding="utf-8"))["settings"]
        try:
            prepare_resumption(cfg, settings, data, here)
        except UserError:
            continue
        counts["resumed"] += bool(Checkpoints(here / "checkpoints", 5).step)
    assert counts["finished"] >= 1
    assert counts["resumed"] >= 5


@pytest.mark.slow
def test_after_a_loss_of_power_the_run_ends_in_the_same_bits(
    lost: tuple[Small, Path, Disk], tmp_path: Path
) -> None:
    small, run, disk = lost
    expected = outcome(run)
    for number in range(0, len(disk.states), max(1, len(disk.states) // 8)):
        with small.elsewhere(f"again{number}") as twin:
            shutil.copytree(disk.states[number], twin.folder / "runs")
            assert outcome(twin.train(*SETTINGS)) == expected


def copied(lost: tuple[Small, Path, Disk], folder: Path) -> Path:
    return Path(shutil.copytree(lost[1], folder / lost[1].name))


def opened(run: Path, name: str) -> None:
    """Read a file of a run, as those who need it do."""
    if name.endswith(".parquet"):
        read_counts(run / name)
    elif name.endswith(".hyp"):
        check_sums(run, only=[name])
    else:
        TrainedModel(run)


def test_every_bit_of_a_finished_run_is_noticed(
    lost: tuple[Small, Path, Disk], tmp_path: Path
) -> None:
    """What tables and translations are made of; values stay in range, files can be read."""
    run = copied(lost, tmp_path)
    for name, old, new in (
        ("config.yaml", b"max_ratio: 0.2", b"max_ratio: 0.7"),
        ("encoder/features.json", b'"scale": 1.0', b'"scale": 3.0'),
        ("dev.hyp", None, None),
        ("test.counts.parquet", None, None),
        ("model.safetensors", None, None),
    ):
        path, before = run / name, (run / name).read_bytes()
        after = bytearray(before)
        after[len(after) // 2] ^= 1
        path.write_bytes(after if old is None else before.replace(old, new, 1))
        assert path.read_bytes() != before, name
        with pytest.raises(UserError) as error:
            opened(run, name)
        expected = f"{path}: damaged, its SHA-256 is not the one in {SUMS}; get the run's folder "
        assert str(error.value) == f"{expected}again, or train again"
        path.write_bytes(before)
    check_sums(run)


def test_a_changed_record_is_noticed(lost: tuple[Small, Path, Disk], tmp_path: Path) -> None:
    run = copied(lost, tmp_path)
    path = run / FINISHED
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"seed": 1', '"seed": 3', 1), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    for read in (lambda: read_run(run), lambda: find_runs([tmp_path])):
        with pytest.raises(UserError, match=r"result\.json: damaged, its SHA-256 is not "):
            read()
    (run / SUMS).unlink()  # a folder of records, or of an earlier version
    assert read_run(run).seed == 3


@pytest.mark.thorough
def test_a_finished_run_gets_more(lost: tuple[Small, Path, Disk], tmp_path: Path) -> None:
    """Whatever is written later is under its sums, also when the power is lost in between."""
    runs, copies = tmp_path / "runs", tmp_path / "copies"
    run = copied(lost, runs)
    run_record = read_run(run)
    run_record.seconds += 1
    with recorded(runs, copies) as disk:
        for path in [*run.rglob("*"), run, runs]:
            sync_to_disk(path)
        start = len(disk.states)
        write_hypotheses(run, "more", ["a", "b"])
        write_record(run, run_record)
    check_sums(run)
    assert list(read_sums(run))[-2:] == [FINISHED, "more.hyp"]
    assert len(disk.states) > start + 4
    for state in disk.states[start:]:
        assert read_run(state / run.name).seconds in (run_record.seconds, run_record.seconds - 1)
        assert whole(state / run.name)


def test_sums_of_several_files(tmp_path: Path) -> None:
    write_summed(tmp_path / "a", b"a")
    assert not (tmp_path / SUMS).exists()
    write_sums(tmp_path, hash_files(tmp_path, ["a"]))
    write_summed(tmp_path / "b", b"b")
    write_summed(tmp_path / "a", b"c")
    check_sums(tmp_path)
    assert {name: len(values) for name, values in read_sums(tmp_path).items()} == {"a": 1, "b": 1}
    (tmp_path / "b").unlink()
    check_sums(tmp_path, skipped=["b"])
    check_sums(tmp_path, only=["a"])
    with pytest.raises(UserError, match=f"b: missing, but in {SUMS}; "):
        check_sums(tmp_path)


@pytest.mark.parametrize("line", ["0" * 64 + "  ../x", "0" * 64 + "  /etc/passwd", "0  a"])
def test_sums_name_files_of_their_folder(tmp_path: Path, line: str) -> None:
    (tmp_path / SUMS).write_text(f"{line}\n")
    with pytest.raises(UserError, match=f"{SUMS}:1: not a SHA-256 sum and a name; "):
        check_sums(tmp_path)


def test_a_changed_manifest_is_noticed(small: Small, tmp_path: Path) -> None:
    """The data is made again, and said to be so; one of an earlier version has no sum."""
    cfg = small.config(f"paths.cache={tmp_path / 'cache'}")
    folder = prepare(cfg, cfg.features).folder
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "notes": ["x"]}), encoding="utf-8")
    again = prepare(cfg, cfg.features)
    assert again.notes[-1] == f"{folder}: damaged (manifest.json has changed), made again"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["sum"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert prepare(cfg, cfg.features).notes == []


@pytest.mark.parametrize("name", ["checkpoints", "encoder", ""])
def test_links_in_a_run_are_refused(small: Small, tmp_path: Path, name: str) -> None:
    """Nothing is written or deleted where a link leads."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine").write_text("mine")
    (foreign / "weights-1.safetensors").write_text("mine")
    run = small.train()
    shutil.rmtree(run)
    link = run / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(foreign, target_is_directory=True)
    with pytest.raises(UserError) as error:
        small.train()
    assert str(error.value) == (
        f"{link}: is a link to {foreign}, through which nothing is written or deleted; remove the "
        "link, or put the folder itself there"
    )
    assert sorted(path.name for path in foreign.iterdir()) == ["mine", "weights-1.safetensors"]


@pytest.mark.parametrize("ending", ["", ".building"])
def test_links_in_the_cache_are_refused(small: Small, tmp_path: Path, ending: str) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine").write_text("mine")
    cfg = small.config(f"paths.cache={tmp_path / 'cache'}")
    folder = prepare(cfg, cfg.features).folder
    shutil.rmtree(folder)
    link = folder.with_name(folder.name + ending)
    link.symlink_to(foreign, target_is_directory=True)
    with pytest.raises(UserError, match=r": is a link to .*; remove the link"):
        prepare(cfg, cfg.features)
    assert [path.name for path in foreign.iterdir()] == ["mine"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "part", ["", "checkpoints", "encoder", "config.yaml", "encoder/features.json"]
)
@pytest.mark.parametrize("place", ["update", "translate"])
def test_a_run_that_is_deleted_while_it_trains(
    small: Small, monkeypatch: pytest.MonkeyPatch, part: str, place: str
) -> None:
    """It is not made again with half its files."""
    owner, name = (
        (Trainer, "update")
        if place == "update"
        else (nmt_feat.runs.training_processes, "decode_split")
    )
    original, calls = getattr(owner, name), [0]

    def delete(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == (4 if place == "update" else 1):
            run = next(small.folder.glob("runs/*/run.json")).parent
            path = run / part
            if path.is_file():
                path.unlink()
            else:
                shutil.rmtree(path)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, delete)
    with pytest.raises(UserError) as error:
        small.train()
    assert "\n" not in str(error.value)
    assert not list(small.folder.glob("runs/*/result.json"))
    reasons = "was deleted while the run trained|missing, but in|has no checkpoint any more"
    assert re.search(reasons, str(error.value))
