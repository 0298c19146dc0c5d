"""Finds the runs in or below folders: in run folders, packed in two files, or of a sweep."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from nmt_feat.base.typed_json import load_json
from nmt_feat.errors import UserError
from nmt_feat.evaluation.packed_runs import PACKED_RECORDS, read_packed_records
from nmt_feat.runs.stored.records import (
    FINISHED,
    STARTED,
    RunRecord,
    has_record,
    parse_record,
    read_run,
)

SWEEP_STATE, SWEEP_JOBS = "sweep.json", "jobs"
"""In a sweep's folder: the file of its state, and the folder with a file for each ended job."""
JOB_FILE = re.compile(r"\d+\.(json|log)|\.\d+\.json\.\d+\.tmp")
"""Names of the files of jobs."""


def find_runs(folders: Sequence[Path]) -> dict[Path, RunRecord]:
    """The records of all runs in or anywhere below `folders`, finished or not, by their folders.

    Packed runs (see `evaluation.packed_runs`) have the paths that their folders would have. A
    sweep's folder stands for the runs of its jobs, which lie elsewhere.
    """
    records: dict[Path, RunRecord] = {}
    for top in folders:
        if not top.is_dir():
            raise UserError(f"{top}: no such folder; give folders of runs, or folders above them")
        below = {path.parent for name in (STARTED, FINISHED) for path in top.rglob(name)}
        runs = find_packed_runs(top)
        if not runs and not below:
            below = _runs_of_sweep(top)
        runs |= {folder: read_run(folder) for folder in sorted(below)}
        if not runs:
            raise UserError(
                f"{top}: no {FINISHED} in it or below; give a folder of runs, or that of a sweep"
            )
        records |= {folder.resolve(): runs[folder] for folder in sorted(runs)}
    return records


def find_packed_runs(top: Path) -> dict[Path, RunRecord]:
    """The records of the packed runs in or below a folder, by the paths of the runs' folders."""
    return {
        folder: parse_record(content, folder / FINISHED)
        for path in top.rglob(PACKED_RECORDS)
        for folder, content in read_packed_records(path).items()
    }


def _runs_of_sweep(folder: Path) -> set[Path]:
    """The folders of the runs that a sweep's jobs have trained or found finished, if they exist."""
    runs = set()
    for path in folder.glob(f"{SWEEP_JOBS}/*.json"):
        with contextlib.suppress(OSError, ValueError):
            run = load_json(path.read_text(encoding="utf-8")).get("folder")
            if run and has_record(Path(run)):
                runs.add(Path(run))
    return runs
