"""What a loss of power may leave of a folder: only what was synced."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """The content and names that are synced, below a folder; a copy of them at each moment.

    Moments are the calls of fsync and rename. A file that was not synced is empty. Names in a
    folder that was not synced are those of its last sync (`late=False`), or the present ones: a
    system may write them at any time.
    """

    def __init__(self, top: Path, copies: Path) -> None:
        self.top, self.copies = top, copies
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.folders: set[int] = set()
        self.open: list[int] = []  # so that no number of a file is used again
        self.states: list[Path] = []
        self.before: set[str] = set()

    def synced(self, descriptor: int) -> None:
        """A file's content, or the names in a folder, are on the disk."""
        state = os.fstat(descriptor)
        self.open.append(os.dup(descriptor))
        if stat.S_ISDIR(state.st_mode):
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self.names[state.st_ino] = {p.name: p.lstat().st_ino for p in path.iterdir()}
        else:
            self.contents[state.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def copy(self) -> None:
        """Keep what would be left now, both ways."""
        kinds = {}
        for path in [self.top, *self.top.rglob("*")]:
            if path.is_dir():
                self.folders.add(path.stat().st_ino)
                kinds[path.stat().st_ino] = path
        for late in (False, True):
            tree = dict(self._files(self.top.stat().st_ino, "", late, kinds))
            key = repr(sorted(tree.items()))
            if key not in self.before:
                self.before.add(key)
                self._write(tree)

    def _files(
        self, folder: int, prefix: str, late: bool, kinds: dict[int, Path]
    ) -> Iterator[tuple[str, bytes | None]]:
        names = self.names.get(folder, {})
        if late and folder in kinds:
            names = {p.name: p.lstat().st_ino for p in kinds[folder].iterdir()}
        for name, number in names.items():
            if number in self.folders:
                yield prefix + name, None
                yield from self._files(number, f"{prefix}{name}/", late, kinds)
            else:
                yield prefix + name, self.contents.get(number, b"")

    def _write(self, tree: dict[str, bytes | None]) -> None:
        state = self.copies / str(len(self.states))
        state.mkdir(parents=True)
        for name, content in tree.items():
            if content is None:
                (state / name).mkdir(exist_ok=True)
            else:
                (state / name).write_bytes(content)
        self.states.append(state)


@contextmanager
def recorded(top: Path, copies: Path) -> Iterator[Disk]:
    """Copy below `copies` what a loss of power at any moment of the block would leave of `top`."""
    disk = Disk(top, copies)
    fsync, replace, rename, rmtree = os.fsync, os.replace, os.rename, shutil.rmtree

    def synced(descriptor: int) -> None:
        disk.copy()
        fsync(descriptor)
        disk.synced(descriptor)
        disk.copy()

    def renamed(call: Callable[..., None]) -> Callable[..., None]:
        def function(*args: Any, **kwargs: Any) -> None:
            call(*args, **kwargs)
            disk.copy()

        return function

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        patch.setattr(os, "replace", renamed(replace))
        patch.setattr(os, "rename", renamed(rename))
        patch.setattr(shutil, "rmtree", renamed(rmtree))
        yield disk
    for descriptor in disk.open:
        os.close(descriptor)
