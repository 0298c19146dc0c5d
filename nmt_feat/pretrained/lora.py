"""LoRA in a pretrained model (Hu et al. 2022, https://arxiv.org/abs/2106.09685), by `peft`.

layer(x) = W x + c              W, c: from the folder, not trained
         + alpha / rank B A x    A, B: trained; B is zero at the start, so nothing changes
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from nmt_feat.config.schema import LoraConfig
from nmt_feat.errors import UserError, suggest
from nmt_feat.extras import import_optional

MATRICES, BASE = ".lora_", ".base_layer."
"""Parts of the names of parameters: of A and B; and of W and c in layers that have A and B."""


def peft() -> Any:
    """Import the package, which belongs to an extra."""
    return import_optional("peft", "init.lora.rank", "transformers")


def choose_layers(network: nn.Module, entries: Iterable[str]) -> list[str]:
    """The paths of the linear layers of encoder and decoder that the entries select.

    An entry is a part of a path: one name or several, such as `q_proj` or `encoder.layers.0`.
    """
    paths = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    paths = [path for path in paths if {"encoder", "decoder"} & set(path.split("."))]
    chosen = set()
    for entry in entries:
        inside = [path for path in paths if f".{entry}." in f".{path}."]
        if not inside:
            names = {name for path in paths for name in path.split(".") if not name.isdecimal()}
            raise UserError(
                f"init.lora.modules=[{entry}]: no layer of the model; {suggest(entry, names)}"
            )
        chosen.update(inside)
    return sorted(chosen)


def add_matrices(network: nn.Module, settings: LoraConfig) -> None:
    """Add A and B to the layers that the settings name."""
    package = peft()
    config = package.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=choose_layers(network, settings.modules),
    )
    package.inject_adapter_in_model(config, network)
