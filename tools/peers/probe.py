"""Run a toolkit in its own environment, timed: `python probe.py TOOLKIT train|translate JOB.json`.

Each toolkit trains and translates by its own program, which is unchanged except for a hook behind
an update (or around the translation of a file). So one clock times all toolkits at the same point,
and counts the sentences that are really in their batches.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

Job = dict[str, Any]


class Done(BaseException):
    """All is timed: ends the toolkit's loop, which does not catch a `BaseException`."""


class Clock:
    """Times updates from the end of the warm-up to the end of the last update.

    Args:
        warmup: updates that are not timed, at least one.
        updates: updates that are timed, at most.
        seconds: timed no longer than about this; 0 for no such limit.
    """

    def __init__(self, warmup: int, updates: int, seconds: float = 0) -> None:
        self.warmup, self.updates, self.seconds = warmup, updates, seconds
        self.count = self.sentences = 0
        self.begun = self.ended = self.cpu_begun = self.cpu = 0.0

    def update(self, sentences: int) -> None:
        """Count an update of so many sentences, which has ended; `Done` after the last one."""
        now = time.perf_counter()
        self.count += 1
        if self.count < self.warmup:
            return
        if self.count == self.warmup:
            self.begun, self.cpu_begun = now, time.process_time()
            return
        self.sentences += sentences
        self.ended = now
        if self.count == self.warmup + self.updates or 0 < self.seconds <= now - self.begun:
            self.cpu = time.process_time() - self.cpu_begun
            raise Done

    def figures(self) -> dict[str, float]:
        """The figures; fewer `cores` than threads mean that other processes were running."""
        seconds, updates = self.ended - self.begun, self.count - self.warmup
        return {
            "sentences_per_second": self.sentences / seconds,
            "sentences_per_update": self.sentences / updates,
            "updates": updates,
            "seconds": seconds,
            "cores": self.cpu / seconds,
        }


class Stopwatch:
    """Times the translation of a file, which is a `with` block."""

    def __enter__(self) -> "Stopwatch":
        self.begun, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self.begun
        self.cpu = time.process_time() - self.cpu

    def figures(self, lengths: list[int]) -> dict[str, float]:
        """The figures of translations with these lengths, in pieces."""
        return {
            "sentences_per_second": len(lengths) / self.seconds,
            "pieces_per_sentence": sum(lengths) / len(lengths),
            "pieces_per_second": sum(lengths) / self.seconds,
            "seconds": self.seconds,
            "cores": self.cpu / self.seconds,
        }


def lengths(path: Path) -> list[int]:
    """The number of pieces in each line."""
    return [len(line.split()) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss: bytes or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Time one toolkit, write its figures."""
    toolkit, action, name = sys.argv[1:]
    job: Job = json.loads(Path(name).read_bytes())
    if toolkit != "ctranslate2":
        import torch

        torch.set_num_threads(job["threads"])
    module = importlib.import_module(f"run_{toolkit}")
    if action == "train":
        clock = Clock(job["warmup"], job["updates"], job["seconds"])
        try:
            module.train(job, clock)
        except Done:
            figures = clock.figures() | {"peak_memory_mib": peak_memory_mib()}
            figures |= module.finish(job) if job["learn"] else {}
        else:
            sys.exit("the training ended before all was timed")
    else:
        figures = module.translate(job) | {"peak_memory_mib": peak_memory_mib()}
    report = Path(job["report"])
    report.write_text(json.dumps(figures), encoding="utf-8")
    os._exit(0)  # some toolkits leave threads behind


if __name__ == "__main__":
    main()
