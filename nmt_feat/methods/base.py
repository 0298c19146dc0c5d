"""The base class of methods, and the one method that does nothing beyond the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class Method(nn.Module):
    """Base class of methods: where features enter a model, or leave it.

    A method overrides the members in which it differs from `Embedding`: there the combiner merges
    the features with the word, and the Transformer reads nothing else of them.

    Args:
        dim: width of the model.
        sizes: number of ids of each feature, special ones included.
        embedding: only if `merges_with_word` is false: a module from ids of pieces and features,
            `(B, S)`, to what the combiner makes of the features alone, `(B, S, dim)`.
    """

    uses_combiner: ClassVar[bool] = True
    """Whether a combiner merges the features; if not, the method needs `combiner=none`."""
    merges_with_word: ClassVar[bool] = True
    """Whether the combiner merges the features with the word; if not, only with each other."""
    reads_features: ClassVar[bool] = True
    """Whether translation needs the features."""
    reads_heads: ClassVar[bool] = False
    """Whether a feature that no combiner merges must give the positions of heads."""
    has_encoders: ClassVar[bool] = False
    """Whether each feature has its own encoder. The encoders are in `embedding`."""
    attends_to_each: ClassVar[str] = ""
    """How the decoder attends to the encoders of the features, `serial` or `parallel`; empty if
    their outputs become one memory."""
    in_source: ClassVar[bool] = False
    """Whether features are tokens of the source, see `insert_tokens`."""
    changed_layers: int = 0
    """How many layers of the encoder it changes, from the first on; the model must have them."""
    exportable: ClassVar[bool] = False
    """Whether CTranslate2 can run the model, apart from its source embedding."""

    def __init__(
        self, dim: int, sizes: Mapping[str, int], embedding: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.embedding = embedding

    @classmethod
    def merges_feature(cls, name: str, args: Mapping[str, Any]) -> bool:
        """Whether a combiner merges the feature `name`, if the method has these arguments."""
        return cls.uses_combiner

    @classmethod
    def count_tokens(cls, sizes: Mapping[str, int]) -> int:
        """How many tokens are added to the source pieces; `sizes` as in `__init__`."""
        return 0

    def name_tokens(self, values: Mapping[str, Sequence[str]]) -> list[str]:
        """What each of the added tokens stands for, in their order; empty if that is not known.

        A run that starts from another one takes the embeddings of tokens of the same names.

        Args:
            values: by feature, the values of the ids 3, 4, 5 and so on.
        """
        return []

    def insert_tokens(
        self,
        pieces: NDArray[np.int32],
        features: Mapping[str, NDArray[np.int32]],
        begins: NDArray[np.bool_],
        first: int,
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Build the source of an `in_source` method.

        Args:
            pieces, features: ids of all sentences, one after another, `(n,)`, with end symbols.
            begins: `(n,)`, true at the first piece of each word, false at end symbols.
            first: the id of the first token that is not a piece.

        Returns:
            The ids of the new source, and the index of the piece where each of them stands.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has in_source = True, but no method insert_tokens"
        )

    def load_values(self, values: Mapping[str, Sequence[str]]) -> None:
        """Read which values stand behind the ids of each feature; called before weights are loaded.

        Args:
            values: by feature, the values of the ids 3, 4, 5 and so on.
        """

    def scale_attention(self, layer: int, features: Mapping[str, Tensor]) -> Tensor | None:
        """The factors of an encoder layer's attention scores, `(B, 1 or heads, S, S)`, or None."""
        return None

    def bias_attention(self, layer: int, features: Mapping[str, Tensor]) -> Tensor | None:
        """What is added to an encoder layer's attention scores, `(B, 1 or heads, S, S)`, or None.

        It comes after the factors.
        """
        return None

    def change_memory(self, memory: Tensor, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """What the decoder reads; by default the encoder's output, `memory` `(B, S, dim)`.

        `features` and `mask` are `(B, S)`.
        """
        return memory

    def compute_loss(self, memory: Tensor, features: Mapping[str, Tensor]) -> Tensor | None:
        """A loss that is added to that of translation, summed over the batch, or None."""
        return None


class Embedding(Method):
    """`combiner(a, b, c)`: the features are merged with the word; the rest is a Transformer."""

    exportable = True
