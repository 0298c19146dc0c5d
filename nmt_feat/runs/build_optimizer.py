"""The optimiser of the settings, which is tried before data is read."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from nmt_feat.config.instantiate import build_object, locate_class, naming_failures
from nmt_feat.config.schema import OptimizerConfig
from nmt_feat.errors import UserError
from nmt_feat.training.optimizers import Rates, group_parameters, optimizer_tensors


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
