"""Locks of folders: a process works in a folder while it has the lock; a killed one loses it."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nmt_feat.base.terminal import say
from nmt_feat.errors import UserError
from nmt_feat.runs.processes import find_launcher

MOMENT = 0.2
"""Seconds to wait for a lock before it counts as taken: `is_locked` takes it for a moment, too."""


def _path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def lock_of(folder: Path) -> FileLock:
    """The lock of a run's or a sweep's folder; `acquire` gives up after a moment (`Timeout`)."""
    return FileLock(_path(folder), timeout=MOMENT)


@contextlib.contextmanager
def lock_folder(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep other processes from a run's folder; the system frees the lock of a killed one.

    If another process has the lock, `wait` for it, or raise a `UserError`.
    """
    if find_launcher().rank:  # the first of the processes has the lock for all
        yield
        return
    lock = lock_of(folder)
    busy = f"{folder}: another process is training this run"
    try:
        lock.acquire()
    except Timeout:
        if not wait:
            raise UserError(f"{busy}; wait for it") from None
        say(f"{busy}; waiting for it")
        lock.acquire(timeout=-1)
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process has the lock of a folder, which may be read-only."""
    try:
        with _path(folder).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # locked; or a file system without locks, where the file's existence is one
        return True
    return False


def take_unlocked_first(folders: Iterable[Path]) -> Iterator[Path]:
    """The folders; those that other processes work in come last, so that several share the work."""
    remaining = list(folders)
    while remaining:
        folder = next((folder for folder in remaining if not is_locked(folder)), remaining[0])
        remaining.remove(folder)
        yield folder
