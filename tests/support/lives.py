"""Commands in child processes that need not import PyTorch, and can be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from nmt_feat.cli.main import run_subcommand
from nmt_feat.config.identity import VALIDATION

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *("nmt_feat.cli.train_job", "nmt_feat.runs.launcher", "nmt_feat.runs.trained.model"),
        *("nmt_feat.analysis.report", "nmt_feat.analysis.page", "nmt_feat.analysis.figures"),
        *("matplotlib.figure", "matplotlib.font_manager", "scipy.special", "pytest"),
        "tests.support.server",
    ]
)
"""Imports PyTorch once; its children start at once and can be killed."""


def start_server() -> None:
    """Start `SERVER` where it finds the tests' modules, wherever a test is."""
    with contextlib.chdir(Path(__file__).resolve().parents[2]):
        forkserver.ensure_running()


def limit_validations(is_quick: bool = True) -> None:
    """Let the translations of validations be short, or as the program has them.

    A model that is hardly trained never ends a sentence, and half the time of a very small run
    would go there.
    """
    VALIDATION.max_ratio, VALIDATION.max_extra = (0.2, 2) if is_quick else (2.0, 20)


def write_to(out: Path, err: Path) -> None:
    """Let this process print into new files; the same one for both is possible."""
    out.unlink(missing_ok=True)
    err.unlink(missing_ok=True)
    for number, path in ((1, out), (2, err)):
        with path.open("ab") as stream:
            os.dup2(stream.fileno(), number)


def fork_workers() -> None:
    """Let a training fork the processes that it would spawn: they need not import PyTorch."""
    from torch.multiprocessing.spawn import start_processes

    from nmt_feat.runs import launcher
    from nmt_feat.runs.signals import CAUGHT, Signals, signals

    def start(function: Callable[..., None], arguments: tuple[Any, ...], **more: Any) -> Any:
        def begin_anew(rank: int, *arguments: Any) -> None:
            vars(signals).update(vars(Signals()))
            for number in CAUGHT:
                signal.signal(number, signal.SIG_DFL)
            function(rank, *arguments)

        return start_processes(begin_anew, arguments, start_method="fork", **more)

    launcher.start_processes = start  # type: ignore[attr-defined]


def command(overrides: list[str], folder: Path, out: str = "out", err: str = "out") -> None:
    """`python train.py OVERRIDES`, in a child process; what it prints is in files of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    write_to(folder / out, folder / err)
    fork_workers()
    sys.argv = ["train.py", *overrides]
    run_subcommand("train")


def nothing() -> None:
    """Prepare nothing."""


def send_after(step: int, number: int, starter: bool = False, seed: int | None = None) -> None:
    """Let a training get a signal in an update, as soon as the checkpoint of `step` is written.

    Or the process that has started it: then the first one of its processes sends the signal. In
    a sweep `seed` says which run.
    """
    from nmt_feat.training.loop import Trainer

    update, sent = Trainer.update, []

    def sending(self: Trainer) -> Any:
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        if first and self.state.step > step and not sent and seed in (None, self.settings.seed):
            while saved(Path("runs")) < step:
                time.sleep(0.002)
            sent.append(number)
            os.kill(os.getppid() if starter else os.getpid(), number)
            time.sleep(starter)  # until it has the signal
        return update(self)

    Trainer.update = sending  # type: ignore[method-assign]


def _live(life: Life, overrides: list[str], prepare: Callable[[], None]) -> None:
    os.environ.update(life.environment)
    prepare()
    command(overrides, life.folder, *life.files)


@dataclass
class Life:
    """`python train.py ...` in a child process, in a folder."""

    folder: Path
    files: tuple[str, str] = ("out", "err")
    """Names for what it prints there."""
    environment: dict[str, str] = field(default_factory=dict)

    def begin(self, *overrides: str, prepare: Callable[[], None] = nothing) -> Life:
        """Start it, after `prepare()` in its process."""
        start_server()
        self.process = SERVER.Process(target=_live, args=(replace(self), [*overrides], prepare))
        self.process.start()
        return self

    def end(self, seconds: float = 200) -> tuple[int, str, str]:
        """Wait for its end: exit code, standard output, standard error."""
        self.process.join(seconds)
        out, err = ((self.folder / name).read_text(encoding="utf-8") for name in self.files)
        assert self.process.exitcode is not None, f"does not end: {out}{err}"
        return self.process.exitcode, out, err


def _script(
    arguments: list[str], folder: Path, out: Path, err: Path, prepare: Callable[[], None]
) -> None:
    prepare()
    os.chdir(folder)
    write_to(out, err)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent.resolve()))
        runpy.run_path(arguments[0], run_name="__main__")


def python(
    *arguments: object, cwd: Path | None = None, prepare: Callable[[], None] = nothing
) -> subprocess.CompletedProcess[str]:
    """What `python SCRIPT ...` or `python -m MODULE ...` gives, in a process that `SERVER` forks.

    Before it, `prepare()` is called there.

    Three seconds of imports less than `subprocess.run`; functions of `atexit` are not called.
    """
    command, cwd = list(map(str, arguments)), cwd or Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        start_server()
        out, err = Path(folder, "out"), Path(folder, "err")
        process = SERVER.Process(target=_script, args=(command, cwd, out, err, prepare))
        process.start()
        process.join(300)
        assert process.exitcode is not None, f"{command}: does not end"
        texts = [path.read_text(encoding="utf-8") for path in (out, err)]
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def wait_for(what: Callable[[], object], process: Any, folder: Path) -> None:
    """Until it is true; an error if the process ends before."""
    deadline = time.monotonic() + 300
    while not what():
        text = (folder / "out").read_text() if (folder / "out").exists() else ""
        assert process.is_alive(), text
        assert time.monotonic() < deadline, text
        time.sleep(0.002)


def saved(runs: Path) -> int:
    """Step of the newest checkpoint of the only run."""
    paths = runs.glob("*/checkpoints/checkpoint-*.json")
    return max((int(path.stem.removeprefix("checkpoint-")) for path in paths), default=0)
