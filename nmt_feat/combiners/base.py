"""What all combiners share, and the one that combines nothing."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmt_feat.base.names import to_snake_case

EARLIER_NAMES = {"least": "min_parts", "decide": "choose_widths"}
"""Names of release 0.1, under which a user's class may still define these members."""


class CombinerError(ValueError):
    """A combiner cannot be built, or cannot merge the tensors it gets. The message says why."""


def make_linear(inputs: int, outputs: int, bias: float = 0.0) -> nn.Linear:
    """A linear layer: weights drawn as by Glorot & Bengio (2010), each output's bias `bias`."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer


class Combiner(nn.Module):
    """Base class of combiners. Override `forward`, and `choose_widths` where widths differ.

    The model merges equal positions of a batch once and copies the result. So a combiner that draws
    random numbers, such as one with dropout, gives equal positions the same numbers.

    Args:
        parts: name and preferred width of each part, the word (if there is one) first.
        model_dim: width of the model, and of the result.

    Raises:
        CombinerError: if there are too few parts, or if the widths are impossible.
    """

    Error = CombinerError
    """The exception for a wrong setting. Its message is a sentence for the user."""
    min_parts = 1
    """The smallest number of parts that the combiner can merge."""
    needs_zero_parts = False
    """Whether `start_as_word` works only while all parts but the word are zero."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Accept the names of release 0.1 in a user's class, with a warning."""
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
            elif today in cls.__dict__:  # a class derived from `cls` may call `super().decide(...)`
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
        widths = self.choose_widths(parts, model_dim)
        # In the order of the parts, whatever order a user's `choose_widths` returns.
        self.widths = {name: widths[name] for name in (*parts, *widths) if name in widths}

    def choose_widths(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The width of each part; unless overridden, all parts are as wide as the model."""
        return dict.fromkeys(parts, model_dim)

    least, decide = min_parts, choose_widths  # names of release 0.1

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """Check the parts' shapes, then `forward`.

        Raises:
            CombinerError: if the shapes do not fit `widths`.
        """
        shapes = [tuple(part.shape) for part in parts]
        widths_fit = [shape[-1:] for shape in shapes] == [(w,) for w in self.widths.values()]
        positions_agree = all(shape[:-1] == shapes[0][:-1] for shape in shapes)
        if not (widths_fit and positions_agree):
            expected = ", ".join(f"{name} (..., {width})" for name, width in self.widths.items())
            actual = ", ".join(map(str, shapes)) or "nothing"
            raise CombinerError(
                f"{type(self).__name__} merges {expected}, equal in all axes but the last; "
                f"got {actual}"
            )
        merged: Tensor = super().__call__(parts)
        return merged

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Merge tensors `(batch, time, width_i)` into `(batch, time, model_dim)`."""
        raise NotImplementedError

    def start_as_word(self) -> bool:
        """Change the weights so that the result is the word, which is as wide as the model.

        Then a pretrained model with features begins with the same translations as without them.

        Returns:
            Whether the combiner can do that.
        """
        return False

    def weights_of(self, parts: Sequence[Tensor]) -> Tensor | None:
        """The factor of each part, for reports only. None if the combiner has no gate.

        Its shape broadcasts to `(batch, time, parts, model_dim)`.
        """
        return None

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor | None:
        """What each part adds to the result, `(batch, time, parts, model_dim)`, for reports only.

        Their sum is the result without its bias. None if the result is not such a sum.
        """
        weights = self.weights_of(parts)
        return None if weights is None else weights * torch.stack(list(parts), dim=-2)


class NoFeatures(Combiner):
    """`a`: words only, the baseline of all comparisons."""

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(dict(list(parts.items())[:1]), model_dim)

    def start_as_word(self) -> bool:
        """The result always is the word."""
        return True

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the word's embedding, `(batch, time, model_dim)`."""
        return parts[0]
