"""What spares tests time and changes none of their results."""

from __future__ import annotations

import importlib.metadata
import os
from functools import cache


def spare_time() -> None:
    """Leave out waiting for disks, and reading the same files of packages again and again.

    Nobody loses power here, and a tiny training would mostly wait for a shared disk. Each record
    has the versions of packages and each training asks for plug-ins, hundreds of files.
    """
    os.fsync = lambda descriptor: None
    importlib.metadata.version = cache(importlib.metadata.version)
    importlib.metadata.entry_points = cache(importlib.metadata.entry_points)
