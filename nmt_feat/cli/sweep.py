"""A sweep's summary: a Hydra callback that keeps failures apart and ends in the table.

Hydra 1.3 runs all jobs, then raises the first failed one's exception and skips the end of the
sweep (hydra issue 2284). So a failed job is recorded here and, for Hydra's own sweeper, handed on
as one that returned NaN; after the table the process exits with code 1.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import dataclasses
import json
import logging
import math
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from filelock import Timeout
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nmt_feat.base.files import write_atomically
from nmt_feat.base.pool import count_workers
from nmt_feat.base.terminal import TextConsole, format_duration, say
from nmt_feat.base.typed_json import convert_json
from nmt_feat.cli.plan import describe_plan
from nmt_feat.config.identity import leave_out, name_method
from nmt_feat.config.members import settings_of_unchosen
from nmt_feat.config.overrides import keep_text
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError, fail, writing_to
from nmt_feat.runs.find_runs import JOB_FILE, SWEEP_JOBS, SWEEP_STATE
from nmt_feat.runs.job_state import JobState
from nmt_feat.runs.locks import lock_of
from nmt_feat.runs.records import Request, RunRecord, read_run, select_results

current = JobState()
"""What the job that this process is busy with has come to."""
_log = contextlib.ExitStack()  # where this process's job prints to, if not to the terminal


def list_jobs(config: DictConfig) -> list[list[str]]:
    """The settings of each job of Hydra's own sweeper."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    params = [f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = parser.parse_overrides([*params, *config.hydra.overrides.task])
    return [list(job) for job in BasicSweeper.split_arguments(overrides, None)[0]]


def keep_text_of_params(config: DictConfig) -> None:
    """The sweep of an experiment keeps its text, as that of the command line does."""
    params = config.hydra.sweeper.get("params") or {}
    for name, value in params.items():
        params[name] = keep_text(f"{name}={value}", TrainConfig, sweep=True).partition("=")[2]


def refuse_unchosen(config: DictConfig, jobs: list[list[str]]) -> None:
    """Refuse settings of a feature or logger that no job chooses; such a name is a mistake."""
    unchosen = settings_of_unchosen(config, config.hydra.overrides.task)
    loader = GlobalHydra.instance().config_loader()
    choices = {tuple(s for s in job if "." not in s.partition("=")[0]) for job in jobs}
    if not unchosen:
        return
    for choice in choices:
        about = [s for settings in unchosen.values() for s in settings]
        with contextlib.suppress(HydraException, OmegaConfBaseException):  # the job will say it
            job = loader.load_sweep_config(config, list(choice))
            unchosen = settings_of_unchosen(job, [f"{name}=" for name in about])
    for entry in unchosen:
        group, _, name = entry.partition(".")
        fail(
            f"{entry}: no job of the sweep chooses it; choose it by name, {group}=[{name},...], or "
            f"leave {', '.join(unchosen[entry])} out"
        )


def refuse_search_of_table(config: DictConfig) -> None:
    """Refuse a search together with an experiment that is a table: rows are no settings to choose.

    What the command line itself sets is no part of the table any more.
    """
    choices = config.hydra.runtime.choices
    search, experiment = choices.get("hparams_search"), choices.get("experiment")
    if not search or not experiment:
        return
    names = {o.partition("=")[0].lstrip("+") for o in config.hydra.overrides.task}
    loader = GlobalHydra.instance().config_loader()
    alone = loader.load_configuration("train", [f"experiment={experiment}"], RunMode.MULTIRUN)
    rows = [name for name in alone.hydra.sweeper.get("params") or () if name not in names]
    if rows:
        fail(
            f"experiment={experiment} hparams_search={search}: the experiment is a table over "
            f"{', '.join(rows)}, and a search chooses settings of one method; set these "
            f"({rows[0]}=...), or leave one of the two out"
        )


def chosen_plugins(config: DictConfig) -> dict[str, str]:
    """The options of Hydra's groups that decide how a sweep is run."""
    choices = config.hydra.runtime.choices
    return {group: str(choices.get(group)) for group in ("hydra/launcher", "hydra/sweeper")}


def count_parallel_jobs(config: DictConfig) -> int | None:
    """How many jobs run at a time; None where that is a cluster's affair."""
    launcher = config.hydra.launcher
    if launcher._target_.startswith("hydra._internal."):
        return 1
    count: int | None = launcher.get("n_jobs")
    if count is None:  # joblib's
        return None
    return count_workers(int(count))


def describe_job(config: DictConfig, job_return: JobReturn, seconds: float) -> dict[str, Any]:
    """What a job's file says: what was asked for, where the run is, what went wrong."""
    settings = job_return.cfg or OmegaConf.create()
    with contextlib.suppress(OmegaConfBaseException):  # what cannot be resolved stays as it is
        OmegaConf.resolve(settings)
    job: dict[str, Any] = {
        "number": config.hydra.job.num + 1,
        "overrides": list(config.hydra.overrides.task),
        "folder": str(current.folder.absolute()) if current.folder else None,
        "seconds": seconds,
        "trained": current.trained,
        "request": current.request and dataclasses.asdict(current.request),
        "error": None,
        "config": OmegaConf.to_container(settings),
    }
    if job_return.status == JobStatus.FAILED:
        error = job_return._return_value
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        job["error"] = kind + " ".join(str(error).split())
        job["traceback"] = "".join(traceback.format_exception(error))
    return job


class SweepTable(Callback):
    """`hydra.callbacks.table._target_`: records each job in `<sweep dir>/jobs`, ends in a table."""

    def __init__(self) -> None:
        self.folder = Path()
        self.total: int | None = None  # jobs, as far as Hydra's own sweeper makes them
        self.apart = False  # jobs run in other processes, side by side
        self.searches = False  # by Optuna, which goes on after a trial that failed
        self.chosen: dict[str, str] = {}  # Hydra's launcher and sweeper, before there are jobs
        self.summed = False
        self.began = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget an earlier sweep in the same folder, not one that still runs; count the jobs."""
        refuse_search_of_table(config)
        keep_text_of_params(config)
        self.chosen = chosen_plugins(config)
        self.folder = Path(config.hydra.sweep.dir).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = lock_of(self.folder)
        try:
            lock.acquire()
        except Timeout:  # Hydra swallows other exceptions here
            fail(f"{self.folder}: another process runs it; wait for it")
        earlier_jobs = self.read_earlier_jobs()
        (self.folder / SWEEP_JOBS).mkdir(exist_ok=True)
        for path in (self.folder / SWEEP_JOBS).iterdir():  # others may have files there, too
            if JOB_FILE.fullmatch(path.name):
                path.unlink()
        if config.hydra.sweeper._target_.startswith("hydra._internal."):
            jobs = list_jobs(config)
            refuse_unchosen(config, jobs)
            self.total = len(jobs)
            # Runs may go while it is made, and what cannot be resolved ends the job that has it.
            with contextlib.suppress(OSError, HydraException, OmegaConfBaseException):
                say(describe_plan(config, jobs, earlier_jobs))
        elif str(config.hydra.sweeper.get("direction")).lower() == "minimize":  # Optuna's default
            fail(
                "hydra.sweeper.direction=minimize: a run returns dev BLEU, the higher the better; "
                "set hydra.sweeper.direction=maximize"
            )
        elif config.hydra.sweeper.get("max_failure_rate") == 0:
            self.searches = True
            config.hydra.sweeper.max_failure_rate = 1.0  # else the first failed trial ends all
            logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)
        self.write_state(ended=False)
        self.apart = not config.hydra.launcher._target_.startswith("hydra._internal.")
        current.described.clear()
        atexit.register(lock.release)
        # After other sweepers, and after Ctrl-C, `on_multirun_end` is not called.
        atexit.register(self.write_table)

    def write_state(self, ended: bool) -> None:
        """Write what others may know of the sweep while it runs."""
        state = {"total": self.total, "ended": ended}
        write_atomically(self.folder / SWEEP_STATE, json.dumps(state).encode())

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say what runs; start the clock. What jobs say side by side goes to files."""
        if config.hydra.mode == RunMode.MULTIRUN:
            total = f" of {self.total}" if self.total else ""
            job = f"Job {config.hydra.job.num + 1}{total}: {' '.join(config.hydra.overrides.task)}"
            say(job)
            if self.apart:
                path = self.folder / SWEEP_JOBS / f"{config.hydra.job.num + 1}.log"
                file = _log.enter_context(path.open("w", 1, encoding="utf-8"))
                _log.enter_context(contextlib.redirect_stdout(file))
            for group, name in chosen_plugins(config).items():
                if name != self.chosen.get(group, name):
                    say(
                        f"{group}={name}, in a file that the job names, has no effect: Hydra "
                        f"chooses it before there are jobs; give {group}={name} on the command line"
                    )
                    self.chosen[group] = name  # said once
        current.folder, current.trained, current.request = None, False, None
        self.began = time.monotonic()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write the job's file; turn a failure into a value; say how long the sweep will take."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        _log.close()
        seconds = time.monotonic() - self.began
        job = describe_job(config, job_return, seconds)
        if job_return.status == JobStatus.FAILED:
            if self.total is not None:
                job_return.status = JobStatus.COMPLETED
                job_return.return_value = math.nan
            elif self.searches:  # Optuna takes what is no number as a failed trial, and goes on
                job_return.status = JobStatus.COMPLETED
                job_return.return_value = "failed"
        earlier = self.read_jobs()
        path = self.folder / SWEEP_JOBS / f"{job['number']}.json"
        write_atomically(path, json.dumps(job, indent=2, default=str).encode())
        # Printed last: Hydra swallows what is raised here, a full pipe or disk among it.
        if job["error"] is not None:
            say(f"Job {job['number']} failed: {job['error']}")
        elif self.apart:
            say(f"Job {job['number']} has ended: {format_duration(seconds)}")
        count = count_parallel_jobs(config) if current.trained and self.total else None
        if count and self.total and not any(job["trained"] for job in earlier):
            rest = self.total - len(earlier) - 1
            say(
                f"The first run took {format_duration(seconds)}; {rest} more of {self.total} take "
                f"about {format_duration(rest * seconds / count)}, less where runs are finished."
            )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the table; exit with code 1 if a job failed or has left no file."""
        try:
            with writing_to(self.folder):
                failed = self.write_table()
        except UserError as error:  # Hydra swallows it
            fail(str(error))
        except BrokenPipeError:  # who reads the table has seen enough; it is written
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            failed = sum(job["error"] is not None for job in self.read_jobs())
        except Exception:  # a defect of ours, which Hydra would only warn of
            traceback.print_exc()
            raise SystemExit(1) from None
        if failed or len(self.read_jobs()) < (self.total or 0):
            raise SystemExit(1)

    def read_jobs(self) -> list[dict[str, Any]]:
        """The jobs that have ended, in order."""
        paths = [p for p in (self.folder / SWEEP_JOBS).glob("*.json") if JOB_FILE.fullmatch(p.name)]
        return [json.loads(p.read_bytes()) for p in sorted(paths, key=lambda path: int(path.stem))]

    def read_earlier_jobs(self) -> list[dict[str, Any]]:
        """The jobs of an earlier start, none if their files are damaged."""
        with contextlib.suppress(OSError, ValueError):
            return self.read_jobs()
        return []

    def write_table(self) -> int:
        """Print the table, write it into the sweep's folder; the number of failed jobs. Once."""
        jobs = self.read_jobs()
        if not self.summed:
            self.write_state(ended=True)
        if self.summed or not jobs:  # none: Hydra has refused the overrides and said so
            return 0
        self.summed = True
        notes = [
            f"Failed: job {job['number']} ({' '.join(job['overrides'])}): {job['error']}"
            for job in jobs
            if job["error"] is not None
        ]
        failed = len(notes)
        if self.total and len(jobs) < self.total:
            notes.append(f"Not run: {self.total - len(jobs)} of {self.total} jobs")
        if failed:
            notes.append("Tracebacks are in the folder jobs; the same command runs only these")
        from nmt_feat.analysis.report import make_reports, print_reports, write_reports
        from nmt_feat.cli.sweep_artifacts import log_sweep

        reports = make_reports(map(_read_job_record, jobs), notes)
        paths = write_reports(reports, self.folder)  # before anything that may fail in printing
        print_reports(reports, TextConsole())
        say("Written:", " and ".join(map(str, paths)))
        log_sweep(jobs, reports, paths, self.folder)
        return failed


def _read_job_record(job: dict[str, Any]) -> tuple[RunRecord, Path | None]:
    """The job's record and folder; a stub for the missing cell where it failed before that."""
    if job["folder"] is not None and (folder := Path(job["folder"])).exists():
        record = read_run(folder)
        if request := job.get("request"):
            record = select_results(record, convert_json(request, Request))
        return record, folder
    config = job["config"]
    combiner, beyond = (config.get(group) or {} for group in ("combiner", "method"))
    method = name_method(combiner.get("_target_"), beyond.get("_target_"), combiner.get("name"))
    seed = config.get("seed", job["number"])
    settings = copy.deepcopy(config)
    if config.get("control") == "matched":
        method = "none"
    elif method == "none":
        settings["control"] = "none"
    features = {} if method == "none" else settings.get("features") or {}
    settings["features"] = features
    leave_out(settings)  # as in the records of other runs
    return RunRecord(method, sorted(features), seed, "", "", settings, config), None
