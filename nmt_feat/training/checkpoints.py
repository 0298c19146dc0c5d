"""Checkpoints: safetensors and JSON, never code.

A checkpoint has three files: `weights-STEP.safetensors`, `state-STEP.safetensors` (optimiser and
random generators), and an index, `checkpoint-STEP.json`. The index names both files and the weights
that may be tested, with their SHA-256 sums. It is renamed into place last, and only then does the
checkpoint exist. So if the process is killed at any point, the previous checkpoint is still whole.
The folder keeps the newest two; if the newest is damaged, the one before is used.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse
from safetensors.torch import save as serialize
from torch import Tensor, nn

from nmt_feat.base.checksums import hash_file, hash_json
from nmt_feat.base.files import refuse_links, write_atomically
from nmt_feat.base.typed_json import Mismatch, convert_json, load_json
from nmt_feat.errors import UserError

CHECKPOINTS = "checkpoints"
"""The name of the folder of checkpoints in a run's folder."""
INDEX = "checkpoint-"
"""How the names of indices begin."""
FORMAT = 1
"""The format of run folders and checkpoints; earlier formats are read, later ones refused."""
AGAIN = "delete what is left of the run, then the same command trains it again"
"""The end of messages about a run that lost files."""
_CHECKPOINT_FILE = re.compile(
    r"\.?(?:weights-|state-|checkpoint-)\d{1,18}\.(?:safetensors|json)(?:\.\d+\.tmp)?"
)
"""The files of checkpoints, also half-written ones of a killed process."""
_TENSOR_FILE = re.compile(r"(weights|state)-\d{1,18}\.safetensors")


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, a shared table once, without those stored elsewhere."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    external: frozenset[str] = getattr(model, "external_weights", frozenset())
    return {name: tensor.detach() for name, tensor in named.items() if name not in external}


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the content of a safetensors file."""
    return serialize({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})


def restore_weights(model: nn.Module, tensors: dict[str, Tensor], name: str = "checkpoint") -> None:
    """Copy `tensors` into the model, if their names and shapes are the model's.

    Args:
        model: its weights are replaced.
        tensors: the new weights.
        name: what messages call the tensors.
    """
    model_weights = model_tensors(model)
    for key in sorted(model_weights.keys() | tensors.keys()):
        shape = tuple(tensors[key].shape) if key in tensors else "missing"
        expected = tuple(model_weights[key].shape) if key in model_weights else "missing"
        if shape != expected:
            raise UserError(
                f"{name}: {key} is {shape} but the model's is {expected}; "
                "the file belongs to other settings"
            )
        model_weights[key].copy_(tensors[key])


def average_weights(checkpoints: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the weights of several checkpoints (Vaswani et al. 2017, section 6.1)."""
    means = {}
    for name, first in checkpoints[0].items():
        values = torch.stack([weights[name].double() for weights in checkpoints])
        means[name] = values.mean(dim=0).to(first.dtype)
    return means


def read_tensors(path: Path, expected: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file; with `expected`, check its SHA-256 sum."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise UserError(
            f"{path}: damaged, its SHA-256 is not the one in its checkpoint; the same command "
            "uses the checkpoint before"
        )
    try:
        return dict(parse(data))
    except Exception:
        raise UserError(f"{path}: damaged, not a safetensors file") from None


def check_format(number: int, path: Path) -> None:
    """Refuse a file that a later version has written."""
    if number > FORMAT:
        raise UserError(
            f"{path}: format {number}, this version of nmt_feat reads up to {FORMAT}; "
            "update nmt_feat"
        )


@dataclass
class TrainingState:
    """The state of a training beside tensors. Checkpoints store it by these names."""

    step: int = 0
    """The number of updates."""
    batches: int = 0
    """Batches drawn by all processes together."""
    best_step: int = 0
    """The step with the highest dev BLEU; of several, the one with the lowest dev loss."""
    best_bleu: float = -1.0
    """The dev BLEU there, or the score of the metric that chooses the checkpoint."""
    seconds: float = 0.0
    """Time of the updates, without validation."""
    elapsed: float = 0.0
    """Time of updates and validation."""
    tokens: int = 0
    """Target tokens of all updates."""
    sentences: int = 0
    """Sentence pairs of all updates."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """A point per validation: step, dev BLEU (greedy), dev loss (nats per piece)."""
    finished: bool = False
    processes: int = 0
    """Processes that made the updates; 0 if any number of them may continue."""
    threads: int = 0
    """Threads of each process; 0 on a GPU, where they do not change the result."""
    loss: float = 0.0
    """The sum over the tokens of all processes since the last validation, for display."""
    counted: int = 0
    """The number of these tokens."""
    skipped: int = 0
    """Updates whose loss or gradient was not finite."""
    in_a_row: int = 0
    """How many of the latest updates were skipped one after another."""


@dataclass
class Index:
    """The content of an index beside its own sum."""

    format: int
    step: int
    steps: list[int]
    """The steps of the last validated weights."""
    best: int
    """The step of the best weights, or 0."""
    sha256: dict[str, str]
    """The sum of each file, by name."""
    meta: TrainingState

    def copy_state(self) -> TrainingState:
        """The state of the training, to continue with."""
        return copy.deepcopy(self.meta)


class Damaged(UserError):
    """A file of a checkpoint is missing, or is not what was written."""


class Checkpoints:
    """The checkpoints of a run, in one folder: the best weights, and the last `keep`.

    Args:
        folder: the folder of the checkpoints.
        keep: how many weights to keep beside the best.
        verify: check the files of the newest checkpoint now, and use the one before if they are
            damaged. Without it, a file is checked when it is read.

    Attributes:
        newest: the index of the newest whole checkpoint; None if there is none.
        damaged: a message about a newer, damaged checkpoint, if there is one.
    """

    def __init__(self, folder: Path, keep: int, verify: bool = True) -> None:
        self.folder, self.keep = folder, keep
        self.damaged: str | None = None
        names = [path.stem.removeprefix(INDEX) for path in folder.glob(f"{INDEX}*.json")]
        steps = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
        indices: list[Index] = []  # of whole checkpoints, the newest first
        for step in steps:
            try:
                indices.append(self._read_index(step, verify and not indices))
            except Damaged as error:
                if not indices:
                    self.damaged = self.damaged or str(error)
        if self.damaged and not indices:
            raise UserError(f"{self.damaged}; to train from the start, delete {folder.parent}")
        self.newest: Index | None
        self._before: Index | None
        self.newest, self._before = [*indices, None, None][:2]

    def _read_index(self, step: int, verify: bool) -> Index:
        path = self.folder / f"{INDEX}{step}.json"
        try:
            content: dict[str, Any] = load_json(path.read_bytes().decode())
            if content.pop("sum") != hash_json(content):
                raise ValueError
            check_format(content["format"], path)
            index: Index = convert_json(content, Index)
            if index.step != step or not all(map(_TENSOR_FILE.fullmatch, index.sha256)):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Mismatch):
            raise Damaged(f"{path}: damaged") from None
        if verify:
            for name, expected in index.sha256.items():
                file = self.folder / name
                if not file.is_file():
                    raise Damaged(f"{file}: missing")
                if hash_file(file) != expected:
                    raise Damaged(f"{file}: damaged, its SHA-256 is not the one in {path.name}")
        return index

    def save(
        self,
        model: nn.Module,
        tensors: dict[str, Tensor],
        state: TrainingState,
        validated: bool = True,
    ) -> None:
        """Write the checkpoint of the step `state.step`.

        Args:
            model: its weights are saved.
            tensors: other tensors, of the optimiser and the random generators.
            state: everything else.
            validated: whether the weights count among the last `keep`.
        """
        step, best = state.step, state.best_step
        self._refuse_deleted_folder()
        self.folder.mkdir(exist_ok=True)
        sums = dict(self.newest.sha256) if self.newest else {}
        for kind, content in (("weights", model_tensors(model)), ("state", tensors)):
            data, name = to_safetensors(content), f"{kind}-{step}.safetensors"
            write_atomically(self.folder / name, data)
            sums[name] = hashlib.sha256(data).hexdigest()
        steps = [s for s in self.newest.steps if s < step] if self.newest else []
        if validated:
            steps = [*steps, step][-self.keep :]
        names = {f"weights-{s}.safetensors" for s in (*steps, best, step) if s}
        names |= {f"state-{step}.safetensors"}
        needed_sums = {name: sums[name] for name in sums if name in names}
        index = Index(FORMAT, step, steps, best, needed_sums, copy.deepcopy(state))
        content = asdict(index)
        text = json.dumps({"sum": hash_json(content), **content}, indent=1)
        write_atomically(self.folder / f"{INDEX}{step}.json", text.encode())
        if self.step != step:  # not where the same step is saved once more
            self._before = self.newest
        self.newest = index
        self._delete_old_files()

    def _delete_old_files(self) -> None:
        """Delete the files of checkpoints that the newest two do not name."""
        indices = [index for index in (self.newest, self._before) if index]
        needed = {f"{INDEX}{index.step}.json" for index in indices}
        needed |= {name for index in indices for name in index.sha256}
        for path in self.folder.iterdir():
            if path.name not in needed and _CHECKPOINT_FILE.fullmatch(path.name):
                path.unlink()

    def _refuse_deleted_folder(self) -> None:
        """Refuse to write into a folder that was deleted: it would have only half of its files."""
        refuse_links(self.folder)
        if not self.folder.parent.is_dir():
            raise UserError(f"{self.folder.parent}: was deleted while the run trained; {AGAIN}")
        if self.newest and not self.folder.is_dir():
            raise UserError(f"{self.folder}: was deleted while the run trained; {AGAIN}")

    @property
    def step(self) -> int:
        """The step of the newest checkpoint; 0 if there is none."""
        return self.newest.step if self.newest else 0

    def read_weights(self, step: int) -> dict[str, Tensor]:
        """The weights of a step whose weights are still there."""
        return self._read_tensors(f"weights-{step}.safetensors")

    def read_state(self) -> dict[str, Tensor]:
        """The optimiser's state and the random generators of the newest checkpoint."""
        return self._read_tensors(f"state-{self.step}.safetensors")

    def _read_tensors(self, name: str) -> dict[str, Tensor]:
        expected = self.newest.sha256.get(name) if self.newest else None
        if not expected:
            raise UserError(f"{self.folder}: its newest checkpoint has no {name}; train again")
        return read_tensors(self.folder / name, expected)

    def select_weights(self, how: str) -> tuple[dict[str, Tensor], list[int]]:
        """The weights to test, and the steps that they come from; `how`: `best` or `average`."""
        self._refuse_deleted_folder()
        if not self.newest:
            raise UserError(f"{self.folder}: has no checkpoint any more; {AGAIN}")
        steps = [self.newest.best] if how == "best" else list(self.newest.steps)
        if not steps:
            raise UserError(f"{self.folder}: no checkpoint was validated; train again")
        return average_weights([self.read_weights(step) for step in steps]), steps
