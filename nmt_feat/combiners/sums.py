"""Sums: fixed, with learned scalars, and with scalars that are computed from the parts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nmt_feat.combiners.base import Combiner, make_linear


class Add(Combiner):
    """`a + b + c`; "sum" of Sockeye, OpenNMT-py, Marian and Armengol-Estape et al. (2021)."""

    needs_zero_parts = True

    def start_as_word(self) -> bool:
        """With zero features it is the word."""
        return True

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Sum of the parts, `(batch, time, model_dim)`."""
        return torch.stack(list(parts)).sum(dim=0)

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """The parts themselves."""
        return torch.stack(list(parts), dim=-2)


class Average(Combiner):
    """`(a + b + c) / 3`, Coates & Bollegala (2018); Park & Zhao (2020), "Aver".

    The same functions as `Add`, whose tables it divides by the number of parts: the two differ
    by the scale at the start and by what that makes of the learning rate, and in nothing else.
    """

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Mean of the parts, `(batch, time, model_dim)`."""
        return torch.stack(list(parts)).mean(dim=0)

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """Each part, divided by their number."""
        return torch.stack(list(parts), dim=-2) / len(parts)


class WeightedSum(Combiner):
    """`r * a + s * b + t * c`: one learned scalar per part, at first 1.

    The same functions as `Add` (trained tables take the scalars in) and the same starting point;
    the scalars let a whole table grow or shrink in one step. Of parts that are not trained, such
    as fixed vectors, it learns more than `Add` can.
    """

    needs_zero_parts = True

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(parts, model_dim)
        self.scalars = nn.Parameter(torch.ones(len(parts)))

    def start_as_word(self) -> bool:
        """With zero features it is the word."""
        return True

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Weighted sum of the parts, `(batch, time, model_dim)`."""
        return (torch.stack(list(parts), dim=-1) * self.scalars).sum(dim=-1)

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """Each part times its scalar."""
        return torch.stack(list(parts), dim=-2) * self.scalars[:, None]


class DME(Combiner):
    """`r * A a + s * B b + t * C c`, `[r, s, t] = softmax(v . A a, v . B b, v . C c)`.

    Dynamic meta-embeddings of Kiela et al. (2018), without context: each part is projected to the
    model's width (A, B, C have biases), and one vector v scores every projected part: its weight is
    a scalar, not an element's. (Their code has two linear layers for v: the same functions. A bias
    beside v, which they have, cancels in the softmax and is left out.)

    The word is as wide as the model, the features as they ask.
    """

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(parts, model_dim)
        self.project = nn.ModuleList(
            make_linear(width, model_dim) for width in self.widths.values()
        )
        self.score = nn.Linear(model_dim, 1, bias=False)
        nn.init.xavier_uniform_(self.score.weight)

    def choose_widths(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The word's width is the model's, the features' are as asked."""
        word, *features = parts
        return {word: model_dim, **{name: parts[name] for name in features}}

    def normalize_scores(self, scores: Tensor) -> Tensor:
        """Scores of the parts, `(batch, time, 1, parts)`, to weights."""
        return torch.softmax(scores, dim=-1)

    def weigh_parts(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The projected parts, `(batch, time, model_dim, parts)`, and weights: 1 for the width."""
        projected = [layer(part) for layer, part in zip(self.project, parts, strict=True)]
        scores = torch.stack([self.score(part) for part in projected], dim=-1)
        return torch.stack(projected, dim=-1), self.normalize_scores(scores).to(projected[0])

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Weighted sum of the projected parts, `(batch, time, model_dim)`."""
        projected, weights = self.weigh_parts(parts)
        return (projected * weights).sum(dim=-1)

    def weights_of(self, parts: Sequence[Tensor]) -> Tensor:
        """The weights, `(batch, time, parts, 1)`."""
        return self.weigh_parts(parts)[1].transpose(-1, -2)

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """Each projected part times its weight."""
        projected, weights = self.weigh_parts(parts)
        return (projected * weights).transpose(-1, -2)


class DMESigmoid(DME):
    """`r * A a + s * B b + t * C c`, `r = sigmoid(v . A a + u)`, `s = sigmoid(v . B b + u)` ...

    The gated variant of dynamic meta-embeddings (Kiela et al. 2018): see `DME`. Each weight depends
    on its own part alone, so that of trained tables each of its functions is one of `Add`'s.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        bias: initial value of u; 0 starts near half of each part.
    """

    def __init__(self, parts: Mapping[str, int], model_dim: int, bias: float = 0.0) -> None:
        super().__init__(parts, model_dim)
        self.score = make_linear(model_dim, 1, bias)

    def normalize_scores(self, scores: Tensor) -> Tensor:
        """Scores of the parts, `(batch, time, 1, parts)`, to weights."""
        return torch.sigmoid(scores)
