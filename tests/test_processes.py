"""Several processes train one model: the same losses, one writer, one error where one dies."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from nmt_feat.data.batches import plan_batches
from nmt_feat.data.prepare import prepare
from nmt_feat.model.seeds import derive_seed
from tests.support.lives import Life, saved, send_after
from tests.support.small import ROOT, Small, assert_equal_to_rounding, outcome, record

pytestmark = pytest.mark.slow

PLAIN = ["combiner=gate", "model.dropout=0", "model.activation_dropout=0"]
"""Dropout is another in each process."""
DIES = """
import os, signal
from nmt_feat.combiners import Gate

class Dies(Gate):
    calls = 0

    def forward(self, parts):
        Dies.calls += self.training
        local = os.environ.get("SLURM_LOCALID") or os.environ.get("LOCAL_RANK")
        if Dies.calls == 3 and local == "1":
            HOW
        return super().forward(parts)
"""


LOGS = """
from nmt_feat.training.loggers import CSV

class Logs(CSV):
    def open(self, folder):
        import torch.distributed
        with open("logged", "a") as file:
            file.write(f"{torch.distributed.get_rank()}\\n")
        super().open(folder)
"""
"""A CSV logger that leaves word of each process that logs."""
LOGGED = ["logger=csv", "logger.csv._target_=logs.Logs"]


def logged(small: Small, starts: int) -> None:
    """Only the first process has logged, once each time that training started."""
    assert (small.folder / "logged").read_text().split() == ["0"] * starts
    files = sorted((small.folder / "runs").glob("gate-*/csv/version_*/metrics.csv"))
    assert len(files) == starts
    with files[-1].open(encoding="utf-8", newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["dev/bleu"]]
    assert steps == list(range(steps[0], 21))


def run(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    """A Python program in a user's folder."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


EVERY = ["trainer.validate_every=1", "trainer.max_steps=20", "trainer.batch_tokens=160"]
EVERY += ["trainer.log_every=1"]


@pytest.fixture
def single(small: Small) -> Path:
    """One process with two batches an update, over the end of an epoch with an odd number."""
    cfg = small.config(*PLAIN, *EVERY)
    count = len(plan_batches(prepare(cfg, cfg.features).train, 160, derive_seed(1, "order"), 0))
    assert count % 2 == 1
    assert count < 2 * 20
    with small.elsewhere("one") as twin:
        return twin.train(*PLAIN, *EVERY, "trainer.accumulate=2", "logger=csv")


def losses(folder: Path) -> list[float]:
    """The training losses that a CSV logger was given."""
    (path,) = folder.glob("csv/version_*/metrics.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_torchrun(small: Small, single: Path) -> None:
    (small.folder / "logs.py").write_text(LOGS)
    command = small.overrides(*PLAIN, *EVERY, *LOGGED, "trainer.devices=2")
    process = run(small.folder, *TORCHRUN_TWO, str(ROOT / "train.py"), *command)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    (two,) = (small.folder / "runs").glob("gate-*")
    assert_equal_to_rounding(single, two)
    # The loss that is shown is that of the tokens of all processes.
    assert losses(two) == pytest.approx(losses(single), rel=1e-5)
    assert out.count("written to ") == 1
    assert out.count("step 20: ") == 1
    outputs = []
    for life in start_by_srun(small, *PLAIN, *EVERY, *LOGGED):
        code, out, err = life.end()
        assert code == 0, err
        outputs.append(out.count("finished before: "))
    assert sorted(outputs) == [0, 1]
    logged(small, starts=1)


def test_sigterm(small: Small, single: Path) -> None:
    """After SIGKILL; to the first process, which tells the others. In the end it is as if nothing
    had been.
    """
    (small.folder / "logs.py").write_text(LOGS)
    settings = small.overrides(*PLAIN, *EVERY, *LOGGED, "trainer.devices=2")
    runs = small.folder / "runs"
    for step, number in ((1, signal.SIGKILL), (3, signal.SIGTERM)):
        send = partial(send_after, step, number, starter=True)
        code, _, err = Life(small.folder).begin(*settings, prepare=send).end()
        assert not list(runs.glob("*/result.json")), "killed too late; the test proves nothing"
    assert code == 75, err
    assert "SIGTERM: stopped after update " in err.splitlines()[-1]
    code, out, err = Life(small.folder).begin(*settings).end()
    assert code == 0, err
    assert "resumed at update" in out
    (two,) = runs.glob("gate-*")
    assert_equal_to_rounding(single, two)
    logged(small, starts=3)


def test_three_processes_continue_exactly(small: Small) -> None:
    """What is summed first depends on PyTorch's order of gradients, which the first update sets."""
    settings = [*PLAIN, "trainer.devices=3", "trainer.max_steps=6", "trainer.validate_every=1"]
    outcomes = []
    for name, code_first in (("whole", 0), ("stopped", 75)):
        send = partial(send_after, 2 if code_first else 99, signal.SIGTERM, starter=True)
        with small.elsewhere(name) as twin:
            life, overrides = Life(twin.folder), twin.overrides(*settings)
            code, _, err = life.begin(*overrides, prepare=send).end()
            assert code == code_first, err
            if code:
                code, _, err = life.begin(*overrides).end()
                assert code == 0, err
            (folder,) = (twin.folder / "runs").glob("gate-*")
            outcomes.append(outcome(folder))
    assert outcomes[0] == outcomes[1]


def train_dying(small: Small, how: str, *more: str) -> tuple[int, str, str]:
    """Two processes, of which something happens to the second: exit code, output, errors."""
    (small.folder / "dies.py").write_text(DIES.replace("HOW", how))
    settings = small.overrides("combiner._target_=dies.Dies", "trainer.devices=2", *more)
    return Life(small.folder).begin(*settings).end(150)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise ValueError('as a test')", "ValueError: as a test"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "error: trainer.devices=2: process 1 was ended by SIGKILL, perhaps because memory ran "
            "out; the same command continues from the last checkpoint",
        ),
    ],
)
def test_a_dead_process(small: Small, how: str, message: str) -> None:
    """The job ends with its error, soon."""
    code, _, err = train_dying(small, how)
    assert code not in (0, 75)
    assert err.rstrip().splitlines()[-1] == message


def test_peak_memory_is_that_of_the_largest_process(small: Small) -> None:
    """Here one of those that train, not the first of them and not the one that starts them."""
    code, _, err = train_dying(small, "self.large = __import__('torch').ones(250_000_000)")
    assert code == 0, err
    (result,) = (small.folder / "runs").glob("*/result.json")
    assert record(result.parent)["peak_memory_mib"] > 250_000_000 * 4 / 2**20 + 50


def end_soon(process: subprocess.Popen[str]) -> None:
    """Nobody of a killed process's session is left."""
    deadline = time.monotonic() + 200
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(process: int) -> list[int]:
    """Of a process, on Linux."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split()]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_starter_killed_at_once_leaves_nobody(small: Small, count: int) -> None:
    """When the first of its children is there (`resource_tracker`), the second, the third: they
    still import, and would meet and train later.
    """
    settings = small.overrides("trainer.devices=2", "trainer.max_steps=100000")
    process = run(small.folder, str(ROOT / "train.py"), *settings)
    while len(children(process.pid)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.kill()
    process.wait()
    end_soon(process)
    assert not saved(small.folder / "runs")


def test_a_killed_starter_leaves_nobody(small: Small) -> None:
    command = [str(ROOT / "train.py"), *small.overrides("trainer.devices=2")]
    process = run(small.folder, *command, "trainer.max_steps=100000")
    while not saved(small.folder / "runs"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.wait()
    end_soon(process)


def working(command: str) -> list[int]:
    """The processes whose command line has a word."""
    results = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if command.encode() in path.read_bytes():
                results.append(int(path.parent.name))
    return results


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_a_killed_torchrun_leaves_nobody(small: Small) -> None:
    """It starts its processes in sessions of their own."""
    settings = small.overrides("trainer.devices=2", "trainer.max_steps=100000")
    process = run(small.folder, *TORCHRUN_TWO, str(ROOT / "train.py"), *settings)
    while not saved(small.folder / "runs"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    mine = f"paths.runs={small.folder / 'runs'}"
    assert len(working(mine)) == 3
    process.kill()
    process.wait()
    deadline = time.monotonic() + 200
    while working(mine):
        assert time.monotonic() < deadline
        time.sleep(0.05)


LARGE = {"train": 80, "dev": 8, "test": 3000}
SHORT = ("trainer.max_steps=2", "decoding.max_ratio=0.1", "decoding.max_extra=3")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """3,000 test sentences, of which a pipe does not hold the translations."""
    from tests.support.small import cut

    folder = tmp_path_factory.mktemp("large")
    corpus = cut(folder / "corpus")
    for name, between in (("test.conllu", "\n\n"), ("test.de", "\n")):
        parts = (corpus / name).read_text(encoding="utf-8").strip().split(between)
        parts = [parts[i % len(parts)] for i in range(LARGE["test"])]
        (corpus / name).write_text(between.join([*parts, ""]), encoding="utf-8")
    return Small(corpus, folder / "cache", folder)


@pytest.fixture(scope="module")
def large_single(large: Small) -> Path:
    with large.elsewhere("one") as twin:
        return twin.train(*PLAIN, *SHORT, "trainer.accumulate=2")


TORCHRUN_TWO = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
TORCHRUN_TWO += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]


@pytest.mark.parametrize("by", ["spawn", "srun"])
def test_a_large_test_set(large: Small, large_single: Path, by: str) -> None:
    """What comes back is larger than a pipe holds."""
    with large.elsewhere(by) as small:
        small.folder.mkdir(exist_ok=True)
        if by == "srun":
            for life in start_by_srun(small, *PLAIN, *SHORT):
                code, _, err = life.end()
                assert code == 0, err
        else:
            settings = small.overrides(*PLAIN, *SHORT, "trainer.devices=2")
            process = run(small.folder, str(ROOT / "train.py"), *settings)
            _, err = process.communicate(timeout=250)
            assert process.returncode == 0, err
        (two,) = (small.folder / "runs").glob("gate-*")
    assert len((two / "test.hyp").read_text(encoding="utf-8").splitlines()) == LARGE["test"]
    for name in ("dev.hyp", "test.hyp"):
        assert (two / name).read_bytes() == (large_single / name).read_bytes()
    assert not list(two.glob(".*"))


def start_by_srun(small: Small, *more: str, ranks: Sequence[int] = (1, 0)) -> list[Life]:
    """Two processes as srun starts them, or one of them."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    settings = small.overrides("trainer.devices=2", *more)
    return [
        Life(small.folder, (f"out{rank}", f"err{rank}"), slurm(rank, port)).begin(*settings)
        for rank in ranks
    ]


def slurm(rank: int, port: str) -> dict[str, str]:
    """What srun says to one of two tasks on this machine."""
    return {
        **{"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"},
        **{"SLURM_STEP_NUM_NODES": "1", "SLURM_NNODES": "1", "SLURM_NODEID": "0"},
        **{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_JOB_ID": "77"},
        **{"SLURM_JOB_NAME": "test", "SLURM_NODELIST": "localhost", "MASTER_PORT": port},
        **{"MASTER_ADDR": "127.0.0.1"},
    }


def test_a_long_message(small: Small) -> None:
    """Longer than a pipe holds: it arrives whole."""
    how = "from nmt_feat.errors import UserError; raise UserError('long ' * 30_000 + 'end')"
    code, _, err = train_dying(small, how)
    assert code == 2
    assert err.rstrip().splitlines()[-1] == f"error: {'long ' * 30_000}end"


@pytest.mark.parametrize("by", ["spawn", "srun"])
def test_a_stuck_process_is_waited_for_with_a_limit(small: Small, by: str) -> None:
    stop, limit = "os.kill(os.getpid(), signal.SIGSTOP)", "trainer.wait_minutes=0.15"
    if by == "srun":
        (small.folder / "dies.py").write_text(DIES.replace("HOW", stop))
        stuck, first = start_by_srun(small, "combiner._target_=dies.Dies", limit)
        code, _, err = first.end()
        stuck.process.kill()
        stuck.process.join()
    else:
        code, _, err = train_dying(small, stop, limit)
    assert code == 2, err
    # Which update the other process is at when it meets the stuck one is a matter of timing: what
    # the stuck one has sent of an update may arrive or not.
    message = re.compile(
        r"error: update [23]: another process was waited for longer than "
        r"trainer\.wait_minutes=0\.15; it is stuck, or slower than that; "
        r"the same command continues from the last checkpoint"
    )
    assert message.fullmatch(err.rstrip().splitlines()[-1]), err


def test_the_start_is_waited_for_with_a_limit(small: Small) -> None:
    """Where srun has started two processes, of which one does not come."""
    (first,) = start_by_srun(small, "trainer.wait_minutes=0.05", ranks=[0])
    code, _, err = first.end()
    assert code == 2, err
    assert err.rstrip().splitlines()[-1] == (
        "error: the start of all processes: another process was waited for longer than "
        "trainer.wait_minutes=0.05; it is stuck, or slower than that; the same command continues "
        "from the last checkpoint"
    )
