"""Side by side, features weighed by their relevance (Chakrabarty et al. 2020)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nmt_feat.combiners.base import make_linear
from nmt_feat.combiners.concats import Concat


class SelfRelevance(Concat):
    """`[a; g * b; h * c]`, `g = sigmoid(W b + d)`: each feature says how relevant it is.

    After "self relevance" of Chakrabarty et al. (2020), whose formula we could not read: a mask by
    a sigmoid layer, then concatenation, as their abstract and later descriptions have it. Widths
    are those of `Concat`. What a feature contributes depends on its value alone. So with trained
    tables, `Concat` has the same functions, but learns them in another way.

    Args:
        parts: see `Combiner`.
        model_dim: see `Combiner`.
        bias: initial value of d; 0 starts with half of each feature.
    """

    min_parts = 2
    sees_word = False
    """Whether the mask is a function of the word, too."""

    def __init__(self, parts: Mapping[str, int], model_dim: int, bias: float = 0.0) -> None:
        super().__init__(parts, model_dim)
        word_width, *widths = self.widths.values()
        extra_width = word_width if self.sees_word else 0
        self.masks = nn.ModuleList(
            make_linear(extra_width + width, width, bias) for width in widths
        )

    def mask_parts(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The word, and the features times their masks. All shapes stay the same."""
        word, *features = parts
        masked_parts = [word]
        for feature, layer in zip(features, self.masks, strict=True):
            inputs = torch.cat([word, feature], dim=-1) if self.sees_word else feature
            masked_parts.append(feature * torch.sigmoid(layer(inputs)).to(feature))
        return masked_parts

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Concatenate the word and the masked features, `(batch, time, model_dim)`."""
        return super().forward(self.mask_parts(parts))

    def contributions_of(self, parts: Sequence[Tensor]) -> Tensor:
        """Each part, masked, in its own columns, zeros elsewhere."""
        return super().contributions_of(self.mask_parts(parts))


class WordRelevance(SelfRelevance):
    """`[a; g * b; h * c]`, `g = sigmoid(W [a; b] + d)`: the word says how relevant a feature is.

    After "word-based relevance" of Chakrabarty et al. (2020); see `SelfRelevance`.
    """

    sees_word = True
