"""What the cache holds, how large it is, and which runs use it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from nmt_feat.base.files import remove_tree
from nmt_feat.base.resources import find_resource
from nmt_feat.data.building import MANIFEST
from nmt_feat.runs.stored.records import RunRecord

PREPARED, VECTORS, ANNOTATION = "prepared data", "vectors", "annotation"
SUMS, DOWNLOAD, LEFTOVER, FOREIGN = "checksums", "download", "leftover", "not of nmt_feat"
KINDS = {
    LEFTOVER: r".*\.(building|parts|tmp)|(prepared|annotation|contextual)-.*\.lock",
    PREPARED: r"prepared-[0-9a-f]{16}",
    VECTORS: r"contextual-[0-9a-f]{16}",
    ANNOTATION: r"annotation-[0-9a-f]{16}\.conllu",
    SUMS: r"sums",
}
"""Kinds of entries with patterns of their names; the first that matches counts."""
TEMPORARY = r"\.?(.+?)(?:\.[0-9a-f]{8}|\.[0-9a-f]{16})?\.(?:building|parts|tmp|lock)"
"""The name of a leftover: what it would become, maybe a key, and an ending."""


@dataclass
class CacheEntry:
    """A file or folder at the top of the cache."""

    path: Path
    kind: str
    size: int
    """In bytes, of all its files."""
    runs: list[str] = field(default_factory=list)
    """Names of the runs that use it. Empty for annotation, which serves all data that is prepared
    from its text."""

    @property
    def whole(self) -> Path:
        """The entry itself; of a leftover, what it would become. The lock lies beside that."""
        if self.kind != LEFTOVER:
            return self.path
        match = re.fullmatch(TEMPORARY, self.path.name)
        return self.path.with_name(match[1]) if match else self.path

    @property
    def is_needless(self) -> bool:
        """Whether it exists only for runs, and none uses it."""
        if self.kind == LEFTOVER:
            return self.path.suffix in (".parts", ".tmp") or not self.whole.exists()
        return self.kind in (PREPARED, VECTORS) and not self.runs


def list_cache(cache: Path, runs: Mapping[Path, RunRecord]) -> list[CacheEntry]:
    """The entries of a cache, sorted by kind and name, with the runs among `runs` that use them."""
    corpora = {path.stem for path in (find_resource("conf") / "data").glob("*.yaml")}
    corpora |= {record.data for record in runs.values()}
    entries = [
        CacheEntry(path, _kind_of(path, corpora), _measure_size(path))
        for path in sorted(cache.iterdir())
    ]
    users = _runs_by_entry(cache, runs)
    for entry in entries:
        entry.runs = sorted(users.get(entry.path.name, ()))
    order = [PREPARED, VECTORS, ANNOTATION, DOWNLOAD, SUMS, LEFTOVER, FOREIGN]
    return sorted(entries, key=lambda entry: order.index(entry.kind))


def _kind_of(path: Path, corpora: set[str]) -> str:
    for kind, pattern in KINDS.items():
        if re.fullmatch(pattern, path.name):
            return kind
    return DOWNLOAD if path.is_dir() and path.name in corpora else FOREIGN


def _measure_size(path: Path) -> int:
    files = [path] if not path.is_dir() or path.is_symlink() else path.rglob("*")
    size = 0
    for file in files:
        with contextlib.suppress(OSError):  # another process has just removed it
            size += 0 if file.is_dir() else file.lstat().st_size
    return size


def _runs_by_entry(cache: Path, runs: Mapping[Path, RunRecord]) -> dict[str, set[str]]:
    """By an entry's name, the names of the runs that use it."""
    users: dict[str, set[str]] = {}
    for folder, record in runs.items():
        names = []
        if record.config.get("data", {}).get("download", {}).get("url"):
            names.append(record.data)
        if prepared := record.data_hashes.get("prepared"):
            names.append(f"prepared-{prepared[:16]}")
            names += _list_vectors(cache / names[-1])
        for name in names:
            users.setdefault(name, set()).add(folder.name)
    return users


def _list_vectors(prepared: Path) -> list[str]:
    """The folders of vectors that prepared data refers to."""
    with contextlib.suppress(OSError, ValueError):
        vectors = json.loads((prepared / MANIFEST).read_bytes()).get("vectors", {})
        return [name for names in vectors.values() for name in names]
    return []


def remove_entry(entry: CacheEntry) -> bool:
    """Remove an entry of the cache; False if a process is building it."""
    path = entry.path
    lock = FileLock(f"{entry.whole}.lock", timeout=0)
    try:
        with lock:
            remove_tree(path)
    except Timeout:
        return False
    Path(lock.lock_file).unlink(missing_ok=True)
    return True
