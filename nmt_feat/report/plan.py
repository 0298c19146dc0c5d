"""What a sweep is about to do: its runs, those that are finished, how long it will take."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nmt_feat.errors import UserError
from nmt_feat.report.records import FINISHED, machine, read_record

SIZE = {
    "data": ("name", "limit"),
    "model": ("dim", "ffn_dim", "encoder_layers", "decoder_layers"),
    "trainer": ("max_steps", "batch_tokens", "batch_by", "accumulate", "precision", "devices"),
}
"""Settings that decide how long a run takes, as far as methods and features do not."""
LATEST = 30
"""Finished runs that are asked how long they took, at most."""


def plan(
    config: DictConfig, jobs: Sequence[Sequence[str]], before: Sequence[dict[str, Any]]
) -> str:
    """The line. Nothing is composed or prepared for it, so it takes no time.

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
    finished = sum(tuple(sorted(job)) in known for job in jobs)
    rest = len(jobs) - finished
    said = f"Plan: {len(jobs)} runs"
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


def alike(config: DictConfig) -> list[float]:
    """The seconds of the latest finished runs of this size, made on such a machine."""
    here = machine()
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
