"""Features that are vectors of a language model's encoder, another one wherever a token stands."""

import torch
from torch import Tensor, nn

from nmt_feat.corpus.columns import FIRST
from nmt_feat.features.categorical import table


class Contextual(nn.Module):
    """`P h / s + p` for the state h of a layer of an encoder that is not trained.

    Yang et al. (2020) take the second layer from the last. s, `scale`, is the root mean square of
    the numbers of all h in train, and P starts N(0, std) divided by the square root of `width`, so
    that the result has the scale of other tables. Unknown tokens and the end symbol have trained
    embeddings of their own.

    Args:
        size: rows of a vocabulary, which vectors have not.
        dim: width of the result.
        std: scale at the start.
        width: of the encoder.
    """

    context = True
    """Reads vectors, not ids."""

    def __init__(self, size: int, dim: int, std: float, width: int) -> None:
        super().__init__()
        self.scale = 1.0
        self.special = table(FIRST, dim, std)
        self.projection = nn.Linear(width, dim)
        nn.init.normal_(self.projection.weight, std=std * width**-0.5)
        nn.init.zeros_(self.projection.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """`(R, width)` to `(R, dim)`; the first `FIRST` rows are those of PAD, UNK and END."""
        x = self.projection(vectors[FIRST:] / self.scale)
        special = self.special(torch.arange(FIRST, device=x.device))
        return torch.cat([special.to(x.dtype), x])
