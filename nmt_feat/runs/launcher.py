"""Lightning Fabric's data-parallel processes, which end with their parent and wait with a limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.multiprocessing
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.launchers.multiprocessing import (
    _GlobalStateSnapshot,
    _MultiProcessingLauncher,
)
from torch.multiprocessing.spawn import ProcessContext, start_processes

from nmt_feat.base.lifetime import be_killed_with_parent
from nmt_feat.errors import UserError
from nmt_feat.runs.processes import CONTINUES, waiting_limited


class Launcher(_MultiProcessingLauncher):
    """Fabric's launcher for spawned processes, without results: see `run_in_processes`.

    Fabric reads a result only after the process has ended, and the process ends only after a pipe
    has taken the result: a large one would make both wait for ever.
    """

    def __init__(self, strategy: DDPStrategy, minutes: float) -> None:
        super().__init__(strategy)
        self._count, self._minutes = strategy.num_processes, minutes

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Start the processes and wait for their end; raise the error of one that fails."""
        environment = self._strategy.cluster_environment
        assert environment is not None
        os.environ["MASTER_PORT"] = str(environment.main_port)  # one port for all processes
        unused_queue = torch.multiprocessing.get_context("spawn").SimpleQueue()
        started: ProcessContext = start_processes(  # type: ignore[no-untyped-call]
            self._wrapping_function,
            (function, args, kwargs, unused_queue, _GlobalStateSnapshot.capture()),
            nprocs=self._count,
            join=False,
        )
        try:
            join(started, self._minutes)
        finally:
            for process in started.processes:
                process.kill()  # does nothing if it has ended

    def _wrapping_function(self, *args: Any, **kwargs: Any) -> None:
        be_killed_with_parent()  # before the first wait for another process
        super()._wrapping_function(*args, **kwargs)


def join(started: ProcessContext, minutes: float) -> None:
    """Wait until all processes have ended, at most so many minutes after the first one has."""
    deadline: float | None = None
    while not started.join(timeout=1):
        if deadline is None and len(started.sentinels) < len(started.processes):
            deadline = time.monotonic() + 60 * minutes
        if deadline is not None and time.monotonic() > deadline:
            numbers = ", ".join(str(number) for number in sorted(started.sentinels.values()))
            raise UserError(
                f"trainer.devices={len(started.processes)}: process {numbers} has not ended within "
                f"trainer.wait_minutes={minutes:g} after another one had; {CONTINUES}"
            )


class Parallel(DDPStrategy):
    """Fabric's data-parallel processes.

    Args:
        minutes: how long one process waits for another one.
        spawned: whether they are started here, or by torchrun or srun.
        drops_layers: whether the model leaves out layers at random: each process leaves out others,
            and must not wait for the gradients of these.
    """

    def __init__(self, minutes: float, spawned: bool, drops_layers: bool = False) -> None:
        super().__init__(
            timeout=timedelta(minutes=minutes),
            start_method="spawn" if spawned else "popen",
            find_unused_parameters=drops_layers,
        )
        self.spawned, self._minutes = spawned, minutes

    def _configure_launcher(self) -> None:
        super()._configure_launcher()
        if self.spawned:
            self._launcher = Launcher(self, self._minutes)

    def setup_environment(self) -> None:
        """Meet the other processes."""
        with waiting_limited(self._minutes, lambda: "the start of all processes"):
            super().setup_environment()
