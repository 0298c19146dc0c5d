"""What all combiners share, and the one that combines nothing."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nmt_feat.errors import UserError


def method(class_name: str) -> str:
    """The name of a method in settings and tables: `WordGate` is word_gate, `DME` is dme."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()


def linear(inputs: int, outputs: int, bias: float = 0.0) -> nn.Linear:
    """A linear layer that starts with Glorot's weights and with `bias` in each output."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


class Combiner(nn.Module):
    """Base of all methods, and of a user's own: override `forward`, and `decide` if need be.

    Positions of a batch that are alike may be merged once, so what is random in one's own method,
    such as dropout, is the same for them.

    Args:
        parts: name and preferred width of each part, the word (if there is one) first.
        model_dim: width of the model, and of the result.
    """

    least = 1
    """The number of parts below which the method has nothing to do."""

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__()
        if not parts:
            raise UserError("a combiner needs at least one part, such as the word's embedding")
        if len(parts) < self.least:
            name = method(type(self).__name__)
            raise UserError(
                f"{name} needs {self.least} parts, here: {', '.join(parts)}; choose more features "
                "or another combiner, for words only combiner=none"
            )
        self.names = tuple(parts)
        self.model_dim = model_dim
        decided = self.decide(parts, model_dim)
        # In the order of the parts, whatever order one's own `decide` has.
        self.widths = {name: decided[name] for name in (*parts, *decided) if name in decided}

    def decide(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The width of each part; unless overridden, all parts are as wide as the model."""
        return dict.fromkeys(parts, model_dim)

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """`forward`, after a look at the shapes; other than `widths` says is a `UserError`."""
        shapes = [tuple(part.shape) for part in parts]
        if [shape[-1:] for shape in shapes] != [(width,) for width in self.widths.values()] or any(
            shape[:-1] != shapes[0][:-1] for shape in shapes
        ):
            wanted = ", ".join(f"{name} (..., {width})" for name, width in self.widths.items())
            got = ", ".join(map(str, shapes)) or "nothing"
            raise UserError(
                f"{type(self).__name__} merges {wanted}, alike but for the last axis; got {got}"
            )
        merged: Tensor = super().__call__(parts)
        return merged

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Merge tensors `(batch, time, width_i)` into `(batch, time, model_dim)`."""
        raise NotImplementedError

    def weights_of(self, parts: Sequence[Tensor]) -> Tensor | None:
        """A gate's values: what each part is multiplied by, in any shape that broadcasts.

        `(batch, time, parts, model_dim or 1)`; none where the method has no gate. For reports only.
        """
        return None

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor | None:
        """What each part adds to the result, `(batch, time, parts, model_dim)`; for reports only.

        Their sum is the result but for a bias; none where the result is no such sum.
        """
        weights = self.weights_of(parts)
        return None if weights is None else weights * torch.stack(list(parts), dim=-2)


class NoFeatures(Combiner):
    """`a`: words only, the baseline that the methods are measured against."""

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(dict(list(parts.items())[:1]), model_dim)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the word's embedding, `(batch, time, model_dim)`."""
        return parts[0]
