"""Run a toolkit in its own environment, timed: `python probe.py TOOLKIT train|translate JOB.json`.

Each toolkit trains and translates by its own program, unchanged but for a hook where it has done an
update (or has translated a file). So all of them are timed by the same clock, at the same place,
and count the sentences of the batches that they really made.
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
    """All is timed: leaves the toolkit's loop, whatever it catches."""


class Clock:
    """Times updates between the end of the last one of the warm-up and the end of the last one.

    Args:
        warmup: updates that are not timed, at least one.
        updates: updates that are timed, at most.
        seconds: timed no longer than about this; 0 for no such limit.
    """

    def __init__(self, warmup: int, updates: int, seconds: float = 0) -> None:
        self.warmup, self.updates, self.seconds = warmup, updates, seconds
        self.seen = self.sentences = 0
        self.begun = self.ended = self.cpu_begun = self.cpu = 0.0

    def update(self, sentences: int) -> None:
        """An update has ended, of that many sentences; raises `Done` after the last one."""
        now = time.perf_counter()
        self.seen += 1
        if self.seen < self.warmup:
            return
        if self.seen == self.warmup:
            self.begun, self.cpu_begun = now, time.process_time()
            return
        self.sentences += sentences
        self.ended = now
        if self.seen == self.warmup + self.updates or 0 < self.seconds <= now - self.begun:
            self.cpu = time.process_time() - self.cpu_begun
            raise Done

    def figures(self) -> dict[str, float]:
        """What was timed; `cores` below the number of threads tells of other processes."""
        taken, updates = self.ended - self.begun, self.seen - self.warmup
        return {
            "sentences_per_second": self.sentences / taken,
            "sentences_per_update": self.sentences / updates,
            "updates": updates,
            "seconds": taken,
            "cores": self.cpu / taken,
        }


class Stopwatch:
    """Times the translation of a file: `with` it, then its figures."""

    def __enter__(self) -> "Stopwatch":
        self.begun, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self.begun
        self.cpu = time.process_time() - self.cpu

    def figures(self, lengths: list[int]) -> dict[str, float]:
        """Of translations of these lengths, in pieces."""
        return {
            "sentences_per_second": len(lengths) / self.seconds,
            "pieces_per_sentence": sum(lengths) / len(lengths),
            "pieces_per_second": sum(lengths) / self.seconds,
            "seconds": self.seconds,
            "cores": self.cpu / self.seconds,
        }


def lengths(path: Path) -> list[int]:
    """Pieces of each line."""
    return [len(line.split()) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss: bytes or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Time one toolkit, write its figures."""
    toolkit, what, name = sys.argv[1:]
    job: Job = json.loads(Path(name).read_bytes())
    if toolkit != "ctranslate2":
        import torch

        torch.set_num_threads(job["threads"])
    module = importlib.import_module(f"run_{toolkit}")
    if what == "train":
        clock = Clock(job["warmup"], job["updates"], job["seconds"])
        learnt: dict[str, float] = {}
        try:
            module.train(job, clock)
        except Done:
            figures = clock.figures() | {"peak_memory_mib": peak_memory_mib()}
            learnt = module.finish(job) if job["learn"] else {}
        else:
            sys.exit("the training ended before all was timed")
        figures |= learnt
    else:
        figures = module.translate(job) | {"peak_memory_mib": peak_memory_mib()}
    report = Path(job["report"])
    report.write_text(json.dumps(figures), encoding="utf-8")
    os._exit(0)  # some toolkits leave threads behind


if __name__ == "__main__":
    main()
