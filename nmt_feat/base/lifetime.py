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
"""Seconds between two checks whether the parent still exists."""


@functools.cache
def end_with_parent() -> None:
    """From now on this process ends when its parent does; at once if the parent has ended already.

    A killed process tells its children nothing: they would go on working, beside the process that
    continues the work. A thread waits for the parent's end, which `multiprocessing` reports by a
    pipe, also if the parent ended before this call. Loky (joblib) and torchrun have no such pipe:
    there the number of the parent's process is compared repeatedly.
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
    """`end_with_parent`; on Linux the system kills as well, even if no thread of this process runs.

    Only for children of a thread that waits for them: the system sends its signal when the thread
    that started the child ends, not the whole parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(KILL_WITH_PARENT, signal.SIGKILL)
    end_with_parent()  # afterwards, to notice a parent that ended before the call above
