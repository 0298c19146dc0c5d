"""Ways to merge a word's embedding with those of its features, side by side.

A combiner is told the names of the parts (the word first), the width that each would like, and
the width of the model. It decides `widths`, what each part gets, and maps the parts, tensors
`(batch, time, widths[i])`, to one `(batch, time, model_dim)`. It is position-wise and sees
neither ids nor masks, so it works on any tensors:

    gate = Gate({"word": 512, "pos": 512}, model_dim=512)
    merged = gate([words, tags])
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nmt_feat.errors import UserError


class Combiner(nn.Module):
    """Base of all methods, and of a user's own: override `forward`, and `decide` if need be.

    Args:
        parts: name and preferred width of each part, the word first.
        model_dim: width of the model, and of the result.
    """

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__()
        if not parts:
            raise UserError("a combiner needs at least one part, the word's embedding")
        self.names = tuple(parts)
        self.model_dim = model_dim
        self.widths = self.decide(parts, model_dim)

    def decide(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The width of each part; unless overridden, all parts are as wide as the model."""
        return dict.fromkeys(parts, model_dim)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Merge tensors `(batch, time, width_i)` into `(batch, time, model_dim)`."""
        raise NotImplementedError


class NoFeatures(Combiner):
    """Words only: the baseline that the methods are measured against."""

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(dict(list(parts.items())[:1]), model_dim)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the word's embedding, `(batch, time, model_dim)`."""
        return parts[0]


class Concat(Combiner):
    """`[a; b; c]`, Sennrich & Haddow (2016), equation 2; Park & Zhao (2020), "Concat".

    The features keep the widths they ask for and the word gets what they leave of the model's
    (512 = 500 + 12), so neither the model's width nor, much, its size grows.
    """

    def decide(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """Widths of the features as asked; the word's is the remainder."""
        (word, _), *features = parts.items()
        rest = model_dim - sum(width for _, width in features)
        if rest < 1:
            asked = " + ".join(f"{name} {width}" for name, width in features)
            raise UserError(
                f"concat leaves the {word} {rest} of the model's width {model_dim}: {asked} = "
                f"{model_dim - rest}; make features.<name>.dim smaller or model.dim larger"
            )
        return {word: rest, **dict(features)}

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Concatenate along the last axis, `(batch, time, model_dim)`."""
        return torch.cat(list(parts), dim=-1)


class Add(Combiner):
    """`a + b + c`; "sum" of Sockeye, OpenNMT-py, Marian and Armengol-Estape et al. (2020)."""

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Sum of the parts, `(batch, time, model_dim)`."""
        return torch.stack(list(parts)).sum(dim=0)


class Average(Combiner):
    """`(a + b + c) / 3`, Coates & Bollegala (2018); Park & Zhao (2020), "Aver".

    The same functions as `Add`, whose tables it divides by the number of parts: the two differ
    by the scale at the start and by what that makes of the learning rate, and in nothing else.
    """

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Mean of the parts, `(batch, time, model_dim)`."""
        return torch.stack(list(parts)).mean(dim=0)


class Gate(Combiner):
    """`g * a + (1 - g) * b` with `g = sigmoid(W [a; b] + c)`, element by element.

    The gate of the tutorial "4 methods to combine embeddings"; the same functions as the dynamic
    switch of Yang et al. (2020), equations 6 and 7. For n parts, weights per element that sum to
    1 as in Park & Zhao (2020), who do not print how theirs are computed: a softmax over the parts
    whose logits are linear in all parts, the last part's fixed at 0. For two parts that is exactly
    the sigmoid, with the same parameters.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        bias: initial value of c; 0 starts near the average, above 0 nearer to the first parts.
    """

    def __init__(self, parts: Mapping[str, int], model_dim: int, bias: float = 0.0) -> None:
        super().__init__(parts, model_dim)
        count = len(parts)
        if count < 2:
            raise UserError("gate needs a feature beside the word; for words only: combiner=none")
        self.logits = nn.Linear(count * model_dim, (count - 1) * model_dim)
        nn.init.xavier_uniform_(self.logits.weight)
        nn.init.constant_(self.logits.bias, bias)

    def weights(self, parts: Sequence[Tensor]) -> Tensor:
        """The gates, `(batch, time, parts, model_dim)`; they sum to 1 over the parts."""
        logits = self.logits(torch.cat(list(parts), dim=-1))
        logits = logits.unflatten(-1, (len(parts) - 1, self.model_dim))
        fixed = torch.zeros_like(logits[..., :1, :])
        return torch.softmax(torch.cat([logits, fixed], dim=-2), dim=-2)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Gated sum of the parts, `(batch, time, model_dim)`."""
        if len(parts) == 2:  # a sigmoid is half the work of a softmax over two
            a, b = parts
            return torch.lerp(b, a, torch.sigmoid(self.logits(torch.cat([a, b], dim=-1))).to(a))
        return (self.weights(parts) * torch.stack(list(parts), dim=-2)).sum(dim=-2)
