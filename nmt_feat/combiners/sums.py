"""Sums of the parts: plain, with learned weights, and with weights computed from the parts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nmt_feat.combiners.base import Combiner, make_linear


class Add(Combiner):
    """`a + b + c`; "sum" of Sockeye, OpenNMT-py, Marian and Armengol-Estape et al. (2021)."""

    needs_zero_parts = True

    def start_as_word(self) -> bool:
        """With zero features the result is the word."""
        return True

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Sum of the parts, `(batch, time, model_dim)`."""
        return torch.stack(list(parts)).sum(dim=0)

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """The parts themselves."""
        return torch.stack(list(parts), dim=-2)


class Average(Combiner):
    """`(a + b + c) / 3`, Coates & Bollegala (2018); Park & Zhao (2020), "Aver".

    The same functions as `Add`, with tables divided by the number of parts. The two differ only in
    the scale at the start, and so in the effect of the learning rate.
    """

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Mean of the parts, `(batch, time, model_dim)`."""
        return torch.stack(list(parts)).mean(dim=0)

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """Each part, divided by their number."""
        return torch.stack(list(parts), dim=-2) / len(parts)


class WeightedSum(Combiner):
    """`r * a + s * b + t * c`: one learned scalar per part, at first 1.

    With trained tables, the same functions and the same starting point as `Add`; but a scalar lets
    a whole table grow or shrink in one step. If a part is not trained, such as fixed vectors, `Add`
    has fewer functions.
    """

    needs_zero_parts = True

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(parts, model_dim)
        self.scalars = nn.Parameter(torch.ones(len(parts)))

    def start_as_word(self) -> bool:
        """With zero features the result is the word."""
        return True

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Weighted sum of the parts, `(batch, time, model_dim)`."""
        return (torch.stack(list(parts), dim=-1) * self.scalars).sum(dim=-1)

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """Each part times its scalar."""
        return torch.stack(list(parts), dim=-2) * self.scalars[:, None]


class DME(Combiner):
    """`r * A a + s * B b + t * C c`, `[r, s, t] = softmax(v . A a, v . B b, v . C c)`.

    Dynamic meta-embeddings of Kiela et al. (2018), without context. Each part is projected to the
    model's width (A, B, C have biases). One vector v scores every projected part, so a part has one
    weight for all its elements. (Their code has two linear layers in place of v: the same
    functions. Their bias beside v cancels in the softmax and is left out.)

    The word is as wide as the model, each feature as wide as it asks.
    """

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(parts, model_dim)
        self.project = nn.ModuleList(
            make_linear(width, model_dim) for width in self.widths.values()
        )
        self.score = nn.Linear(model_dim, 1, bias=False)
        nn.init.xavier_uniform_(self.score.weight)

    def choose_widths(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The model's width for the word, and the features' preferred widths."""
        word = next(iter(parts))
        return {**parts, word: model_dim}

    def normalize_scores(self, scores: Tensor) -> Tensor:
        """Turn scores `(batch, time, 1, parts)` into weights of the same shape."""
        return torch.softmax(scores, dim=-1)

    def weigh_parts(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Projected parts `(batch, time, model_dim, parts)`; weights `(batch, time, 1, parts)`."""
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

    The gated variant of dynamic meta-embeddings (Kiela et al. 2018): see `DME`. The weight of a
    part depends on this part alone. So with trained tables, `Add` has all of its functions.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        bias: initial value of u; 0 starts near half of each part.
    """

    def __init__(self, parts: Mapping[str, int], model_dim: int, bias: float = 0.0) -> None:
        super().__init__(parts, model_dim)
        self.score = make_linear(model_dim, 1, bias)

    def normalize_scores(self, scores: Tensor) -> Tensor:
        """Turn scores `(batch, time, 1, parts)` into weights of the same shape."""
        return torch.sigmoid(scores)
