"""A launcher of Hydra that writes the settings of a sweep's jobs to a file, and trains nothing.

    python train.py -m experiment=... hydra.launcher._target_=hydra_plugins.compare_jobs.Jobs

The file is jobs.json in the current folder; the process ends there.
"""

from __future__ import annotations

import functools
import importlib
import io
import itertools
import json
import os
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

FILE = "jobs.json"


@functools.cache
def locate(names: str, *modules: str) -> Any:
    """The object that a module of nmt_feat defines under one of `names`, separated by spaces.

    `modules` are searched first, then all others: revisions differ in names and in modules.
    """
    package = importlib.import_module("nmt_feat")
    walked = (info.name for info in pkgutil.walk_packages(package.__path__, "nmt_feat."))
    for module in itertools.chain(modules, walked):  # walking imports much, so it comes last
        for name in names.split():
            try:
                value = getattr(importlib.import_module(module), name, None)
            except ImportError:
                continue
            if value is not None and value.__module__ == module:
                return value
    raise LookupError(f"no module of nmt_feat defines {names}")


def identity(cfg: DictConfig) -> dict[str, Any]:
    """The name and hash that the run's folder would have if the hash of its data were 0."""
    from rich.console import Console

    with open_dict(cfg):
        if OmegaConf.is_missing(cfg.data, "folder"):
            cfg.data.folder = "data"
        if cfg.annotator.get("model", "") is None:
            cfg.annotator.model = "model"
    typed = OmegaConf.to_object(cfg)
    modules = (
        *("nmt_feat.runs.setup.identity", "nmt_feat.runs.identity", "nmt_feat.config.identity"),
        *("nmt_feat.runs.setup.resolve", "nmt_feat.runs.resolve"),
    )
    resolve_settings = locate("resolve_settings settle", *modules)
    resolved = resolve_settings(typed, True, Console(file=io.StringIO()))
    identity_settings = locate("identity_settings determining", *modules)(resolved, "0" * 64)
    name = str(locate("folder_name", *modules)(resolved, identity_settings))
    stem, _, digest = name.rpartition("-")
    return {"identity name": stem, "identity hash": digest}


class Jobs(Launcher):
    """Writes the settings and the identity of each job, by its overrides."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store what `launch` needs."""
        # Otherwise the sweeper composes each job once more, before it launches any.
        Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]
        self.context, self.config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Compose each job as Hydra's own launcher does."""
        jobs = {}
        for overrides in job_overrides:
            loader = self.context.config_loader
            cfg = loader.load_sweep_config(self.config, list(overrides))
            with open_dict(cfg):
                del cfg["hydra"]
            about = {"settings": OmegaConf.to_container(cfg, resolve=True)}
            try:
                about |= identity(cfg)
            except BaseException as error:  # fail() of a revision may end the process
                about["identity error"] = f"{type(error).__name__}: {error}"
            jobs[" ".join(sorted(overrides))] = about
        Path(FILE).write_text(json.dumps(jobs), encoding="utf-8")
        os._exit(0)
