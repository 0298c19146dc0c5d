"""The embedding layer: look up, combine, times sqrt(dim), plus positions, dropout."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmt_feat.combiners import Combiner, CombinerError
from nmt_feat.embedders.contextual import Contextual
from nmt_feat.embedders.ids import FIRST, TEXTS, UNITS, UNK
from nmt_feat.errors import UserError
from nmt_feat.model.dropout import dropout

SHAPE_STEP = 256
"""The number of unique positions is rounded up to a multiple of this."""


def sinusoidal_positions(first: int, length: int, dim: int, like: Tensor) -> Tensor:
    """Sinusoidal positions `(length, dim)` from `first` on (Vaswani et al. 2017, section 3.5).

    All sines, then all cosines, of rates that fall from 1 to 1/10000. The paper's code does it in
    this way; in its formula, sines and cosines alternate, and the last rate is a bit higher.
    """
    fall = -math.log(10000.0) / max(dim // 2 - 1, 1)
    rates = torch.exp(torch.arange((dim + 1) // 2, device=like.device, dtype=torch.float32) * fall)
    positions = torch.arange(first, first + length, device=like.device, dtype=torch.float32)
    angles = positions[:, None] * rates[None, :]  # (length, dim / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :dim].to(like.dtype)


def find_unique_positions(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Unique columns of `ids`, and for each column the index of its unique twin.

    A combiner is position-wise: "duck" tagged NOUN gives the same vector wherever it stands in the
    batch. So each distinct (piece, feature values) is combined once and copied to its positions.

        ids      piece    7 3 7 9 3          unique   3 7 9
                 upos     1 2 1 4 2     ->            2 1 4
                                             twins    1 0 1 2 0

    Args:
        ids: `(rows, n)`, one row for the piece and one for each feature.

    Returns:
        Unique columns `(rows, m)`, m rounded up to a multiple of `SHAPE_STEP` by repeating the
        first column (oneDNN compiles a kernel for each new shape); twins `(n,)`, indices into them.
    """
    # Two numbers become one without collisions: a * (largest b + 1) + b. `unique` then renumbers
    # them from 0, which keeps the product small however many features follow.
    twins = ids[0]
    for row in ids[1:]:
        paired = twins * (row.max() + 1) + row
        twins = torch.unique(paired, return_inverse=True)[1]
    unique_count = int(twins.max()) + 1
    padded_count = math.ceil(unique_count / SHAPE_STEP) * SHAPE_STEP
    example_of = torch.zeros(padded_count, dtype=torch.int64)
    example_of[twins] = torch.arange(len(twins))  # any position that has this column
    return ids[:, example_of], twins


def at_least_fp32(x: Tensor) -> Tensor:
    """x in fp32, if its type is smaller, as in bf16-mixed.

    A row that stands for many positions gets the sum of their gradients, and in bf16 a sum of ones
    stops at 256. The residual stream, which starts here, has the type that it starts with.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Masking(NamedTuple):
    """How training makes values of a feature unknown, so that the model works without them."""

    token_share: float
    """The share of tokens whose value becomes unknown, at random."""
    sentence_share: float
    """The share of sentences whose values all become unknown, at random."""
    only_first: bool
    """Whether only the first piece of a word has a value; the others then stay `<inside>`."""


def mask_values(ids: Tensor, token_share: float, sentence_share: float) -> Tensor:
    """Ids `(batch, time)` with UNK in place of random values, of tokens and of whole sentences."""
    for share, shape in ((token_share, ids.shape), (sentence_share, (len(ids), 1))):
        if share:
            is_drawn = torch.rand(shape, device=ids.device) < share
            ids = ids.masked_fill(is_drawn & (ids >= FIRST), UNK)
    return ids


class TargetEmbedding(nn.Module):
    """From ids of target pieces, `(batch, time)`, to `(batch, time, dim)`."""

    def __init__(self, words: nn.Embedding, dropout: float) -> None:
        super().__init__()
        self.words = words
        self.dropout = dropout

    def forward(self, ids: Tensor, first: int = 0) -> Tensor:
        """Embed `ids` that stand at positions `first`, `first + 1` and so on."""
        dim = self.words.embedding_dim
        x = self.words(ids) * math.sqrt(dim)
        x = x + sinusoidal_positions(first, ids.shape[1], dim, x)
        return dropout(x, self.dropout, self.training)


class SourceEmbedding(nn.Module):
    """Source pieces and their features, merged by a combiner.

    Args:
        words: table of the pieces, as wide as `combiner.widths` says; None for features alone.
        features: the features' embedders by name, in the combiner's order.
        combiner: merges words and features.
        dropout: dropout of the result.
        masked: the features whose values training makes unknown at random.
        has_positions: whether positions are added; false if the result is added to states that
            have positions already.
    """

    def __init__(
        self,
        words: nn.Embedding | None,
        features: dict[str, nn.Module],
        combiner: Combiner,
        dropout: float,
        masked: Mapping[str, Masking] | None = None,
        has_positions: bool = True,
    ) -> None:
        super().__init__()
        self.masked = dict(masked or {})
        self.has_positions = has_positions
        self.words = words
        self.fixed_count = 0
        """How many numbers of the words' table are not trained."""
        self.features = nn.ModuleDict(features)
        self.combiner = combiner
        self.dropout = dropout

    def mask_feature(self, name: str, features: dict[str, Tensor]) -> Tensor:
        """Ids of a feature, `(batch, time)`, with some values unknown."""
        ids, masking = features[name], self.masked[name]
        masked_ids = mask_values(ids, masking.token_share, masking.sentence_share)
        if not masking.only_first:
            return masked_ids
        # Pieces inside of a word have the value `<inside>`, the first of the vocabulary. They stay
        # as they are, because the pieces alone tell it, without any annotation.
        units = features.get(name + UNITS)
        values = ids if units is None else units[:, 0][ids]
        return torch.where(values == FIRST, ids, masked_ids)

    def mask_features(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The features, in training with some values of the `masked` ones unknown."""
        if not self.training:
            return features
        return features | {name: self.mask_feature(name, features) for name in self.masked}

    def compose_units(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """For each feature with units, the embeddings `(R, dim_i)` of the batch's R tokens."""
        composed = {}
        for name, embed in self.features.items():
            if name + UNITS not in features:
                continue
            inputs = features[name + UNITS]
            if isinstance(embed, Contextual) and name + TEXTS in features:
                inputs = embed.read_states(inputs, features[name + TEXTS])
            composed[name] = at_least_fp32(embed(inputs))
        return composed

    def embed_parts(self, rows: Sequence[Tensor], composed: dict[str, Tensor]) -> list[Tensor]:
        """Embed ids of pieces and features, `(batch, time)` each: the combiner's parts."""
        parts = [] if self.words is None else [self.words(rows[0])]
        for (name, embed), row in zip(self.features.items(), rows[1:], strict=True):
            tokens = composed.get(name)
            parts.append(embed(row) if tokens is None else F.embedding(row, tokens))
        return parts

    def merge_parts(self, rows: Sequence[Tensor], composed: dict[str, Tensor]) -> Tensor:
        """Embed and combine ids of pieces and features, `(batch, time)` each."""
        try:
            return at_least_fp32(self.combiner(self.embed_parts(rows, composed)))
        except CombinerError as error:  # such as a user's embedder of another width
            raise UserError(str(error)) from error

    def merge_tokens(self, ids: Tensor, features: dict[str, Tensor]) -> Tensor:
        """What the combiner makes of `ids` and `features`, `(batch, time)` each, without positions.

        If a feature has units, its ids are rows of `features[name + UNITS]`, `(R, U)`. Each row is
        composed once.
        """
        features = self.mask_features(features)
        rows = [ids, *(features[name] for name in self.features)]
        composed = self.compose_units(features)
        # On a GPU, the number of unique positions would have to be waited for.
        if len(rows) > 1 and ids.device.type == "cpu":
            unique, twins = find_unique_positions(torch.stack(rows).flatten(1))  # (rows, m), (n,)
            merged = self.merge_parts(unique[:, None].unbind(), composed)[0]  # (m, dim)
            return F.embedding(twins, merged).view(*ids.shape, -1)
        return self.merge_parts(rows, composed)

    def forward(self, ids: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Embed `ids` and `features`, `(batch, time)` each, as `(batch, time, dim)`."""
        return self.add_positions(self.merge_tokens(ids, features))

    def embed_apart(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Embed each feature alone, as if it were the word, `(batch, time, its width)`."""
        features = self.mask_features(features)
        rows = [features[name] for name in self.features]
        # There are no words here, so the first row is not read.
        parts = self.embed_parts([rows[0], *rows], self.compose_units(features))
        return [self.add_positions(at_least_fp32(part)) for part in parts]

    def add_positions(self, x: Tensor) -> Tensor:
        """Scale the combined embeddings `(batch, time, dim)`, add positions, apply dropout."""
        dim = x.shape[-1]
        x = x * math.sqrt(dim)
        if self.has_positions:
            x = x + sinusoidal_positions(0, x.shape[1], dim, x)
        return dropout(x, self.dropout, self.training)
