"""All combiners by name: the shipped ones, as `conf/combiner` has them, and the examples."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from omegaconf import OmegaConf

from examples.attention import Attention
from examples.film import FiLM
from examples.product import Product
from nmt_feat.combiners import Combiner, NoFeatures
from nmt_feat.config.instantiate import locate_class
from tests.support.small import ROOT


class Method(Protocol):
    """What a combiner's class is called with."""

    def __call__(self, parts: Mapping[str, int], model_dim: int) -> Combiner: ...


def _shipped() -> dict[str, Method]:
    results: dict[str, Method] = {}
    for path in sorted((ROOT / "conf" / "combiner").glob("*.yaml")):
        settings = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(settings, dict)
        target = settings.pop("_target_")
        cls = locate_class(target) if target else NoFeatures
        results[path.stem] = partial(cls, **settings.pop("args", {})) if settings else cls
    return results


SHIPPED = _shipped()
"""By the name that `combiner=` has."""
METHODS = {name: method for name, method in SHIPPED.items() if name != "none"}
"""Those that combine."""
EXAMPLES: dict[str, Method] = {"attention": Attention, "film": FiLM, "product": Product}
ALL = METHODS | EXAMPLES
ADDITIVE = (
    "add",
    "average",
    "concat",
    "concat_project",
    "dme_sigmoid",
    "self_relevance",
    "weighted_sum",
)
"""Where a feature adds the same to every word."""
