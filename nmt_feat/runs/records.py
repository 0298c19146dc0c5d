"""What a run leaves behind: `run.json` when it starts, `result.json` and hypotheses at its end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt_feat.base.checksums import check_sums, write_summed
from nmt_feat.base.typed_json import Mismatch, convert_json, load_json, without_nan
from nmt_feat.config.schema import DecodingConfig
from nmt_feat.errors import UserError, short_repr
from nmt_feat.evaluation.combiner_diagnostics import Parts
from nmt_feat.evaluation.contrastive_suites import ContrastResult
from nmt_feat.evaluation.metrics import Scores
from nmt_feat.training.checkpoints import FORMAT, check_format

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
class Member:
    """A run of an ensemble."""

    seed: int
    hash: str
    folder: str
    """From the ensemble's."""


@dataclass
class RunRecord:
    """Everything that says what a run was and what it gave. Paths are relative to its folder."""

    method: str
    features: list[str]
    seed: int
    """-1 of an ensemble, whose members have one each."""
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
    """Of these, for a loss or gradient that was not finite."""
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

    contrast: dict[str, ContrastResult] = field(default_factory=dict)
    """By the name of a contrastive suite, its decisions."""

    members: list[Member] = field(default_factory=list)
    """Of an ensemble, the runs that translate together; other runs have none."""

    parent: dict[str, Any] = field(default_factory=dict)
    """The run that it starts from, and what it has of that; nothing for a start of its own."""

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
    return _complete_search(search) if search else {}


def search_changes(record: RunRecord, request: Request) -> dict[str, Any]:
    """The settings of the search that is asked for, where the run was tested with others."""
    tested = _complete_search(search_of(record))
    return {name: v for name, v in _complete_search(request.decoding).items() if v != tested[name]}


def _complete_search(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings of a search, with the defaults of those that came later."""
    defaults = dataclasses.asdict(DecodingConfig())
    return defaults | {name: value for name, value in decoding.items() if name in defaults}


def find_result(record: RunRecord, name: str, request: Request) -> SetResult | None:
    """The result on dev or a test set that is asked for, if the run has it."""
    search = search_of(record)
    # An ensemble may have been interrupted after a test set, and is not finished before dev.
    of_sets = record.scores or record.tests
    results = [
        SetResult(
            *(set_name, record.test_hashes.get(set_name, ""), search, scores),
            *(files.get(set_name, "") for files in (record.files, record.counts)),
        )
        for set_name, scores in of_sets.items()
    ]
    key = (name, request.tests.get(name, ""), _complete_search(request.decoding))
    return next(
        (
            result
            for result in (*results, *record.further)
            if (result.name, result.data, _complete_search(result.decoding)) == key
        ),
        None,
    )


def select_results(record: RunRecord, request: Request) -> RunRecord:
    """The run as the command that asks sees it: its test sets, by its search."""
    results = {
        name: result
        for name in ("dev", *request.tests)
        if (result := find_result(record, name, request))
    }
    return dataclasses.replace(
        _with_results(record, results, request.decoding),
        data_hashes=record.data_hashes | {"training": request.training},
        test_hashes=request.tests,
    )


def select_beam(record: RunRecord, beam: int) -> RunRecord | None:
    """The run with its results by another beam, all else of the search as its own; None without."""
    own_search = _complete_search(search_of(record))
    if beam == own_search["beam"]:
        return record
    search = own_search | {"beam": beam}
    results = {r.name: r for r in record.further if _complete_search(r.decoding) == search}
    return _with_results(record, results, search) if "dev" in results else None


def _with_results(
    record: RunRecord, results: Mapping[str, SetResult], decoding: dict[str, Any]
) -> RunRecord:
    """The run with these results in the place of its own."""
    scores = {name: result.scores for name, result in results.items()}
    return dataclasses.replace(
        record,
        config=record.config | {"decoding": decoding},
        dev=scores.pop("dev", None),
        tests=scores,
        files={name: result.file for name, result in results.items()},
        counts={name: result.counts for name, result in results.items()},
        further=[],
    )


def write_record(folder: Path, record: RunRecord, finished: bool = True) -> Path:
    """Write `result.json` or, for a run that starts, `run.json`; never half of it."""
    path = folder / (FINISHED if finished else STARTED)
    content = without_nan(dataclasses.asdict(record))
    results = [content["dev"] or {}, *content["tests"].values()]
    for scores in (*results, *(result["scores"] for result in content["further"])):
        if not scores.get("metrics"):  # as records were before there were others
            scores.pop("metrics", None)
    for name in ("contrast", "members", "parent"):
        if not content[name]:
            del content[name]
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
