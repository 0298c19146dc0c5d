"""Kills a short training many times by SIGKILL: it must end in the same bits as without kills.

    python tools/kill_test.py FOLDER --kills 100

Every second process is killed at a random time. The other processes are killed while they write, at
a random one of their calls of fsync and rename; data that is not yet synced may be cut off, as by a
loss of power. If a run ends before there were enough kills, one with the next seed follows. The
exit code is 1 if a file differs or remains.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import random
import shlex
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any

from nmt_feat.base.resources import find_resource
from nmt_feat.cli.main import run_subcommand

SETTINGS = shlex.split("""
combiner=gate data.folder=../data paths.cache=../cache subword.vocab_size=200 model.dim=16
model.ffn_dim=32 model.heads=2 model.encoder_layers=1 model.decoder_layers=1 optimizer.warmup=4
trainer.batch_tokens=256 trainer.threads=1 trainer.accelerator=cpu trainer.max_steps=120
trainer.validate_every=2 trainer.average=2 trainer.select=average decoding.beam=1
decoding.max_ratio=0.2 decoding.max_extra=2
""")
SENTENCES = {"train": 80, "dev": 4, "test": 4}
"""How many sentences of the bundled corpus are used."""
CALLS = 40
"""The fatal call is one of so many calls of fsync and rename."""
COMPARED = ("settings", "parameters", "updates", "selected", "curve", "dev", "tests", "hash")


def run_until_killed(seed: int, folder: Path, fatal: int | None, share: float) -> None:
    """Run train.py in `folder` and in this process, which is killed at the `fatal`-th call.

    `share`: the share of a file's bytes that survive if it is not synced.
    """
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    calls = 0
    fsync, replace = os.fsync, Path.replace

    def die(descriptor: int | None) -> None:
        nonlocal calls
        calls += 1
        if calls != fatal:
            return
        state = None if descriptor is None else os.fstat(descriptor)
        if descriptor is not None and state and stat.S_ISREG(state.st_mode):
            os.ftruncate(descriptor, int(state.st_size * min(1.0, share)))
        os.kill(os.getpid(), signal.SIGKILL)

    def synced(descriptor: int) -> None:
        die(descriptor)
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        die(None)
        return replace(self, target)

    if fatal:
        os.fsync, Path.replace = synced, renamed  # type: ignore[assignment,method-assign]
    sys.argv = ["train.py", *SETTINGS, f"seed={seed}"]
    run_subcommand("train")


def write_corpus(folder: Path) -> None:
    """The first sentences of the bundled corpus."""
    folder.mkdir()
    for split, count in SENTENCES.items():
        for name, between in ((f"{split}.conllu", "\n\n"), (f"{split}.de", "\n")):
            text = (find_resource("data/embedded") / name).read_text(encoding="utf-8")
            parts = text.split(between)[:count]
            (folder / name).write_text(between.join([*parts, ""]), encoding="utf-8")


def run_of(folder: Path, seed: int) -> Path | None:
    """The folder of the run with a seed."""
    return next(folder.glob(f"runs/gate-*-s{seed}-*"), None)


def outcome(run: Path) -> dict[str, Any]:
    """All results that must be equal to the last bit."""
    record = json.loads((run / "result.json").read_text(encoding="utf-8"))
    files = [run / "model.safetensors", *sorted(run.glob("*.hyp"))]
    return {k: record[k] for k in COMPARED} | {path.name: path.read_bytes() for path in files}


class KillTest:
    """Trains runs with and without kills, in two folders, and compares them.

    Args:
        folder: a new folder.
        kills: how many processes are killed.
        seed: of the times and points of the kills.
    """

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.kills, self.chance = kills, random.Random(seed)
        self.whole, self.killed = folder.resolve() / "whole", folder.resolve() / "killed"
        for path in (self.whole, self.killed):
            path.mkdir(parents=True)
        write_corpus(folder / "data")
        self.server = multiprocessing.get_context("forkserver")  # imports PyTorch once
        self.server.set_forkserver_preload(["nmt_feat.cli.train_job"])
        self.counts: collections.Counter[str] = collections.Counter()
        self.checkpoints: set[tuple[int, str]] = set()
        """The seeds and newest checkpoints at which processes were killed."""
        self.differing: list[str] = []

    def start(self, seed: int, folder: Path, fatal: int | None, share: float) -> Any:
        """Start a process of `run_until_killed`."""
        arguments = seed, folder, fatal, share
        process = self.server.Process(target=run_until_killed, args=arguments)
        process.start()
        return process

    def train_to_end(self, seed: int, folder: Path) -> Any:
        """Train in a process that nothing kills; the process."""
        process = self.start(seed, folder, None, 1.0)
        process.join()
        if process.exitcode != 0:
            sys.exit(f"a process ended with {process.exitcode}; see {folder / 'log'}")
        return process

    def train_and_kill(self, seed: int, longest: float) -> Any:
        """Train in a process that is killed, unless it ends before; the process.

        Every second one is killed while it writes, the others after `longest` seconds at most.
        """
        in_writer = bool(self.counts["processes"] % 2)
        fatal = self.chance.randint(1, CALLS) if in_writer else None
        process = self.start(seed, self.killed, fatal, self.chance.uniform(0, 1.5))
        process.join(None if in_writer else self.chance.uniform(0, longest))
        if process.exitcode is None:
            process.kill()
            process.join()
        if process.exitcode == -signal.SIGKILL:
            self.counts["in the writer" if in_writer else "at a random time"] += 1
        return process

    def count_kill(self, run: Path | None, seed: int) -> None:
        """Count a killed process, and what it has left of its run."""
        self.counts["killed"] += 1
        if run:
            self.counts["with a file half written"] += bool(list(run.glob("**/.*.tmp")))
            indices = run.glob("checkpoints/checkpoint-*.json")
            self.checkpoints.add((seed, max((path.stem for path in indices), default="")))
        print(f"{self.counts['killed']} of {self.kills}", end="\r", file=sys.stderr, flush=True)

    def compare_with_whole(self, run: Path, seed: int) -> None:
        """Compare a run that has ended with one of the same seed that was not killed."""
        if seed > 1:
            self.train_to_end(seed, self.whole)
        whole_run = run_of(self.whole, seed)
        assert whole_run
        leftovers = [*run.glob("**/.*"), *run.glob("checkpoints")]
        if leftovers or outcome(run) != outcome(whole_run):
            self.differing.append(str(run))
        self.counts["runs"] += 1

    def execute(self) -> None:
        """Train runs, one seed after the other, until there were enough kills."""
        start_time = time.monotonic()
        self.train_to_end(1, self.whole)
        longest = (time.monotonic() - start_time) / 8  # a few checkpoints
        seed = 1
        while True:
            if self.counts["killed"] < self.kills:
                process = self.train_and_kill(seed, longest)
            else:
                process = self.train_to_end(seed, self.killed)
            self.counts["processes"] += 1
            run = run_of(self.killed, seed)
            if process.exitcode == -signal.SIGKILL:
                self.count_kill(run, seed)
                continue
            if process.exitcode or not run:
                sys.exit(f"a process ended with {process.exitcode}; see {self.killed / 'log'}")
            self.compare_with_whole(run, seed)
            seed += 1
            if self.counts["killed"] >= self.kills:
                return


def main() -> int:
    """Kill, then compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the times and points of the kills")
    options = parser.parse_args()
    start_time = time.monotonic()
    test = KillTest(options.folder, options.kills, options.seed)
    test.execute()
    figures: dict[str, Any] = {
        **test.counts,
        "checkpoints killed after": len(test.checkpoints),
        "differing": test.differing,
        "minutes": round((time.monotonic() - start_time) / 60, 1),
    }
    print(json.dumps(figures))
    return int(bool(test.differing))


if __name__ == "__main__":
    sys.exit(main())
