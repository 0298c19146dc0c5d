"""Sweeps: one command, a table at its end, and none of Hydra's traps (Hydra 1.3 has them all)."""

from __future__ import annotations

import csv
import errno
import json
import math
import signal
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf

from nmt_feat.base.terminal import format_duration
from nmt_feat.cli.sweep import SweepTable, current
from nmt_feat.errors import UserError
from tests.support.lives import Life, send_after
from tests.support.small import ROOT, Small, outcome, record
from tests.support.sweeps import FAILING, sweep, tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def swept(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, str]:
    """Two methods, two seeds; a setting that one of them lacks; what it printed."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("swept"))
    code, out = sweep(small, "combiner=add,gate", "combiner.bias=0", "seed=1,2")
    assert code == 0, out
    return small, out


def test_the_table(swept: tuple[Small, str]) -> None:
    small, out = swept
    runs = {
        path.parent.name: record(path.parent) for path in small.folder.glob("runs/*/result.json")
    }
    # all seeds in folders of their own
    assert sorted(name.rpartition("-")[0] for name in runs) == [
        "add-deprel+upos-s1",
        "add-deprel+upos-s2",
        "gate-deprel+upos-s1",
        "gate-deprel+upos-s2",
    ]
    (folder,) = tables(small)
    assert {path.name for path in folder.iterdir()} >= {"table.md", "table.csv", "jobs"}
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["n"], row["seeds"]) for row in rows] == [
        ("add", "2", "1 2"),
        ("gate", "2", "1 2"),
    ]
    for row in rows:
        mine = [r for r in runs.values() if r["method"] == row["method"]]
        chrf = [r["tests"]["test"]["chrf"] for r in mine]
        assert float(row["test chrF mean"]) == pytest.approx(statistics.mean(chrf))
        assert float(row["test chrF sd"]) == pytest.approx(statistics.stdev(chrf))
        assert float(row["parameters mean"]) == mine[0]["parameters"]["total"]
    text = (folder / "table.md").read_text(encoding="utf-8")
    for row in rows:
        mean, sd = float(row["test chrF mean"]), float(row["test chrF sd"])
        assert f"{mean:.2f} ± {sd:.2f}" in text
        assert f"{mean:.2f} ± {sd:.2f}" in out
    assert "Mean ± sample standard deviation over n seeds." in out
    assert f"Written: {folder}/table.md and {folder}/table.csv" in out


def test_what_is_said(swept: tuple[Small, str]) -> None:
    _, out = swept
    for number, (name, seed) in enumerate(
        [("add", 1), ("add", 2), ("gate", 1), ("gate", 2)], start=1
    ):
        (line,) = [line for line in out.splitlines() if line.startswith(f"Job {number} of 4: ")]
        assert f"combiner={name}" in line
        assert f"seed={seed}" in line
    assert out.count("combiner=add: unused: bias") == 2
    assert "combiner=gate: unused" not in out
    assert out.count("The first run took ") == 1
    assert "; 3 more of 4 take about " in out
    assert out.count("filtered of 80 training pairs") == 1  # the data is the same for all
    assert out.startswith("Plan: 4 runs\n")


def test_a_run_of_a_sweep_is_the_run_alone(swept: tuple[Small, str], small: Small) -> None:
    (among,) = swept[0].folder.glob("runs/gate-*-s2-*")
    alone = small.train("combiner=gate", "combiner.bias=0", "seed=2")
    assert alone.name == among.name
    assert outcome(alone) == outcome(among)


def test_again(swept: tuple[Small, str]) -> None:
    """Nothing is trained twice; the table is the same, in the same folder; one run more is."""
    small, _ = swept
    (folder,) = tables(small)
    before = (folder / "table.md").read_text(encoding="utf-8")
    times = {p: p.stat().st_mtime_ns for p in small.folder.glob("runs/*/result.json")}
    code, out = sweep(small, "combiner=add,gate", "combiner.bias=0", "seed=1,2")
    assert code == 0, out
    assert out.count("finished before: ") == 4
    assert out.startswith("Plan: 4 runs, 4 of them finished when this sweep last ran\n")
    assert "The first run took" not in out
    assert tables(small) == [folder]
    assert (folder / "table.md").read_text(encoding="utf-8") == before
    assert {p: p.stat().st_mtime_ns for p in times} == times
    code, out = sweep(small, "combiner=add,gate", "combiner.bias=0", "seed=2,3")
    assert code == 0, out
    assert out.count("finished before: ") == 2
    assert out.startswith("Plan: 4 runs\n")
    assert len(tables(small)) == 2  # another sweep does not overwrite the first one's table
    assert (folder / "table.md").read_text(encoding="utf-8") == before
    for path in small.folder.glob("runs/*-s3-*/result.json"):
        for file in sorted(path.parent.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()


def test_words_only_is_one_run(small: Small) -> None:
    """Whatever the features, and the plan says so."""
    settings = ("combiner=none,add", "features=[upos],[deprel]", "seed=1,2", "trainer.max_steps=2")
    code, out = sweep(small, *settings)
    assert code == 0, out
    planned = "Plan: 6 runs for 8 jobs, some of which are the same words only"
    assert out.startswith(f"{planned}\n")
    assert len(list(small.folder.glob("runs/*/result.json"))) == 6
    code, out = sweep(small, *settings)
    assert code == 0, out
    assert out.startswith(f"{planned}, 6 of them finished when this sweep last ran\n")


def test_a_failed_job(small: Small) -> None:
    """The others run; its error is listed; the exit code is 1; started again, only it runs."""
    more = ["combiner=concat,none,gate", FAILING, "trainer.max_steps=2"]
    code, out = sweep(small, *more)
    assert code == 1, out
    message = (
        "concat leaves the word 0 of the model's width 16: deprel 1 + upos 15 = 16; "
        "make features.<name>.dim smaller or model.dim larger"
    )
    assert f"Job 1 failed: {message}" in out
    (line,) = [line for line in out.splitlines() if line.startswith("Failed: job 1 (")]
    assert line.endswith(f"): {message}")
    assert "combiner=concat" in line
    (folder,) = tables(small)
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert message in text
    rows = [
        [cell.strip() for cell in r.split("|")[1:-1]] for r in text.splitlines() if r[:1] == "|"
    ]
    assert [row[:3] for row in rows[2:5]] == [
        ["concat", "deprel, upos", "0/1"],
        ["none", "-", "1"],
        ["gate", "deprel, upos", "1"],
    ]
    assert set(rows[2][3:]) == {"-"}
    job = json.loads((folder / "jobs" / "1.json").read_text(encoding="utf-8"))
    assert job["error"] == message
    assert "UserError" in job["traceback"]
    code, out = sweep(small, *more)
    assert code == 1, out
    assert out.count("finished before: ") == 2


def test_killed_and_started_again(small: Small) -> None:
    """In its second job: the first is not repeated, the second continues."""
    more = ["combiner=none", "seed=1,2", "trainer.max_steps=8"]
    with small.elsewhere("whole") as twin:
        expected = [outcome(twin.train("combiner=none", f"seed={s}", more[2])) for s in (1, 2)]
    runs = small.folder / "runs"
    die = partial(send_after, 4, signal.SIGKILL, seed=2)
    code, out, err = Life(small.folder).begin("-m", *small.overrides(*more), prepare=die).end()
    assert code == -signal.SIGKILL, f"{out}{err}"
    assert any(runs.glob("*-s1-*/result.json"))
    assert not any(runs.glob("*-s2-*/result.json")), "killed too late; the test proves nothing"
    code, out = sweep(small, *more)
    assert code == 0, out
    assert out.count("finished before: ") == 1
    assert "resumed at update" in out
    assert [outcome(next(runs.glob(f"none-s{s}-*"))) for s in (1, 2)] == expected


def test_two_at_once(small: Small) -> None:
    """The same sweep twice: the second is refused, and leaves the first one's jobs alone."""
    code, out = sweep(small, "combiner=none", "trainer.max_steps=2", "seed=1,2")
    assert code == 0, out
    (folder,) = tables(small)
    jobs = {path: path.read_bytes() for path in (folder / "jobs").iterdir()}
    assert len(jobs) == 2
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        code, out = sweep(small, "combiner=none", "trainer.max_steps=2", "seed=1,2")
    assert code == 2, out
    assert out == f"error: {folder}: another process runs it; wait for it\n"
    assert {path: path.read_bytes() for path in (folder / "jobs").iterdir()} == jobs


def test_a_mistake_before_any_job(small: Small) -> None:
    code, out = sweep(small, "combiner=add,gaet")
    assert code == 2, out
    assert "combiner=gaet: no such option; did you mean 'gate'?" in out


def callback(folder: Path) -> tuple[SweepTable, Any]:
    config = OmegaConf.create(
        {
            "hydra": {
                "mode": RunMode.MULTIRUN,
                "sweep": {"dir": str(folder)},
                "sweeper": {"_target_": "somewhere.OptunaSweeper"},
                "launcher": {"_target_": "hydra._internal.core_plugins.basic_launcher"},
                "job": {"num": 0},
                "runtime": {"choices": {"hydra/launcher": "basic", "hydra/sweeper": "optuna"}},
                "overrides": {"task": ["combiner=gate"]},
            }
        }
    )
    table = SweepTable()
    table.on_multirun_start(config)
    return table, config


def test_other_sweepers_see_failures(tmp_path: Path) -> None:
    """Hydra's own sweeper stops at a failure, so gets NaN; others decide for themselves."""
    table, config = callback(tmp_path / "s")
    for total, status in ((None, JobStatus.FAILED), (3, JobStatus.COMPLETED)):
        table.total = total
        table.on_job_start(config)
        result = JobReturn(cfg=OmegaConf.create({"combiner": {"_target_": None}, "seed": 1}))
        result.status, result._return_value = JobStatus.FAILED, UserError("wrong")
        table.on_job_end(config, job_return=result)
        assert result.status == status
    assert math.isnan(result.return_value)
    assert current.folder is None
    table.total = None
    assert table.write_table() == 1
    assert table.write_table() == 0  # said once
    assert "wrong" in (tmp_path / "s" / "table.md").read_text(encoding="utf-8")


def test_a_folder_with_files_of_others(tmp_path: Path) -> None:
    """Its own jobs alone are removed: hydra.sweep.dir may be any folder."""
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    others = {jobs / name for name in ("train.sh", "slurm.json", "2026.txt")}
    for path in (*others, jobs / "1.json", jobs / "12.log", jobs / ".3.json.17.tmp"):
        path.write_text("[]")
    table, _ = callback(tmp_path)
    assert set(jobs.iterdir()) == others
    assert table.read_jobs() == []


def test_what_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra swallows it; the exit code says it all the same."""
    table, config = callback(tmp_path / "s")
    table.total = 1
    result = JobReturn(cfg=OmegaConf.create({"combiner": {"_target_": None}, "seed": 1}))
    result.status, result._return_value = JobStatus.FAILED, UserError("wrong")

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("nmt_feat.cli.sweep.write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            table.on_job_end(config, job_return=result)
    with pytest.raises(SystemExit) as end:
        table.on_multirun_end(config)
    assert end.value.code == 1
    result.status, result._return_value = JobStatus.FAILED, UserError("wrong")
    table.on_job_end(config, job_return=result)
    (tmp_path / "s" / "table.md").mkdir()
    with pytest.raises(SystemExit) as end:
        table.on_multirun_end(config)
    assert end.value.code == 2
    message = f"error: {tmp_path / 's'}: cannot be written (Is a directory)\n"
    assert capsys.readouterr().err == message


def test_tables_are_written_before_they_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in printing loses nothing, and is no success."""
    table, config = callback(tmp_path / "s")
    table.total = 1
    result = JobReturn(cfg=OmegaConf.create({"combiner": {"_target_": None}, "seed": 1}))
    result.status, result._return_value = JobStatus.FAILED, UserError("wrong")
    printed: list[str] = []
    monkeypatch.setattr("nmt_feat.cli.sweep.say", lambda *parts: printed.append(str(parts)))
    table.on_job_end(config, job_return=result)
    assert "Job 1 failed: wrong" in printed[0]
    monkeypatch.setattr("nmt_feat.analysis.report.Report.print_tables", lambda *_: 1 / 0)
    with pytest.raises(SystemExit) as end:
        table.on_multirun_end(config)
    assert end.value.code == 1
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert names >= {"table.md", "table.csv", "table.json", "table.tex"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.4, "1 s"), (89, "89 s"), (90, "2 min"), (3590, "1 h 0 min"), (12_000, "3 h 20 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_every_method_in_one_sweep(small: Small) -> None:
    """`combiner='glob(*)'` needs no special case: a row for each file of the group."""
    shipped = sorted(path.stem for path in (ROOT / "conf" / "combiner").glob("*.yaml"))
    code, out = sweep(small, "combiner=glob(*)", "trainer.max_steps=1", "trainer.validate_every=1")
    assert code == 0, out
    (folder,) = tables(small)
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["method"] for row in rows) == shipped
    labels = {name for name in rows[0] if name.startswith("combiner")}
    assert not labels, labels
