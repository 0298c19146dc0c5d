"""Sweeps of very small runs, in a process of their own."""

from __future__ import annotations

from pathlib import Path

from tests.support.lives import SERVER, command
from tests.support.small import Small

FAILING = "features.upos.dim=15"  # two features leave concat no word; the others take any width


def sweep(small: Small, *more: str) -> tuple[int, str]:
    """Exit code and output of `python train.py -m ...`."""
    process = SERVER.Process(target=command, args=(["-m", *small.overrides(*more)], small.folder))
    process.start()
    process.join(200)
    assert process.exitcode is not None
    return process.exitcode, (small.folder / "out").read_text()


def tables(small: Small) -> list[Path]:
    return sorted(small.folder.glob("runs/sweeps/[!.]*"))
