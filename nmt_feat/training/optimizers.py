"""Groups of an optimiser's parameters, and its state as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

HIGHEST = "highest"
"""The key, in a group of an optimiser, of a learning rate of its own, before the schedule."""


Rates = Mapping[str | tuple[str, ...], float]
"""The highest learning rates of parameters whose names begin so, or with one of several."""


def group_parameters(module: nn.Module, rates: Rates) -> list[dict[str, Any]]:
    """The parameters in groups, as an optimiser takes them.

    Args:
        module: has the parameters.
        rates: the highest learning rates of parameters whose names begin so.
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
    """Inverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
