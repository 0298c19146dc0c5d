"""The base class of methods, and the one method that does nothing beyond the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class Method(nn.Module):
    """Where features enter a model, or leave it. A user's method overrides what is different.

    Without an override it is the embedding: the combiner merges the features with the word, and the
    Transformer reads nothing else of them.

    Args:
        dim: width of the model.
        sizes: number of ids of each feature, special ones included.
        embedding: where the features are not merged with the word, a module from ids of pieces and
            features, `(B, S)`, to what the combiner makes of the features alone, `(B, S, dim)`.
    """

    uses_combiner: ClassVar[bool] = True
    """Whether a combiner merges the features; if not, the method needs `combiner=none`."""
    merges_with_word: ClassVar[bool] = True
    """Whether the combiner merges the features with the word; if not, with each other alone."""
    reads_features: ClassVar[bool] = True
    """Whether translation needs the features."""
    reads_heads: ClassVar[bool] = False
    """Whether the features that no combiner merges must say where heads are."""
    has_encoders: ClassVar[bool] = False
    """Whether each feature has an encoder; these are in `embedding`."""
    attends_to_each: ClassVar[str] = ""
    """How the decoder attends to these encoders, `serial` or `parallel`; empty if their outputs
    become one memory."""
    in_source: ClassVar[bool] = False
    """Whether features are tokens of the source, see `insert_tokens`."""
    exportable: ClassVar[bool] = False
    """Whether CTranslate2 can run the model, apart from its source embedding."""

    def __init__(
        self, dim: int, sizes: Mapping[str, int], embedding: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.embedding = embedding

    @classmethod
    def merges_feature(cls, name: str, args: Mapping[str, Any]) -> bool:
        """Whether a combiner merges this feature, where the method has these arguments."""
        return cls.uses_combiner

    @classmethod
    def count_tokens(cls, sizes: Mapping[str, int]) -> int:
        """How many tokens the source's vocabulary has beside pieces; `sizes` as of the class."""
        return 0

    def insert_tokens(
        self,
        pieces: NDArray[np.int32],
        features: Mapping[str, NDArray[np.int32]],
        begins: NDArray[np.bool_],
        first: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The source of an `in_source` method, and the place of each token among the pieces.

        Args:
            pieces, features: ids of all sentences, one behind another, `(n,)`, with end symbols.
            begins: whether a piece is the first one of its word; not at end symbols.
            first: the number of source pieces; ids of tokens that are no pieces begin there.
        """
        raise NotImplementedError(f"{type(self).__name__} says in_source, but inserts nothing")

    def load_values(self, values: Mapping[str, Sequence[str]]) -> None:
        """Read which values the ids of each feature stand for, from 3 on, before weights follow."""

    def scale_attention(self, layer: int, features: Mapping[str, Tensor]) -> Tensor | None:
        """Factors of the attention scores of an encoder layer, `(B, 1 or heads, S, S)`, if any."""
        return None

    def bias_attention(self, layer: int, features: Mapping[str, Tensor]) -> Tensor | None:
        """What is added to these scores, of the same shape, if anything is."""
        return None

    def change_memory(self, memory: Tensor, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """What the decoder reads in place of the encoder's output, `memory` `(B, S, dim)`.

        `features` and `mask` are `(B, S)`.
        """
        return memory

    def compute_loss(self, memory: Tensor, features: Mapping[str, Tensor]) -> Tensor | None:
        """A further loss, summed over the batch, from the same tensors, if there is one."""
        return None


class Embedding(Method):
    """`combiner(a, b, c)`: features are merged with the word, and all else is a Transformer."""

    exportable = True
