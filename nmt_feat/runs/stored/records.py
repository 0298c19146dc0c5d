"""The record of a run: `run.json` when it starts, `result.json` at its end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt_feat.base.checksums import check_sums, write_summed
from nmt_feat.base.typed_json import Mismatch, convert_json, load_json, without_nan
from nmt_feat.config.schema import DecodingConfig, TrainConfig
from nmt_feat.errors import UserError, short_repr
from nmt_feat.evaluation.combiner_diagnostics import Parts
from nmt_feat.evaluation.contrastive_suites import ContrastResult
from nmt_feat.evaluation.scores import Scores
from nmt_feat.training.checkpoints import FORMAT, check_format

if TYPE_CHECKING:
    from nmt_feat.data.identity import DataHashes

STARTED, FINISHED = "run.json", "result.json"


@dataclass
class CurvePoint:
    """One validation."""

    step: int
    loss: float | None
    """Mean negative log-likelihood of a dev piece, in nats."""
    bleu: float | None
    """BLEU of greedy translations."""


@dataclass
class Request:
    """The results of a run that a command asks for."""

    decoding: dict[str, Any]
    """The search."""
    tests: dict[str, str]
    """The hash of each test set, in order; see `data.identity.DataHashes`."""
    training: str
    """The hash of the data for training and validation."""


def make_request(cfg: TrainConfig, data: DataHashes) -> Request:
    """The search and the test sets of the settings, whose data has these hashes, as a request."""
    return Request(dataclasses.asdict(cfg.decoding), data.tests, data.training)


@dataclass
class JobState:
    """The state of a sweep's job, which training sets and the sweep records."""

    folder: Path | None = None
    """Folder of its run, as soon as it has one."""
    trained: bool = False
    """Whether it has trained the run; false if the run was finished before."""
    request: Request | None = None
    """The results that its settings ask for."""
    described: set[str] = field(default_factory=set)
    """Fingerprints of the prepared data whose report has been printed, and lines of advice that
    were printed with it: a sweep prints them once."""


@dataclass
class SetResult:
    """The result of a run's weights on dev or a test set by one search."""

    name: str
    data: str
    """The test set's hash; empty for dev, which is part of the run's identity."""
    decoding: dict[str, Any]
    scores: Scores
    file: str
    """File of the hypotheses."""
    counts: str
    """File of the n-gram counts of each sentence."""


@dataclass
class Member:
    """A run of an ensemble."""

    seed: int
    hash: str
    folder: str
    """Path from the ensemble's folder."""


@dataclass
class RunRecord:
    """Settings, origin and results of a run. Paths are relative to its folder."""

    method: str
    features: list[str]
    seed: int
    """-1 for an ensemble, whose members have seeds."""
    data: str
    """Name of the corpus."""
    hash: str
    """Hash of `settings`."""
    settings: dict[str, Any]
    """The settings that determine the trained model, with the seed and the data's hash."""
    config: dict[str, Any]
    """The whole resolved configuration."""
    data_hashes: dict[str, str] = field(default_factory=dict)
    """Hashes of the data: of the folder in the cache (`prepared`), of train and dev (`training`),
    and the one that `settings` had when test sets were part of the identity (`earlier`)."""
    test_hashes: dict[str, str] = field(default_factory=dict)
    """The hash of each requested test set; empty in records of an earlier identity."""
    code: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    """Trainable numbers: `total`, and of those `combiner` and `features`."""
    updates: int = 0
    skipped: int = 0
    """Updates that were skipped, because a loss or gradient was not finite."""
    selected: str = ""
    """The updates that the tested weights come from."""
    selected_step: int = 0
    """Update of the best validation."""
    train_seconds: float = 0.0
    """Seconds of training and validation, in all starts of the run."""
    seconds: float = 0.0
    """Seconds from start to end, in all starts."""
    tokens_per_second: float = 0.0
    """Target pieces trained on per second of training, without validation."""
    peak_memory_mib: float = 0.0
    """Memory of the largest process, in the start that finished the run."""
    curve: list[CurvePoint] = field(default_factory=list)
    dev: Scores | None = None
    """Scores of the selected weights, by the search of `config`; None until the run is finished."""
    tests: dict[str, Scores] = field(default_factory=dict)
    """Scores by test set; the first one is the table's."""
    files: dict[str, str] = field(default_factory=dict)
    """The hypotheses' files by set."""
    format: int = FORMAT
    """Format of the run's folder."""
    counts: dict[str, str] = field(default_factory=dict)
    """Files of the n-gram counts of each sentence by set; intervals are computed from them."""
    data_report: dict[str, Any] = field(default_factory=dict)
    """The printed report on the data: sizes of the splits, bits of the features and so on."""
    text: dict[str, str] = field(default_factory=dict)
    """The normalisation of all text; empty in runs from before there was any."""
    parts: Parts | None = None
    """How the tested weights combine word and features, measured on dev."""
    further: list[SetResult] = field(default_factory=list)
    """Later results: by other searches, or of other files under the name of a test set."""
    contrast: dict[str, ContrastResult] = field(default_factory=dict)
    """By the name of a contrastive suite, its decisions."""
    members: list[Member] = field(default_factory=list)
    """The runs of an ensemble; empty for a run."""
    parent: dict[str, Any] = field(default_factory=dict)
    """The run or pretrained model that it starts from, and the weights that it has from there."""

    @property
    def finished(self) -> bool:
        """Whether the run has its scores."""
        return self.dev is not None

    @property
    def scores(self) -> dict[str, Scores]:
        """The scores of dev and of each test set, once there are any."""
        return {} if self.dev is None else {"dev": self.dev, **self.tests}


def search_of(record: RunRecord) -> dict[str, Any]:
    """The search with which the run was tested at its end; empty if it is unknown."""
    search: dict[str, Any] = record.config.get("decoding") or record.settings.get("decoding") or {}
    return _complete_search(search) if search else {}


def search_changes(record: RunRecord, request: Request) -> dict[str, Any]:
    """The settings of the requested search that differ from the run's own search."""
    run_search = _complete_search(search_of(record))
    search = _complete_search(request.decoding)
    return {name: value for name, value in search.items() if value != run_search[name]}


def _complete_search(decoding: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings of a search, with the defaults of settings that are newer."""
    defaults = dataclasses.asdict(DecodingConfig())
    return defaults | {name: value for name, value in decoding.items() if name in defaults}


def find_result(record: RunRecord, name: str, request: Request) -> SetResult | None:
    """The requested result on dev or a test set, if the run has it."""
    search = search_of(record)
    # Scores of dev come last in an ensemble; `scores` is empty before that.
    main_scores = record.scores or record.tests
    results = [
        SetResult(
            *(set_name, record.test_hashes.get(set_name, ""), search, scores),
            *(files.get(set_name, "") for files in (record.files, record.counts)),
        )
        for set_name, scores in main_scores.items()
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
    """The run with the requested results alone: these test sets, by this search."""
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
    """The run with its results by a search that differs only in the beam; None if it has none."""
    run_search = _complete_search(search_of(record))
    if beam == run_search["beam"]:
        return record
    search = run_search | {"beam": beam}
    results = {
        result.name: result
        for result in record.further
        if _complete_search(result.decoding) == search
    }
    return _with_results(record, results, search) if "dev" in results else None


def _with_results(
    record: RunRecord, results: Mapping[str, SetResult], decoding: dict[str, Any]
) -> RunRecord:
    """The run with these results instead of its own."""
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


def write_record(folder: Path, record: RunRecord) -> Path:
    """Write `result.json` or, for a run without scores, `run.json`; never half of it."""
    path = folder / (FINISHED if record.finished else STARTED)
    content = without_nan(dataclasses.asdict(record))
    results = [content["dev"] or {}, *content["tests"].values()]
    for scores in (*results, *(result["scores"] for result in content["further"])):
        if not scores.get("metrics"):  # so most records are equal to those of earlier versions
            scores.pop("metrics", None)
    for name in ("contrast", "members", "parent"):
        if not content[name]:
            del content[name]
    write_summed(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return path


def read_record(path: Path) -> RunRecord:
    """Read `result.json` or `run.json`; a `UserError` if it is missing or not such a record."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the folder of a run") from None
    except OSError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); train the run again") from None
    record = parse_record(content, path)
    if path.name == FINISHED:
        check_sums(path.parent, only=[FINISHED])
    return record


def parse_record(content: bytes, path: Path) -> RunRecord:
    """The record in the content of a `result.json` or `run.json`; `path` is for messages."""
    try:
        record = convert_json(load_json(content.decode()), RunRecord)
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); train the run again") from None
    except Mismatch as error:
        raise UserError(f"{path}: not the record of a run ({error}); train the run again") from None
    assert isinstance(record, RunRecord)
    check_format(record.format, path)
    further = [name for result in record.further for name in (result.file, result.counts)]
    for name in (*record.files.values(), *record.counts.values(), *further):
        if name != Path(name).name or name in ("", ".."):
            raise UserError(
                f"{path}: names the file {short_repr(name)}, which is not in the run's folder; a "
                "record names only files beside it: train the run again"
            )
    return record


def file_of_run(folder: Path, name: str) -> Path:
    """A file that a record names; a `UserError` if it is a link out of the folder."""
    path = folder / name
    if path.resolve().parent != folder.resolve():
        raise UserError(
            f"{path}: is a link out of the run's folder, which is not followed; put the file there"
        )
    return path


def locate_record(folder: Path) -> Path:
    """The record in a run's folder: `result.json`, or `run.json` if the run is not finished."""
    path = folder / FINISHED
    return path if path.exists() else folder / STARTED


def has_record(folder: Path) -> bool:
    """Whether a folder has the record of a run, finished or not."""
    return locate_record(folder).exists()


def read_run(folder: Path) -> RunRecord:
    """The record in a run's folder, finished or not."""
    return read_record(locate_record(folder))
