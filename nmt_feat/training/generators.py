"""The random generators of all processes, as tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning_fabric import Fabric
from torch import Tensor


def gather_generators(fabric: Fabric) -> dict[str, Tensor]:
    """The states of the random generators of all processes, by rank and device.

    Each process must call this.
    """
    generators = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(fabric.device)
    gathered: dict[str, Tensor] = {}
    for name, value in generators.items():
        by_rank = fabric.all_gather(value.to(fabric.device))
        assert isinstance(by_rank, Tensor)
        rows = by_rank.cpu().reshape(fabric.world_size, -1)
        gathered |= {f"generator.{rank}.{name}": row.clone() for rank, row in enumerate(rows)}
    return gathered


def restore_generators(fabric: Fabric, tensors: Mapping[str, Tensor]) -> None:
    """Restore the random generators of this process, if a checkpoint's `tensors` have them."""
    name = f"generator.{fabric.global_rank}"
    if f"{name}.cpu" in tensors:
        torch.set_rng_state(tensors[f"{name}.cpu"])
    if f"{name}.cuda" in tensors and fabric.device.type == "cuda":
        torch.cuda.set_rng_state(tensors[f"{name}.cuda"], fabric.device)
