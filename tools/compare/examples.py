"""Part `examples`: the base's `examples/*.py`, copied unchanged, with the code of both sides."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

from compare.bench import Bench, Job
from compare.training import FEATURES

PART = "examples"
COPY = "base_examples"
"""Another name than that of the side's own."""
TARGET = re.compile(r"combiner\._target_=examples\.([\w.]+)")


def _copy(bench: Bench) -> Path:
    copy = bench.folder / COPY
    shutil.copytree(bench.base.code / "examples", copy)
    return copy


def _train(target: str, bench: Bench) -> None:
    """As a combiner of a user's own."""
    _copy(bench)
    length = ("trainer.max_steps=20", "trainer.validate_every=10")
    bench.record_run(bench.train(*length, *FEATURES, f"combiner._target_={COPY}.{target}"))


def _run(name: str, bench: Bench) -> None:
    """As a program."""
    bench.record_output(name, bench.good(_copy(bench) / name))


def jobs(base: Path, small: bool) -> list[Job]:
    """A job for each example."""
    job_list = []
    for path in sorted((base / "examples").glob("*.py")):
        match = TARGET.search(path.read_text(encoding="utf-8"))
        act = functools.partial(_train, match[1]) if match else functools.partial(_run, path.name)
        if not small or path.stem in ("film", "alone"):
            job_list.append(Job(PART, path.stem, act))
    return job_list
