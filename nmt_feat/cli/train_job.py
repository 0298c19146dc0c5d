"""A job of `nmt-feat train`: trains a run and prints its result."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.cli.compose import refuse_silent_merges
from nmt_feat.cli.next_steps import suggest_sweep, suggest_translation
from nmt_feat.cli.sweep import current
from nmt_feat.cli.texts import explain_no_translation
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError
from nmt_feat.evaluation.scores import Scores
from nmt_feat.runs.processes import silence_all_but_first
from nmt_feat.runs.run import FinishedRun, run_training
from nmt_feat.runs.setup.build_trainer import find_selecting_metric
from nmt_feat.runs.stored.run_summary import summarize_run

NOT_OF_PAPER = (
    *("experiment", "scale", "seed", "published", "resume", "paths", "logger", "annotator"),
    *("data.folder", "data.processes", "trainer.threads", "trainer.accelerator"),
    *("trainer.progress", "trainer.log_every", "trainer.resume_exact"),
)
"""Settings that may change while an experiment stays that of its paper."""


def train_job(cfg: TrainConfig) -> float:
    """Train one run, alone or as a job of a sweep; its score on dev, the higher the better."""
    overrides = HydraConfig.get().overrides.task
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    cfg = reduce_changed_scale(cfg, overrides)
    refuse_silent_merges(overrides)
    suggest_multirun()
    try:
        with silence_all_but_first():
            run = run_training(cfg, sweep, current)
            if not sweep:
                combiner = str(HydraConfig.get().runtime.choices.get("combiner"))
                print_result(run, suggest_sweep(run, cfg.features, combiner, sys.argv[1:]))
    except OSError as error:
        if error.strerror is None or isinstance(error, BrokenPipeError):
            raise
        path = f"{error.filename}: " if error.filename else ""
        hint = "set paths.runs and paths.cache to folders that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "make room, then the same command continues from what is finished"
        raise UserError(f"{path}{error.strerror}; {hint}") from error
    assert run.record.dev is not None
    return selection_score(run.cfg, run.record.dev)


def selection_score(cfg: TrainConfig, dev: Scores) -> float:
    """The score on dev that chose the checkpoint, negated where a lower score is better."""
    metric = find_selecting_metric(cfg)
    if metric is None:
        return dev.bleu
    chosen = dev.all_metrics()[metric.name]
    return -chosen.score if chosen.lower_is_better else chosen.score


def print_result(run: FinishedRun, sweep: str) -> None:
    """Print a run's figures, and what to do next; `sweep` is the command to try."""
    TextConsole().print(summarize_run(run.record))
    say(f"written to {run.folder}")
    if not explain_no_translation(run.record):
        say(f"translate with it: {suggest_translation(run.folder, run.record)}")
    say(f"try next: {sweep}")


def reduce_changed_scale(cfg: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """Set `scale` from full to reduced, with a message, if the command line changes the paper's."""
    names = [override.partition("=")[0].lstrip("+~") for override in overrides]
    not_of_paper = tuple(f"{name}." for name in NOT_OF_PAPER)
    changed = [name for name in names if not f"{name}.".startswith(not_of_paper)]
    # Where there is no full scale, `check_settings` refuses it.
    has_full = cfg.published.source and not cfg.published.no_full
    if cfg.scale == "full" and changed and has_full:
        say(f"scale=reduced instead of full: the command line sets {', '.join(changed)}")
        cfg.scale = "reduced"
    return cfg


def suggest_multirun() -> None:
    """Mention `-m` where an experiment is a table or a search and only one run of it is trained."""
    composed = HydraConfig.get()
    chosen = {override.partition("=")[0].lstrip("+") for override in composed.overrides.task}
    varied = [name for name in composed.sweeper.get("params") or () if name not in chosen]
    if composed.mode == RunMode.RUN and varied:
        groups = ("experiment", "hparams_search")
        chosen_options = {name: composed.runtime.choices.get(name) for name in groups}
        names = " ".join(f"{name}={option}" for name, option in chosen_options.items() if option)
        work = "search" if chosen_options["hparams_search"] else "table"
        say(f"one run of {names}; for its {work}, over {', '.join(varied)}, put -m before it")
