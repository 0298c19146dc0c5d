"""The class and the object of the method that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from nmt_feat.config.instantiate import build_object, locate_class
from nmt_feat.config.schema import MethodConfig
from nmt_feat.errors import UserError
from nmt_feat.methods import Method


def locate_method(cfg: MethodConfig) -> type[Method]:
    """The class of the method."""
    cls = locate_class(cfg._target_)
    if not issubclass(cls, Method):
        raise UserError(
            f"method._target_={cfg._target_}: must be derived from nmt_feat.methods.Method"
        )
    return cls


def build_method(
    cfg: MethodConfig, dim: int, sizes: Mapping[str, int], embedding: nn.Module | None = None
) -> Method:
    """The method of the configuration; `sizes`: ids of each feature, special ones included."""
    locate_method(cfg)
    method: Method = build_object(
        cfg._target_, Method, cfg.args, dim=dim, sizes=sizes, embedding=embedding
    )
    return method
