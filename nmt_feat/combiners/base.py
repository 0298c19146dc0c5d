"""What all combiners share, and the one that combines nothing."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmt_feat.base.names import to_snake_case

EARLIER_NAMES = {"least": "min_parts", "decide": "choose_widths"}
"""Members that a user's class may still define under their names of release 0.1."""


class CombinerError(ValueError):
    """A combiner cannot be built, or cannot merge these tensors. The message says why."""


def make_linear(inputs: int, outputs: int, bias: float = 0.0) -> nn.Linear:
    """A linear layer that starts with Glorot's weights and with `bias` in each output."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


class Combiner(nn.Module):
    """Base of all combiners, and of a user's: override `forward`, and `choose_widths` if need be.

    The model merges equal positions of a batch once and copies the result. So a combiner that draws
    random numbers, such as one with dropout, gives equal positions the same numbers.

    Args:
        parts: name and preferred width of each part, the word (if there is one) first.
        model_dim: width of the model, and of the result.

    Raises:
        CombinerError: for too few parts, or for widths that the combiner cannot have.
    """

    Error = CombinerError
    """What a wrong setting raises. Its message is a sentence for the user."""
    min_parts = 1
    """The number of parts that the combiner needs to do anything."""
    needs_zero_parts = False
    """Whether the other parts must be zero, for the word alone to result after `start_as_word`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let a user's class keep the names of release 0.1, with a warning."""
        super().__init_subclass__(**kwargs)
        for earlier, today in EARLIER_NAMES.items():
            if earlier in cls.__dict__ and today not in cls.__dict__:
                warnings.warn(
                    f"{cls.__qualname__}.{earlier} is now called {today}; release 0.3 no longer "
                    f"reads {earlier}",
                    DeprecationWarning,
                    stacklevel=2,
                )
                setattr(cls, today, cls.__dict__[earlier])
            elif today in cls.__dict__:  # for `super().decide(...)` in a class derived from this
                setattr(cls, earlier, cls.__dict__[today])

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__()
        if not parts:
            raise CombinerError("a combiner needs at least one part, such as the word's embedding")
        if len(parts) < self.min_parts:
            name = to_snake_case(type(self).__name__)
            raise CombinerError(
                f"{name} needs {self.min_parts} parts, here: {', '.join(parts)}; choose more "
                "features or another combiner, for words only combiner=none"
            )
        self.names = tuple(parts)
        self.model_dim = model_dim
        chosen = self.choose_widths(parts, model_dim)
        # In the order of the parts, whatever the order of a user's `choose_widths`.
        self.widths = {name: chosen[name] for name in (*parts, *chosen) if name in chosen}

    def choose_widths(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The width of each part; unless overridden, all parts are as wide as the model."""
        return dict.fromkeys(parts, model_dim)

    least, decide = min_parts, choose_widths

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """`forward`, after a check of the shapes: others than `widths` raise `CombinerError`."""
        shapes = [tuple(part.shape) for part in parts]
        if [shape[-1:] for shape in shapes] != [(width,) for width in self.widths.values()] or any(
            shape[:-1] != shapes[0][:-1] for shape in shapes
        ):
            expected = ", ".join(f"{name} (..., {width})" for name, width in self.widths.items())
            actual = ", ".join(map(str, shapes)) or "nothing"
            raise CombinerError(
                f"{type(self).__name__} merges {expected}, alike but for the last axis; "
                f"got {actual}"
            )
        merged: Tensor = super().__call__(parts)
        return merged

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Merge tensors `(batch, time, width_i)` into `(batch, time, model_dim)`."""
        raise NotImplementedError

    def start_as_word(self) -> bool:
        """Change the weights so that the result is the first part, as wide as the model.

        Returns:
            Whether the combiner can; if so, a pretrained model starts as it is.
        """
        return False

    def weights_of(self, parts: Sequence[Tensor]) -> Tensor | None:
        """A gate's values: what each part is multiplied by, in any shape that broadcasts.

        `(batch, time, parts, model_dim or 1)`; none where there is no gate. For reports only.
        """
        return None

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor | None:
        """What each part adds to the result, `(batch, time, parts, model_dim)`; for reports only.

        Their sum is the result but for a bias; none where the result is no such sum.
        """
        weights = self.weights_of(parts)
        return None if weights is None else weights * torch.stack(list(parts), dim=-2)


class NoFeatures(Combiner):
    """`a`: words only, the baseline that the others are measured against."""

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(dict(list(parts.items())[:1]), model_dim)

    def start_as_word(self) -> bool:
        """It always is the word."""
        return True

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the word's embedding, `(batch, time, model_dim)`."""
        return parts[0]
