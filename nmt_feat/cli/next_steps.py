"""What to type next, printed after a run and after a sweep."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nmt_feat.cli.texts import explain_no_translation
from nmt_feat.config.commands import drop_settings, shell_command
from nmt_feat.config.instantiate import TRUSTED, modules_to_allow
from nmt_feat.config.schema import FeatureConfig, TrainConfig
from nmt_feat.features.choice import choose_kinds
from nmt_feat.model.seeds import isolated_generator
from nmt_feat.runs.run import FinishedRun
from nmt_feat.runs.setup.build_model import FEWEST_IDS, WORD, build_run_combiner
from nmt_feat.runs.stored.records import RunRecord

if TYPE_CHECKING:
    from nmt_feat.analysis.report import Report

REPLACED = (
    *("combiner", "combiner._target_", "combiner.args.", "method", "method."),
    *("control", "seed", "resume"),
)
"""Settings of a run that the suggested sweep sets in its own way, or cannot have."""
COMBINERS = "none", "concat", "add", "average", "gate"
FULL_WORD = "none", "add", "average", "gate", "concat_project"
"""Combiners that give the word the width of the model, so all can have one parent."""
OF_PRETRAINED = "none", "add", "gate", "concat_project"
"""Combiners that can start as a pretrained model."""


def suggest_translation(folder: Path, record: RunRecord) -> str:
    """The command that translates with a run, where its classes may be the user's."""
    modules = modules_to_allow(record.config)
    variable = f"{TRUSTED}={','.join(modules)} " if modules else ""
    return variable + shell_command("translate", f"run={folder}", "input=FILE")


def suggest_sweep(
    run: FinishedRun, chosen: Mapping[str, FeatureConfig], combiner: str, arguments: Sequence[str]
) -> str:
    """The command that compares combiners, and features with their control, as in a run.

    Args:
        run: the run.
        chosen: the features of its command line, which words only drop.
        combiner: the option of its command line.
        arguments: its command line.
    """
    typed = drop_settings(arguments, REPLACED)
    sweep = [setting for setting in typed if setting != "features=[]"]
    if len(drop_settings(arguments, ("combiner._target_",))) < len(arguments):
        combiner = "none"  # no option names the class
    sweep.append(f"combiner={','.join(_choose_combiners(run, combiner))}")
    kinds = choose_kinds(chosen).values()
    if not kinds or not all(kind.of_pieces for kind in kinds):  # else no control is possible
        sweep.append("control=none,shuffled")
    return shell_command("train", "-m", *sweep, "seed=1,2,3")


def _choose_combiners(run: FinishedRun, combiner: str) -> Sequence[str]:
    """Combiners to compare with the settings of a run; its own is among them if it can be."""
    names: Sequence[str] = COMBINERS
    if run.cfg.model.folder:
        names = OF_PRETRAINED
    elif run.cfg.init.run:
        names = FULL_WORD
        if not _has_full_word(run.cfg):
            # The parent's table is as narrow as this word, so no other combiner could take it.
            return (combiner,) if "source.words" in run.record.parent.get("taken", ()) else names
    return names if combiner in names else ("none", combiner, *names[1:])


def _has_full_word(cfg: TrainConfig) -> bool:
    """Whether the combiner gives the word the width of the model."""
    with isolated_generator(0, "widths"):
        combiner = build_run_combiner(cfg, dict.fromkeys(cfg.features, FEWEST_IDS))
    return combiner.widths.get(WORD, cfg.model.dim) == cfg.model.dim


def describe_folders(reports: Mapping[str, Report]) -> Iterator[str]:
    """Lines on where the finished runs of a sweep lie, and how to translate with its best row."""
    folders = {folder for report in reports.values() for folder in report.folders.values()}
    parents = sorted({str(_shorten(folder.parent)) for folder in folders})
    if parents:
        count = f"{len(folders)} finished run{'' if len(folders) == 1 else 's'}"
        yield f"{count} in {', '.join(parents)}"
    for report in reports.values():
        rows: list[tuple[float, str, RunRecord]] = []
        for name, runs in report.table.runs_by_name().items():
            runs = [run for run in runs if run.hash in report.folders]
            usable = [run for run in runs if run.dev and not explain_no_translation(run)]
            if usable:
                score = statistics.fmean(run.dev.bleu for run in usable if run.dev)
                rows.append((score, name, usable[0]))
        if rows:
            _, name, run = max(rows, key=lambda row: row[0])
            command = suggest_translation(_shorten(report.folders[run.hash]), run)
            yield f"translate with {name}, seed {run.seed}, of the best row by dev BLEU: {command}"


def _shorten(path: Path) -> Path:
    """A path, relative to the current folder if it lies there."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
