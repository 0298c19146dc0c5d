"""Sweeps whose jobs run in processes of their own: the same runs, the same table."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from hydra import compose, initialize_config_dir

from nmt_feat.base.pool import count_cores
from nmt_feat.cli.compose import register_schemas
from nmt_feat.cli.explain import EXTRAS
from tests.support.entry import call
from tests.support.small import ROOT, Small, outcome, record
from tests.support.sweeps import FAILING, sweep, tables

pytestmark = pytest.mark.slow

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
JOBS = ("combiner=add,concat,none,gate", FAILING, "seed=1")


def start(small: Small, *more: str) -> subprocess.Popen[str]:
    """`python train.py -m ...`, as from a shell: a child of a test's would wait for its workers."""
    argv = [sys.executable, str(ROOT / "train.py"), "-m", *small.overrides(*more)]
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        argv, cwd=small.folder, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def swept(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, str]:
    """Four methods, one of which fails, two at a time; what was printed."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    folder = tmp_path_factory.mktemp("joblib")
    small = Small(corpus, folder / "cache", folder)
    process = start(small, *JOBS, *JOBLIB)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 1, out
    return small, out


def test_the_same_bits_and_the_same_table(swept: tuple[Small, str], tmp_path: Path) -> None:
    small, _ = swept
    one = Small(small.corpus, small.cache, tmp_path)
    code, out = sweep(one, *JOBS)
    assert code == 1, out
    mine, theirs = (
        {path.parent.name: outcome(path.parent) for path in s.folder.glob("runs/*/result.json")}
        for s in (small, one)
    )
    assert len(mine) == 3
    assert mine == theirs
    rows = []
    for folder in (*tables(small), *tables(one)):
        with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
            rows.append([{k: r[k] for k in r if "minutes" not in k} for r in csv.DictReader(file)])
    assert rows[0] == rows[1]
    assert [row["method"] for row in rows[0]] == ["add", "concat", "none", "gate"]


def test_what_is_said(swept: tuple[Small, str]) -> None:
    small, out = swept
    message = "concat leaves the word 0 of the model's width 16: deprel 1 + upos 15 = 16; "
    assert f"Job 2 failed: {message}" in out
    settings = out.replace("\n", " ").partition("Failed: job 2 (")[2].partition("): ")[0]
    assert f"combiner=concat {FAILING}" in settings
    assert [n for n in range(1, 5) if f"Job {n} has ended: " in out] == [1, 3, 4]
    assert "The first run took " in out
    assert "step 2: loss" not in out  # what two jobs say at a time goes to files
    (folder,) = tables(small)
    logs = [(folder / "jobs" / f"{n}.log").read_text(encoding="utf-8") for n in (1, 3, 4)]
    assert all("step 2: loss" in log for log in logs)
    # the data with the features is prepared once, by add or gate, and so is that without
    assert sum(log.count("encoding\n") for log in logs) == 2


def test_again(swept: tuple[Small, str]) -> None:
    """Nothing is trained twice, a run that another process trains is waited for."""
    small, _ = swept
    times = {p: p.stat().st_mtime_ns for p in small.folder.glob("runs/*/result.json")}
    (run,) = small.folder.glob("runs/gate-*")
    (folder,) = tables(small)
    log = folder / "jobs" / "4.log"
    log.unlink()
    with FileLock(run.with_name(f".{run.name}.lock")):
        process = start(small, *JOBS, *JOBLIB)
        while not (log.exists() and "waiting for it" in log.read_text()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 1, out
    assert "The first run took " not in out
    assert f"{run}: another process is training this run; waiting for it" in log.read_text()
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_threads_are_divided(small: Small) -> None:
    """Unless `trainer.threads` says how many, the jobs share the cores."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    more = ("combiner=none", "seed=1,2", "trainer.threads=0", "trainer.max_steps=2")
    process = start(small, *more, *JOBLIB)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    result = [record(path.parent) for path in small.folder.glob("runs/*/result.json")]
    assert [run["machine"]["threads"] for run in result] == [max(1, count_cores() // 2)] * 2


def test_without_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "hydra/launcher=elsewhere", "joblib")
    done = call("train", "-m", "hydra/launcher=elsewhere", "seed=1,2")
    expected = "hydra/launcher=elsewhere: not installed; do: pip install 'nmt_feat[joblib]'"
    assert (done.code, done.err) == (2, f"error: {expected}\n")


def test_submitit_on_this_machine(swept: tuple[Small, str]) -> None:
    """What Slurm would start, as plain processes: they find what is finished."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    small, _ = swept
    process = start(small, *JOBS, "hydra/launcher=submitit_local")
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 1, out
    settings = out.replace("\n", " ").partition("Failed: job 2 (")[2].partition("): ")[0]
    assert f"combiner=concat {FAILING}" in settings
    logs = [path.read_text() for path in small.folder.glob("runs/sweeps/*/.submitit/*/*_log.out")]
    assert len(logs) == 4
    assert [n for n in range(1, 5) if sum(f"\nJob {n} of 4: " in log for log in logs) == 1] == [
        1,
        2,
        3,
        4,
    ]
    assert sum("Job 2 failed: concat leaves the word 0" in log for log in logs) == 1


def test_slurm_composes() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    register_schemas()
    more = ["experiment=four_methods", "hydra/launcher=submitit_slurm"]
    limits = ["hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=120"]
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        config = compose("train", more + limits, return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_.endswith(".SlurmLauncher")
    assert (launcher.partition, launcher.timeout_min) == ("gpu", 120)


SEARCH = (
    "combiner=add",
    "trainer.max_steps=2",
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=2",
    "hydra.sweeper.n_jobs=1",
    "features.upos.dim=choice(3,4)",
    "model.dropout=interval(0.0,0.3)",
)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_search(small: Small, direction: str) -> None:
    """Two trials, which Optuna chooses; the wrong direction, its default, is refused."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    code, out = sweep(small, *SEARCH, f"hydra.sweeper.direction={direction}")
    if direction == "minimize":
        assert (code, out.count("\n")) == (2, 1), out
        assert out.endswith("set hydra.sweeper.direction=maximize\n")
        return
    assert code == 0, out
    result = [record(path.parent) for path in small.folder.glob("runs/*/result.json")]
    assert len({run["settings"]["model"]["dropout"] for run in result}) == 2
    assert all(0 <= run["settings"]["model"]["dropout"] <= 0.3 for run in result)
    assert {run["settings"]["features"]["upos"]["dim"] for run in result} <= {3, 4}
    (folder,) = tables(small)
    best = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert best["best_value"] == max(run["dev"]["bleu"] for run in result)


def test_a_trial_that_fails_ends_no_search(small: Small) -> None:
    """Three trials are tried, the first of which may be impossible; then exit code 1."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    more = [setting for setting in SEARCH if not setting.startswith(("combiner", "features"))]
    fails = ("combiner=concat", "features.upos.dim=choice(16,17)", "hydra.sweeper.n_trials=3")
    more = [setting for setting in more if "n_trials" not in setting]
    code, out = sweep(small, *more, *fails, "hydra.sweeper.direction=maximize")
    assert code == 1, out
    assert [n for n in range(1, 5) if f"Job {n} failed: concat leaves the word" in out] == [1, 2, 3]
    assert "Traceback" not in out
