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
import time
import traceback
from collections.abc import Callable
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
from nmt_feat.config.identity import drop_neutral_settings, name_row_method
from nmt_feat.config.members import settings_of_unchosen
from nmt_feat.config.overrides import keep_text
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError, discard_output, fail, writing_to
from nmt_feat.runs.stored.find_runs import JOB_FILE, SWEEP_JOBS, SWEEP_STATE
from nmt_feat.runs.stored.locks import lock_of
from nmt_feat.runs.stored.records import (
    JobState,
    Request,
    RunRecord,
    has_record,
    read_run,
    select_results,
)

current = JobState()
"""The state of the job that this process runs now."""
_log = contextlib.ExitStack()  # holds the open log of that job, if it does not print to a terminal


def list_jobs(config: DictConfig) -> list[list[str]]:
    """The settings of each job of Hydra's own sweeper."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    params = [f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()]
    overrides = parser.parse_overrides([*params, *config.hydra.overrides.task])
    return [list(job) for job in BasicSweeper.split_arguments(overrides, None)[0]]


def keep_text_of_params(config: DictConfig) -> None:
    """Quote text in the sweep of an experiment's file, like text on the command line."""
    params = config.hydra.sweeper.get("params") or {}
    for name, value in params.items():
        params[name] = keep_text(f"{name}={value}", TrainConfig, sweep=True).partition("=")[2]


def refuse_unchosen(config: DictConfig, jobs: list[list[str]]) -> None:
    """Refuse settings of a feature or logger that no job chooses; its name is a mistake."""
    unchosen = settings_of_unchosen(config, config.hydra.overrides.task)
    if not unchosen:
        return
    loader = GlobalHydra.instance().config_loader()
    choices = {tuple(s for s in job if "." not in s.partition("=")[0]) for job in jobs}
    for choice in choices:
        names = [name for settings in unchosen.values() for name in settings]
        with contextlib.suppress(HydraException, OmegaConfBaseException):  # the job reports it
            job = loader.load_sweep_config(config, list(choice))
            unchosen = settings_of_unchosen(job, [f"{name}=" for name in names])
    for entry in unchosen:
        group, _, name = entry.partition(".")
        fail(
            f"{entry}: no job of the sweep chooses it; choose it by name, {group}=[{name},...], or "
            f"leave {', '.join(unchosen[entry])} out"
        )


def refuse_search_of_table(config: DictConfig) -> None:
    """Refuse a search together with an experiment that is a table: a search cannot choose rows.

    A setting that the command line gives is not varied by the table any more.
    """
    choices = config.hydra.runtime.choices
    search, experiment = choices.get("hparams_search"), choices.get("experiment")
    if not search or not experiment:
        return
    fixed = {override.partition("=")[0].lstrip("+") for override in config.hydra.overrides.task}
    loader = GlobalHydra.instance().config_loader()
    alone = loader.load_configuration("train", [f"experiment={experiment}"], RunMode.MULTIRUN)
    varied = [name for name in alone.hydra.sweeper.get("params") or () if name not in fixed]
    if varied:
        fail(
            f"experiment={experiment} hparams_search={search}: the experiment is a table over "
            f"{', '.join(varied)}, and a search chooses settings of one method; set these "
            f"({varied[0]}=...), or leave one of the two out"
        )


def chosen_plugins(config: DictConfig) -> dict[str, str]:
    """The options of Hydra's groups that decide how a sweep is run."""
    choices = config.hydra.runtime.choices
    return {group: str(choices.get(group)) for group in ("hydra/launcher", "hydra/sweeper")}


def count_parallel_jobs(config: DictConfig) -> int | None:
    """How many jobs run at a time; None where a cluster decides it."""
    launcher = config.hydra.launcher
    if launcher._target_.startswith("hydra._internal."):
        return 1
    count: int | None = launcher.get("n_jobs")
    if count is None:  # only joblib's launcher has it
        return None
    return count_workers(int(count))


def describe_job(config: DictConfig, job_return: JobReturn, seconds: float) -> dict[str, Any]:
    """The content of a job's file: its settings, the run's folder, and the error if it failed."""
    settings = job_return.cfg or OmegaConf.create()
    with contextlib.suppress(OmegaConfBaseException):  # a job fails by a setting it cannot resolve
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
        self.total: int | None = None  # number of jobs; only Hydra's own sweeper tells it
        self.runs_in_parallel = False  # jobs run in other processes and print into logs
        self.searches = False  # by Optuna, which goes on after a trial that failed
        self.chosen: dict[str, str] = {}  # Hydra's launcher and sweeper, before there are jobs
        self.wrote_table = False
        self.start_time = 0.0  # of the job

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the sweep's folder, count the jobs, print the plan."""
        refuse_search_of_table(config)
        # Empty as of an unset variable: the sweep's folder would be /sweeps.
        # Other programs with this callback may have no `paths`.
        if OmegaConf.select(config, "paths.runs") == "":
            fail("paths.runs=: give the name of a folder, or leave it out")
        keep_text_of_params(config)
        self.chosen = chosen_plugins(config)
        self.folder = Path(config.hydra.sweep.dir).absolute()
        release_lock = self.acquire_lock()
        earlier_jobs = self.read_earlier_jobs()
        self.remove_earlier_jobs()
        if config.hydra.sweeper._target_.startswith("hydra._internal."):
            self.plan_jobs(config, earlier_jobs)
        else:
            self.adapt_search(config)
        self.write_state(ended=False)
        launcher = config.hydra.launcher._target_
        self.runs_in_parallel = not launcher.startswith("hydra._internal.")
        current.described.clear()
        atexit.register(release_lock)
        # After other sweepers, and after Ctrl-C, `on_multirun_end` is not called.
        atexit.register(self.write_table)

    def acquire_lock(self) -> Callable[[], None]:
        """Lock the folder, refuse it if a sweep still runs there; the function that releases it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = lock_of(self.folder)
        try:
            lock.acquire()
        except Timeout:  # Hydra swallows other exceptions here
            fail(f"{self.folder}: another process runs it; wait for it")
        return lock.release

    def remove_earlier_jobs(self) -> None:
        """Remove the files of an earlier start of this sweep, and no files of the user."""
        (self.folder / SWEEP_JOBS).mkdir(exist_ok=True)
        for path in (self.folder / SWEEP_JOBS).iterdir():
            if JOB_FILE.fullmatch(path.name):
                path.unlink()

    def plan_jobs(self, config: DictConfig, earlier_jobs: list[dict[str, Any]]) -> None:
        """Count the jobs of Hydra's own sweeper, and print the plan."""
        jobs = list_jobs(config)
        refuse_unchosen(config, jobs)
        self.total = len(jobs)
        # The plan is a courtesy: a run's folder may vanish meanwhile, and settings that cannot be
        # resolved are an error of the job that has them.
        with contextlib.suppress(OSError, HydraException, OmegaConfBaseException):
            say(describe_plan(config, jobs, earlier_jobs))

    def adapt_search(self, config: DictConfig) -> None:
        """Let Optuna go on after a failed trial; refuse a search for the lowest score."""
        sweeper = config.hydra.sweeper
        if str(sweeper.get("direction")).lower() == "minimize":  # Optuna's default
            fail(
                "hydra.sweeper.direction=minimize: a run returns dev BLEU, the higher the better; "
                "set hydra.sweeper.direction=maximize"
            )
        if sweeper.get("max_failure_rate") == 0:
            self.searches = True
            sweeper.max_failure_rate = 1.0  # otherwise the first failed trial ends the search
            logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)

    def write_state(self, ended: bool) -> None:
        """Write the file by which `nmt-feat report --watch` follows the sweep."""
        state = {"total": self.total, "ended": ended}
        write_atomically(self.folder / SWEEP_STATE, json.dumps(state).encode())

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the job's settings and start its clock; a parallel job prints into its log."""
        if config.hydra.mode == RunMode.MULTIRUN:
            number = config.hydra.job.num + 1
            total = f" of {self.total}" if self.total else ""
            say(f"Job {number}{total}: {' '.join(config.hydra.overrides.task)}")
            if self.runs_in_parallel:
                path = self.folder / SWEEP_JOBS / f"{number}.log"
                file = _log.enter_context(path.open("w", 1, encoding="utf-8"))
                _log.enter_context(contextlib.redirect_stdout(file))
            self.report_late_plugins(config)
        current.folder, current.trained, current.request = None, False, None
        self.start_time = time.monotonic()

    def report_late_plugins(self, config: DictConfig) -> None:
        """Say once that a launcher or sweeper has no effect if only a job's file chooses it."""
        for group, name in chosen_plugins(config).items():
            if name != self.chosen.get(group, name):
                say(
                    f"{group}={name}, in a file that the job names, has no effect: Hydra "
                    f"chooses it before there are jobs; give {group}={name} on the command line"
                )
                self.chosen[group] = name

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write the job's file; turn a failure into a value; say how long the sweep will take."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        _log.close()
        seconds = time.monotonic() - self.start_time
        job = describe_job(config, job_return, seconds)
        if job_return.status == JobStatus.FAILED:
            self.replace_failure(job_return)
        earlier_jobs = self.read_jobs()
        path = self.folder / SWEEP_JOBS / f"{job['number']}.json"
        write_atomically(path, json.dumps(job, indent=2, default=str).encode())
        # Printed last: Hydra swallows exceptions here, such as that of a closed pipe or full disk.
        if job["error"] is not None:
            say(f"Job {job['number']} failed: {job['error']}")
        elif self.runs_in_parallel:
            say(f"Job {job['number']} has ended: {format_duration(seconds)}")
        if current.trained and not any(job["trained"] for job in earlier_jobs):
            self.say_remaining_time(config, len(earlier_jobs) + 1, seconds)

    def replace_failure(self, job_return: JobReturn) -> None:
        """Replace a failed job's exception by a value with which the sweep goes on."""
        if self.total is not None:
            job_return.status = JobStatus.COMPLETED
            job_return.return_value = math.nan
        elif self.searches:  # Optuna counts a trial whose value is not a number as failed
            job_return.status = JobStatus.COMPLETED
            job_return.return_value = "failed"

    def say_remaining_time(self, config: DictConfig, ended: int, seconds: float) -> None:
        """Say how long the jobs that have not ended take, if each takes as long as the first."""
        parallel = count_parallel_jobs(config) if self.total else None
        rest = (self.total or 0) - ended
        if parallel and rest > 0:
            say(
                f"The first run took {format_duration(seconds)}; {rest} more of {self.total} take "
                f"about {format_duration(rest * seconds / parallel)}, less where runs are finished."
            )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and write the table; exit with code 1 if a job failed or has left no file."""
        try:
            with writing_to(self.folder):
                failed = self.write_table()
        except UserError as error:  # Hydra swallows it
            fail(str(error))
        except BrokenPipeError:  # the table's files are written before it is printed
            discard_output()
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
        if self.wrote_table:
            return 0
        jobs = self.read_jobs()
        self.write_state(ended=True)
        if not jobs:  # Hydra has refused the overrides and printed why
            return 0
        self.wrote_table = True
        from nmt_feat.analysis.report import make_reports, print_reports, write_reports
        from nmt_feat.cli.next_steps import describe_folders
        from nmt_feat.cli.sweep_artifacts import log_sweep

        failures = [
            f"Failed: job {job['number']} ({' '.join(job['overrides'])}): {job['error']}"
            for job in jobs
            if job["error"] is not None
        ]
        notes = list(failures)
        if self.total and len(jobs) < self.total:
            notes.append(f"Not run: {self.total - len(jobs)} of {self.total} jobs")
        if failures:
            notes.append("Tracebacks are in the folder jobs; the same command runs only these")
        reports = make_reports(map(_read_job_record, jobs), notes)
        paths = write_reports(reports, self.folder)  # before printing, which may fail
        print_reports(reports, TextConsole())
        say("Written:", " and ".join(map(str, paths)))
        for line in describe_folders(reports):
            say(line)
        log_sweep(jobs, reports, paths, self.folder)
        return len(failures)


def _read_job_record(job: dict[str, Any]) -> tuple[RunRecord, Path | None]:
    """The record and folder of a job's run; a stub and None if it failed before it had a folder."""
    folder = job["folder"] and Path(job["folder"])
    if not folder or not has_record(folder):
        return _make_stub(job), None
    record = read_run(folder)
    if request := job.get("request"):
        record = select_results(record, convert_json(request, Request))
    return record, folder


def _make_stub(job: dict[str, Any]) -> RunRecord:
    """A record without results, for the empty cell of the table."""
    config = job["config"]
    combiner, method = (config.get(group) or {} for group in ("combiner", "method"))
    row = name_row_method(combiner.get("_target_"), method.get("_target_"), combiner.get("name"))
    settings = copy.deepcopy(config)
    if config.get("control") == "matched":
        row = "none"
    elif row == "none":
        settings["control"] = "none"
    features = {} if row == "none" else settings.get("features") or {}
    settings["features"] = features
    drop_neutral_settings(settings)  # as in the records of other runs
    seed = config.get("seed", job["number"])
    return RunRecord(row, sorted(features), seed, "", "", settings, config)
