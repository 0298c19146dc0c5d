"""A combiner of one's own: `python train.py combiner._target_=examples.film.FiLM`."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nmt_feat.combiners import Combiner


class FiLM(Combiner):
    """`(1 + s) * a + t`, `[s; t] = W [b; c] + d`: the features scale and shift the word."""

    def __init__(self, parts: Mapping[str, int], model_dim: int, start: float = 0.1) -> None:
        super().__init__(parts, model_dim)
        word, *features = self.widths.values()
        self.modulation = nn.Linear(sum(features), 2 * word)
        nn.init.normal_(self.modulation.weight, std=start)

    def choose_widths(self, parts: Mapping[str, int], model_dim: int) -> dict[str, int]:
        """The word is as wide as the model, the features are as they ask."""
        word, *features = parts
        return {word: model_dim, **{name: parts[name] for name in features}}

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts `(batch, time, width)`, the word first, to `(batch, time, model_dim)`."""
        word, *features = parts
        modulation: Tensor = self.modulation(torch.cat(features, dim=-1))
        scale, shift = modulation.chunk(2, dim=-1)
        return (1 + scale) * word + shift
