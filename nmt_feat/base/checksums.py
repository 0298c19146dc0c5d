"""SHA-256 sums: of files, of values, and of a folder's files in the form of `sha256sum`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from nmt_feat.base.files import write_atomically
from nmt_feat.errors import UserError

SUMS = "SHA256SUMS"
RENEWAL_ADVICE = "get the run's folder again, or train again"


def hash_file(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a value as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


Sums = dict[str, list[str]]
"""SHA-256 sums by the names of files in a folder; a file has two while it is replaced."""


def hash_files(folder: Path, patterns: Iterable[str]) -> Sums:
    """The sums of the files of `folder` that match one of the patterns."""
    paths = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    return {str(path.relative_to(folder)): [hash_file(path)] for path in paths if path.is_file()}


def write_sums(folder: Path, sums: Sums) -> None:
    """Write sums of files of `folder`, in the format of `sha256sum -c`."""
    lines = [f"{value}  {name}\n" for name, values in sums.items() for value in values]
    write_atomically(folder / SUMS, "".join(lines).encode())


def read_sums(folder: Path) -> Sums:
    """The sums in a folder; empty if it has none."""
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {RENEWAL_ADVICE}") from None
    sums: Sums = {}
    for number, line in enumerate(lines, start=1):
        value, _, name = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", value) or not _is_inside(name):
            raise UserError(f"{path}:{number}: not a SHA-256 sum and a name; {RENEWAL_ADVICE}")
        sums.setdefault(name, []).append(value)
    return sums


def _is_inside(name: str) -> bool:
    """Whether a name stays inside its folder."""
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts


def write_summed(path: Path, data: bytes) -> None:
    """Write a file with `write_atomically` and, if its folder has sums, add or replace its sum.

    While an earlier content is replaced, the folder has both sums, so it is valid at any moment.
    """
    folder, name, value = path.parent, path.name, hashlib.sha256(data).hexdigest()
    sums = read_sums(folder)
    before = sums.get(name, [])
    if before and value not in before:
        write_sums(folder, {**sums, name: [*before, value]})
    write_atomically(path, data)
    if sums and before != [value]:
        write_sums(folder, {**sums, name: [value]})


def check_sums(
    folder: Path,
    skipped: Iterable[str] = (),
    only: Iterable[str] | None = None,
    advice: str = RENEWAL_ADVICE,
) -> None:
    """Refuse files that have changed or disappeared since their sums were written.

    Args:
        folder: a folder with sums, such as a run's; without sums, nothing is checked.
        skipped: patterns of names that are not checked.
        only: if given, only these names are checked.
        advice: the way out, for the message.
    """
    for name, values in read_sums(folder).items():
        path = folder / name
        if (only is not None and name not in only) or any(map(PurePath(name).match, skipped)):
            continue
        if not path.is_file() or hash_file(path) not in values:
            damage = "damaged, its SHA-256 is not the one" if path.is_file() else "missing, but"
            raise UserError(f"{path}: {damage} in {SUMS}; {advice}")
