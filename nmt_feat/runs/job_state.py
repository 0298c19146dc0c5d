"""What a job of a sweep has come to; apart from training, whose libraries take a second to load."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nmt_feat.runs.records import Request


@dataclass
class JobState:
    """What a job of a sweep has come to, for the sweep's own record."""

    folder: Path | None = None
    trained: bool = False
    request: Request | None = None
    """The results that are asked for."""
    described: set[str] = field(default_factory=set)
    """Fingerprints of the prepared data whose report has been printed."""
