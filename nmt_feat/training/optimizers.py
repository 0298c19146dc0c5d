"""Groups of an optimiser's parameters, and its state as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

HIGHEST = "highest"
"""The key of a separate highest learning rate in an optimiser's group of parameters."""

Rates = Mapping[str | tuple[str, ...], float]
"""Highest learning rates, by the prefix or the prefixes of parameters' names."""


def group_parameters(module: nn.Module, rates: Rates) -> list[dict[str, Any]]:
    """Divide the parameters into groups for an optimiser.

    Args:
        module: has the parameters.
        rates: separate highest learning rates for some parameters.
    """
    groups: dict[str | tuple[str, ...], list[nn.Parameter]] = {"": []}
    for name, parameter in module.named_parameters():
        prefix = next((p for p in rates if name.startswith(p)), "")
        groups.setdefault(prefix, []).append(parameter)
    return [
        {"params": parameters} | ({HIGHEST: rates[prefix]} if prefix else {})
        for prefix, parameters in groups.items()
    ]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
