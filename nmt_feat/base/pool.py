"""Work in several processes, block after block."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from nmt_feat.base.lifetime import end_with_parent
from nmt_feat.errors import UserError

START_METHOD = "spawn"
"""Processes are not forked, because the parent may have threads."""
Task = TypeVar("Task")
Result = TypeVar("Result")


def count_cores() -> int:
    """The number of cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return count or 1


def count_workers(n_jobs: int) -> int:
    """The number of joblib's workers for `n_jobs`: -1 is the number of cores, -2 one less ..."""
    return n_jobs if n_jobs > 0 else max(1, count_cores() + 1 + n_jobs)


def _begin_worker(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the parent ends its children
    if start:
        start(*arguments)


class Pool:
    """Processes that work on tasks; results come in the order of the tasks.

    Few tasks are in flight, so that memory stays bounded.

    Args:
        processes: how many; with one, the work is done in this process.
        name: the name of the work, for the message if a process dies.
        setting: the setting of `processes`, for that message.
        start: called in each process first, with `arguments`.
    """

    def __init__(
        self,
        processes: int,
        name: str,
        setting: str,
        start: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
    ) -> None:
        self.processes, self._name, self._setting = processes, name, setting
        self._executor = None
        if processes > 1:
            context = multiprocessing.get_context(START_METHOD)
            if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
                # Set by joblib in a job of its launcher; children would not know this method.
                multiprocessing.set_start_method(START_METHOD, force=True)
            self._executor = ProcessPoolExecutor(
                processes, context, _begin_worker, (start, arguments)
            )
        elif start:
            start(*arguments)

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """`work` of each task, in order."""
        if not self._executor:
            yield from map(work, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._executor.submit(work, task))
                if len(waiting) > 2 * self.processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                f"{self._name}: a process died, perhaps because memory ran out; "
                f"set {self._setting} to less than {self.processes}"
            ) from None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor:
            self._executor.shutdown(cancel_futures=True)
