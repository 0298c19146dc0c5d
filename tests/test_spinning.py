"""How long threads spin: chosen before PyTorch is loaded, by threads and free cores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode

from nmt_feat.base import pool
from nmt_feat.cli import spinning
from nmt_feat.cli.main import SHORT_SPIN, SPIN_CHOICES, set_library_defaults
from nmt_feat.cli.spinning import (
    SpinChoice,
    count_busy_threads,
    read_cpu_quota,
)
from tests.support.small import ROOT

LAUNCHERS = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"
LOCAL = {"_target_": f"{LAUNCHERS}.LocalLauncher", "cpus_per_task": 2}
SLURM = {"_target_": f"{LAUNCHERS}.SlurmLauncher", "cpus_per_task": None}


@pytest.fixture
def free_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores that nobody works on, and no choice of the user."""
    for name in (*SPIN_CHOICES, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that what is set later is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(spinning, "count_cores", lambda: 4)
    monkeypatch.setattr(pool, "count_cores", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(spinning, "count_busy_threads", lambda: 0)
    monkeypatch.setattr(spinning, "read_cpu_quota", lambda: 4.0)


def choose(
    threads: int = 1,
    devices: int = 1,
    launcher: dict[str, Any] | None = None,
    overrides: str = "",
) -> str | None:
    """What is chosen, in a sweep if there is a launcher."""
    mode = RunMode.RUN if launcher is None else RunMode.MULTIRUN
    launcher = {"n_jobs": -1} if launcher is None else launcher
    SpinChoice(threads, devices, mode, launcher, overrides.split())
    return os.environ.get("GOMP_SPINCOUNT")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"threads": 0}, None),
        ({"threads": 4}, None),
        ({"threads": 5}, SHORT_SPIN),
        ({"threads": 2, "devices": 2}, None),
        ({"threads": 3, "devices": 2}, SHORT_SPIN),
        ({"threads": 0, "devices": 3}, None),
        ({"threads": 0, "devices": 8}, SHORT_SPIN),
        ({"devices": 0}, None),  # which is refused later
        ({"launcher": {"n_jobs": 4}}, None),
        ({"threads": 2, "launcher": {"n_jobs": 4}}, SHORT_SPIN),
        ({"threads": 2, "launcher": {"n_jobs": -1}}, SHORT_SPIN),
        ({"threads": 2, "launcher": {"n_jobs": -3}}, None),
        ({"threads": 0, "launcher": {"n_jobs": -1}}, None),
        ({"threads": 4, "launcher": {}}, None),
        ({"launcher": {"n_jobs": 4}, "overrides": "trainer.threads=1,3"}, SHORT_SPIN),
        ({"launcher": {"n_jobs": 4}, "threads": 3, "overrides": "trainer.threads=1"}, None),
        ({"launcher": {}, "overrides": "seed=7 trainer.devices=5"}, SHORT_SPIN),
        ({"launcher": LOCAL}, SHORT_SPIN),
        ({"launcher": SLURM}, None),
        ({"threads": 0, "launcher": SLURM}, None),
        ({"threads": 2, "launcher": SLURM}, SHORT_SPIN),
        ({"threads": 8, "launcher": SLURM | {"cpus_per_task": 8}}, None),
    ],
)
def test_chosen_by_threads_and_cores(
    settings: dict[str, Any], expected: str | None, free_cores: None
) -> None:
    assert choose(**settings) == expected


def test_cores_that_others_work_on(free_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinning, "count_busy_threads", lambda: 3)
    assert choose(threads=1) is None
    assert choose(threads=2) == SHORT_SPIN


def test_threads_of_the_environment(free_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib divides the cores among its jobs, but not these."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert choose(threads=0, launcher={"n_jobs": 2}) is None
    assert choose(threads=0, launcher={"n_jobs": 3}) == SHORT_SPIN


@pytest.mark.parametrize("name", SPIN_CHOICES)
def test_the_users_choice_stays(
    name: str, free_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "7")
    assert choose(threads=1000) == (None if name == "OMP_WAIT_POLICY" else "7")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, float("inf")),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_limits_of_a_container(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_cpu_quota(tmp_path) == expected


def test_busy_threads(tmp_path: Path) -> None:
    assert count_busy_threads(tmp_path / "absent") == 0
    (tmp_path / "loadavg").write_text("0.00 0.01 0.05 3/210 4711\n")
    assert count_busy_threads(tmp_path / "loadavg") == 2


def test_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice of the user's, by either variable, stays."""
    monkeypatch.setattr(os, "environ", {})
    set_library_defaults("train")
    assert "GOMP_SPINCOUNT" not in os.environ
    set_library_defaults("translate")
    assert os.environ["GOMP_SPINCOUNT"] == SHORT_SPIN
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "active"})
    set_library_defaults("translate")
    assert "GOMP_SPINCOUNT" not in os.environ


def run_train(code: str, *arguments: str, cwd: Path = ROOT) -> str:
    """What is printed by Python code that calls `run_subcommand("train")`, with no choice made."""
    environment = {n: v for n, v in os.environ.items() if n not in (*SPIN_CHOICES, "PYTHONPATH")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


@pytest.mark.thorough
def test_before_pytorch_is_loaded() -> None:
    code = """
import os, sys
from nmt_feat.cli import main, spinning
def count_threads(*args):
    print("torch" in sys.modules, os.environ.get("GOMP_SPINCOUNT"), args[:3], flush=True)
    os._exit(0)
spinning.count_threads = count_threads
main.run_subcommand("train")
"""
    out = run_train(code, "trainer.threads=3", "trainer.devices=2")
    assert out == "False None (3, 2, 1)\n"


@pytest.mark.slow
def test_jobs_of_joblib_inherit_it(tmp_path: Path) -> None:
    """Four threads of two jobs on three cores; without the table, which would import PyTorch."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    code = """
import os
from nmt_feat.cli import main, spinning, train
def print_choice(cfg):
    print(os.getpid(), os.environ.get("GOMP_SPINCOUNT"), flush=True)
    return 0.0
spinning.count_free_cores = lambda: 3
train.start_job = print_choice
print(os.getpid(), os.environ.get("GOMP_SPINCOUNT"), flush=True)
main.run_subcommand("train")
"""
    launcher = "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "~hydra.callbacks.table"
    out = run_train(code, "-m", *launcher, "seed=1,2", "trainer.threads=2", cwd=tmp_path)
    (parent, before), *jobs = (line.split() for line in out.splitlines())
    assert before == "None"
    assert [choice for _, choice in jobs] == [SHORT_SPIN, SHORT_SPIN]
    assert parent not in {process for process, _ in jobs}
