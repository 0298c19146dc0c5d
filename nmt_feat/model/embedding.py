"""Embedding layer: look up, combine, times sqrt(dim), plus positions, dropout. Always so."""

import math
from collections.abc import Mapping, Sequence

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

    Sines, then cosines, of rates that fall from 1 to 1/10000: as that paper's code has it, where
    its formula has them alternate and ends just above 1/10000.
    """
    fall = -math.log(10000.0) / max(dim // 2 - 1, 1)
    rates = torch.exp(torch.arange((dim + 1) // 2, device=like.device, dtype=torch.float32) * fall)
    steps = torch.arange(first, first + length, device=like.device, dtype=torch.float32)
    angles = steps[:, None] * rates[None, :]  # (length, dim / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :dim].to(like.dtype)


def find_unique_positions(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Unique columns of `ids`, and for each column the index of its unique twin.

    A combiner is position-wise: "duck" tagged NOUN gives the same vector wherever it stands in the
    batch. So each different (piece, feature values) is combined once, and copied to its positions.

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
        twins = torch.unique(twins * (row.max() + 1) + row, return_inverse=True)[1]
    unique_count = int(twins.max()) + 1
    padded_count = math.ceil(unique_count / SHAPE_STEP) * SHAPE_STEP
    example_of = torch.zeros(padded_count, dtype=torch.int64)
    example_of[twins] = torch.arange(len(twins))  # any position that has this column
    return ids[:, example_of], twins


def at_least_fp32(x: Tensor) -> Tensor:
    """At least fp32, also what layers of features or combiners give in bf16-mixed.

    A row that stands for many positions gets the sum of their gradients, and in bf16 a sum of ones
    stops at 256. The residual stream, which starts here, keeps the type of its start.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mask_values(ids: Tensor, token_share: float, sentence_share: float) -> Tensor:
    """Ids `(batch, time)`, those of values UNK at random: of tokens, and of whole sentences."""
    for share, shape in ((token_share, ids.shape), (sentence_share, (len(ids), 1))):
        if share:
            is_drawn = torch.rand(shape, device=ids.device) < share
            ids = ids.masked_fill(is_drawn & (ids >= FIRST), UNK)
    return ids


class TargetEmbedding(nn.Module):
    """Target pieces, `(batch, time)` ids, to `(batch, time, dim)`."""

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
        words: table of the pieces, as wide as `combiner.widths` says; none: features alone.
        features: the features' embedders by name, in the combiner's order.
        combiner: the method.
        dropout: dropout of the result.
        masked: of some features, the share of tokens and that of sentences whose values training
            makes unknown at random, so that the model works where they are missing; and whether
            only the first piece of a word has a value, so that the others stay `<inside>`.
        has_positions: whether positions are added; not where the result goes to other states.
    """

    def __init__(
        self,
        words: nn.Embedding | None,
        features: dict[str, nn.Module],
        combiner: Combiner,
        dropout: float,
        masked: Mapping[str, tuple[float, float, bool]] | None = None,
        has_positions: bool = True,
    ) -> None:
        super().__init__()
        self.masked = dict(masked or {})
        self.has_positions = has_positions
        self.words = words
        self.fixed = 0
        """Numbers of the words' table that are not trained."""
        self.features = nn.ModuleDict(features)
        self.combiner = combiner
        self.dropout = dropout

    def mask_feature(self, name: str, features: dict[str, Tensor]) -> Tensor:
        """Ids of a feature, `(batch, time)`, some of its values unknown."""
        ids, (token_share, sentence_share, only_first) = features[name], self.masked[name]
        masked = mask_values(ids, token_share, sentence_share)
        if not only_first:
            return masked
        # Pieces inside of a word have the value `<inside>`, the first of the vocabulary; that they
        # are inside is known without the annotation, so they keep it.
        units = features.get(name + UNITS)
        values = ids if units is None else units[:, 0][ids]
        return torch.where(values == FIRST, ids, masked)

    def mask_features(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The features, in training with some values unknown where settings say so."""
        if not self.training:
            return features
        return features | {name: self.mask_feature(name, features) for name in self.masked}

    def compose_units(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of each feature that has units, the embeddings `(R, dim_i)` of the batch's R tokens."""
        composed = {}
        for name, embed in self.features.items():
            if name + UNITS in features:
                units = features[name + UNITS]
                if isinstance(embed, Contextual) and name + TEXTS in features:
                    units = embed.read_states(units, features[name + TEXTS])
                composed[name] = at_least_fp32(embed(units))
        return composed

    def embed_parts(self, rows: Sequence[Tensor], composed: dict[str, Tensor]) -> list[Tensor]:
        """Embed ids of pieces and of the features, each `(batch, time)`: the combiner's parts."""
        parts = [] if self.words is None else [self.words(rows[0])]
        for (name, embed), row in zip(self.features.items(), rows[1:], strict=True):
            tokens = composed.get(name)
            parts.append(embed(row) if tokens is None else F.embedding(row, tokens))
        return parts

    def merge_parts(self, rows: Sequence[Tensor], composed: dict[str, Tensor]) -> Tensor:
        """Embed and combine ids of pieces and of the features, each `(batch, time)`."""
        try:
            return at_least_fp32(self.combiner(self.embed_parts(rows, composed)))
        except CombinerError as error:  # such as a user's embedder of another width
            raise UserError(str(error)) from error

    def merge_tokens(self, ids: Tensor, features: dict[str, Tensor]) -> Tensor:
        """What the combiner makes of `ids` and `features`, each `(batch, time)`: without positions.

        Where tokens have units, a feature's ids are rows of `features[name + UNITS]`, `(R, U)`,
        each of which is composed once.
        """
        features = self.mask_features(features)
        rows = [ids, *(features[name] for name in self.features)]
        composed = self.compose_units(features)
        if len(rows) > 1 and ids.device.type == "cpu":  # elsewhere it would wait for the device
            unique, twins = find_unique_positions(torch.stack(rows).flatten(1))  # (rows, m), (n,)
            merged = self.merge_parts(unique[:, None].unbind(), composed)[0]  # (m, dim)
            return F.embedding(twins, merged).view(*ids.shape, -1)
        return self.merge_parts(rows, composed)

    def forward(self, ids: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Embed `ids` and `features`, each `(batch, time)`, as `(batch, time, dim)`."""
        return self.add_positions(self.merge_tokens(ids, features))

    def embed_apart(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Each feature by itself, in the place of the word, `(batch, time, its width)`."""
        features = self.mask_features(features)
        rows = [features[name] for name in self.features]
        parts = self.embed_parts([rows[0], *rows], self.compose_units(features))
        return [self.add_positions(at_least_fp32(part)) for part in parts]

    def add_positions(self, x: Tensor) -> Tensor:
        """What follows the combiner, `(batch, time, dim)`: scale, positions, dropout."""
        dim = x.shape[-1]
        x = x * math.sqrt(dim)
        if self.has_positions:
            x = x + sinusoidal_positions(0, x.shape[1], dim, x)
        return dropout(x, self.dropout, self.training)
