"""Groups of an optimiser's parameters, and its state as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

HIGHEST = "highest"
"""The key of a separate highest learning rate in an optimiser's group of parameters."""
SETTINGS = "params", "lr", HIGHEST
"""Keys of a group that are no state: the loop sets the learning rate before each update."""

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
    """The optimiser's state as named tensors.

    Some optimisers, such as Prodigy, also count in their groups of parameters. So numbers there
    that are not the optimiser's defaults belong to the state. PyTorch's own have none.
    """
    state = optimizer.state_dict()["state"]
    tensors = {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }
    for index, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if name in SETTINGS or value is optimizer.defaults.get(name):
                continue
            if isinstance(value, Tensor):
                tensors[f"group.{index}.tensor.{name}"] = value
            elif isinstance(value, (bool, int, float)) and value != optimizer.defaults.get(name):
                dtype = torch.float64 if isinstance(value, float) else None
                tensors[f"group.{index}.number.{name}"] = torch.tensor(value, dtype=dtype)
    return tensors


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for key, tensor in tensors.items():
        if key.startswith("group."):
            _, index, kind, name = key.split(".", 3)
            value = tensor.item() if kind == "number" else tensor.clone()
            optimizer.param_groups[int(index)][name] = value
