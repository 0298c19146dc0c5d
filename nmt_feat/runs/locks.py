"""Locks of folders: a process works in a folder while it has the lock; a killed one loses it."""

from __future__ import annotations

import fcntl
from pathlib import Path

from filelock import FileLock

MOMENT = 0.2
"""Seconds to wait for a lock before it counts as taken: `is_locked` takes it for a moment, too."""


def _path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def lock_of(folder: Path) -> FileLock:
    """The lock of a run's or a sweep's folder; `acquire` gives up after a moment (`Timeout`)."""
    return FileLock(_path(folder), timeout=MOMENT)


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
