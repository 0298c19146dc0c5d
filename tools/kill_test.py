"""Kill a short training again and again by SIGKILL: it must end in the bits of one left alone.

    python tools/kill_test.py FOLDER --kills 100

Every second life ends at a random time, from its start on; the others in the midst of writing: at a
random one of their calls of fsync and rename, where what is not yet synced may be cut short as a
loss of power would. A run that ends before it was killed often enough is followed by one of the
next seed. Exit code 1 where a file differs or is left over.
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
"""Of the embedded corpus."""
CALLS = 40
"""Calls of fsync and rename among which the fatal one is."""
KEPT = ("settings", "parameters", "updates", "selected", "curve", "dev", "tests", "hash")


def life(seed: int, folder: Path, fatal: int | None, cut: float) -> None:
    """`python train.py ...` in `folder`, in this process, which dies at the `fatal`-th call."""
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
        if descriptor is not None and stat.S_ISREG((found := os.fstat(descriptor)).st_mode):
            os.ftruncate(descriptor, int(found.st_size * min(1.0, cut)))
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


def cut(folder: Path) -> None:
    """The first sentences of the embedded corpus."""
    folder.mkdir()
    for split, count in SENTENCES.items():
        for name, between in ((f"{split}.conllu", "\n\n"), (f"{split}.de", "\n")):
            text = (find_resource("data/embedded") / name).read_text(encoding="utf-8")
            parts = text.split(between)[:count]
            (folder / name).write_text(between.join([*parts, ""]), encoding="utf-8")


def run_of(folder: Path, seed: int) -> Path | None:
    """The folder of the run of a seed."""
    return next(folder.glob(f"runs/gate-*-s{seed}-*"), None)


def outcome(run: Path) -> dict[str, Any]:
    """All that must be equal to the bit."""
    record = json.loads((run / "result.json").read_text(encoding="utf-8"))
    files = [run / "model.safetensors", *sorted(run.glob("*.hyp"))]
    return {k: record[k] for k in KEPT} | {path.name: path.read_bytes() for path in files}


def main() -> int:
    """Kill, then compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the times and places of the kills")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    server = multiprocessing.get_context("forkserver")  # imports PyTorch once
    server.set_forkserver_preload(["nmt_feat.cli.train_job"])
    begun, whole = time.monotonic(), arguments.folder.resolve() / "whole"
    killed = arguments.folder.resolve() / "killed"
    for folder in (whole, killed):
        folder.mkdir(parents=True)
    cut(arguments.folder / "data")

    def start(*given: object) -> Any:
        process = server.Process(target=life, args=given)
        process.start()
        return process

    def last(process: Any, folder: Path) -> None:
        process.join()
        if process.exitcode != 0:
            sys.exit(f"a life ended by itself with {process.exitcode}; see {folder / 'log'}")

    first = time.monotonic()
    last(start(1, whole, None, 1.0), whole)
    longest = (time.monotonic() - first) / 8  # a few checkpoints
    counts: collections.Counter[str] = collections.Counter()
    seed, places, differing = 1, set(), []
    while True:
        if counts["killed"] < arguments.kills:
            writer = bool(counts["lives"] % 2)
            fatal = chance.randint(1, CALLS) if writer else None
            process = start(seed, killed, fatal, chance.uniform(0, 1.5))
            process.join(None if writer else chance.uniform(0, longest))
            if process.exitcode is None:
                process.kill()
                process.join()
        else:
            last(process := start(seed, killed, None, 1.0), killed)
        counts["lives"] += 1
        run = run_of(killed, seed)
        if process.exitcode == -signal.SIGKILL:
            counts["killed"] += 1
            counts["in the writer" if fatal else "at a random time"] += 1
            if run:
                counts["with a file half written"] += bool(list(run.glob("**/.*.tmp")))
                indices = run.glob("checkpoints/checkpoint-*.json")
                places.add((seed, max((p.stem for p in indices), default="")))
            print(f"{counts['killed']} of {arguments.kills}", end="\r", file=sys.stderr, flush=True)
            continue
        if process.exitcode or not run:
            sys.exit(f"a life ended by itself with {process.exitcode}; see {killed / 'log'}")
        if seed > 1:
            last(start(seed, whole, None, 1.0), whole)
        alone = run_of(whole, seed)
        assert alone
        left = [*run.glob("**/.*"), *run.glob("checkpoints")]
        if left or outcome(run) != outcome(alone):
            differing.append(str(run))
        counts["runs"] += 1
        seed += 1
        if counts["killed"] >= arguments.kills:
            break
    found = dict(counts) | {"checkpoints killed after": len(places), "differing": differing}
    print(json.dumps(found | {"minutes": round((time.monotonic() - begun) / 60, 1)}))
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
