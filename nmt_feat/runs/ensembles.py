"""Several runs of one vocabulary, such as the seeds of a method, that translate together."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path

from nmt_feat.base.checksums import hash_files
from nmt_feat.base.terminal import say
from nmt_feat.decoding.ensemble import Ensemble
from nmt_feat.errors import UserError
from nmt_feat.runs.records import FINISHED, read_run
from nmt_feat.runs.trained_model import TrainedModel


def list_members(run: str) -> list[str]:
    """The folders that `run=` names: one, or several with commas between or by `*`.

    An ensemble that `evaluate` has tested stands for its runs.
    """
    if Path(run).exists():
        has_record = (Path(run) / FINISHED).is_file()
        members = read_run(Path(run)).members if has_record else []
        return [os.path.normpath(Path(run) / member.folder) for member in members] or [run]
    names = [name.strip() for name in run.split(",")]
    folders = []
    for name in names:
        matches = sorted(path for path in glob.glob(name) if Path(path).is_dir())
        if "*" in name and not matches:
            raise UserError(f"run={run}: no folder is named {name}; correct the pattern")
        folders += matches if "*" in name else [name]
    return list(dict.fromkeys(folders))


def open_runs(run: str, threads: int) -> TrainedModel:
    """The run, or several as one whose probabilities are the mean of theirs.

    Raises:
        UserError: runs have other pieces or other features than the first.
    """
    folders = list_members(run)
    first, *others = [TrainedModel(folder, threads) for folder in folders]
    if not others:
        return first
    for other in others:
        if hash_vocabularies(other.folder) != hash_vocabularies(first.folder):
            raise UserError(
                f"run={run}: {other.folder} has other pieces or values of features than "
                f"{first.folder}; give runs that were trained on the same data with the same "
                "features, such as the seeds of a method"
            )
    first.searched = Ensemble([model.model for model in (first, *others)])
    names = ", ".join(str(model.folder) for model in (first, *others))
    say(f"ensemble of {len(folders)} runs: {names}", file=sys.stderr)
    return first


def hash_vocabularies(folder: Path) -> dict[str, list[str]]:
    """Sums of all that says how a run cuts text into pieces and numbers them."""
    return hash_files(folder, ("encoder/**/*",))
