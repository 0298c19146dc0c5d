"""Run the same jobs with the code of two revisions on this machine, and compare their results.

    python tools/compare_revisions.py [BASE] [--small] [--only PART,...] [--work FOLDER]

BASE is a commit (default: the one in tools/base_revision); the other revision is the working tree,
committed or not. Parts: settings, arrays, weights, texts, programs, reports, examples; `--only`
also takes patterns of jobs, such as 'weights/gate*'. Results stay in the folder `--work`, by the
revision's files, and are not computed again. Differences that tools/intended_differences.toml lists
are intended. The exit code is 1 if there is any other difference, or if a job fails.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import queue
import re
import sys
import tempfile
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from compare import arrays, examples, programs, reports, settings, texts, training
from compare.bench import Bench, Job, JobFailed, Side
from compare.commands import Runner
from compare.differences import (
    FAILED,
    Difference,
    Intended,
    compare,
    read_intended,
    split_intended,
    table,
)
from compare.facts import Facts
from compare.inputs import Inputs
from compare.revisions import NoRevision, tree_of, unpack, working_tree

HERE = Path(__file__).resolve().parent
PARTS = (settings, arrays, training, texts, programs, reports, examples)
STATE = "state.json"
"""File in a job's folder that says that its facts are complete, or why it failed."""
MOST_LISTED = 6
"""How many differences of a job are listed."""


class Comparison:
    """Runs jobs on both sides, some at a time, each after the jobs that it needs."""

    def __init__(self, sides: list[Side], work: Path, small: bool, at_once: int) -> None:
        self.sides, self.work, self.small = sides, work, small
        data = os.environ.get(arrays.DATA)
        embedded = sides[0].code / "data" / "embedded"
        self.inputs = Inputs(work / "inputs", embedded, Path(data) if data else None)
        self.pool = ThreadPoolExecutor(at_once)
        self.runners: queue.Queue[Runner] = queue.Queue()
        for _ in range(at_once):
            self.runners.put(Runner())
        self.futures: dict[tuple[str, str], Future[str]] = {}
        sources = sorted((HERE / "compare").rglob("*.py"))
        content = b"".join(path.read_bytes() for path in sources)
        about = f"{sides[0].tree} {small} {data}".encode()
        self.state = hashlib.sha256(content + about).hexdigest()

    def folder(self, side: Side, key: str) -> Path:
        """Where a job runs on a side."""
        part, _, name = key.partition("/")
        return self.work / "jobs" / side.tree / part / name.replace(" ", "_").replace("=", "_")

    def start(self, jobs: list[Job]) -> None:
        """Start all jobs, which are in such an order that none waits for ever."""
        for job in jobs:
            for side in self.sides:
                if (side.tree, job.key) not in self.futures:
                    future = self.pool.submit(self._once, job, side)
                    self.futures[side.tree, job.key] = future

    def failure(self, job: Job, side: Side) -> str:
        """Wait for a job; the reason if it failed, else an empty text."""
        return self.futures[side.tree, job.key].result()

    def close(self) -> None:
        """End all servers."""
        self.pool.shutdown(cancel_futures=True)
        while not self.runners.empty():
            self.runners.get().close()

    def _once(self, job: Job, side: Side) -> str:
        """Run a job unless it has results; the reason if it failed, else an empty text."""
        for need in job.needs:
            if failure := self.futures[side.tree, need].result():
                return f"needs {need}: {failure}"
        folder = self.folder(side, job.key)
        with contextlib.suppress(OSError, ValueError):
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            if state["job"] == self.state:
                return str(state["failure"])
        begun, runner = time.monotonic(), self.runners.get()
        try:
            failure = self._do(job, side, folder, runner)
        finally:
            self.runners.put(runner)
        state = {"job": self.state, "failure": failure}
        (folder / STATE).write_text(json.dumps(state), encoding="utf-8")
        end = f"failed: {failure}" if failure else "done"
        seconds = time.monotonic() - begun
        print(f"{side.name}: {job.key}: {end} ({seconds:.0f} s)", file=sys.stderr, flush=True)
        return failure

    def _do(self, job: Job, side: Side, folder: Path, runner: Runner) -> str:
        self.inputs("conllu")
        needed = {key: self.folder(side, key) for key in job.needs}
        bench = Bench(
            side=side,
            base=self.sides[0],
            folder=folder,
            work=self.work,
            runner=runner,
            inputs=self.inputs,
            small=self.small,
            needed=needed.__getitem__,
        )
        try:
            job.act(bench)
        except JobFailed as error:
            return str(error)
        except Exception as error:  # a defect here must not end all other jobs
            traceback.print_exc()
            return f"{type(error).__name__}: {error}"
        bench.facts.save()
        return ""

    def differences(self, job: Job) -> list[Difference]:
        """The differences of a job, after it has ended on both sides."""
        failures = {side.name: self.failure(job, side) for side in self.sides}
        if failing := {name: text for name, text in failures.items() if text}:
            reasons = "; ".join(f"{name}: {text}" for name, text in failing.items())
            return [Difference(job.part, job.name, "", FAILED, reasons)]
        base, new = (Facts.load(self.folder(side, job.key)) for side in self.sides)
        return compare(job.part, job.name, base, new)


def chosen_jobs(base: Path, small: bool, only: list[str]) -> tuple[list[Job], list[Job]]:
    """The jobs to compare; the same jobs, each behind the jobs that it needs."""
    all_jobs = [job for part in PARTS for job in part.jobs(base, small)]
    by_key = {job.key: job for job in all_jobs}
    parts = {job.part for job in all_jobs}
    for pattern in only:
        if pattern not in parts and not any(fnmatchcase(key, pattern) for key in by_key):
            raise ValueError(f"--only {pattern}: no such part or job; parts: {', '.join(parts)}")
    wanted = [
        job for job in all_jobs if not only or any(
            job.part == pattern or fnmatchcase(job.key, pattern) for pattern in only
        )
    ]  # fmt: skip
    ordered: dict[str, Job] = {}
    for job in wanted:
        if job.skip is None:
            ordered |= {key: by_key[key] for key in job.needs} | {job.key: job}
    return wanted, list(ordered.values())


def summarize(additions: list[Difference]) -> list[tuple[str, str]]:
    """For keys that only one side has: their kind, and their names without numbers, counted."""
    keys: dict[str, dict[str, int]] = {}
    for difference in additions:
        name = re.sub(r"\b\d+\b", "N", difference.key.rpartition(": ")[2])
        counts = keys.setdefault(difference.kind, {})
        counts[name] = counts.get(name, 0) + 1
    lines = []
    for kind, counts in keys.items():
        names = [f"{name} ({count})" for name, count in list(counts.items())[:MOST_LISTED]]
        rest = [f"and {len(counts) - MOST_LISTED} more"] if len(counts) > MOST_LISTED else []
        lines.append((kind, ", ".join([*names, *rest])))
    return lines


def show(
    jobs: list[Job], by_job: dict[str, list[Difference]], intended: list[Intended]
) -> list[Difference]:
    """Print the table and the list of intended differences; the others are returned."""
    rows: list[tuple[str, str, str, str]] = [("part", "job", "result", "what")]
    unexpected: list[Difference] = []
    for job in jobs:
        if job.skip is not None:
            rows.append((job.part, job.name, "skipped", job.skip))
            continue
        uncovered, covered = split_intended(by_job[job.key], intended)
        serious = [difference for difference in uncovered if difference.serious]
        unexpected += serious
        additions = [difference for difference in uncovered if not difference.serious]
        for difference in serious[:MOST_LISTED]:
            key = f"{difference.key}: " if difference.key else ""
            rows.append((job.part, job.name, difference.kind, key + difference.description))
        if (more := len(serious) - MOST_LISTED) > 0:
            rows.append((job.part, job.name, "", f"and {more} more"))
        rows += [(job.part, job.name, *row) for row in summarize(additions)]
        if not serious:
            note = f"but for {len(covered)} intended differences" if covered else ""
            rows.append((job.part, job.name, "same", note))
    print(table(rows))
    for entry in intended:
        if entry.matched:
            pattern = f"{entry.part}/{entry.job} {entry.key}"
            print(f"intended: {entry.matched} x {pattern}: {entry.reason}")
    for entry in intended:
        if not entry.matched:
            print(f"intended, not met here: {entry.part}/{entry.job} {entry.key}")
    return unexpected


def read_arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", help="a commit; default: that in tools/base_revision")
    parser.add_argument("--small", action="store_true", help="few jobs, in about two minutes")
    parser.add_argument("--only", default="", help="parts or patterns of jobs, with commas between")
    parser.add_argument(
        "--work", type=Path, help="folder to keep results in; default: none is kept"
    )
    parser.add_argument("--differences", type=Path, default=HERE / "intended_differences.toml")
    parser.add_argument("--at-once", type=int, default=2, help="jobs that run at the same time")
    parser.add_argument(
        "--allow-missing", action="store_true", help="do nothing where a clone lacks the base"
    )
    parser.add_argument("--list", action="store_true", help="list the jobs, run none")
    return parser.parse_args()


def run(options: argparse.Namespace, work: Path) -> int:
    """Compare in the folder `work`; the exit code."""
    root, begun = HERE.parent, time.monotonic()
    revision = options.base or (HERE / "base_revision").read_text(encoding="utf-8").strip()
    try:
        trees = {"base": tree_of(root, revision), "new": working_tree(root)}
    except NoRevision:
        print(f"{revision}: this clone does not have the commit", file=sys.stderr)
        print("skipped" if options.allow_missing else "do: git fetch --unshallow", file=sys.stderr)
        return 0 if options.allow_missing else 2
    codes = {name: unpack(root, tree, work / "code") for name, tree in trees.items()}
    sides = [Side(name, code.name, code) for name, code in codes.items()]
    try:
        intended = read_intended(options.differences)
        only = [pattern for pattern in options.only.split(",") if pattern]
        wanted, ordered = chosen_jobs(sides[0].code, options.small, only)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        print(table([(job.part, job.name, job.skip or "") for job in wanted]))
        return 0
    comparison = Comparison(sides, work, options.small, options.at_once)
    try:
        comparison.start(ordered)
        by_job = {job.key: comparison.differences(job) for job in wanted if job.skip is None}
    finally:
        comparison.close()
    unexpected = show(wanted, by_job, intended)
    minutes = (time.monotonic() - begun) / 60
    print(
        f"{revision[:12]} against the working tree: {len(by_job)} jobs, {len(unexpected)} "
        f"differences that are not intended, {minutes:.1f} minutes"
    )
    return int(bool(unexpected))


def main() -> int:
    """Compare, in a folder that stays or in a temporary one."""
    options = read_arguments()
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
        return run(options, options.work.resolve())
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        return run(options, Path(folder).resolve())


if __name__ == "__main__":
    sys.exit(main())
