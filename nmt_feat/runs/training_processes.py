"""The processes that train a run together, from its start or a checkpoint to its test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from nmt_feat.base.terminal import TextConsole
from nmt_feat.config.identity import is_earlier, validation_search
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.prepare import Prepared
from nmt_feat.evaluation.test_sets import DecodedSplit, decode_split
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.runs import processes
from nmt_feat.runs.loggers import Loggers, make_loggers
from nmt_feat.runs.processes import set_up_torch
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.setup.build_trainer import build_trainer
from nmt_feat.runs.setup.starting_model import StartingModel, build_untrained
from nmt_feat.runs.signals import signals
from nmt_feat.runs.stored import provenance, records
from nmt_feat.training.checkpoints import CHECKPOINTS, Checkpoints, TrainingState, restore_weights


@dataclass
class TrainingResult:
    """The end of a training, in the first of its processes."""

    state: TrainingState
    decoded: dict[str, DecodedSplit]
    """Translations by split; a split that a signal interrupted is missing."""
    peak: float
    """Memory (MiB) of the largest process."""


def train_in_process(
    fabric: Fabric, cfg: TrainConfig, folder: Path, start: tuple[Prepared, StartingModel] | None
) -> TrainingResult:
    """Train or resume in each process, to the end or a signal; at the end, translate dev and tests.

    `start` has the data and the model to begin with; None in a spawned process, which prepares its
    own.
    """
    progress = Progress(TextConsole(), fabric.global_rank == 0, cfg.trainer.progress)
    with (
        signals.handled(),
        signals.deferred(),
        processes.waiting_limited(cfg.trainer.wait_minutes, lambda: progress.current_work),
    ):
        set_up_torch(cfg)
        if start is None:
            prepared = prepare_run(cfg)
            start = prepared, build_untrained(cfg, prepared)
        prepared, starting = start
        search = validation_search(read_earlier_settings(folder))
        model, inherited = starting.model, starting.inherited
        trainer = build_trainer(cfg, prepared, model, folder, fabric, progress, search, inherited)
        trainer.resume()
        if trainer.checkpoints.damaged:
            progress.print_line(f"{trainer.checkpoints.damaged}; the checkpoint before is used")
        if trainer.state.step and not trainer.state.finished:
            progress.print_line(
                f"resumed at update {trainer.state.step} of {cfg.trainer.max_steps}"
            )
        with _logging(fabric, cfg, folder, progress):
            state = trainer.fit()
        if not state.finished:
            return TrainingResult(state, {}, 0.0)
        restore_chosen_weights(cfg, folder, model)
        model.to(fabric.device).eval()
        decoded = _translate_splits(fabric, cfg, prepared, model, progress)
        memory = torch.tensor(provenance.peak_memory_mib(), device=fabric.device)
        peak = fabric.all_reduce(memory, reduce_op="max")
        assert isinstance(peak, torch.Tensor)
        return TrainingResult(state, decoded, float(peak))


@contextlib.contextmanager
def _logging(fabric: Fabric, cfg: TrainConfig, folder: Path, progress: Progress) -> Iterator[None]:
    """Within, the first process passes its numbers on to the run's loggers."""
    if fabric.global_rank:
        yield
        return
    loggers = Loggers(make_loggers(cfg.logger), folder, progress.print_line, cfg.name, cfg.tags)
    with contextlib.closing(loggers):
        progress.log = loggers.log
        yield


def _translate_splits(
    fabric: Fabric,
    cfg: TrainConfig,
    prepared: Prepared,
    model: TranslationModel,
    progress: Progress,
) -> dict[str, DecodedSplit]:
    """The translations of dev and the test sets, without those that a signal interrupted."""
    decoded = {}
    with progress.show_work("translating"):
        for name, split in prepared.tested_splits.items():
            progress.current_work = f"the translations of {name}"
            share_work = partial(processes.share_work, fabric)
            decoded[name] = decode_split(cfg, model, split, fabric.device, share_work)
    return {name: translations for name, translations in decoded.items() if translations}


def restore_chosen_weights(cfg: TrainConfig, folder: Path, model: TranslationModel) -> list[int]:
    """Load the weights to test into the model, in fp32; the updates that they are from."""
    checkpoints = Checkpoints(folder / CHECKPOINTS, 1, verify=False)
    chosen, steps = checkpoints.select_weights(cfg.trainer.select)
    model.float()  # translation uses fp32, whatever the precision of training
    restore_weights(model, chosen)
    return steps


def train_to_end(
    fabric: Fabric, cfg: TrainConfig, folder: Path, start: tuple[Prepared, StartingModel]
) -> TrainingResult:
    """`train_in_process` here or in spawned processes, to its end."""
    here = cfg.trainer.devices == processes.find_launcher().world
    result = processes.run_in_processes(
        fabric, train_in_process, cfg, folder, start if here else None, TrainingResult
    )
    if not result.state.finished:
        raise signals.interruption(
            f" after update {result.state.step} of {cfg.trainer.max_steps}, saved in {folder}"
        )
    if len(result.decoded) < 1 + len(start[0].tests):
        raise signals.interruption()
    return result


def read_earlier_settings(folder: Path) -> dict[str, Any]:
    """The stored settings of a run that was begun with an earlier identity; else empty."""
    path = folder / records.STARTED
    stored = records.read_record(path).settings if path.exists() else {}
    return stored if is_earlier(stored) else {}
