"""A combiner of one's own: `python train.py combiner._target_=examples.scaled_add.ScaledAdd`."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nmt_feat.combiners import Combiner


class ScaledAdd(Combiner):
    """`a + s * (b + c)`: the features enter at a scale that is learned, one number per element."""

    def __init__(self, parts: Mapping[str, int], model_dim: int, start: float = 0.1) -> None:
        super().__init__(parts, model_dim)
        self.scale = torch.nn.Parameter(torch.full((model_dim,), start))

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts `(batch, time, model_dim)`, the word first, to `(batch, time, model_dim)`."""
        word, *features = parts
        return word + self.scale * torch.stack(features).sum(dim=0)
