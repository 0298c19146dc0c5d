"""The origin of a run: code, packages, machine, memory."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


def describe_origin() -> dict[str, Any]:
    """The origin of a run, by the names of its record's fields."""
    return {
        "code": code_revision(),
        "libraries": package_versions(),
        "machine": describe_machine(),
    }


def code_revision() -> dict[str, str]:
    """Version of the package and, in a checkout, the git revision; `+` means changed files."""
    code = {"version": importlib.metadata.version("nmt_feat")}
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        describe = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            revision = subprocess.check_output(
                ["git", "-C", str(root), *describe], stderr=subprocess.DEVNULL, timeout=20
            )
            code["revision"] = revision.decode().strip()
    return code


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed dependencies of the package."""
    versions = {"python": platform.python_version()}
    for requirement in importlib.metadata.requires("nmt_feat") or ():
        name, *_ = re.split(r"[^\w.-]", requirement)
        if "dev" not in requirement.partition(";")[2]:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
    return versions


def describe_machine() -> dict[str, Any]:
    """The processor, its cores, PyTorch's threads, the memory (GiB), the GPU if there is one."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.M)
        cpu = model[1] if model else cpu
    return {
        "system": platform.platform(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def restart_peak_memory() -> None:
    """Make `peak_memory_mib` count from now on: runs of a sweep share a process (Linux, CUDA)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mib() -> float:
    """Largest resident memory of this process, or CUDA's largest allocation if that is larger.

    It counts since the start of the process, or since `restart_peak_memory`.
    """
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss: bytes or KiB
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return max(resident, torch.cuda.max_memory_allocated() / 2**20)
