"""The state of a sweep's job; a module of its own, because libraries of training load slowly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nmt_feat.runs.records import Request


@dataclass
class JobState:
    """The state of a sweep's job, which training sets and the sweep records."""

    folder: Path | None = None
    """Folder of its run, as soon as it has one."""
    trained: bool = False
    """Whether it has trained the run; false if the run was finished before."""
    request: Request | None = None
    """The results that its settings ask for."""
    described: set[str] = field(default_factory=set)
    """Fingerprints of the prepared data whose report has been printed, and lines of advice that
    were printed with it: a sweep prints them once."""
