"""What spares tests time and changes none of their results."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from functools import cache


def spare_time() -> None:
    """Leave out waiting for disks, and reading the same files of packages again and again.

    Nobody loses power here, and a tiny training would mostly wait for a shared disk. Each record
    has the versions of packages and each training asks for plug-ins, hundreds of files.
    """
    os.fsync = lambda descriptor: None
    importlib.metadata.version = cache(importlib.metadata.version)
    read_entry_points = importlib.metadata.entry_points
    # A test may install a package: what one folder of packages has is not what two have.
    cached = cache(lambda folders, *names: read_entry_points(**dict(names)))
    importlib.metadata.entry_points = lambda **names: cached(
        tuple(sys.path), *sorted(names.items())
    )
