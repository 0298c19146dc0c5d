"""A combiner of one's own: `python train.py combiner._target_=examples.attention.Attention`."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nmt_feat.combiners import Combiner


class Attention(Combiner):
    """`a + r V b + s V c`, `[r, s] = softmax(Q a . K b, Q a . K c)`: the word attends to features.

    The products are divided by the square root of the width. One feature alone has the weight 1.
    """

    min_parts = 2

    def __init__(self, parts: Mapping[str, int], model_dim: int) -> None:
        super().__init__(parts, model_dim)
        self.query = nn.Linear(model_dim, model_dim, bias=False)
        self.key = nn.Linear(model_dim, model_dim, bias=False)
        self.value = nn.Linear(model_dim, model_dim, bias=False)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts `(batch, time, model_dim)`, the word first, to `(batch, time, model_dim)`."""
        word, *features = parts
        stacked = torch.stack(features, dim=-2)  # (batch, time, features, model_dim)
        scores = (self.key(stacked) * self.query(word).unsqueeze(-2)).sum(dim=-1)
        weights = torch.softmax(scores / self.model_dim**0.5, dim=-1).to(word).unsqueeze(-1)
        merged: Tensor = word + (weights * self.value(stacked)).sum(dim=-2)
        return merged
