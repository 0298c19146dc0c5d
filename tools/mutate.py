"""Checks that tests catch faults, which are put into a copy of the package one at a time.

A fault (in faults.toml) is a text that occurs once in the package, in any file, the text that
replaces it, and the test modules concerned. It is caught if one of these fails.

    python tools/mutate.py                     # all, about twenty minutes on two cores
    python tools/mutate.py search 'loss: *'    # those whose names fit
    python tools/mutate.py --revision HEAD~9   # the package and tests of a revision

Prints a line for each fault, and how many of them are caught; the exit code is 1 if not all are.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PARTS = "nmt_feat", "tests", "conf", "data", "examples", "scripts", "tools", "pyproject.toml"
HEAVY = (
    *("torch", "hydra", "scipy.special", "sacrebleu", "sentencepiece", "pyarrow.parquet"),
    *("lightning_fabric", "rich.console", "hypothesis", "safetensors.torch"),
)


class Fault(NamedTuple):
    """Texts of the package, each with what replaces it; `tests`: names of modules of tests."""

    name: str
    texts: list[tuple[str, str]]
    tests: list[str]


def read_faults(patterns: list[str]) -> list[Fault]:
    """The faults of faults.toml whose names begin like one of the patterns."""
    content = tomllib.loads((ROOT / "tools" / "faults.toml").read_text(encoding="utf-8"))
    faults = [Fault(name, **entry) for name, entry in content.items()]
    if not patterns:
        return faults
    return [f for f in faults if any(fnmatch.fnmatch(f.name, f"{p}*") for p in patterns)]


def copy_tree(folder: Path, revision: str | None) -> None:
    """Copy the package, its tests and their files, from the working tree or from a revision."""
    if revision is None:
        for name in PARTS:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        for path in [*ROOT.glob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("docs")]:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        return
    command = ["git", "-C", str(ROOT), "archive", revision]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)


def find_text(folder: Path, fault: Fault) -> tuple[Path, str, str] | None:
    """The first of the fault's texts that occurs once in the package: file, text, replacement."""
    files = {p: p.read_text(encoding="utf-8") for p in (folder / "nmt_feat").rglob("*.py")}
    for old, new in fault.texts:
        counts = {path: content.count(old) for path, content in files.items()}
        if sum(counts.values()) == 1:
            return max(counts, key=counts.__getitem__), old, new
    return None


def run_tests(folder: Path, modules: list[str], log: Path) -> int:
    """Pytest's exit code, in a fork of this process, which has imported slow libraries."""
    child = os.fork()
    if child == 0:
        import pytest

        os.chdir(folder)
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = str(folder)
        with log.open("w", encoding="utf-8") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            options = ["-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
            code = pytest.main([*options, "-m", "not slow and not browser", *modules])
        os._exit(int(code))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def try_fault(folder: Path, fault: Fault, log: Path) -> str:
    """The result of the tests with a fault: `caught`, `missed`, or why they could not run."""
    if (location := find_text(folder, fault)) is None:
        return "is nowhere in the package, or several times"
    path, old, new = location
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(old, new), encoding="utf-8")
    try:
        modules = [f"tests/test_{n}.py" for n in fault.tests]
        code = run_tests(folder, [m for m in modules if (folder / m).exists()], log)
    finally:
        path.write_text(before, encoding="utf-8")
    return {0: "missed", 1: "caught", 2: "caught"}.get(code, f"exit code {code}")


def main() -> int:
    """Try the faults and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("patterns", nargs="*", help="beginnings of names, all by default")
    parser.add_argument("--revision", help="that of git, instead of the files as they are")
    arguments = parser.parse_args()
    sys.dont_write_bytecode = True  # a file is changed twice in a second
    os.environ["OMP_NUM_THREADS"] = "1"  # read when PyTorch is imported
    with contextlib.redirect_stderr(io.StringIO()):
        for name in HEAVY:
            importlib.import_module(name)
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "copy"
        folder.mkdir()
        copy_tree(folder, arguments.revision)
        for fault in read_faults(arguments.patterns):
            result = try_fault(folder, fault, Path(name) / "log")
            results.append(result)
            print(f"{result}: {fault.name}", flush=True)
    print(f"{results.count('caught')} of {len(results)} caught")
    return int(results.count("caught") != len(results))


if __name__ == "__main__":
    sys.exit(main())
