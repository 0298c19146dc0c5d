"""Part `settings`: the composed settings of experiments' jobs and of groups' options."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from compare.bench import Bench, Job, JobFailed

PART = "settings"
LAUNCHER = "hydra.launcher._target_=hydra_plugins.compare_jobs.Jobs"
GROUPS = {
    "combiner": (),
    "features": (),
    "data": ("data.source_lang=en", "data.target_lang=de"),
    "annotator": (),
    "subword": (),
    "model": (),
    "optimizer": (),
    "trainer": (),
    "decoding": (),
    "row": (),
}
"""Groups whose options are composed alone, and settings that some options need."""
FEWER = {"information": ("combiner=gate",), "low_resource": ("combiner=gate",)}
"""Further settings in the small form, because each job takes a fifth of a second."""


def _compose(bench: Bench, *overrides: str) -> dict[str, Any]:
    file = bench.folder / "jobs.json"
    file.unlink(missing_ok=True)
    outcome = bench.python(Path("train.py"), "-m", *overrides, LAUNCHER)
    if not file.exists():
        raise JobFailed(f"the sweep ended with {outcome.code}: {bench.plain(outcome.mistake)}")
    jobs: dict[str, Any] = json.loads(bench.plain(file.read_text(encoding="utf-8")))
    return jobs


def _record(bench: Bench, *overrides: str) -> None:
    """Settings by job; hashes; and which jobs are the same run, whatever its hash is."""
    jobs = _compose(bench, *overrides)
    same_run: dict[str, list[str]] = defaultdict(list)
    for name, job in jobs.items():
        bench.facts.scalar(f"{name}: composed", True)
        bench.facts.nested(f"{name}: settings", job["settings"])
        for key in ("identity name", "identity hash", "identity error"):
            if key in job:
                bench.facts.scalar(f"{name}: {key}", job[key])
        if "identity hash" in job:
            same_run[job["identity name"] + job["identity hash"]].append(name)
    for first, *others in same_run.values():
        bench.facts.scalar(f"{first}: same run as", ", ".join(others))


def _experiment(name: str, bench: Bench) -> None:
    fewer = ["seed=1", *FEWER.get(name, ())] if bench.small else []
    _record(bench, f"experiment={name}", *fewer)


def _group(name: str, bench: Bench) -> None:
    conf = bench.base.code / "conf"
    options = sorted(path.stem for path in (conf / name).glob("*.yaml"))
    if name == "row":  # once a file each, today inside the experiments
        texts = [path.read_text(encoding="utf-8") for path in (conf / "experiment").glob("*.yaml")]
        options += sorted({row for text in texts for row in yaml.safe_load(text).get("rows", ())})
    more = GROUPS[name]
    if name == "features":  # a list that has one of them
        options = [f"[{option}]" for option in options]
    _record(bench, f"{name}={','.join(options)}", *more)


def _command(name: str, bench: Bench) -> None:
    """What a command of one run composes to when it is started with its smallest command line."""
    run = ["run=runs/one"] if name != "train" else []
    files = ["source=a", "target=b"] if name == "score" else []
    outcome = bench.good(f"{name}.py", *run, *files, "--cfg", "job", "--resolve")
    bench.facts.scalar("composed", True)
    composed = OmegaConf.to_container(OmegaConf.create(bench.plain(outcome.out)))
    bench.facts.nested("settings", composed)


def jobs(base: Path, small: bool) -> list[Job]:
    """A job for each experiment, group and command."""
    names = sorted(path.stem for path in (base / "conf" / "experiment").glob("*.yaml"))
    job_list = [Job(PART, f"experiment={n}", functools.partial(_experiment, n)) for n in names]
    groups = ["combiner", "features"] if small else list(GROUPS)
    job_list += [Job(PART, f"group {n}", functools.partial(_group, n)) for n in groups]
    commands = ("train", "translate", "score")
    return job_list + [Job(PART, f"{n}.py", functools.partial(_command, n)) for n in commands]
