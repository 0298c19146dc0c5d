"""What processes that train one model agree on, and who has started them; nothing is trained."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nmt_feat.errors import UserError
from nmt_feat.runs import processes
from nmt_feat.runs.launcher import join
from nmt_feat.runs.processes import Agreement, check_devices, find_launcher, share_work
from nmt_feat.runs.signals import signals
from tests.support.lives import SERVER


class Waits:
    """Two processes of which one does not end."""

    def __init__(self) -> None:
        self.processes, self.sentinels = [1, 2], {3: 1}

    def join(self, timeout: float) -> bool:
        """Never."""
        return False


def test_the_end_is_waited_for_with_a_limit() -> None:
    with pytest.raises(UserError, match=r"^trainer\.devices=2: process 1 has not ended within "):
        join(Waits(), 0)  # type: ignore[arg-type]


def run_two(target: Callable[[int, Path, Any], None], folder: Path) -> list[Any]:
    """What two processes, which meet in a folder, tell."""
    answers = SERVER.SimpleQueue()
    both = [SERVER.Process(target=target, args=(rank, folder / "m", answers)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(100)
    assert [process.exitcode for process in both] == [0, 0]
    return [answers.get(), answers.get()]


def ask(rank: int, meeting: Path, answers: Any) -> None:
    """One of two processes; the second wants something at its third question."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2
    )
    agreement = Agreement(2)
    answers.put([agreement.agreed(rank == 1 and question == 2) for question in range(5)])
    torch.distributed.barrier()


@pytest.mark.slow
def test_agreement(tmp_path: Path) -> None:
    """All learn it after the same question: the one behind that of who wanted it."""
    assert run_two(ask, tmp_path) == [[False, False, False, True, False]] * 2
    assert [Agreement(1).agreed(wanted) for wanted in (False, True)] == [False, True]


class Pair:
    """As much of a Fabric of two processes as `shared` asks for."""

    def __init__(self, rank: int) -> None:
        self.global_rank, self.world_size = rank, 2


def share(rank: int, meeting: Path, answers: Any) -> None:
    """One of two processes; the second is told to stop in the last piece of work."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2
    )
    lists = [[[0.5], [1, 1e-300], [], [3, 3, 2**53 - 1]], [[7.0]], []]
    results = [share_work(Pair(rank), lambda part, rows=rows: rows[part]) for rows in lists]  # type: ignore

    def stopped(part: slice) -> list[list[float]]:
        if rank:
            os.kill(os.getpid(), signal.SIGTERM)
        return [[float(rank)]]

    with signals.handled(), signals.deferred():
        results.append(share_work(Pair(rank), stopped))  # type: ignore[arg-type]
    answers.put(results)
    torch.distributed.barrier()


@pytest.mark.slow
def test_shared_work(tmp_path: Path) -> None:
    """Both have the work of both, also where one has nothing to do; after a signal to one, none."""
    rows = [[0.5], [], [1, 1e-300], [3, 3, 2**53 - 1]]
    assert run_two(share, tmp_path) == [[rows, [[7.0]], [], None]] * 2


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
}
SRUN = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "5"}


@pytest.mark.parametrize(("by", "environment"), [("torchrun", TORCHRUN), ("srun", SRUN)])
def test_what_others_have_started(
    by: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_launcher() == processes.Started()
    check_devices(3, sweep=True)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_launcher() == processes.Started(by, 5, 8, 2)
    check_devices(8, sweep=False)
    with pytest.raises(UserError) as error:
        check_devices(2, sweep=False)
    assert str(error.value) == (
        f"trainer.devices=2, but {by} has started 8 processes; set trainer.devices=8"
    )
    with pytest.raises(UserError) as error:
        check_devices(8, sweep=True)
    assert str(error.value) == (
        f"-m: each of the 8 processes of {by} would run the sweep by itself; start one process, "
        "which starts trainer.devices by itself for each run"
    )
