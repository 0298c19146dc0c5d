"""Writes files and folders whole, so that they survive a loss of power, and never through links."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from nmt_feat.errors import UserError

SILENT_SECONDS = 5.0
"""Seconds of waiting for a lock after which the user is told."""
LONGEST_HOURS = 24
"""Longest wait for a lock of the cache: the preparation of a large corpus takes hours."""


def sync_to_disk(path: Path) -> None:
    """Wait until the system has written a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync_to_disk` of a folder and of all files and folders in it."""
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink():
            sync_to_disk(path)
    sync_to_disk(folder)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # a link of this name must not be followed
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:  # a full disk, or a folder of this name
        temporary.unlink(missing_ok=True)
        raise
    sync_to_disk(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and sync their names to the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_to_disk(folder.parent)


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file or folder to `target`, which is never there in part."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    remove_tree(temporary)
    if source.is_dir():
        shutil.copytree(source, temporary)
        sync_tree(temporary)
    else:
        shutil.copyfile(source, temporary)
        sync_to_disk(temporary)
    if target.is_dir():  # a rename cannot replace it
        remove_tree(target)
    os.replace(temporary, target)
    sync_to_disk(target.parent)


def rename_whole(building: Path, folder: Path) -> None:
    """Rename a folder after all its content is on the disk."""
    sync_tree(building)
    building.rename(folder)
    sync_to_disk(folder.parent)


def refuse_links(*paths: Path) -> None:
    """Refuse to write to or delete a link, whose target may belong to anybody."""
    for path in paths:
        if path.is_symlink():
            raise UserError(
                f"{path}: is a link to {os.readlink(path)}, through which nothing is written or "
                "deleted; remove the link, or put the folder itself there"
            )


def remove_tree(path: Path) -> None:
    """Remove a file or folder, if it exists; a link is an error."""
    refuse_links(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def hold_lock(path: Path, work: str) -> Iterator[None]:
    """Hold a lock while something is built that several processes may want at the same time.

    Other processes wait; after some seconds they say for what.

    Args:
        path: the file or folder that is built; the lock lies beside it.
        work: the work of the process that has the lock, for messages: `prepares the data`.
    """
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=SILENT_SECONDS)
    except Timeout:
        print(f"{path}: another process {work}; waiting for it", file=sys.stderr, flush=True)
        try:
            lock.acquire(timeout=3600 * LONGEST_HOURS)
        except Timeout:
            raise UserError(
                f"{path}: another process {work}, for more than {LONGEST_HOURS} hours; end that "
                "process if it is stuck, then start again"
            ) from None
    try:
        yield
    finally:
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of a killed process; only one process at a time writes a run."""
    for path in sorted(folder.rglob(".*.tmp"), reverse=True):
        if path.is_symlink():
            path.unlink()
        remove_tree(path)
