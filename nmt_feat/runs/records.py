"""What a run leaves behind: `run.json` when it starts, `result.json` and hypotheses at its end."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nmt_feat.base.checksums import check_sums, write_summed
from nmt_feat.base.typed_json import Mismatch, convert_json, load_json, without_nan
from nmt_feat.combiners.base import to_snake_case
from nmt_feat.config.schema import DecodingConfig
from nmt_feat.errors import UserError, short_repr
from nmt_feat.evaluation.combiner_diagnostics import Parts
from nmt_feat.evaluation.metrics import Scores
from nmt_feat.evaluation.packed_runs import PACKED_RECORDS, read_packed_records
from nmt_feat.training.checkpoints import FORMAT, check_format

DIALS = ("classes", "erase")
"""Settings of features that make them say less; see features/dials.py."""
STARTED, FINISHED = "run.json", "result.json"


@dataclass
class CurvePoint:
    """One validation."""

    step: int
    loss: float | None
    """Mean negative log-likelihood of a dev piece, in nats."""
    bleu: float | None
    """Greedy."""


@dataclass
class Request:
    """The results of a run that a command asks for."""

    decoding: dict[str, Any]
    """The search."""
    tests: dict[str, str]
    """The hash of each test set, in order; see `corpus.prepare.DataHashes`."""
    training: str
    """The hash of what the model is trained on."""


@dataclass
class SetResult:
    """What a run's weights give on dev or a test set by one search."""

    name: str
    data: str
    """The test set's hash; none for dev, which is part of the run's identity."""
    decoding: dict[str, Any]
    scores: Scores
    file: str
    """Of the hypotheses."""
    counts: str
    """File of the n-gram counts of each sentence."""


@dataclass
class RunRecord:
    """Everything that says what a run was and what it gave. Paths are relative to its folder."""

    method: str
    features: list[str]
    seed: int
    data: str
    """Name of the corpus."""
    hash: str
    """Hash of `settings`."""
    settings: dict[str, Any]
    """What determines the trained model, nested, the seed and the data's hash among it."""
    config: dict[str, Any]
    """The whole resolved configuration."""
    data_hashes: dict[str, str] = field(default_factory=dict)
    """Of what was read: the folder in the cache (`prepared`), train and dev (`training`), and what
    was in `settings` when test sets were part of the identity (`earlier`)."""
    test_hashes: dict[str, str] = field(default_factory=dict)
    """Of each test set that was asked for; none in records of an earlier identity."""
    code: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    """Trainable numbers: `total`, and of those `combiner` and `features`."""
    updates: int = 0
    skipped: int = 0
    """Of these, for a loss or gradient that was not without_nan."""
    selected: str = ""
    """The tested weights: the updates that they come from."""
    selected_step: int = 0
    """Update of the best validation."""
    train_seconds: float = 0.0
    """In training and validation, of all starts of the run."""
    seconds: float = 0.0
    """From start to end, of all starts."""
    tokens_per_second: float = 0.0
    """Target pieces trained on per second of training, without validation."""
    peak_memory_mib: float = 0.0
    """Of the largest process of the start that finished the run, the one that prepares included."""
    curve: list[CurvePoint] = field(default_factory=list)
    dev: Scores | None = None
    """Scores of the selected weights, by the search of `config`; none until then."""
    tests: dict[str, Scores] = field(default_factory=dict)
    """Scores by test set; the first one is the table's."""
    files: dict[str, str] = field(default_factory=dict)
    """The hypotheses' files by set."""
    format: int = FORMAT
    """Of the run's folder."""
    counts: dict[str, str] = field(default_factory=dict)
    """Files of the n-gram counts of each sentence by set: what intervals are computed from."""
    data_report: dict[str, Any] = field(default_factory=dict)
    """What was printed of the data: sizes of the splits, bits of the features and so on."""
    text: dict[str, str] = field(default_factory=dict)
    """What is done to all text before anything reads it; nothing in runs of before."""
    parts: Parts | None = None
    """What the tested weights make of word and features, on dev."""

    further: list[SetResult] = field(default_factory=list)
    """What was asked for later: other searches, other files under the name of a test set."""

    @property
    def finished(self) -> bool:
        """Whether the run has its scores."""
        return self.dev is not None

    @property
    def scores(self) -> dict[str, Scores]:
        """The scores of dev and of each test set, once there are any."""
        return {} if self.dev is None else {"dev": self.dev, **self.tests}


def search_of(record: RunRecord) -> dict[str, Any]:
    """The search that the run itself was tested with; empty where it is unknown."""
    search: dict[str, Any] = record.config.get("decoding") or record.settings.get("decoding") or {}
    return search


def search_changes(record: RunRecord, request: Request) -> dict[str, Any]:
    """The settings of the search that is asked for, where they are not the run's own."""
    own = _complete(search_of(record))
    return {name: v for name, v in _complete(request.decoding).items() if v != own[name]}


def _complete(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings of a search, with the defaults of those that came later."""
    defaults = dataclasses.asdict(DecodingConfig())
    return defaults | {name: value for name, value in decoding.items() if name in defaults}


def find_result(record: RunRecord, name: str, request: Request) -> SetResult | None:
    """The result on dev or a test set that is asked for, if the run has it."""
    own = search_of(record)
    results = [
        SetResult(
            *(set_name, record.test_hashes.get(set_name, ""), own, scores),
            *(files.get(set_name, "") for files in (record.files, record.counts)),
        )
        for set_name, scores in record.scores.items()
    ]
    key = (name, request.tests.get(name, ""), _complete(request.decoding))
    return next(
        (
            result
            for result in (*results, *record.further)
            if (result.name, result.data, _complete(result.decoding)) == key
        ),
        None,
    )


def select_results(record: RunRecord, request: Request) -> RunRecord:
    """The run as the command that asks sees it: its test sets, by its search."""
    found = {name: find_result(record, name, request) for name in ("dev", *request.tests)}
    results = {name: result for name, result in found.items() if result}
    scores = {name: result.scores for name, result in results.items()}
    return dataclasses.replace(
        record,
        config=record.config | {"decoding": request.decoding},
        data_hashes=record.data_hashes | {"training": request.training},
        test_hashes=request.tests,
        dev=scores.pop("dev", None),
        tests=scores,
        files={name: result.file for name, result in results.items()},
        counts={name: result.counts for name, result in results.items()},
        further=[],
    )


def method_name(target: str | None) -> str:
    """A combiner's name in tables: `nmt_feat.combiners.WordGate` is word_gate; others stay."""
    if target is None:
        return "none"
    module, _, name = target.rpartition(".")
    return to_snake_case(name) if module.startswith("nmt_feat.") else name


def code_revision() -> dict[str, str]:
    """Version of the package and, in a checkout, the git revision; `+` after it: changed files."""
    found = {"version": importlib.metadata.version("nmt_feat")}
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        describe = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            revision = subprocess.check_output(
                ["git", "-C", str(root), *describe], stderr=subprocess.DEVNULL, timeout=20
            )
            found["revision"] = revision.decode().strip()
    return found


def package_versions() -> dict[str, str]:
    """Versions of Python and of the package's dependencies, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for requirement in importlib.metadata.requires("nmt_feat") or ():
        name, *_ = re.split(r"[^\w.-]", requirement)
        if "dev" not in requirement.partition(";")[2]:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
    return versions


def machine() -> dict[str, Any]:
    """The processor, its cores, PyTorch's threads, the memory (GiB), the GPU if there is one."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.M)
        cpu = found[1] if found else cpu
    return {
        "system": platform.platform(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def restart_peak_memory() -> None:
    """Let `peak_memory_mib` count from now on: a sweep's runs are in one process (Linux, CUDA)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mib() -> float:
    """Largest resident memory of this process, or what CUDA allocated where that is more.

    Since its start, or since `restart_peak_memory`.
    """
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss: bytes or KiB
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return max(resident, torch.cuda.max_memory_allocated() / 2**20)


def write_record(folder: Path, record: RunRecord, finished: bool = True) -> Path:
    """Write `result.json` or, for a run that starts, `run.json`; never half of it."""
    path = folder / (FINISHED if finished else STARTED)
    content = without_nan(dataclasses.asdict(record))
    write_summed(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return path


def read_record(path: Path) -> RunRecord:
    """Read `result.json` or `run.json`; a `UserError` where it is missing or no such record."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the folder of a run") from None
    except OSError as error:
        raise UserError(f"{path}: no readable JSON ({error}); run the run again") from None
    record = parse_record(content, path)
    if path.name == FINISHED:
        check_sums(path.parent, only=[FINISHED])
    return record


def parse_record(content: bytes, path: Path) -> RunRecord:
    """The record in the content of a `result.json` or `run.json`; `path` is for messages."""
    try:
        record = convert_json(load_json(content.decode()), RunRecord)
    except ValueError as error:
        raise UserError(f"{path}: no readable JSON ({error}); run the run again") from None
    except Mismatch as error:
        raise UserError(f"{path}: no record of a run ({error}); run the run again") from None
    assert isinstance(record, RunRecord)
    check_format(record.format, path)
    further = [name for result in record.further for name in (result.file, result.counts)]
    for name in (*record.files.values(), *record.counts.values(), *further):
        if name != Path(name).name or name in ("", ".."):
            raise UserError(
                f"{path}: names the file {short_repr(name)}, which is not in the run's folder; a "
                "record names files beside it only: run the run again"
            )
    return record


def file_of_run(folder: Path, name: str) -> Path:
    """A file that a record names; a `UserError` where it is a link that leads out of the folder."""
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise UserError(
            f"{path}: is a link out of the run's folder, which is not followed; put the file there"
        )
    return path


def read_run(folder: Path) -> RunRecord:
    """The record in a run's folder: the finished run's or, before, the started one's."""
    path = folder / FINISHED
    return read_record(path if path.exists() else folder / STARTED)


def find_runs(folders: Sequence[Path]) -> dict[Path, RunRecord]:
    """The records of all runs in or anywhere below `folders`, each once; see `finished`.

    Some may be packed in two files (`evaluation.packed_runs`): they have the path that their folder
    would have. A sweep's folder stands for the runs of its jobs, which lie elsewhere.
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
    """The folders of the runs that a sweep's jobs have trained or met, as far as they are there."""
    runs = set()
    for path in folder.glob("jobs/*.json"):
        with contextlib.suppress(OSError, ValueError):
            place = load_json(path.read_text(encoding="utf-8")).get("folder")
            if place and any((Path(place) / name).exists() for name in (STARTED, FINISHED)):
                runs.add(Path(place))
    return runs
