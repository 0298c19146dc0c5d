"""Checkpoints: safetensors and JSON, never code.

A checkpoint is `weights-STEP.safetensors`, `state-STEP.safetensors` (optimiser and generators) and
`checkpoint-STEP.json`, which names them, and the weights that may be tested, with their SHA-256
sums. It is renamed into place last: that makes the checkpoint exist, so a process killed at any
point leaves the previous one whole. The newest two are kept; where the newest is damaged, the one
before is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
"""The folder of a run's checkpoints, in its own."""
INDEX = "checkpoint-"
"""Begins the names of the indices."""
FORMAT = 1
"""Of run folders and checkpoints: raised when what is in them changes; older ones are read."""
AGAIN = "delete what is left of the run, then the same command trains it again"
_WRITTEN = re.compile(
    r"\.?(?:weights-|state-|checkpoint-)\d{1,18}\.(?:safetensors|json)(?:\.\d+\.tmp)?"
)
"""The files of checkpoints, also those that a killed process left half written."""
_NAME = re.compile(r"(weights|state)-\d{1,18}\.safetensors")


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, a shared table once; not what is kept elsewhere."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    elsewhere: frozenset[str] = getattr(model, "kept_elsewhere", frozenset())
    return {name: tensor.detach() for name, tensor in named.items() if name not in elsewhere}


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the content of a safetensors file."""
    return serialize({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})


def restore_weights(model: nn.Module, tensors: dict[str, Tensor], name: str = "checkpoint") -> None:
    """Copy `tensors` into the model; other names or shapes than its own are an error."""
    expected = model_tensors(model)
    for key in sorted(expected.keys() | tensors.keys()):
        shape, expected_shape = (
            tuple(named[key].shape) if key in named else "missing" for named in (tensors, expected)
        )
        if shape != expected_shape:
            raise UserError(
                f"{name}: {key} is {shape} but the model's is {expected_shape}; "
                "the file belongs to other settings"
            )
        expected[key].copy_(tensors[key])


def average_weights(sets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the tensors of several checkpoints (Vaswani et al. 2017, section 6.1)."""
    return {
        name: torch.stack([s[name].double() for s in sets]).mean(dim=0).to(first.dtype)
        for name, first in sets[0].items()
    }


def read_tensors(path: Path, expected: str | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file, verified by its SHA-256 sum if that is given."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise UserError(
            f"{path}: damaged, its SHA-256 is not the one of its checkpoint; the same command "
            "uses the checkpoint before"
        )
    try:
        return dict(parse(data))
    except Exception:
        raise UserError(f"{path}: damaged, not a safetensors file") from None


def check_format(number: int, path: Path) -> None:
    """Refuse what a later version has written."""
    if number > FORMAT:
        raise UserError(
            f"{path}: format {number}, this version of nmt_feat reads up to {FORMAT}; "
            "update nmt_feat"
        )


@dataclass
class TrainingState:
    """What a stopped run needs to know beside tensors; saved with each checkpoint."""

    step: int = 0
    batches: int = 0
    """Batches drawn from the stream by all processes together."""
    best_step: int = 0
    """Of the highest dev BLEU; of equal BLEU, of the lowest dev loss."""
    best_bleu: float = -1.0
    """There; of the metric that selects, if that is another one."""
    seconds: float = 0.0
    """Time in updates, validation not counted."""
    elapsed: float = 0.0
    """Time in updates and validation."""
    tokens: int = 0
    """Target tokens trained on."""
    sentences: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    """A point per validation: step, dev BLEU (greedy), dev loss (nats per piece)."""
    finished: bool = False
    processes: int = 0
    """That made the updates, each with so many threads; 0 where that does not matter."""
    threads: int = 0
    loss: float = 0.0
    """Summed over the tokens of all processes since the last validation, to be shown."""
    counted: int = 0
    """Those tokens."""
    skipped: int = 0
    """Updates whose loss or gradient was not finite."""
    in_a_row: int = 0
    """The last ones of them."""


@dataclass
class Index:
    """What an index says beside its own sum."""

    format: int
    step: int
    steps: list[int]
    best: int
    sha256: dict[str, str]
    meta: TrainingState


class Damaged(UserError):
    """A checkpoint, or a file of it, that is not what was written."""


class Checkpoints:
    """The checkpoints of one run, in one folder; the weights of the last `keep` and of the best.

    Args:
        folder: where they are.
        keep: how many weights are kept beside the best.
        verify: whether the files of the newest are checked, to use the one before if need be;
            otherwise each is when it is read.

    Attributes:
        index: the newest checkpoint that is whole; empty if there is none.
        damaged: what is wrong with a newer one, if there is one.
    """

    def __init__(self, folder: Path, keep: int, verify: bool = True) -> None:
        self.folder, self.keep = folder, keep
        self.damaged: str | None = None
        names = [path.stem.removeprefix(INDEX) for path in folder.glob(f"{INDEX}*.json")]
        whole: list[dict[str, Any]] = []
        for step in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
            try:
                whole.append(self._read_index(step, verify and not whole))
            except Damaged as error:
                self.damaged = self.damaged or (None if whole else str(error))
        if self.damaged and not whole:
            raise UserError(f"{self.damaged}; to train from the start, delete {folder.parent}")
        self.index, self._before = [*whole, {}, {}][:2]

    def _read_index(self, step: int, verify: bool) -> dict[str, Any]:
        path = self.folder / f"{INDEX}{step}.json"
        try:
            index: dict[str, Any] = load_json(path.read_bytes().decode())
            if index.pop("sum") != hash_json(index):
                raise ValueError
            check_format(index["format"], path)
            if convert_json(index, Index).step != step or not all(
                map(_NAME.fullmatch, index["sha256"])
            ):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError, Mismatch):
            raise Damaged(f"{path}: damaged") from None
        for name, expected in index["sha256"].items() if verify else ():
            if not (file := self.folder / name).is_file():
                raise Damaged(f"{file}: missing")
            if hash_file(file) != expected:
                raise Damaged(f"{file}: damaged, its SHA-256 is not the one in {path.name}")
        return index

    def save(
        self,
        step: int,
        model: nn.Module,
        state: dict[str, Tensor],
        meta: dict[str, Any],
        best: int,
        validated: bool = True,
    ) -> None:
        """Write the checkpoint of `step`.

        Args:
            step: the update that it follows.
            model: its weights.
            state: other tensors.
            meta: what else there is, as JSON.
            best: the step with the best score; 0 if there is none yet.
            validated: whether the weights count among the last `keep`.
        """
        self._refuse_gone()
        self.folder.mkdir(exist_ok=True)
        sums = dict(self.index.get("sha256", {}))
        for kind, tensors in (("weights", model_tensors(model)), ("state", state)):
            data, name = to_safetensors(tensors), f"{kind}-{step}.safetensors"
            write_atomically(self.folder / name, data)
            sums[name] = hashlib.sha256(data).hexdigest()
        steps = [s for s in self.index.get("steps", []) if s < step]
        steps = [*steps, step][-self.keep :] if validated else steps
        names = {f"weights-{s}.safetensors" for s in (*steps, best, step) if s}
        names |= {f"state-{step}.safetensors"}
        index: dict[str, Any] = {
            "format": FORMAT,
            "step": step,
            "steps": steps,
            "best": best,
            "sha256": {name: sums[name] for name in sums if name in names},
            "meta": meta,
        }
        content = json.dumps({"sum": hash_json(index), **index}, indent=1)
        write_atomically(self.folder / f"{INDEX}{step}.json", content.encode())
        before = self._before if self.step == step else self.index
        self.index, self._before = index, before
        indices = [one for one in (index, before) if one]
        needed = {f"{INDEX}{one['step']}.json" for one in indices}
        needed |= {name for one in indices for name in one["sha256"]}
        for path in self.folder.iterdir():
            if path.name not in needed and _WRITTEN.fullmatch(path.name):
                path.unlink()

    def _refuse_gone(self) -> None:
        """A folder deleted while its run trains would be made again with half its files."""
        refuse_links(self.folder)
        if not self.folder.parent.is_dir() or (self.index and not self.folder.is_dir()):
            gone = self.folder if self.folder.parent.is_dir() else self.folder.parent
            raise UserError(f"{gone}: was deleted while the run trained; {AGAIN}")

    @property
    def step(self) -> int:
        """Step of the newest checkpoint; 0 if there is none."""
        return int(self.index["step"]) if self.index else 0

    def read_weights(self, step: int) -> dict[str, Tensor]:
        """Weights at a kept step."""
        return self._read_tensors(f"weights-{step}.safetensors")

    def read_state(self) -> dict[str, Tensor]:
        """Optimiser and generators of the newest checkpoint."""
        return self._read_tensors(f"state-{self.step}.safetensors")

    def _read_tensors(self, name: str) -> dict[str, Tensor]:
        if not (expected := self.index["sha256"].get(name)):
            raise UserError(f"{self.folder}: its newest checkpoint has no {name}; train again")
        return read_tensors(self.folder / name, expected)

    def select_weights(self, how: str) -> tuple[dict[str, Tensor], list[int]]:
        """The weights to test, and the steps they come from; `how`: `best` or `average`."""
        self._refuse_gone()
        if not self.index:
            raise UserError(f"{self.folder}: has no checkpoint any more; {AGAIN}")
        steps = [self.index["best"]] if how == "best" else list(self.index["steps"])
        if not steps:
            raise UserError(f"{self.folder}: no checkpoint was validated; train again")
        return average_weights([self.read_weights(step) for step in steps]), steps
