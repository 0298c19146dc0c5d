"""Trainings in child processes that can be killed."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nmt_feat import cli

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nmt_feat.cli"])
"""Imports PyTorch once; its children start at once and can be killed."""


def command(overrides: list[str], folder: Path) -> None:
    """`python train.py OVERRIDES`, in a child process."""
    os.chdir(folder)
    with (folder / "out").open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["train.py", *overrides]
    cli.train()


def wait_for(what: Callable[[], object], process: Any, folder: Path) -> None:
    """Until it is true; an error if the process ends before."""
    deadline = time.monotonic() + 60
    while not what():
        text = (folder / "out").read_text() if (folder / "out").exists() else ""
        assert process.is_alive(), text
        assert time.monotonic() < deadline, text
        time.sleep(0.002)


def saved(runs: Path) -> int:
    """Step of the newest checkpoint of the only run."""
    paths = runs.glob("*/checkpoints/checkpoint-*.json")
    return max((int(path.stem.removeprefix("checkpoint-")) for path in paths), default=0)
