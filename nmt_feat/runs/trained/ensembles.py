"""Several runs of one vocabulary, such as the seeds of a method, that translate together."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path

from nmt_feat.base.checksums import hash_files
from nmt_feat.base.terminal import say
from nmt_feat.config.schema import MethodConfig
from nmt_feat.decoding.ensemble import Ensemble
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.records import FINISHED, read_run
from nmt_feat.runs.trained.model import TrainedModel


def list_members(run: str) -> list[str]:
    """The folders that `run=` names: one, or several separated by commas or matched by `*`.

    The folder of an ensemble, which `evaluate` has tested, stands for its runs.
    """
    names = [run] if Path(run).exists() and run else [name.strip() for name in run.split(",")]
    if "" in names:
        raise UserError(f"run={run}: names nothing; give the folder of a run, or several")
    folders: list[str] = []
    for name in names:
        if "*" not in name or Path(name).exists():
            folders.append(name)
            continue
        matches = sorted(path for path in glob.glob(name) if Path(path).is_dir())
        if not matches:
            raise UserError(f"run={run}: no folder is named {name}; correct the pattern")
        folders += matches
    members: dict[str, str] = {}  # a pattern may match both an ensemble and its runs
    for folder in folders:
        for member in _list_runs(folder):
            members.setdefault(os.path.normpath(member), member)
    return list(members.values())


def _list_runs(folder: str) -> list[str]:
    """The folders of an ensemble's runs; for a run, its folder alone."""
    if not (Path(folder) / FINISHED).is_file():
        return [folder]
    members = read_run(Path(folder)).members
    return [os.path.normpath(Path(folder) / member.folder) for member in members] or [folder]


def open_runs(run: str, threads: int) -> TrainedModel:
    """The run that `run=` names, or several as one model with the mean of their probabilities.

    Raises:
        UserError: a run has other pieces or other features than the first, or another source.
    """
    models = [TrainedModel(folder, threads) for folder in list_members(run)]
    first = models[0]
    if len(models) == 1:
        return first
    for model in models[1:]:
        if hash_vocabularies(model.folder) != hash_vocabularies(first.folder):
            raise UserError(
                f"run={run}: {model.folder} has other pieces or values of features than "
                f"{first.folder}; give runs that were trained on the same data with the same "
                "features, such as the seeds of a method"
            )
        if _method_in_source(model) != _method_in_source(first):
            raise UserError(
                f"run={run}: {model.folder} writes features into its source in another way than "
                f"{first.folder}; give runs of one method, such as its seeds"
            )
    # One model reads the text for all: the one that reads the most features.
    reader = max(models, key=lambda model: len(model.feature_names))
    reader.searched = Ensemble([model.model for model in models])
    names = ", ".join(str(model.folder) for model in models)
    say(f"ensemble of {len(models)} runs: {names}", file=sys.stderr)
    return reader


def _method_in_source(model: TrainedModel) -> MethodConfig | None:
    """The method that writes features into the source, if the model's does."""
    return model.cfg.method if model.model.method.in_source else None


def hash_vocabularies(folder: Path) -> dict[str, list[str]]:
    """The hashes of the files that say how a run cuts text into pieces and numbers them."""
    return hash_files(folder, ("encoder/**/*",))
