"""The plan of a sweep: how many runs its jobs train, and how many of them are finished."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from nmt_feat.config.method_choice import locate_method
from nmt_feat.config.schema import MethodConfig
from nmt_feat.runs.stored.records import FINISHED

NOT_OF_WORDS_ONLY = (
    *("combiner", "method", "features", "control", "annotator"),  # are about features
    *("hydra", "decoding"),  # do not change the trained model
)
"""Groups whose settings do not change a run with words only."""
OF_TESTS = ("decoding=", "decoding.", "data.tests.")
"""Beginnings of settings that are about tests alone, and do not change the trained model."""


def describe_plan(
    config: DictConfig, jobs: Sequence[Sequence[str]], earlier_jobs: Sequence[dict[str, Any]]
) -> str:
    """One line about the runs of a sweep.

    It prepares no data. To save time, it composes the settings only of jobs with words only.

    Args:
        config: the sweep's settings, without what its jobs change.
        jobs: the settings of each job.
        earlier_jobs: the jobs that an earlier start of the sweep recorded; see `SweepTable`.
    """
    finished_jobs = {
        tuple(sorted(job["overrides"]))
        for job in earlier_jobs
        if job["folder"] and (Path(job["folder"]) / FINISHED).exists()
    }
    runs = identify_runs(config, jobs)
    finished = {
        run for run, job in zip(runs, jobs, strict=True) if tuple(sorted(job)) in finished_jobs
    }
    count = len({*runs})
    line = f"Plan: {count} run{'' if count == 1 else 's'}"
    if count < len(jobs):
        searches = {tuple(filter(_concerns_tests, job)) for job in jobs}
        reason = "train the same model" if len(searches) > 1 else "are the same words only"
        line += f" for {len(jobs)} jobs, some of which {reason}"
    if finished:
        line += f", {len(finished)} of them finished when this sweep last ran"
    return line


def identify_runs(config: DictConfig, jobs: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """For each job what identifies its run: jobs that train the same model get the same value.

    Jobs with words only may differ in features and control, which such a run does not have.
    """
    loader = GlobalHydra.instance().config_loader()

    @functools.cache
    def compose_words_only(settings: tuple[str, ...]) -> str:
        composed = loader.load_sweep_config(config, list(settings))
        method = MethodConfig(composed.method._target_)
        cls = locate_method(method)
        # Some methods read features even with `combiner=none`.
        is_without_features = cls.uses_combiner and not cls.reads_heads
        ignored = NOT_OF_WORDS_ONLY if is_without_features else ("hydra",)
        groups = [str(group) for group in composed if group not in ignored]
        return OmegaConf.to_yaml(OmegaConf.masked_copy(composed, groups))

    runs = []
    for job in jobs:
        trained = [setting for setting in job if not _concerns_tests(setting)]
        seeds = [setting for setting in trained if setting.startswith("seed=")]
        rest = tuple(setting for setting in trained if setting not in seeds)
        words_only = "combiner=none" in rest
        runs.append((*seeds, compose_words_only(rest)) if words_only else tuple(trained))
    return runs


def _concerns_tests(setting: str) -> bool:
    """Whether a setting of the command line is only about test sets and their search."""
    return setting.lstrip("+~").startswith(OF_TESTS)
