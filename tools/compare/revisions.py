"""The files of the revisions that are compared: a commit's, and those of the working tree."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path


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
    """The sum of all files of a commit; `NoRevision` where a clone lacks it."""
    try:
        name = f"{revision}^{{tree}}"
        return git(root, "rev-parse", "--verify", "--quiet", name).decode().strip()
    except subprocess.CalledProcessError:
        raise NoRevision(revision) from None


def working_tree(root: Path) -> str:
    """The sum of all files that git does not ignore, committed or not; its index stays."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git(root, "read-tree", "HEAD", **index)
        git(root, "add", "--all", **index)
        return git(root, "write-tree", **index).decode().strip()


def unpack(root: Path, tree: str, folder: Path) -> Path:
    """The files of a tree in `folder`, which is named by it; once."""
    code = folder / tree
    if not code.exists():
        building = folder / f"{tree}.building"
        building.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=BytesIO(git(root, "archive", tree))) as archive:
            archive.extractall(building, filter="data")
        building.rename(code)
    return code
