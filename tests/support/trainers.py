"""A trainer before its first update."""

from __future__ import annotations

from rich.console import Console
from torch import Tensor

from nmt_feat.data.prepare import prepare
from nmt_feat.runs.artifacts import model_for
from nmt_feat.runs.processes import make_fabric
from nmt_feat.runs.progress import Progress
from nmt_feat.runs.resolve import resolve_settings
from nmt_feat.training.loop import Trainer
from tests.support.small import Small


def trainer(small: Small, *settings: str) -> Trainer:
    """A trainer before its first update; no dropout unless asked for."""
    cfg = small.config(*settings)
    if not any(s.startswith("model.dropout") for s in settings):
        cfg.model.dropout = cfg.model.activation_dropout = 0.0
    cfg = resolve_settings(cfg, False, Console())
    prepared = prepare(cfg, cfg.features)
    fabric = make_fabric(cfg)
    fabric.launch()
    return Trainer(
        cfg,
        prepared,
        model_for(cfg, prepared.encoder, prepared.target),
        small.folder,
        fabric,
        Progress(Console(), False),
    )


def parameters(made: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in made.model.named_parameters()}
