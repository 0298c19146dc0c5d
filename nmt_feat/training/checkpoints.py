"""Checkpoints: safetensors and JSON, never code.

A checkpoint is two files, `weights-STEP.safetensors` (kept while it is the best or among the last
k) and `state-STEP.safetensors` (optimiser and generators; only the newest is kept). The index
`checkpoints.json` names them with their SHA-256 sums; replacing it, atomically, is what makes a
checkpoint exist, so a process killed at any point leaves the previous one whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse
from safetensors.torch import save as serialize
from torch import Tensor, nn

from nmt_feat.corpus.text import sha256
from nmt_feat.errors import UserError

INDEX = "checkpoints.json"
SUMS = "SHA256SUMS"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, a shared table once."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach() for name, tensor in named.items()}


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the content of a safetensors file."""
    return serialize({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})


def restore(model: nn.Module, tensors: dict[str, Tensor], name: str = "checkpoint") -> None:
    """Copy `tensors` into the model; other names or shapes than its own are an error."""
    own = weights(model)
    for key in sorted(own.keys() | tensors.keys()):
        given, expected = (
            tuple(named[key].shape) if key in named else "missing" for named in (tensors, own)
        )
        if given != expected:
            raise UserError(
                f"{name}: {key} is {given} but the model's is {expected}; "
                "the file belongs to other settings"
            )
        own[key].copy_(tensors[key])


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def average(sets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
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
            f"{path}: damaged, its SHA-256 is not the one in {INDEX}; "
            f"to train from the start, delete {path.parent.parent}"
        )
    try:
        return dict(parse(data))
    except Exception:
        raise UserError(f"{path}: damaged, not a safetensors file") from None


def write_sums(folder: Path, patterns: Iterable[str]) -> None:
    """Write the SHA-256 sums of files of `folder`, in the format of `sha256sum -c`."""
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    paths = [path for path in found if path.is_file()]
    lines = [f"{sha256(path)}  {path.relative_to(folder)}\n" for path in paths]
    write_atomically(folder / SUMS, "".join(lines).encode())


def check_sums(folder: Path) -> None:
    """Refuse files that have changed or gone since `write_sums`, where it has written."""
    sums = folder / SUMS
    for line in sums.read_text(encoding="utf-8").splitlines() if sums.exists() else ():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            what = "damaged, its SHA-256 is not the one" if path.is_file() else "missing, but"
            raise UserError(f"{path}: {what} in {SUMS}; get the run's folder again, or train again")


class Checkpoints:
    """The checkpoints of one run, in one folder; the weights of the last `keep` and of the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self.index: dict[str, Any] = {}
        path = folder / INDEX
        if path.exists():
            try:
                self.index = json.loads(path.read_bytes())
                if self.index.pop("sum") != digest(self.index):
                    raise ValueError
            except (ValueError, KeyError, TypeError, AttributeError):
                raise UserError(
                    f"{path}: damaged; to train from the start, delete {folder.parent}"
                ) from None

    def save(
        self, step: int, model: nn.Module, state: dict[str, Tensor], meta: dict[str, Any], best: int
    ) -> None:
        """Write the checkpoint of `step`; `meta` is JSON, `best` the step with the best score."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sums = dict(self.index.get("sha256", {}))
        for kind, tensors in (("weights", weights(model)), ("state", state)):
            data, name = packed(tensors), f"{kind}-{step}.safetensors"
            write_atomically(self.folder / name, data)
            sums[name] = hashlib.sha256(data).hexdigest()
        steps = [*(s for s in self.index.get("steps", []) if s < step), step][-self.keep :]
        files = {f"weights-{s}.safetensors" for s in (*steps, best)} | {f"state-{step}.safetensors"}
        sums = {name: sums[name] for name in sums if name in files}
        self.index = {"steps": steps, "best": best, "sha256": sums, "meta": meta}
        index = {"sum": digest(self.index), **self.index}
        write_atomically(self.folder / INDEX, json.dumps(index, indent=1).encode())
        for path in self.folder.iterdir():
            if path.name not in files and path.name != INDEX:
                path.unlink()

    @property
    def step(self) -> int:
        """Step of the newest checkpoint; 0 if there is none."""
        return int(self.index["steps"][-1]) if self.index else 0

    def weights(self, step: int) -> dict[str, Tensor]:
        """Weights at a kept step."""
        return self._read(f"weights-{step}.safetensors")

    def state(self) -> dict[str, Tensor]:
        """Optimiser and generators of the newest checkpoint."""
        return self._read(f"state-{self.step}.safetensors")

    def _read(self, name: str) -> dict[str, Tensor]:
        return read_tensors(self.folder / name, self.index["sha256"][name])

    def select(self, how: str) -> tuple[dict[str, Tensor], list[int]]:
        """The weights to test, and the steps they come from; `how`: `best` or `average`."""
        steps = [self.index["best"]] if how == "best" else list(self.index["steps"])
        return average([self.weights(step) for step in steps]), steps
