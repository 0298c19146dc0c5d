"""What a sweep is about to do: its runs, those that are finished, how long it will take."""

from __future__ import annotations

import functools
import heapq
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from nmt_feat.errors import UserError
from nmt_feat.runs.provenance import describe_machine
from nmt_feat.runs.records import FINISHED, read_record

SIZE = {
    "data": ("name", "limit"),
    "model": ("dim", "ffn_dim", "encoder_layers", "decoder_layers"),
    "trainer": ("max_steps", "batch_tokens", "batch_by", "accumulate", "precision", "devices"),
}
"""Settings that decide how long a run takes, as far as methods and features do not."""
WITH_FEATURES = ("hydra", "combiner", "features", "control", "annotator", "decoding")
"""Settings that words only is without, or that are no run's."""
OF_TESTS = ("decoding=", "decoding.", "data.tests.")
"""How settings begin that do not change what is trained."""
LATEST = 30
"""Finished runs that are asked how long they took, at most."""


def plan(
    config: DictConfig, jobs: Sequence[Sequence[str]], before: Sequence[dict[str, Any]]
) -> str:
    """The line. Nothing is prepared for it, and only jobs of words only are composed, for time.

    Args:
        config: the sweep's settings, without what its jobs change.
        jobs: the settings of each job.
        before: the jobs that an earlier start of the sweep has left; see `SweepTable`.
    """
    known = {
        tuple(sorted(job["overrides"]))
        for job in before
        if job["folder"] and (Path(job["folder"]) / FINISHED).exists()
    }
    runs = identities(config, jobs)
    done = {run for run, job in zip(runs, jobs, strict=True) if tuple(sorted(job)) in known}
    count, finished = len({*runs}), len(done)
    rest = count - finished
    said = f"Plan: {count} run{'s' * (count != 1)}"
    if count < len(jobs):
        searches = {tuple(filter(_is_of_tests, job)) for job in jobs}
        reason = "train the same model" if len(searches) > 1 else "are the same words only"
        said += f" for {len(jobs)} jobs, some of which {reason}"
    if finished:
        said += f", {finished} of them finished when this sweep last ran"
    if not rest:
        return said
    seconds = alike(config)
    if not seconds:
        return f"{said}; minutes unknown, no run of this size is finished here"
    each = statistics.median(seconds) / 60
    return (
        f"{said}; {each:.1f} min each, about {each * rest:,.0f} min in all one after another, if "
        f"all take as long as {len(seconds)} finished runs of the sweep's common settings"
    )


def identities(config: DictConfig, jobs: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """What tells each job's run from those of others: words only has no features, no control."""
    loader = GlobalHydra.instance().config_loader()

    @functools.cache
    def words_only(settings: tuple[str, ...]) -> str:
        composed = loader.load_sweep_config(config, list(settings))
        kept = [str(group) for group in composed if group not in WITH_FEATURES]
        return OmegaConf.to_yaml(OmegaConf.masked_copy(composed, kept))

    found = []
    for job in jobs:
        trained = [setting for setting in job if not _is_of_tests(setting)]
        seeds = [setting for setting in trained if setting.startswith("seed=")]
        others = tuple(setting for setting in trained if setting not in seeds)
        plain = "combiner=none" in others
        found.append((*seeds, words_only(others)) if plain else tuple(trained))
    return found


def _is_of_tests(setting: str) -> bool:
    """Whether a setting of the command line is about test sets and their search alone."""
    return setting.lstrip("+~").startswith(OF_TESTS)


def alike(config: DictConfig) -> list[float]:
    """The seconds of the latest finished runs of this size, made on such a machine."""
    here = describe_machine()
    wanted = [
        OmegaConf.select(config, f"{group}.{name}")
        for group, names in SIZE.items()
        for name in names
    ]
    paths = [(p.stat().st_mtime, p) for p in Path(config.paths.runs).glob(f"*/{FINISHED}")]
    found = []
    for _, path in heapq.nlargest(LATEST, paths):
        try:
            run = read_record(path)
        except UserError:  # the run itself will say it
            continue
        own = [
            run.config.get(group, {}).get(name) for group, names in SIZE.items() for name in names
        ]
        if own == wanted and all(run.machine.get(key) == here[key] for key in ("cpu", "gpu")):
            found.append(run.seconds)
    return found
