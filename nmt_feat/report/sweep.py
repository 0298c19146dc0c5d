"""A sweep's summary: a Hydra callback that keeps failures apart and ends in the table.

Hydra 1.3 runs all jobs, then raises the first failed one's exception and skips the end of the
sweep (hydra issue 2284). So a failed job is recorded here and, for Hydra's own sweeper, handed on
as one that returned NaN; after the table the process exits with code 1.
"""

from __future__ import annotations

import atexit
import json
import math
import shutil
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from nmt_feat.errors import UserError
from nmt_feat.report.records import FINISHED, STARTED, RunRecord, method_name, read_record
from nmt_feat.report.tables import Table
from nmt_feat.training.checkpoints import write_atomically


@dataclass
class SweepState:
    """Where the run that this process is busy with leaves its records. Training tells it."""

    folder: Path | None = None
    trained: bool = False

    def started(self, folder: Path) -> None:
        """The run's folder is known; its `run.json` is written."""
        self.folder, self.trained = folder, False

    def finished(self, folder: Path, trained: bool = True) -> None:
        """The run has its `result.json`; not `trained` if it was there before."""
        self.folder, self.trained = folder, trained


current = SweepState()


def count_jobs(config: DictConfig) -> int:
    """Jobs of Hydra's own sweeper: the product of the choices in its overrides."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    given = [f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()]
    choices = {
        override.get_key_element(): len(list(override.sweep_string_iterator()))
        if override.is_discrete_sweep()
        else 1
        for override in parser.parse_overrides([*given, *config.hydra.overrides.task])
    }
    return math.prod(choices.values())


def duration(seconds: float) -> str:
    """`48 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class SweepTable(Callback):
    """`hydra.callbacks.table._target_`: records each job in `<sweep dir>/jobs`, ends in a table."""

    def __init__(self) -> None:
        self.folder = Path()
        self.total: int | None = None
        self.own = False  # Hydra's own sweeper and launcher: one job after the other, here
        self.estimated = self.summed = False
        self.began = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget an earlier sweep in the same folder, not one that still runs; count the jobs."""
        self.folder = Path(config.hydra.sweep.dir).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
        try:
            self.lock.acquire(timeout=0)
        except Timeout:  # Hydra swallows other exceptions here
            print(f"error: {self.folder}: another process runs it; wait for it", file=sys.stderr)
            sys.exit(2)
        shutil.rmtree(self.folder / "jobs", ignore_errors=True)
        (self.folder / "jobs").mkdir()
        targets = (config.hydra.sweeper._target_, config.hydra.launcher._target_)
        self.own = all(target.startswith("hydra._internal.") for target in targets)
        if targets[0].startswith("hydra._internal."):
            self.total = count_jobs(config)
        atexit.register(self.summary)  # other sweepers, Ctrl-C: the end of the sweep is not called

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say what runs; start the clock."""
        if config.hydra.mode == RunMode.MULTIRUN:
            total = f" of {self.total}" if self.total else ""
            job = f"Job {config.hydra.job.num + 1}{total}: {' '.join(config.hydra.overrides.task)}"
            Console(markup=False, highlight=False, soft_wrap=True).print(job)
        current.folder, current.trained = None, False
        self.began = time.monotonic()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write the job's file; turn a failure into a value; say how long the sweep will take."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        seconds = time.monotonic() - self.began
        job: dict[str, Any] = {
            "number": config.hydra.job.num + 1,
            "overrides": list(config.hydra.overrides.task),
            "folder": str(current.folder.absolute()) if current.folder else None,
            "seconds": seconds,
            "error": None,
            "config": _container(job_return.cfg),
        }
        console = Console(highlight=False, soft_wrap=True, markup=False)
        if job_return.status == JobStatus.FAILED:
            error = job_return._return_value
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            job["error"] = kind + " ".join(str(error).split())
            job["traceback"] = "".join(traceback.format_exception(error))
            console.print(f"Job {job['number']} failed: {job['error']}")
            if self.total is not None:
                job_return.status = JobStatus.COMPLETED
                job_return.return_value = math.nan
        elif current.trained and self.own and self.total and not self.estimated:
            self.estimated = True
            rest = self.total - job["number"]
            console.print(
                f"The first run took {duration(seconds)}; {rest} more of {self.total} take about "
                f"{duration(rest * seconds)}, less where runs are finished already."
            )
        path = self.folder / "jobs" / f"{job['number']}.json"
        write_atomically(path, json.dumps(job, indent=2, default=str).encode())

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the table; exit with code 1 if a job failed."""
        if self.summary():
            raise SystemExit(1)

    def summary(self) -> int:
        """Print the table, write it into the sweep's folder; the number of failed jobs. Once."""
        if self.summed:
            return 0
        self.summed = True
        atexit.unregister(self.summary)
        jobs = [json.loads(path.read_bytes()) for path in (self.folder / "jobs").glob("*.json")]
        if not jobs:  # Hydra has refused the overrides and said so
            return 0
        jobs.sort(key=lambda job: int(job["number"]))
        failed = [job for job in jobs if job["error"] is not None]
        notes = [
            f"Failed: job {job['number']} ({' '.join(job['overrides'])}): {job['error']}"
            for job in failed
        ]
        if self.total and len(jobs) < self.total:
            notes.append(f"Not run: {self.total - len(jobs)} of {self.total} jobs")
        if failed:
            notes.append("Tracebacks are in the folder jobs; the same command runs only these")
        console = Console()
        table = Table(map(_record, jobs), notes)
        table.print(console)
        written = " and ".join(str(path) for path in table.write(self.folder))
        console.print(f"Written: {written}", markup=False, highlight=False, soft_wrap=True)
        return len(failed)


def _container(config: DictConfig | None) -> Any:
    """The job's configuration as plain values, unresolved where that is impossible."""
    try:
        return OmegaConf.to_container(config or OmegaConf.create(), resolve=True)
    except OmegaConfBaseException:
        return OmegaConf.to_container(config or OmegaConf.create(), resolve=False)


def _record(job: dict[str, Any]) -> RunRecord:
    """The job's record: the finished run's, the started one's, or a stub for its missing cell."""
    if job["folder"] is not None:
        for path in (Path(job["folder"]) / FINISHED, Path(job["folder"]) / STARTED):
            if path.exists():
                return read_record(path)
    config = job["config"]
    method = method_name((config.get("combiner") or {}).get("_target_"))
    return RunRecord(
        method=method,
        features=[] if method == "none" else sorted(config.get("features") or {}),
        seed=config.get("seed", job["number"]),
        data=str((config.get("data") or {}).get("name")),
        hash="",
        settings=config,
        config=config,
    )
