"""Commands in child processes that need not import PyTorch, and can be killed."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nmt_feat.cli.main import run_subcommand

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nmt_feat.cli.train"])
"""Imports PyTorch once; its children start at once and can be killed."""


def command(overrides: list[str], folder: Path) -> None:
    """`python train.py OVERRIDES`, in a child process."""
    os.chdir(folder)
    with (folder / "out").open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["train.py", *overrides]
    run_subcommand("train")


def _script(arguments: list[str], folder: Path, out: Path, err: Path) -> None:
    os.chdir(folder)
    for number, path in ((1, out), (2, err)):
        with path.open("wb") as stream:
            os.dup2(stream.fileno(), number)
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent.resolve()))
    runpy.run_path(arguments[0], run_name="__main__")


def python(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `python SCRIPT ...` gives, in a process of its own that `SERVER` forks.

    Three seconds of imports less than `subprocess.run`; functions of `atexit` are not called.
    """
    command = list(map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = SERVER.Process(target=_script, args=(command, cwd or Path.cwd(), out, err))
        process.start()
        process.join(300)
        assert process.exitcode is not None, f"{command}: does not end"
        texts = [path.read_text(encoding="utf-8") for path in (out, err)]
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


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
