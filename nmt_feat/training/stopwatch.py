"""Measures the parts of the training's time."""

from __future__ import annotations

import time


class Stopwatch:
    """Runs from its creation on; each second belongs to one lap, or to none after `restart`."""

    def __init__(self) -> None:
        self._lap_start = time.perf_counter()

    @property
    def lap(self) -> float:
        """The seconds of the current lap so far."""
        return time.perf_counter() - self._lap_start

    def end_lap(self) -> float:
        """End the current lap, whose seconds it returns, and begin the next one."""
        now = time.perf_counter()
        seconds, self._lap_start = now - self._lap_start, now
        return seconds

    def restart(self) -> None:
        """Begin a new lap; the seconds of the current one count nowhere."""
        self._lap_start = time.perf_counter()
