"""Trainings that are stopped at an exact place, and what a command refuses to continue."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.config.identity import VALIDATION
from nmt_feat.runs import processes
from nmt_feat.training.loop import Trainer
from tests.support.entry import call
from tests.support.small import Small


class Killed(BaseException):
    """What stops a run in this process, at an exact place."""


def is_counted(*args: object) -> bool:
    """Whether a call counts: not the renames of vocabularies, in a run and in the cache."""
    folder = args[0].parent if args and isinstance(args[0], Path) else Path()
    return folder.name != "encoder" and folder.suffix != ".building"


def stop_at(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int, after: bool
) -> list[int]:
    """Let the `call`-th call of a method raise, before or after it has done its work."""
    original = getattr(owner, name)
    calls = [0]

    def method(*args: Any, **kwargs: Any) -> Any:
        if not is_counted(*args):
            return original(*args, **kwargs)
        calls[0] += 1
        if calls[0] == call and not after:
            raise Killed
        result = original(*args, **kwargs)
        if calls[0] == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, method)
    return calls


def send_at(
    patch: pytest.MonkeyPatch, owner: Any, name: str, at: int, number: int = signal.SIGTERM
) -> None:
    """Let this process get a signal in the `at`-th call of a function, before its work."""
    original = getattr(owner, name)
    calls = [0]

    def function(*args: Any, **kwargs: Any) -> Any:
        calls[0] += is_counted(*args)
        if calls[0] == at:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    patch.setattr(owner, name, function)


_stopped: dict[str, Path] = {}


def stop(small: Small, *settings: str, update: int = 5) -> Path:
    """The folder of a run that was stopped after an update; each is trained once in a process."""
    elsewhere = Small(small.corpus, small.cache, Path("/"), small.settings)
    key = repr((elsewhere.overrides(*settings), update, VALIDATION, processes.DEFAULT_THREADS))
    if key not in _stopped:
        elsewhere.folder = small.corpus.parent / f"stopped-{len(_stopped)}"
        with pytest.MonkeyPatch.context() as patch:
            send_at(patch, Trainer, "update", update)
            assert call("train", *elsewhere.overrides(*settings)).code == 75
        (folder,) = (elsewhere.folder / "runs").glob("*/checkpoints")
        _stopped[key] = folder.parent
    run = _stopped[key]
    return Path(shutil.copytree(run, small.folder / "runs" / run.name))


def refused(small: Small, *settings: str) -> str:
    """The one line."""
    done = call("train", *small.overrides(*settings))
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1
    return done.err.removeprefix("error: ").rstrip("\n")
