"""The environment of a job on one side: its folder, the side's code, commands, facts."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from compare.commands import HERE, Kill, Outcome, Runner
from compare.facts import Facts

SMALL = {
    "subword.vocab_size": "200",
    "model.dim": "16",
    "model.ffn_dim": "32",
    "model.heads": "2",
    "model.encoder_layers": "1",
    "model.decoder_layers": "1",
    "optimizer.warmup": "4",
    "trainer.batch_tokens": "256",
    "trainer.accelerator": "cpu",
    "trainer.threads": "1",
    "trainer.progress": "false",
    "decoding.beam": "2",
    "data.folder": "inputs/conllu",
    "data.processes": "1",
    "paths.cache": "cache",
    "paths.runs": "runs",
}
"""Settings of all trainings, unless a job has others."""
VOLATILE = (
    *("hash", "settings", "config", "code", "libraries", "machine", "seconds", "train_seconds"),
    *("tokens_per_second", "peak_memory_mib", "format", "files", "counts"),
)
"""Entries of a run's record that may differ between runs of the same code, or name files."""


class JobFailed(RuntimeError):
    """A command failed that has to succeed, so there is nothing to compare."""


@dataclass(frozen=True)
class Side:
    """One of the two revisions: `base` or `new`."""

    name: str
    tree: str
    code: Path


@dataclass
class Bench:
    """Runs the commands of a job on a side, in the job's folder."""

    side: Side
    base: Side
    folder: Path
    work: Path
    runner: Runner
    inputs: Callable[[str], Path]
    small: bool
    needed: Callable[[str], Path]
    facts: Facts = field(init=False)

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.facts = Facts(self.folder)
        cache = self.work / "jobs" / self.side.tree / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        # The same names on both sides, so that printed and recorded paths do not differ.
        (self.folder / "cache").symlink_to(cache)
        (self.folder / "inputs").symlink_to(self.work / "inputs")
        (self.folder / "vectors").symlink_to(self.work / "inputs" / "vectors")

    def python(
        self, script: str | Path, *arguments: object, fresh: bool = False, kill: Kill | None = None
    ) -> Outcome:
        """`python SCRIPT ...`: of the side's code, or with an absolute path."""
        command = [str(self.side.code / script), *map(str, arguments)]
        paths = [self.side.code, HERE.parent, HERE / "plugins"]
        return self.runner.run(command, self.folder, paths, fresh, kill)

    def good(self, script: str | Path, *arguments: object, fresh: bool = False) -> Outcome:
        """The same, for a command that must succeed."""
        outcome = self.python(script, *arguments, fresh=fresh)
        if outcome.code:
            name = Path(script).name
            raise JobFailed(f"{name} ended with {outcome.code}: {self.plain(outcome.mistake)}")
        return outcome

    def settings(self, *more: str) -> list[str]:
        """A training's command line; a later setting takes the place of an earlier one."""
        changed = {setting.partition("=")[0] for setting in more}
        return [f"{k}={v}" for k, v in SMALL.items() if k not in changed] + list(more)

    def train(self, *more: str, fresh: bool = False) -> Path:
        """Train; the run's folder."""
        self.good("train.py", *self.settings(*more), fresh=fresh)
        return self.run_folder()

    def run_folder(self) -> Path:
        """The folder of the only run of this job."""
        runs = [path.parent for path in self.folder.glob("runs/*/result.json")]
        if len(runs) != 1:
            raise JobFailed(f"{len(runs)} finished runs in {self.folder}, not 1")
        return runs[0].relative_to(self.folder)

    def record_run(self, run: Path) -> None:
        """The weights, the record, the hypotheses of a finished run."""
        from safetensors.numpy import load_file

        run = self.folder / run
        for name, tensor in sorted(load_file(run / "model.safetensors").items()):
            self.facts.array(f"weights.{name}", tensor)
        record = json.loads((run / "result.json").read_text(encoding="utf-8"))
        self.facts.nested("record", record, VOLATILE)
        for path in sorted(run.glob("*.hyp")):
            self.facts.text(f"hypotheses.{path.stem}", path.read_text(encoding="utf-8"))

    def record_files(self, key: str, folder: Path) -> None:
        """Each file below a folder, as text without the names of folders and runs."""
        paths = [path for path in folder.rglob("*") if path.is_file()]
        for path in sorted(paths):
            content = path.read_bytes()
            name = f"{key}.{self.plain(str(path.relative_to(folder)))}"
            try:
                self.facts.text(name, self.plain(content.decode("utf-8")))
            except UnicodeDecodeError:
                self.facts.text(name, content.hex())

    def record_output(self, key: str, outcome: Outcome, numbers_only: bool = False) -> None:
        """Exit code and standard output; messages on standard error may be worded otherwise."""
        self.facts.scalar(f"{key}.exit code", outcome.code)
        if numbers_only:
            self.facts.numbers(f"{key}.numbers", self.plain(outcome.out))
        else:
            self.facts.text(f"{key}.output", self.plain(outcome.out))

    def plain(self, text: str) -> str:
        """Text without paths and hashes, which differ by side and folder."""
        for path, name in (
            (self.side.code, "CODE"),
            (self.folder, "HERE"),
            (self.work / "jobs" / self.side.tree, "JOBS"),
            (self.work, "WORK"),
        ):
            text = text.replace(os.path.realpath(path), name).replace(str(path), name)
        text = re.sub(r"(-s\d+-)[0-9a-f]{8}\b", r"\1HASH", text)
        return re.sub(r"\b(prepared|vectors|annotation|states)-[0-9a-f]{8,}", r"\1-HASH", text)


@dataclass(frozen=True)
class Job:
    """Work for both sides. `needs` names the jobs, `part/name`, whose folders it uses."""

    part: str
    name: str
    act: Callable[[Bench], None]
    needs: tuple[str, ...] = ()
    skip: str | None = None
    """Why it cannot run here, if it cannot."""

    @property
    def key(self) -> str:
        """Its name among all jobs."""
        return f"{self.part}/{self.name}"
