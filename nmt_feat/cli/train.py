"""`nmt-feat train`: one run, or with `-m` a sweep of runs and its table."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from nmt_feat.base.terminal import say
from nmt_feat.cli.compose import refuse_silent_merges
from nmt_feat.cli.hydra_program import run_program
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError
from nmt_feat.runs.run import train_run

KEEPING = (
    *("experiment", "scale", "seed", "published", "resume", "paths", "logger", "annotator"),
    *("data.folder", "data.processes", "trainer.threads", "trainer.accelerator"),
    *("trainer.progress", "trainer.log_every", "trainer.resume_exact"),
)
"""Settings that leave a paper's experiment what it is."""


def main() -> None:
    """Train with the settings of the command line."""
    run_program("train", train_job)


def train_job(cfg: TrainConfig) -> float:
    """Train one run, alone or as a job of a sweep; its BLEU on dev."""
    overrides, mode = HydraConfig.get().overrides.task, HydraConfig.get().mode
    cfg = reduce_changed_scale(cfg, overrides)
    refuse_silent_merges(overrides)
    mention_table()
    try:
        record = train_run(cfg, mode == RunMode.MULTIRUN, sys.argv[1:])
    except OSError as error:
        if error.strerror is None or isinstance(error, BrokenPipeError):
            raise
        path = f"{error.filename}: " if error.filename else ""
        hint = "set paths.runs and paths.cache to folders that can be written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "make room, then the same command continues from what is finished"
        raise UserError(f"{path}{error.strerror}; {hint}") from error
    assert record.dev is not None
    return record.dev.bleu


def reduce_changed_scale(cfg: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """Set `scale` from full to reduced, and say so, where the command line changes the paper's."""
    names = [override.partition("=")[0].lstrip("+~") for override in overrides]
    keeping = tuple(f"{name}." for name in KEEPING)
    changed = [name for name in names if not f"{name}.".startswith(keeping)]
    has_full = (
        cfg.published.source and not cfg.published.no_full
    )  # else `check_settings` refuses it
    if cfg.scale == "full" and changed and has_full:
        say(f"scale=reduced, no more full: the command line gives {', '.join(changed)}")
        cfg.scale = "reduced"
    return cfg


def mention_table() -> None:
    """Say it where an experiment is a table and, without -m, only one run of it is made."""
    composed = HydraConfig.get()
    chosen = {override.partition("=")[0].lstrip("+") for override in composed.overrides.task}
    varied = [name for name in composed.sweeper.get("params") or () if name not in chosen]
    if composed.mode == RunMode.RUN and varied:
        say(
            f"one run of experiment={composed.runtime.choices.get('experiment')}; for its table, "
            f"over {', '.join(varied)}, put -m before it"
        )
