"""Concatenation: each feature keeps its width."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmt_feat.base.names import to_snake_case
from nmt_feat.combiners.base import Combiner, CombinerError, make_linear


class Concat(Combiner):
    """`[a; b; c]`, Sennrich & Haddow (2016), equation 2; Park & Zhao (2020), "Concat".

    Each feature gets the width that it asks for, and the word gets the rest of the model's width
    (512 = 500 + 12). So the model's width stays the same, and its size changes little. `Concat` is
    `Add` with tables that are zero outside of each part's own columns (Coates & Bollegala 2018).
    """

    def choose_widths(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The features' preferred widths, and the rest of the model's width for the word."""
        (word, _), *features = parts.items()
        rest = model_dim - sum(width for _, width in features)
        if rest < 1:
            feature_widths = " + ".join(f"{feature} {width}" for feature, width in features)
            raise CombinerError(
                f"{to_snake_case(type(self).__name__)} leaves the {word} {rest} of the model's "
                f"width {model_dim}: {feature_widths} = {model_dim - rest}; "
                "make features.<name>.dim smaller or model.dim larger"
            )
        return {word: rest, **dict(features)}

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Concatenate along the last axis, `(batch, time, model_dim)`."""
        return torch.cat(list(parts), dim=-1)

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """Each part in its own columns, zeros elsewhere."""
        padded, before = [], 0
        for part in parts:
            after = self.model_dim - before - part.shape[-1]
            padded.append(F.pad(part, (before, after)))
            before += part.shape[-1]
        return torch.stack(padded, dim=-2)


class ConcatProject(Combiner):
    """`W [a; b; c] + d`: concatenation, then a projection to the model's width.

    The word is as wide as the model, each feature as wide as it asks. Since `W [a; b] = V a + U b`,
    `Add` has all functions that this combiner has: its tables hold the products with W. This one
    has all of `Add`'s where a feature is as wide as it has values (or as the model). The two differ
    in the rank of the features' tables and in the starting point, and here features share W.
    """

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(parts, model_dim)
        self.project = make_linear(sum(self.widths.values()), model_dim)

    def choose_widths(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The model's width for the word, and the features' preferred widths."""
        word = next(iter(parts))
        return {**parts, word: model_dim}

    @torch.no_grad()
    def start_as_word(self) -> bool:
        """W is the identity for the word, and zero for the features."""
        nn.init.eye_(self.project.weight)  # the word's columns are the first
        self.project.bias.zero_()
        return True

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Project the concatenation, `(batch, time, model_dim)`."""
        projected: Tensor = self.project(torch.cat(list(parts), dim=-1))
        return projected

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor | None:
        """Each part times its columns of W; d belongs to no part."""
        added, before = [], 0
        for part in parts:
            columns = self.project.weight.narrow(1, before, part.shape[-1])
            added.append(part @ columns.T)
            before += part.shape[-1]
        return torch.stack(added, dim=-2)


class MLP(ConcatProject):
    """`relu(W [a; b; c] + d)`, OpenNMT-py's `-feat_merge mlp`.

    It has one layer, as there. So no element of the result is negative.
    """

    def start_as_word(self) -> bool:
        """Impossible: the result has no negative elements, a word's embedding has."""
        return False

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """The layer's output, at least 0, `(batch, time, model_dim)`."""
        return torch.relu(super().forward(parts))

    def contributions_of(self, parts: Sequence[Tensor]) -> None:
        """None: what one part adds depends on the others."""
