"""Processes that end with the process that started them, whatever ended that one."""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time

KILL_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""
INTERVAL = 0.2
"""Seconds between two looks for a parent that nothing else reports."""


@functools.cache
def end_with_parent() -> None:
    """From now on this process ends when its parent does; at once if that one is gone already.

    A killed process tells its children nothing: they would go on working, beside the one that
    continues its work. A thread waits for the parent's end, which `multiprocessing` reports by a
    pipe, also where the parent ended before this call. Loky (joblib) and torchrun have no such
    pipe: there the number of the parent's process is compared again and again.
    """
    parent = multiprocessing.parent_process()
    sentinel = parent.sentinel if parent else None
    number = parent.pid if parent else os.getppid()

    def wait() -> None:
        if parent and sentinel is not None:
            parent.join()
        else:
            while os.getppid() == number:
                time.sleep(INTERVAL)
        os._exit(1)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()


def be_killed_with_parent() -> None:
    """`end_with_parent`, and on Linux also by the system, which needs no thread to get its turn.

    Only for children of a thread that waits for them: the system's signal comes when the thread
    ends that started the child, not the whole parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(KILL_WITH_PARENT, signal.SIGKILL)
    end_with_parent()  # after it: a parent that ended in between is noticed here
