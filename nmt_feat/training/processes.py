"""Processes that train one model together: spawned here, or started by torchrun or srun."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from nmt_feat.errors import UserError
from nmt_feat.schema import TrainConfig
from nmt_feat.training.signals import AT_ONCE, Interrupted, signals

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEFAULT_THREADS = torch.get_num_threads()
Given = TypeVar("Given")
Result = TypeVar("Result")
PATIENCE = 5.0
"""Seconds that a process keeps to itself that another one has gone: that one's error matters."""


@dataclass(frozen=True)
class Started:
    """This process among those that torchrun or srun has started; alone if none has."""

    by: str = ""
    rank: int = 0
    world: int = 1
    nodes: int = 1


def started() -> Started:
    """What torchrun or srun says in the environment."""
    found = os.environ
    if "TORCHELASTIC_RUN_ID" in found:
        rank, world = int(found["RANK"]), int(found["WORLD_SIZE"])
        return Started("torchrun", rank, world, world // int(found["LOCAL_WORLD_SIZE"]))
    if (world := int(found.get("SLURM_STEP_NUM_TASKS", 1))) > 1:
        nodes = int(found.get("SLURM_STEP_NUM_NODES", 1))
        return Started("srun", int(found["SLURM_PROCID"]), world, nodes)
    return Started()


def check(devices: int, sweep: bool) -> None:
    """Refuse what processes that others have started cannot do."""
    if (place := started()).world == 1:
        return
    if sweep:
        raise UserError(
            f"-m: each of the {place.world} processes of {place.by} would run the sweep by itself; "
            "start one process, which starts trainer.devices by itself for each run"
        )
    if place.world != devices:
        raise UserError(
            f"trainer.devices={devices}, but {place.by} has started {place.world} processes; "
            f"set trainer.devices={place.world}"
        )


class Agreement:
    """Whether any of the processes wants something, known to all after the same update.

    The answer comes with the next question, while they work: neither the others nor a GPU is
    waited for.
    """

    def __init__(self, world: int) -> None:
        self._group = dist.new_group(backend="gloo") if world > 1 else None
        self._wanted = torch.zeros(())
        self._pending: dist.Work | None = None

    def agreed(self, wanted: bool) -> bool:
        """Whether any wanted it at the question before; a process alone knows it at once."""
        if self._group is None:
            return wanted
        if self._pending is not None:
            self._pending.wait()
        before, self._wanted = bool(self._wanted), torch.tensor(float(wanted))
        self._pending = dist.all_reduce(
            self._wanted, dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return before


def shared(
    fabric: Fabric, work: Callable[[slice], Sequence[Sequence[float]]]
) -> list[list[float]] | None:
    """Rows of numbers that the processes work out together, known to each; None after a signal.

    `work` makes the rows of the share of any list that it is given. A signal to any of the
    processes interrupts its work; then none of them has a result.
    """
    rows: list[Sequence[float]] = [[False]]
    with contextlib.suppress(Interrupted), signals.at_once():
        rows = [[True], *work(slice(fabric.global_rank, None, fabric.world_size))]
    every = _gathered(fabric, rows) if fabric.world_size > 1 else [rows]
    if not all(first[0] for first, *_ in every):
        return None
    return [list(row) for _, *found in every for row in found]


def _gathered(fabric: Fabric, rows: Sequence[Sequence[float]]) -> list[list[list[float]]]:
    """By process its rows; each begins with its length, the rest is padding."""
    longest = max(map(len, rows))
    sizes = fabric.all_gather(torch.tensor([len(rows), longest], device=fabric.device))
    assert isinstance(sizes, torch.Tensor)
    count, width = sizes.amax(0).tolist()
    padded = torch.zeros(count, 1 + width, dtype=torch.float64)
    for i, row in enumerate(rows):
        padded[i, : 1 + len(row)] = torch.tensor([len(row), *row], dtype=torch.float64)
    every = fabric.all_gather(padded.to(fabric.device))
    assert isinstance(every, torch.Tensor)
    return [
        [row[1 : 1 + int(row[0])] for row in process[:own]]
        for process, own in zip(every.tolist(), sizes[:, 0].tolist(), strict=True)
    ]


def first_speaks() -> contextlib.AbstractContextManager[object]:
    """Nothing is printed by other processes than the first; errors are."""
    if started().rank:
        return contextlib.redirect_stdout(io.StringIO())
    return contextlib.nullcontext()


@contextlib.contextmanager
def own_errors_first(world: int) -> Iterator[None]:
    """Where another process has gone, wait for its error to end this one as well."""
    try:
        yield
    except RuntimeError as error:
        gone = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if world > 1 and gone:
            time.sleep(PATIENCE)
        raise


def set_up_torch(cfg: TrainConfig) -> None:
    """What holds for a whole process: threads, deterministic kernels."""
    shared = max(1, DEFAULT_THREADS // cfg.trainer.devices)
    torch.set_num_threads(cfg.trainer.threads or shared)
    torch.use_deterministic_algorithms(cfg.trainer.deterministic)


def make_fabric(cfg: TrainConfig) -> Fabric:
    """Devices, processes and precision by Lightning Fabric."""
    from lightning_fabric import Fabric  # a second that only training takes
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    set_up_torch(cfg)
    accelerator, devices = cfg.trainer.accelerator, cfg.trainer.devices
    place = started()
    # Spawned processes, unlike a script started again, also work inside a Hydra sweep.
    strategy = "ddp" if place.world > 1 else "ddp_spawn" if devices > 1 else "auto"
    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices // place.nodes,
            num_nodes=place.nodes,
            strategy=strategy,
            precision=cfg.trainer.precision,  # type: ignore[arg-type]
            # Inside a Slurm job, too, that has one task.
            plugins=[LightningEnvironment()] if place.world == 1 else None,
        )
    except Exception as error:  # of several types: devices that are not there
        found = f"trainer.accelerator={accelerator} trainer.devices={devices}"
        raise UserError(f"{found}: cannot be had here ({error})") from error


def launch(
    fabric: Fabric,
    function: Callable[[Fabric, TrainConfig, Path, Given], Result],
    cfg: TrainConfig,
    folder: Path,
    given: Given,
) -> Result:
    """`function` in each process; what it returns in the first. A spawned one's error is raised."""
    try:
        with signals.deferred():
            found: Result = fabric.launch(function, cfg, folder, given)  # type: ignore[arg-type]
            return found
    except ProcessRaisedException as error:  # it has the traceback as text
        _, mistake, message = str(error).strip().rpartition(f"{UserError.__module__}.UserError: ")
        if mistake:
            raise UserError(message) from None
        raise
    except ProcessExitedException as error:
        if signals.caught or error.exit_code == AT_ONCE:
            raise Interrupted(f"{signals.caught}: stopped; the same command continues") from None
        raise UserError(
            f"trainer.devices={cfg.trainer.devices}: process {error.error_index} was ended by "
            f"{error.signal_name or error.exit_code}, perhaps for want of memory; the same command "
            "continues from the last checkpoint"
        ) from None
