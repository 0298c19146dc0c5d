"""No room on the disk or in memory: one line, which says what is saved and how to continue."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from nmt_feat.runs.setup import build_trainer
from nmt_feat.training.objective import Objective
from tests.support.entry import call
from tests.support.mistakes import train
from tests.support.small import Small, outcome

ERRORS = {
    "GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 ..."),
    "CPU": RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
    "CPU of another kind": RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
    "Python": MemoryError(),
}


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException, update: int) -> list[Tensor]:
    """Let an update raise; its batch."""
    original, batch, calls = Objective.forward, [], [0]

    def forward(self: Objective, *arguments: Any) -> tuple[Tensor, Tensor]:
        calls[0] += self.model.training
        if self.model.training and calls[0] == update:
            batch.extend(arguments[0:1] + arguments[2:3])
            raise error
        return original(self, *arguments)

    monkeypatch.setattr(Objective, "forward", forward)
    return batch


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "update"), [(k, 4) for k in ERRORS] + [("GPU", 1)])
def test_memory(small: Small, monkeypatch: pytest.MonkeyPatch, kind: str, update: int) -> None:
    """The batch is described, and what was saved; with memory, the run ends in the same bits."""
    expected = small.whole("combiner=add")
    with monkeypatch.context() as patched:
        batch = fails(patched, ERRORS[kind], update)
        message = train(small, "combiner=add")
    (run,) = (small.folder / "runs").glob("add-*")
    (pairs, source), (_, target) = (tensor.shape for tensor in batch)
    name = f"HERE/runs/{run.name}"
    saved = "no update is saved yet" if update == 1 else f"update 2 is saved in {name}"
    assert message == (
        f"out of memory in update {update}, with a batch of {pairs} pairs of up to {source} and "
        f"{target} tokens (source, target); {saved}; the same command continues where there is "
        "more memory; else train from the start with a lower trainer.batch_tokens (here 256) and a "
        "higher trainer.accumulate"
    )
    assert outcome(small.train("combiner=add")) == expected


@pytest.mark.thorough
def test_memory_in_search(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*arguments: Any, **share: Any) -> None:
        raise ERRORS["GPU"]

    monkeypatch.setattr(build_trainer, "translate_split", search)
    assert train(small, "combiner=add") == (
        "out of memory outside of an update; lower decoding.batch_tokens or provide more "
        "memory; the same command continues from what is finished"
    )


def test_other_errors_are_not_hidden(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, RuntimeError("a defect"), 1)
    with pytest.raises(RuntimeError, match="a defect"):
        call("train", *small.overrides("combiner=add"))


@pytest.mark.parametrize("file", [pytest.param(0, marks=pytest.mark.slow), 1, 2])
def test_full_disk(small: Small, monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    """At each file of the second checkpoint: none is left half written, the first stays."""
    expected = small.whole("combiner=add")
    name = ("weights-4.safetensors", "state-4.safetensors", "checkpoint-4.json")[file]
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if name in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        message = train(small, "combiner=add")
    (run,) = (small.folder / "runs").glob("add-*")
    run_path = f"HERE/runs/{run.name}"
    assert message == (
        f"{run_path}/checkpoints: No space left on device, while update 4 was saved; update 2 is "
        f"saved in {run_path}; make room, then the same command continues"
    )
    assert not list(run.rglob("*.tmp"))
    assert outcome(small.train("combiner=add")) == expected
