"""An encoder for each feature."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nmt_feat.combiners import Add, Combiner, ConcatProject
from nmt_feat.methods.base import Method


class EncodersConcat(Method):
    """`W [h; e_1; ...; e_k] + c`: h comes from the words' encoder, e_i from that of feature i.

    The factored Transformer with several encoders of Armengol-Estapé et al. (2021). Each feature
    has its own encoder, as large as the words', over an embedding as wide as the model. All
    encoders read the same positions, and none reads the others. At each piece their outputs are
    concatenated and projected to the model's width, which the decoder expects.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: from features `(B, S)` and the mask `(B, S)` to the outputs e_i `(B, S, dim)`.
    """

    uses_combiner = False
    has_encoders = True
    merge: type[Combiner] = ConcatProject
    """The combiner that makes one output of all."""

    def __init__(self, dim: int, sizes: Mapping[str, int], embedding: nn.Module) -> None:
        super().__init__(dim, sizes, embedding)
        self.merged = self.merge(dict.fromkeys(["output", *sizes], dim), dim)

    def change_memory(self, memory: Tensor, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """The outputs of all encoders as one, `(B, S, dim)`."""
        assert self.embedding is not None
        merged: Tensor = self.merged([memory, *self.embedding(features, mask)])
        return merged


class EncodersSum(EncodersConcat):
    """`h + e_1 + ... + e_k`: as `EncodersConcat`, but the outputs are added."""

    merge = Add


class EncodersSerial(Method):
    """`x + A_0(x)`, then `x + A_1(x)` ...: the decoder attends to each encoder in turn.

    Serial multi-source attention of Libovický et al. (2018): an encoder for each feature as in
    `EncodersConcat`, and in each layer of the decoder an attention for each encoder, the words'
    first. Each attention has its own norm and residual connection.

    Args:
        dim: see `Method`.
        sizes: see `Method`.
        embedding: see `EncodersConcat`.
    """

    uses_combiner = False
    has_encoders = True
    attends_to_each = "serial"

    def change_memory(self, memory: Tensor, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """The outputs of all encoders side by side, `(B, S, (k + 1) * dim)`."""
        assert self.embedding is not None
        return torch.cat([memory, *self.embedding(features, mask)], dim=-1)


class EncodersParallel(EncodersSerial):
    """`x + A_0(x) + A_1(x) + ... + A_k(x)`: the decoder attends to all encoders at once.

    Parallel multi-source attention of Libovický et al. (2018): as `EncodersSerial`, but all
    attentions read the same states of the decoder, and their results are added.
    """

    attends_to_each = "parallel"
