"""How long the threads of a run wait awake for their next piece of work.

A training is many short pieces of work for all threads. Where every thread has a core, one that has
finished waits awake ("spins"): to sleep and to be woken takes longer than most pieces. Where more
threads than cores wait, a spinning one takes the core from the one that it waits for. OpenMP reads
its choice once, when PyTorch is loaded. So this is the first of Hydra's callbacks, which are made
when settings are composed and before a job imports PyTorch. The processes of a run and the jobs of
a sweep inherit what is chosen.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode

from nmt_feat.base.pool import count_cores, count_workers
from nmt_feat.cli.main import SHORT_SPIN, SPIN_CHOICES, SPIN_COUNT

BUSY_SAMPLES = 5


class SpinChoice(Callback):
    """`hydra.callbacks.spinning._target_`: sets `GOMP_SPINCOUNT`, unless the user has chosen.

    Args:
        threads: `trainer.threads`, as files have it.
        devices: `trainer.devices`, as files have it.
        mode: whether there is a sweep.
        launcher: Hydra's launcher of the jobs of a sweep.
        overrides: settings of the command line, which a sweep gives to its jobs alone.
    """

    def __init__(
        self,
        threads: int,
        devices: int,
        mode: RunMode,
        launcher: Mapping[str, Any],
        overrides: Sequence[str],
    ) -> None:
        if any(name in os.environ for name in SPIN_CHOICES):
            return
        jobs, cores, free_cores = 1, count_cores(), count_free_cores()
        is_slurm = str(launcher.get("_target_")).endswith("SlurmLauncher")
        if mode == RunMode.MULTIRUN and is_slurm:  # which gives each job cores of its own
            cores = free_cores = launcher.get("cpus_per_task") or 1
        elif mode == RunMode.MULTIRUN:
            jobs = count_jobs(launcher)
        needed_cores = max(
            count_threads(thread_count, device_count, jobs, cores)
            for thread_count in _list_values("trainer.threads", overrides) or [threads]
            for device_count in _list_values("trainer.devices", overrides) or [devices]
        )
        if needed_cores > free_cores:
            os.environ[SPIN_COUNT] = SHORT_SPIN


def count_threads(threads: int, devices: int, jobs: int, cores: int) -> int:
    """Threads that work at a time.

    Args:
        threads: of a process; 0: PyTorch's choice, divided by `devices`.
        devices: processes of a run.
        jobs: runs side by side.
        cores: those that the jobs may use; joblib divides them among its jobs.
    """
    processes = max(1, devices)
    of_job = int(os.environ.get("OMP_NUM_THREADS") or cores // jobs)
    return jobs * processes * (threads or max(1, of_job // processes))


def count_jobs(launcher: Mapping[str, Any]) -> int:
    """Runs side by side on this machine.

    submitit's jobs on this machine all start at once, more than there are cores perhaps.
    """
    if str(launcher.get("_target_")).endswith("LocalLauncher"):
        return count_cores() + 1
    return count_workers(int(launcher.get("n_jobs") or 1))


def count_free_cores() -> float:
    """Cores that this process may use, by affinity and container, and that nobody else works on."""
    free_cores = (os.cpu_count() or 1) - count_busy_threads()
    return min(count_cores(), read_cpu_quota(), free_cores)


def count_busy_threads(path: Path = Path("/proc/loadavg")) -> int:
    """Threads of the machine that work at this moment, without this one; 0 if it does not tell.

    Not the mean load: that of a run that has just ended would count. Where two commands start
    together, each sees the other.
    """
    counts = []
    with contextlib.suppress(OSError):
        for _ in range(BUSY_SAMPLES):
            running, _, _ = path.read_text(encoding="utf-8").split()[3].partition("/")
            counts.append(int(running) - 1)
            time.sleep(0.01)
    return statistics.median_low(counts) if counts else 0


def read_cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores that a container may use, by its control group; infinite without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):
            numbers = " ".join((root / name).read_text(encoding="utf-8") for name in names).split()
            quota, period = map(int, numbers)  # version 2 says max where there is no limit,
            if quota > 0:  # version 1 a number below 0
                return quota / period
    return math.inf


def _list_values(name: str, overrides: Sequence[str]) -> list[int]:
    """The numbers that a command line gives to a setting: `trainer.threads=1,2` has two."""
    texts = [text.partition("=")[2] for text in overrides if text.partition("=")[0] == name]
    return [int(number) for text in texts for number in re.findall(r"\d+", text)]
