"""The interface of a model for training and search, whatever its layers are.

Shapes: B sentences, S source and T target pieces, R hypotheses, D width, V target pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nmt_feat.methods import Method
from nmt_feat.model.embedding import SourceEmbedding

LossFunction = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""`plain_loss` or `fused_loss`: of states `(N, D)`, a table `(V, D)`, right pieces `(N,)`."""


ANY_LENGTH = 1 << 30
"""More pieces than any sentence has."""


class TranslationModel(nn.Module):
    """An encoder-decoder with a source embedding that merges features with the word."""

    source: SourceEmbedding
    method: Method
    external_weights: frozenset[str] = frozenset()
    """Names of parameters that never change, and that are stored outside of the run."""
    longest_source: int = ANY_LENGTH
    longest_target: int = ANY_LENGTH
    """Pieces of a source and of a target at most, without their end symbols."""

    @property
    def feature_embedding(self) -> SourceEmbedding:
        """The layer that has the features' embedders and their combiner."""
        embedding = self.method.embedding
        return embedding if isinstance(embedding, SourceEmbedding) else self.source

    def encode(self, source: Tensor, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Memory `(B, S, D)` of source ids and features `(B, S)`; mask `(B, S)`."""
        raise NotImplementedError

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Hidden states `(B, T, D)` after target ids `(B, T)`; mask `(B, S)` of the memory."""
        raise NotImplementedError

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Scores `(..., V)` of the next piece after hidden states `(..., D)`."""
        raise NotImplementedError

    def compute_loss(
        self, states: Tensor, right: Tensor, smoothing: float, loss: LossFunction
    ) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss and negative log-likelihood of `right` `(N,)` after `(N, D)`."""
        raise NotImplementedError

    def start_cache(self, memory: Tensor, mask: Tensor) -> Any:
        """The cache before the first step: memory `(B, S, D)`, mask `(B, S)`."""
        raise NotImplementedError

    def decode_step(self, token: Tensor, position: int, cache: Any) -> Tensor:
        """Scores `(R, V)`, fp32, of the piece after `token` `(R,)` at `position`."""
        raise NotImplementedError
