"""Small models of methods, and settings of runs with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import yaml
from torch import Tensor

from nmt_feat.config.schema import (
    CombinerConfig,
    FeatureConfig,
    MethodConfig,
    ModelConfig,
    TrainConfig,
)
from nmt_feat.model.transformer import Transformer
from nmt_feat.runs.setup.build_model import build_model
from tests.support.small import ROOT, Small

DIM, PIECES = 16, 23
VALUES = {"deprel": 9, "upos": 7}
SHAPE = ModelConfig(dim=DIM, ffn_dim=24, heads=4, encoder_layers=2, decoder_layers=2)
COMBINER = {"output_gate": "concat"}
FEATURES = {"tree_attention": ["heads"], "tree_distance": ["heads"]}
"""What goes with a method; nothing: `combiner=none`."""


def make(method: str | None, combiner: str = "Concat", seed: int = 1) -> Transformer:
    """A small model of two features; without a method one of words only. A dot: a user's class."""
    target = method if not method or "." in method else f"nmt_feat.methods.{method}"
    beyond = MethodConfig(target) if target else MethodConfig()
    features = {name: FeatureConfig(column=name) for name in VALUES} if method else {}
    merging = CombinerConfig(f"nmt_feat.combiners.{combiner}" if combiner and method else None)
    cfg = TrainConfig(features=features, combiner=merging, method=beyond, model=SHAPE, seed=seed)
    return build_model(cfg, VALUES, PIECES, PIECES).eval()


def batch(lengths: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Source ids, features and mask, padded with 0."""
    generator = torch.Generator().manual_seed(5)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    ids = {
        name: torch.randint(1, size, mask.shape, generator=generator) * mask
        for name, size in (VALUES | {"source": PIECES}).items()
    }
    return ids.pop("source"), ids, mask


def settings(
    small: Small, option: str, combiner: str | None = "", **changes: object
) -> TrainConfig:
    """The settings of a run with `method=option`; the combiner is what goes with it, or none."""
    cfg = small.config(f"features=[{','.join(FEATURES.get(option, sorted(VALUES)))}]")
    file = yaml.safe_load((ROOT / "conf" / "method" / f"{option}.yaml").read_text(encoding="utf-8"))
    cfg.method = MethodConfig(**file)
    combiner = COMBINER.get(option) if combiner == "" else combiner
    cfg.combiner = CombinerConfig(f"nmt_feat.combiners.{combiner.title()}" if combiner else None)
    for name, value in changes.items():
        setattr(cfg, name, value)
    return cfg
