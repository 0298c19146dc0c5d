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

ROUND = 256


def positions(first: int, length: int, dim: int, like: Tensor) -> Tensor:
    """Sinusoidal positions `(length, dim)` from `first` on (Vaswani et al. 2017, section 3.5).

    Sines, then cosines, of rates that fall from 1 to 1/10000: as that paper's code has it, where
    its formula has them alternate and ends just above 1/10000.
    """
    step = -math.log(10000.0) / max(dim // 2 - 1, 1)
    rates = torch.exp(torch.arange((dim + 1) // 2, device=like.device, dtype=torch.float32) * step)
    places = torch.arange(first, first + length, device=like.device, dtype=torch.float32)
    angles = places[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :dim].to(like.dtype)


def distinct_columns(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct columns `(rows, m)` of ids `(rows, n)`, and which of them each is `(n,)`.

    Combiners are position-wise, so that positions that are alike need to be combined only once.
    The first column fills m up to a multiple of `ROUND`: oneDNN keeps a kernel for every shape.
    """
    place = ids[0]
    for row in ids[1:]:
        place = torch.unique(place * (row.max() + 1) + row, return_inverse=True)[1]
    count = int(place.max()) + 1
    anywhere = torch.zeros(math.ceil(count / ROUND) * ROUND, dtype=torch.int64)
    anywhere[place] = torch.arange(len(place))
    return ids[:, anywhere], place


def full(x: Tensor) -> Tensor:
    """At least fp32, also what layers of features or combiners give in bf16-mixed.

    A row that stands for many positions gets the sum of their gradients, which bf16 would stop at
    256 equal ones; and the residual stream that starts here has the type of its start.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mask(ids: Tensor, token: float, sentence: float) -> Tensor:
    """Ids `(batch, time)`, those of values UNK at random: of tokens, and of whole sentences."""
    for share, shape in ((token, ids.shape), (sentence, (len(ids), 1))):
        if share:
            drawn = torch.rand(shape, device=ids.device) < share
            ids = ids.masked_fill(drawn & (ids >= FIRST), UNK)
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
        x = x + positions(first, ids.shape[1], dim, x)
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
    """

    def __init__(
        self,
        words: nn.Embedding | None,
        features: dict[str, nn.Module],
        combiner: Combiner,
        dropout: float,
        masked: Mapping[str, tuple[float, float, bool]] | None = None,
    ) -> None:
        super().__init__()
        self.masked = dict(masked or {})
        self.words = words
        self.fixed = 0
        """Numbers of the words' table that are not trained."""
        self.features = nn.ModuleDict(features)
        self.combiner = combiner
        self.dropout = dropout

    def forget(self, name: str, features: dict[str, Tensor]) -> Tensor:
        """Ids of a feature, `(batch, time)`, some of its values unknown."""
        ids, (token, sentence, first) = features[name], self.masked[name]
        masked = mask(ids, token, sentence)
        if not first:
            return masked
        units = features.get(name + UNITS)
        codes = ids if units is None else units[:, 0][ids]
        return torch.where(codes == FIRST, ids, masked)  # `<inside>`, the first of the vocabulary

    def compose(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of each feature that has units, the embeddings `(R, dim_i)` of the batch's R tokens."""
        composed = {}
        for name, embed in self.features.items():
            if name + UNITS in features:
                units = features[name + UNITS]
                if isinstance(embed, Contextual) and name + TEXTS in features:
                    units = embed.read(units, features[name + TEXTS])
                composed[name] = full(embed(units))
        return composed

    def parts(self, rows: Sequence[Tensor], composed: dict[str, Tensor]) -> list[Tensor]:
        """Embed ids of pieces and of the features, each `(batch, time)`: the combiner's parts."""
        parts = [] if self.words is None else [self.words(rows[0])]
        for (name, embed), row in zip(self.features.items(), rows[1:], strict=True):
            tokens = composed.get(name)
            parts.append(embed(row) if tokens is None else F.embedding(row, tokens))
        return parts

    def merge(self, rows: Sequence[Tensor], composed: dict[str, Tensor]) -> Tensor:
        """Embed and combine ids of pieces and of the features, each `(batch, time)`."""
        try:
            return full(self.combiner(self.parts(rows, composed)))
        except CombinerError as error:  # such as a user's embedder of another width
            raise UserError(str(error)) from error

    def forward(self, ids: Tensor, features: dict[str, Tensor]) -> Tensor:
        """Embed `ids` and `features`, each `(batch, time)`, as `(batch, time, dim)`.

        Where tokens have units, a feature's ids are rows of `features[name + UNITS]`, `(R, U)`,
        each of which is composed once.
        """
        if self.training:
            features = features | {name: self.forget(name, features) for name in self.masked}
        rows = [ids, *(features[name] for name in self.features)]
        composed = self.compose(features)
        if len(rows) > 1 and ids.device.type == "cpu":  # elsewhere it would wait for the device
            distinct, place = distinct_columns(torch.stack(rows).flatten(1))
            x = F.embedding(place, self.merge(distinct[:, None].unbind(), composed)[0]).view(
                *ids.shape, -1
            )
        else:
            x = self.merge(rows, composed)
        dim = x.shape[-1]
        x = x * math.sqrt(dim)
        x = x + positions(0, ids.shape[1], dim, x)
        return dropout(x, self.dropout, self.training)
