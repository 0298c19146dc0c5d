"""Processes that train one model together: spawned here, or started by torchrun or srun."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from nmt_feat.base.files import write_atomically
from nmt_feat.base.typed_json import convert_json
from nmt_feat.config.schema import TrainConfig
from nmt_feat.errors import UserError
from nmt_feat.pretrained.folder import open_folder
from nmt_feat.pretrained.model import drops_layers
from nmt_feat.runs.signals import AT_ONCE, Interrupted, signals
from nmt_feat.training.compilation import refuse_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEFAULT_THREADS = torch.get_num_threads()
Start = TypeVar("Start")
Result = TypeVar("Result")
PATIENCE = 5.0
"""Seconds that a process waits before it reports the end of another: that one's error explains it
and should come first."""
CONTINUES = "the same command continues from the last checkpoint"


@dataclass(frozen=True)
class Started:
    """This process among those that torchrun or srun has started; alone if none has."""

    by: str = ""
    rank: int = 0
    world: int = 1
    nodes: int = 1


def find_launcher() -> Started:
    """This process among its fellows, by the environment variables of torchrun or srun."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        return Started("torchrun", rank, world, world // int(environment["LOCAL_WORLD_SIZE"]))
    if (world := int(environment.get("SLURM_STEP_NUM_TASKS", 1))) > 1:
        nodes = int(environment.get("SLURM_STEP_NUM_NODES", 1))
        return Started("srun", int(environment["SLURM_PROCID"]), world, nodes)
    return Started()


def check_devices(devices: int, sweep: bool) -> None:
    """Refuse a sweep, and another number of devices, in processes of torchrun or srun."""
    if (launcher := find_launcher()).world == 1:
        return
    if sweep:
        raise UserError(
            f"-m: each of the {launcher.world} processes of {launcher.by} would run the sweep by "
            "itself; start one process, which starts trainer.devices by itself for each run"
        )
    if launcher.world != devices:
        raise UserError(
            f"trainer.devices={devices}, but {launcher.by} has started {launcher.world} processes; "
            f"set trainer.devices={launcher.world}"
        )


class Agreement:
    """Tells all processes, after the same update, whether any of them wants to stop.

    A question is answered with the next one, one update later. So the processes exchange it while
    they work, and wait neither for each other nor for a GPU.
    """

    def __init__(self, world: int, minutes: float = 30) -> None:
        limit = timedelta(minutes=minutes)  # of waiting for another process
        self._group = dist.new_group(backend="gloo", timeout=limit) if world > 1 else None
        self._wanted = torch.zeros(())
        self._pending: dist.Work | None = None

    def agreed(self, wanted: bool) -> bool:
        """Whether any wanted it at the previous question; a single process knows it at once."""
        if self._group is None:
            return wanted
        if self._pending is not None:
            self._pending.wait()
        before, self._wanted = bool(self._wanted), torch.tensor(float(wanted))
        self._pending = dist.all_reduce(
            self._wanted, dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return before


def share_work(
    fabric: Fabric, work: Callable[[slice], Sequence[Sequence[float]]]
) -> list[list[float]] | None:
    """Rows of numbers that the processes compute together; each process gets all of them.

    `work` gets the slice of a list that is this process's share, and returns the rows of it. A
    signal to any of the processes interrupts its work; then the result is None for all.
    """
    rows: list[Sequence[float]] = [[False]]
    with contextlib.suppress(Interrupted), signals.at_once():
        rows = [[True], *work(slice(fabric.global_rank, None, fabric.world_size))]
    every: list[Any] = [rows] * fabric.world_size
    if fabric.world_size > 1:
        dist.all_gather_object(every, rows)
    if not all(first[0] for first, *_ in every):
        return None
    return [list(row) for _, *numbers in every for row in numbers]


def silence_all_but_first() -> contextlib.AbstractContextManager[object]:
    """Discard the standard output of all processes but the first; errors are still printed."""
    if find_launcher().rank:
        return contextlib.redirect_stdout(io.StringIO())
    return contextlib.nullcontext()


@contextlib.contextmanager
def waiting_limited(minutes: float, work: Callable[[], str]) -> Iterator[None]:
    """Turn PyTorch's error about another process that hangs or has gone into a `UserError`.

    Args:
        minutes: how long PyTorch waits for another process; for the message.
        work: what the processes do together; for the message.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in text.lower():
            raise
        if re.search("timed? ?out", text, re.IGNORECASE):
            raise UserError(
                f"{work()}: another process was waited for longer than trainer.wait_minutes="
                f"{minutes:g}; it is stuck, or slower than that; {CONTINUES}"
            ) from error
        time.sleep(PATIENCE)  # that process's error may end this one meanwhile
        raise UserError(
            f"{work()}: another process has gone ({text.splitlines()[0][:200]}); see its error; "
            f"{CONTINUES}"
        ) from error


def set_up_torch(cfg: TrainConfig) -> None:
    """Set what holds for a whole process: threads, deterministic kernels."""
    shared = max(1, DEFAULT_THREADS // cfg.trainer.devices)
    torch.set_num_threads(cfg.trainer.threads or shared)
    torch.use_deterministic_algorithms(cfg.trainer.deterministic)


def make_fabric(cfg: TrainConfig) -> Fabric:
    """Devices, processes and precision by Lightning Fabric."""
    from lightning_fabric import Fabric  # takes a second to load, which only training needs
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    from nmt_feat.runs.launcher import Parallel

    set_up_torch(cfg)
    accelerator, devices = cfg.trainer.accelerator, cfg.trainer.devices
    launcher = find_launcher()
    # Spawned processes, unlike a script started again, also work inside a Hydra sweep.
    minutes, parallel = cfg.trainer.wait_minutes, max(launcher.world, devices) > 1
    strategy: Parallel | str = "auto"
    if parallel:
        folder = cfg.model.folder
        drops = bool(folder) and drops_layers(open_folder(str(folder)).config)
        strategy = Parallel(minutes, spawned=launcher.world == 1, drops_layers=drops)
    with _explain_absent_devices(f"trainer.accelerator={accelerator} trainer.devices={devices}"):
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices // launcher.nodes,
            num_nodes=launcher.nodes,
            strategy=strategy,
            precision=cfg.trainer.precision,  # type: ignore[arg-type]
            # Otherwise Fabric would follow Slurm, also in a job with a single task.
            plugins=[LightningEnvironment()] if launcher.world == 1 else None,
        )
    if cfg.trainer.compile:
        refuse_device(fabric.device)
    return fabric


@contextlib.contextmanager
def _explain_absent_devices(chosen: str, advice: str = "") -> Iterator[None]:
    """Turn Fabric's error about devices that are not there into a `UserError`.

    Args:
        chosen: the settings that choose them.
        advice: the end of the message.
    """
    try:
        yield
    except Exception as error:  # of several types
        raise UserError(f"{chosen}: is not available on this machine ({error}){advice}") from error


def make_single_fabric(cfg: TrainConfig) -> Fabric:
    """One device in this process alone, for a finished run; `set_up_torch` sets its threads."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    accelerator = cfg.trainer.accelerator
    advice = "; on another device: nmt-feat evaluate run=FOLDER accelerator=auto"
    with _explain_absent_devices(f"trainer.accelerator={accelerator}", advice):
        return Fabric(accelerator=accelerator, devices=1, plugins=[LightningEnvironment()])


def run_in_processes(
    fabric: Fabric,
    function: Callable[[Fabric, TrainConfig, Path, Start], Result],
    cfg: TrainConfig,
    folder: Path,
    start: Start,
    kind: type[Result],
) -> Result:
    """Call `function` in each process; the result of the first. An error of a process is raised.

    Args:
        fabric: the processes.
        function: called with `fabric`, `cfg`, `folder` and `start`.
        cfg: settings.
        folder: the run's.
        start: for `function`.
        kind: the dataclass that it returns. A spawned process passes it on in a file of the run.
    """
    if not getattr(fabric.strategy, "spawned", False):
        with signals.deferred():
            result: Result = fabric.launch(function, cfg, folder, start)  # type: ignore[arg-type]
            return result
    path = folder / f".returned.{os.getpid()}.tmp"
    try:
        with signals.deferred(), _raise_here(cfg.trainer.devices):
            fabric.launch(_write_returned, function, cfg, folder, start, path)  # type: ignore[arg-type]
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        if signals.caught:  # it ended the process before that could handle signals
            raise signals.interruption() from None
        raise UserError(f"{path}: was not written by process 0; {CONTINUES}") from None
    finally:
        path.unlink(missing_ok=True)
    returned: Result = convert_json(content, kind)
    return returned


def _write_returned(
    fabric: Fabric,
    function: Callable[[Fabric, TrainConfig, Path, Start], Any],
    cfg: TrainConfig,
    folder: Path,
    start: Start,
    path: Path,
) -> None:
    result = function(fabric, cfg, folder, start)
    if fabric.global_rank == 0:
        write_atomically(path, json.dumps(dataclasses.asdict(result)).encode())


@contextlib.contextmanager
def _raise_here(devices: int) -> Iterator[None]:
    """Raise the error of a spawned process as if it had happened here."""
    try:
        yield
    except ProcessRaisedException as error:  # the other traceback is its text
        _, mistake, message = str(error).strip().rpartition(f"{UserError.__module__}.UserError: ")
        if mistake:
            raise UserError(message) from None
        raise
    except ProcessExitedException as error:
        if signals.caught or error.exit_code == AT_ONCE:
            raise signals.interruption() from None
        raise UserError(
            f"trainer.devices={devices}: process {error.error_index} was ended by "
            f"{error.signal_name or error.exit_code}, perhaps because memory ran out; {CONTINUES}"
        ) from None
