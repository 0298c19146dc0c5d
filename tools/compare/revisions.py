"""The files of the compared revisions: of a commit, and of the working tree."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path

UNUSED = "docs", "tests", "tools", ".*", "*.md", "*.cff", "Makefile", "pyproject.toml"
"""Files and folders at the root that change no result; docs/results does."""


class NoRevision(LookupError):
    """The commit is not in this repository."""


def git(root: Path, *arguments: str, **environment: str) -> bytes:
    """The output of a command of git."""
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
        env=os.environ | environment,
    ).stdout


def tree_of(root: Path, revision: str) -> str:
    """The hash of all files of a commit; `NoRevision` if a clone lacks it."""
    try:
        name = f"{revision}^{{tree}}"
        return git(root, "rev-parse", "--verify", "--quiet", name).decode().strip()
    except subprocess.CalledProcessError:
        raise NoRevision(revision) from None


def working_tree(root: Path) -> str:
    """The hash of all files that git does not ignore, committed or not; its index stays."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git(root, "read-tree", "HEAD", **index)
        git(root, "add", "--all", **index)
        return git(root, "write-tree", **index).decode().strip()


def content_of(root: Path, tree: str) -> str:
    """A hash of those files of a tree that can change the results of commands."""
    lines = git(root, "ls-tree", tree).decode().splitlines()
    lines += git(root, "ls-tree", tree, "docs/results").decode().splitlines()
    entries = (line.partition("\t") for line in lines)
    used = [f"{about} {name}" for about, _, name in entries if not matches_any(name, UNUSED)]
    return hashlib.sha256("\n".join(used).encode()).hexdigest()[:40]


def matches_any(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def unpack(root: Path, tree: str, folder: Path) -> Path:
    """Write the files of a tree into a folder below `folder`, named by their content; once."""
    content = content_of(root, tree)
    code = folder / content
    if not code.exists():
        building = folder / f"{content}.building"
        building.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=BytesIO(git(root, "archive", tree))) as archive:
            archive.extractall(building, filter="data")
        building.rename(code)
    return code
