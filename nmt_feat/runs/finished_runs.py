"""Tests finished runs on further sets, by another search or other metrics; nothing is trained.

The results equal those of the command that trained the run, given with these settings as well.
"""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from nmt_feat.base.terminal import say
from nmt_feat.config.data_schema import SplitConfig
from nmt_feat.config.evaluate_schema import EvaluateConfig
from nmt_feat.config.members import PUBLIC_SET
from nmt_feat.config.rules import check_settings
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import hash_run_data
from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import check_scoring, choose_scoring
from nmt_feat.evaluation.metric import build_metrics
from nmt_feat.features.choice import choose_kinds
from nmt_feat.runs.run import complete_finished_run
from nmt_feat.runs.setup.artifacts import CONFIG, GLOSSARY, refuse_unfinished
from nmt_feat.runs.signals import signals
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.folders import has_same_data
from nmt_feat.runs.stored.locks import lock_folder, take_unlocked_first
from nmt_feat.runs.stored.records import RunRecord, make_request, read_run
from nmt_feat.runs.stored.settings import read_settings
from nmt_feat.runs.trained.text_annotation import locate_models
from nmt_feat.text.files import list_shards


def find_finished_runs(run: str) -> list[Path]:
    """The folders of the finished runs that `run=` names; for other runs a message is printed.

    Args:
        run: a run's folder, one above runs, or a pattern with `*`; or several, with commas between.
    """
    folders = []
    for part in [run] if Path(run).exists() and run else run.split(","):
        if not part.strip():  # as a path, it would be the current folder, with all runs below
            raise UserError(f"run={run}: names nothing; give a run, a folder of runs, or a pattern")
        names = sorted(glob.glob(str(Path(part.strip()).expanduser())))
        names = [part] if Path(part).exists() else names
        if not any(Path(name).is_dir() for name in names):
            raise UserError(
                f"run={part}: no such folder; give a run, a folder of runs, or a pattern"
            )
        folders += [Path(name) for name in names if Path(name).is_dir()]
    finished = []
    for folder, record in find_runs(folders).items():
        if record.members:
            say(f"{folder}: is an ensemble; ensemble=true tests its runs together")
        elif not record.finished:
            say(f"{folder}: left out, because it is not finished")
        elif not folder.is_dir():
            say(f"{folder}: left out, because it is packed, without weights")
        else:
            refuse_unfinished(folder)
            finished.append(folder)
    if not finished:
        raise UserError(f"run={run}: no finished run with weights; train one first")
    return finished


def apply_request(folder: Path, asked: EvaluateConfig) -> TrainConfig:
    """The settings of a run, changed as the command asks."""
    cfg = read_settings(folder / CONFIG)
    cfg.annotator = locate_models(folder, cfg.annotator)
    if (folder / GLOSSARY).is_file():
        cfg.data.terminology.glossary = str(folder / GLOSSARY)
    for split in cfg.data.tests.values():
        split.optional = True  # files of another machine may be missing here
    further = {name: _find_here(split) for name, split in asked.data.tests.items()}
    cfg.data.tests = cfg.data.tests | further
    search = dataclasses.asdict(asked.decoding)
    changes = {name: value for name, value in search.items() if value is not None}
    cfg.decoding = dataclasses.replace(cfg.decoding, **changes)
    # The run may come from somebody else: user-defined metrics only if this command names them.
    metrics = cfg.metrics.items()
    shipped = {name: metric for name, metric in metrics if metric._target_.startswith("nmt_feat.")}
    cfg.metrics = shipped | asked.metrics
    cfg.paths.cache = asked.cache or cfg.paths.cache
    cfg.trainer.threads = asked.threads or cfg.trainer.threads
    check_settings(cfg)
    # After the check: settings of training that are for CUDA do not matter here.
    cfg.trainer.accelerator = asked.accelerator or cfg.trainer.accelerator
    check_scoring(cfg.data)
    for kind in choose_kinds(cfg.features).values():
        kind.check_embedder()
    return cfg


def _find_here(split: SplitConfig) -> SplitConfig:
    """A test set with absolute names of those files that are in the current folder."""

    def find(name: str) -> str:
        if name.startswith(PUBLIC_SET):
            return name
        there = any(path.exists() for path in list_shards(Path(name).expanduser()))
        return str(Path(name).expanduser().absolute()) if there else name

    return dataclasses.replace(
        split,
        source=find(split.source),
        target=find(split.target),
        conllu=split.conllu and find(split.conllu),
        raw=split.raw and find(split.raw),
        factors={column: find(file) for column, file in split.factors.items()},
        labels={name: find(file) for name, file in split.labels.items()},
    )


def evaluate_runs(
    folders: Sequence[Path], asked: EvaluateConfig
) -> Iterator[tuple[RunRecord, Path]]:
    """Add what is asked for to each run; the run as the command sees it, and its folder."""
    settings = {folder: apply_request(folder, asked) for folder in folders}
    for cfg in settings.values():  # what is wrong is refused before the first is translated
        build_metrics(cfg.metrics, choose_scoring(cfg.data))
    for folder in take_unlocked_first(folders):
        yield _evaluate_run(folder, settings[folder]), folder


def _evaluate_run(folder: Path, cfg: TrainConfig) -> RunRecord:
    try:
        data = hash_run_data(cfg)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    if not has_same_data(read_run(folder), cfg, data):
        raise UserError(
            f"{folder}: its training text, or what annotates it, is not here as it was; give it "
            "back its files, from which its vocabularies are made"
        )
    request = make_request(cfg, data)
    with signals.handled(), lock_folder(folder, wait=True):
        return complete_finished_run(cfg, data, request, folder)
