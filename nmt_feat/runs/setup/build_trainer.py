"""From settings, data and a model to a trainer: connects the loop of ring 1 with ring 2.

The optimiser is tried before data is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from nmt_feat.config.identity import VALIDATION
from nmt_feat.config.instantiate import build_object, locate_class, naming_failures
from nmt_feat.config.schema import DecodingConfig, OptimizerConfig, TrainConfig, TrainerConfig
from nmt_feat.data.batches import Indices, collate, plan_batches
from nmt_feat.data.prepare import Prepared
from nmt_feat.data.store import EncodedSplit
from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import choose_scoring
from nmt_feat.evaluation.metric import Metric, build_metrics, score_texts
from nmt_feat.evaluation.scores import score_translations
from nmt_feat.evaluation.split_decoding import compute_dev_loss, translate_split
from nmt_feat.model.batch import Batch
from nmt_feat.model.seeds import derive_seed
from nmt_feat.model.translation_model import TranslationModel
from nmt_feat.runs.processes import Agreement, share_work
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.signals import signals
from nmt_feat.training.checkpoints import CHECKPOINTS, Checkpoints
from nmt_feat.training.compilation import compile_layers
from nmt_feat.training.interfaces import TrainingSettings, ValidationScores
from nmt_feat.training.loop import Trainer
from nmt_feat.training.objective import Objective
from nmt_feat.training.optimizers import Rates, group_parameters, optimizer_tensors


@dataclass(frozen=True, slots=True)
class SplitBatch:
    """Sentence pairs of a split, as the training loop sees them."""

    split: EncodedSplit
    indices: Indices
    features: Sequence[str]

    @property
    def target_token_count(self) -> int:
        """Target pieces with the end symbols, without padding."""
        return int(self.split.target_lengths[self.indices].sum())

    @property
    def longest_lengths(self) -> tuple[int, int]:
        """Tokens of the longest source and of the longest target."""
        split = self.split
        return (
            int(split.source_lengths[self.indices].max()),
            int(split.target_lengths[self.indices].max()),
        )

    def source_text(self, index: int) -> str:
        """The source of a pair."""
        return self.split.source_texts[index]

    def collate(self) -> Batch:
        """The tensors."""
        return collate(self.split, self.indices, self.features)


def plan_epoch(cfg: TrainConfig, prepared: Prepared, epoch: int) -> list[SplitBatch]:
    """The batches of an epoch, for all processes; a control may redraw the data for each epoch."""
    seed, settings = derive_seed(cfg.seed, "order"), cfg.trainer
    by_target = settings.batch_by == "target"
    batches = plan_batches(prepared.train, settings.batch_tokens, seed, epoch, by_target)
    split = prepared.redraw(epoch) if prepared.redraw is not None else prepared.train
    names = list(prepared.encoder.features)
    return [SplitBatch(split, indices, names) for indices in batches]


def validate_on_dev(
    cfg: TrainConfig,
    prepared: Prepared,
    objective: Objective,
    fabric: Fabric,
    search: DecodingConfig,
    selecting: Metric | None,
) -> ValidationScores | None:
    """Dev loss and BLEU; each process computes its share, and all get the result.

    `selecting` is the metric that chooses the checkpoint, if it is not BLEU; its score is negated
    if a lower one is better. The result is None if a signal to any of the processes interrupts the
    validation.
    """
    dev, budget, device = prepared.dev, cfg.trainer.batch_tokens, fabric.device
    names, model = list(prepared.encoder.features), objective.model

    def compute_loss(share: slice) -> list[tuple[float, int]]:
        with torch.no_grad():  # without the data-parallel wrapper, which would wait for others
            return [compute_dev_loss(objective, dev, names, budget, device, share)]

    def translate(share: slice) -> list[list[int]]:
        hypotheses = translate_split(model, dev, names, search, device, share)
        return [[i, *best[0].ids] for i, best in enumerate(hypotheses) if best]

    losses, translated = share_work(fabric, compute_loss), share_work(fabric, translate)
    if losses is None or translated is None:
        return None
    loss_sum, piece_count = map(sum, zip(*losses, strict=True))
    ids_of = {int(i): map(int, ids) for i, *ids in translated}
    texts = [prepared.target.decode(ids_of[i]) for i in range(len(dev))]
    scoring = choose_scoring(cfg.data)

    def measure_scores(share: slice) -> list[list[float]]:
        if not [texts][share]:  # a list of one piece of work: only the first process has a share
            return []
        bleu = score_translations(texts, dev.target_texts, scoring).bleu
        if selecting is None:
            return [[bleu]]
        value = score_texts(selecting, dev.source_texts, texts, dev.target_texts)
        return [[bleu, -value if selecting.lower_is_better else value]]

    measured = share_work(fabric, measure_scores)
    if measured is None:
        return None
    ((bleu, *selection),) = measured
    return ValidationScores(bleu, loss_sum / piece_count, selection[0] if selection else None)


def find_selecting_metric(cfg: TrainConfig) -> Metric | None:
    """The metric that chooses the checkpoint; None if it is BLEU."""
    name = cfg.trainer.select_metric
    if name == TrainerConfig.select_metric:
        return None
    return build_metrics({name: cfg.metrics[name]}, choose_scoring(cfg.data))[name]


def build_optimizer(
    cfg: OptimizerConfig, module: nn.Module, rates: Rates | None = None
) -> torch.optim.Optimizer:
    """The optimiser, in PyTorch's fused form if its class has one.

    Args:
        cfg: its settings.
        module: the module whose parameters it trains.
        rates: by the beginning of parameters' names, their highest learning rate.

    Raises:
        UserError: if the class would ignore a setting, or needs a closure.
    """
    kind = locate_class(cfg._target_)
    taken = inspect.signature(kind).parameters
    values: dict[str, Any] = {"lr": cfg.lr, "fused": True}
    if "betas" in taken:
        values |= {"betas": tuple(cfg.betas), "eps": cfg.eps, "weight_decay": cfg.weight_decay}
    for name in ("betas", "eps", "weight_decay"):
        value = getattr(cfg, name)
        if not {"betas", name} <= taken.keys() and value != getattr(OptimizerConfig(), name):
            lacks = name if "betas" in taken else "betas"
            raise UserError(
                f"optimizer.{name}={value}: is for Adam and optimisers like it, {cfg._target_} has "
                f"no {lacks}; leave it out, or give arguments of the class by +optimizer.args"
            )
    step = inspect.signature(kind.step).parameters if hasattr(kind, "step") else {}
    if "closure" in step and step["closure"].default is inspect.Parameter.empty:
        raise UserError(
            f"optimizer._target_={cfg._target_}: computes the loss several times an update, which "
            "training does not; choose another"
        )
    if "fused" in cfg.args:
        del values["fused"]
    values = {name: value for name, value in values.items() if name in taken}
    groups = group_parameters(module, rates or {})
    optimizer: torch.optim.Optimizer = build_object(
        cfg._target_, torch.optim.Optimizer, cfg.args, params=groups, **values
    )
    return optimizer


def try_optimizer(cfg: OptimizerConfig) -> None:
    """Build the optimiser for a small layer, make an update and save its state.

    So a class that cannot do this is a `UserError` before data is read.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        layer = nn.Linear(2, 2)
        optimizer = build_optimizer(cfg, layer)
        try:
            with naming_failures(type(optimizer), torch.optim.Optimizer):
                layer(torch.ones(3, 2)).sum().backward()
                optimizer.step()
                optimizer_tensors(optimizer)
        except UserError as error:
            raise UserError(
                f"optimizer._target_={cfg._target_}: an update fails ({error}); choose another"
            ) from error


def build_trainer(
    cfg: TrainConfig,
    prepared: Prepared,
    model: TranslationModel,
    folder: Path,
    fabric: Fabric,
    progress: Progress,
    search: DecodingConfig = VALIDATION,
    inherited: Sequence[str] = (),
) -> Trainer:
    """A trainer before its first update.

    `search`: of validations; `inherited`: names of parameters with weights of another run.
    """
    objective = Objective(model, cfg.trainer.label_smoothing, cfg.trainer.fused_loss)
    objective.to(fabric.device)
    if cfg.trainer.compile:
        compile_layers(model, fabric.device)
    selecting = find_selecting_metric(cfg)
    paths = {module: name for name, module in objective.named_modules()}
    embedders = paths[model.feature_embedding.features]
    rates: dict[str | tuple[str, ...], float] = {
        f"{embedders}.{name}.encoder.": feature.learning_rate
        for name, feature in cfg.features.items()
        if feature.learning_rate
    }
    if cfg.init.lr and inherited:
        rates[tuple(f"{paths[model]}.{name}" for name in inherited)] = cfg.init.lr
    agreement = Agreement(fabric.world_size, cfg.trainer.wait_minutes)
    return Trainer(
        training_settings(cfg),
        objective,
        build_optimizer(cfg.optimizer, objective, rates),
        partial(plan_epoch, cfg, prepared),
        partial(validate_on_dev, cfg, prepared, objective, fabric, search, selecting),
        Checkpoints(folder / CHECKPOINTS, cfg.trainer.average),
        fabric,
        progress,
        lambda: agreement.agreed(bool(signals.caught)),
    )


def training_settings(cfg: TrainConfig) -> TrainingSettings:
    """The settings that the loop needs."""
    trainer = cfg.trainer
    return TrainingSettings(
        seed=cfg.seed,
        max_steps=trainer.max_steps,
        accumulate=trainer.accumulate,
        batch_tokens=trainer.batch_tokens,
        learning_rate=cfg.optimizer.lr,
        schedule=cfg.optimizer.schedule,
        warmup=cfg.optimizer.warmup,
        clip_norm=trainer.clip_norm,
        validate_every=trainer.validate_every,
        log_every=trainer.log_every,
        patience=trainer.patience,
        max_skipped=trainer.max_skipped,
        resume_exact=trainer.resume_exact,
    )
