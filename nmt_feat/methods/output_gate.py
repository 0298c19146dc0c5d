"""A gate behind the encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nmt_feat.combiners import AdditiveGate
from nmt_feat.methods.base import Method


class OutputGate(Method):
    """`h + g * v`, `g = sigmoid(W [h; v] + c)`: features enter behind the encoder.

    The gated fusion of Wu et al. (2021), for features of words: h is the encoder's output at a
    piece, and v is an image's vector in the paper. Here v is what the combiner makes of the piece's
    features alone, times sqrt(dim), with dropout, as in an embedding layer. So the encoder reads
    only words, and the decoder reads words and features.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `Method`.
        bias: initial value of c; 0 starts with half of v, below 0 nearer to words only.
    """

    merges_with_word = False

    def __init__(
        self, dim: int, sizes: Mapping[str, int], embedding: nn.Module, bias: float = 0.0
    ) -> None:
        super().__init__(dim, sizes, embedding)
        self.gate = AdditiveGate({"output": dim, "features": dim}, dim, bias)

    def change_memory(self, memory: Tensor, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Add the gated features to the encoder's output, `(B, S, dim)`."""
        assert self.embedding is not None
        # Its combiner merges no word, so ids of pieces only give the shape.
        no_pieces = torch.zeros(memory.shape[:2], dtype=torch.int64, device=memory.device)
        merged: Tensor = self.gate([memory, self.embedding(no_pieces, features)])
        return merged
