"""A logger of `train.py` that writes when each update has ended: the clock of `benchmark.py`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from nmt_feat.runs.loggers import Logger


class UpdateClock(Logger):
    """Writes a line for each update that is logged: the time of the clock of all processes.

    Args:
        path: the file to write.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def open(self, folder: Path) -> None:
        """Begin the file."""
        self.path.write_text("")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write the time."""
        with self.path.open("a") as file:
            file.write(f"{time.perf_counter()}\n")

    def close(self) -> None:
        """Nothing is left to write."""
