"""Signals: training finishes its update, writes a checkpoint and leaves.

So it is with SIGTERM (`kill`, a scheduler's pre-emption), SIGINT (Ctrl-C) and SIGUSR1 (what
`sbatch --signal=USR1@60` sends before the time limit). Where no checkpoint is due, as while data
is prepared, the work ends at once. So it does, anywhere, at a second SIGINT.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

STOPPED = 75
"""Exit code of a run that a signal has stopped: EX_TEMPFAIL of sysexits.h, "try again"."""
AT_ONCE = 130
"""Exit code at a second SIGINT."""
CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Interrupted(KeyboardInterrupt):
    """A signal ends the work here; what is finished is written, the same command continues."""


class Signals:
    """The signals of this process: `caught` is the name of the first that came, or empty."""

    def __init__(self) -> None:
        self.caught = ""
        self._active = self._deferred = False
        self._interrupts = 0
        self._parent = 0

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Signals that come raise `Interrupted`. Only the main thread can handle any."""
        if self._active or threading.current_thread() is not threading.main_thread():
            yield
            return
        self.caught, self._interrupts, self._active = "", 0, True
        self._parent = os.getppid() if multiprocessing.parent_process() else 0
        before = [signal.signal(number, self._arrived) for number in CAUGHT]
        try:
            yield
        finally:
            self._active = False
            for number, handler in zip(CAUGHT, before, strict=True):
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals are only noted in `caught`, and passed on to processes that train."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside `deferred`: here they raise `Interrupted` all the same, also one noted before."""
        deferred, self._deferred = self._deferred, False
        try:
            if self.caught:
                raise Interrupted
            yield
        finally:
            self._deferred = deferred

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._parent and os.getppid() != self._parent:  # killed; another may go on already
            os._exit(AT_ONCE)
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            for child in multiprocessing.active_children():
                child.kill()
            os.write(2, b"left at once; the same command continues from the last checkpoint\n")
            os._exit(AT_ONCE)
        first, self.caught = not self.caught, self.caught or signal.Signals(number).name
        if self._deferred:
            for child in multiprocessing.active_children():
                child.terminate()
            if number == signal.SIGINT and not self._parent and sys.stderr.isatty():
                os.write(2, b"\nfinishing the update; Ctrl-C again leaves at once\n")
        elif first:
            raise Interrupted(f"{self.caught}: stopped; the same command continues")


signals = Signals()
