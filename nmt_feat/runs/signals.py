"""Signals: training finishes its update, writes a checkpoint and ends.

It does so after SIGTERM (`kill`, a scheduler's pre-emption), SIGINT (Ctrl-C) and SIGUSR1 (sent by
`sbatch --signal=USR1@60` before the time limit). Other work, such as preparing data, ends at once.
A second SIGINT ends all work at once.
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
    """A signal has ended the work; finished work is written, and the same command continues."""


class Signals:
    """The signals of this process: `caught` is the name of the first one, or empty."""

    def __init__(self) -> None:
        self.caught = ""
        self._active = self._deferred = False
        self._interrupts = 0
        self._parent = 0

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Within, signals raise `Interrupted`. Only the main thread can handle signals."""
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
        """Within, signals are only noted in `caught`, and passed on to processes that train."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within (and inside `deferred`), signals raise `Interrupted`, also one noted before."""
        deferred, self._deferred = self._deferred, False
        try:
            if self.caught:
                raise Interrupted
            yield
        finally:
            self._deferred = deferred

    def interruption(self, after: str = "") -> Interrupted:
        """The error of work that a signal has ended; `after`: what was finished."""
        signal_name = self.caught or "a signal"
        return Interrupted(f"{signal_name}: stopped{after}; the same command continues")

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._parent and os.getppid() != self._parent:
            os._exit(AT_ONCE)  # the parent was killed, and another may train the run already
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            for child in multiprocessing.active_children():
                child.kill()
            os.write(2, b"ended at once; the same command continues from the last checkpoint\n")
            os._exit(AT_ONCE)
        is_first = not self.caught
        if is_first:
            self.caught = signal.Signals(number).name
        if self._deferred:
            for child in multiprocessing.active_children():
                child.terminate()
            if number == signal.SIGINT and not self._parent and sys.stderr.isatty():
                os.write(2, b"\nfinishing the update; Ctrl-C again ends at once\n")
        elif is_first:
            raise self.interruption()


signals = Signals()
