"""A logger of `train.py` that writes the time of each update, for `benchmark.py`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from nmt_feat.runs.loggers import Logger


class UpdateClock(Logger):
    """Writes a line for each logged update: the time, by the clock that processes share.

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
        """Do nothing: every line is written already."""
