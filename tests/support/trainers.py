"""A trainer before its first update."""

from __future__ import annotations

from typing import cast

from rich.console import Console
from torch import Tensor

from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.runs.processes import make_fabric
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.setup.artifacts import build_run_model
from nmt_feat.runs.setup.build_trainer import build_trainer
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.training.loop import Trainer
from tests.support.small import Small


class PreparedTrainer(Trainer):
    """A trainer, as it is typed here, with what it was built from."""

    prepared: Prepared
    names: list[str]


def trainer(small: Small, *settings: str) -> PreparedTrainer:
    """A trainer before its first update; no dropout unless asked for."""
    cfg = small.config(*settings)
    if not any(s.startswith("model.dropout") for s in settings):
        cfg.model.dropout = cfg.model.activation_dropout = 0.0
    cfg = resolve_settings(cfg, False, Console())
    prepared = prepare(cfg, cfg.features)
    fabric = make_fabric(cfg)
    fabric.launch()
    small_trainer = build_trainer(
        cfg,
        prepared,
        build_run_model(cfg, prepared.encoder, prepared.target),
        small.folder,
        fabric,
        Progress(Console(), False),
    )
    small_trainer = cast(PreparedTrainer, small_trainer)
    small_trainer.prepared, small_trainer.names = prepared, list(cfg.features)
    return small_trainer


def parameters(made: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in made.model.named_parameters()}


def losses_and_gradients(of: Trainer, count: int = 3) -> list[list[Tensor]]:
    """For each of the next batches, the loss and then the gradients of all parameters."""
    of.model.train()
    results = []
    for _ in range(count):
        batch = of.draw_batch().collate().to(of.fabric.device)
        loss, _ = of.objective(*batch.objective_inputs)
        of.objective.zero_grad()
        of.fabric.backward(loss / batch.tokens)
        gradients = [p.grad for p in of.model.parameters() if p.grad is not None]
        results.append([loss.detach(), *(g.detach().clone() for g in gradients)])
    return results
