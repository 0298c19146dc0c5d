"""The Transformer encoder-decoder (Vaswani et al. 2017), pre-norm (Xiong et al. 2020).

Shapes: B sentences (or hypotheses), S source and T target pieces, D model width, H heads.
Masks are true at real pieces. The decoder has two entry points: `decode` takes all target pieces at
once (training, forced scoring), `decode_step` one piece at a time, with cached keys and values
(search).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmt_feat.combiners.base import make_linear
from nmt_feat.methods import Embedding, Method
from nmt_feat.model.cache import Cache, LayerCache
from nmt_feat.model.dropout import add_with_dropout, dropout
from nmt_feat.model.embedding import SourceEmbedding, TargetEmbedding
from nmt_feat.model.translation_model import LossFunction, TranslationModel

AttendOne = Callable[["Attention", Tensor, Tensor, Tensor], Tensor]
"""From an attention, its normed states, keys and values to its result."""
LANES = 16
"""On CPU, PyTorch's softmax of a shorter row goes number by number and is six times slower."""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_rate: float = 0.0,
    causal: bool = False,
    factors: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention, `(B, H, T, D / H)`; the mask is true at real keys.

    The scores are multiplied by `factors`, then `bias` is added; both are `(B, 1 or H, T, keys)`.

    PyTorch's fused kernel knows no factors. On CPU it is made for long sequences, and slower than
    the steps below for sentences. In bf16 the products are bf16 and the softmax is fp32, padded to
    `LANES` keys.
    """
    is_plain = factors is None and bias is None
    if is_plain and (query.device.type != "cpu" or dropout_rate):
        return F.scaled_dot_product_attention(query, key, value, mask, dropout_rate, causal)
    with torch.autocast(query.device.type, enabled=False):
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2)).float()
        if factors is not None:
            scores = scores * factors
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            scores = scores + scores.new_zeros(mask.shape).masked_fill(~mask, -math.inf)
        if causal:
            length = scores.shape[-1]
            scores = scores + scores.new_full((length, length), -math.inf).triu(1)
        key_count = scores.shape[-1]
        if key_count < LANES:
            scores = F.pad(scores, (0, LANES - key_count), value=-math.inf)
        weights = scores.softmax(dim=-1)[..., :key_count]
        if dropout_rate:
            weights = F.dropout(weights, dropout_rate)
        return torch.matmul(weights.to(value.dtype), value)


def join_heads(x: Tensor) -> Tensor:
    """Put heads side by side: `(B, H, T, D / H)` to `(B, T, D)`."""
    return x.transpose(1, 2).flatten(2)


def make_parallel_linear(inputs: int, outputs: int, count: int) -> nn.Linear:
    """`count` linear layers side by side in one, each initialised like `make_linear`."""
    layer = nn.Linear(inputs, count * outputs)
    for block in torch.split(layer.weight.data, outputs):
        nn.init.xavier_uniform_(block)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head attention. Self-attention projects queries, keys and values in one product."""

    def __init__(self, dim: int, heads: int, dropout: float, cross: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        if cross:
            self.query = make_linear(dim, dim)
        self.inputs = make_parallel_linear(dim, dim, count=2 if cross else 3)
        self.output = make_linear(dim, dim)

    def split_heads(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        """`(B, T, count * D)` to `count` tensors `(B, H, T, D / H)`."""
        batch, time, _ = x.shape
        return x.view(batch, time, count, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def project_output(self, x: Tensor) -> Tensor:
        """`(B, H, T, D / H)` to the output `(B, T, D)`."""
        out: Tensor = self.output(join_heads(x))
        return out

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool = False,
        factors: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Self-attention of x `(B, T, D)`; mask `(B, 1, 1, T)` or None; see `attend`."""
        query, key, value = self.split_heads(self.inputs(x), 3)
        dropout = self.dropout if self.training else 0.0
        attended = attend(query, key, value, mask, dropout, causal, factors, bias)
        return self.project_output(attended)

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `(B, H, S, D / H)` of the memory `(B, S, D)`, for `attend_memory`."""
        key, value = self.split_heads(self.inputs(memory), 2)
        return key, value

    def attend_memory(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Cross-attention of x `(B, T, D)` to projected memory; mask `(B, 1, 1, S)`."""
        (query,) = self.split_heads(self.query(x), 1)
        dropout = self.dropout if self.training else 0.0
        return self.project_output(attend(query, key, value, mask, dropout))


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, dim: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.inner = make_linear(dim, inner)
        self.outer = make_linear(inner, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, D)` to `(B, T, D)`."""
        out: Tensor = self.outer(dropout(F.relu(self.inner(x)), self.dropout, self.training))
        return out


class Dropouts(NamedTuple):
    """Probabilities of dropout in a layer."""

    output: float
    """For what self-attention, cross-attention and feed-forward layer add to the states."""
    attention: float
    """For attention weights."""
    activation: float
    """Inside the feed-forward layers."""


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each `x + dropout(f(norm(x)))`."""

    def __init__(self, dim: int, inner: int, heads: int, dropouts: Dropouts) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropouts.attention, cross=False)
        self.forward_norm = nn.LayerNorm(dim)
        self.forward_layer = FeedForward(dim, inner, dropouts.activation)
        self.dropout = dropouts.output

    def add_update(self, x: Tensor, update: Tensor) -> Tensor:
        """Add an update to x, with dropout."""
        return add_with_dropout(x, update, self.dropout, self.training)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        factors: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """`(B, S, D)` to `(B, S, D)`; mask `(B, 1, 1, S)`; for factors and bias see `attend`."""
        attended = self.attention(self.attention_norm(x), mask, factors=factors, bias=bias)
        x = self.add_update(x, attended)
        return self.add_update(x, self.forward_layer(self.forward_norm(x)))


class DecoderLayer(EncoderLayer):
    """A causal encoder layer, with attention to the memory between its two halves.

    If there are several memories, side by side in `(B, S, n * D)`, the layer has an attention for
    each. They follow one another; or, if `parallel`, all read the same states, and their results
    are added.
    """

    def __init__(self, dim: int, inner: int, heads: int, dropouts: Dropouts) -> None:
        super().__init__(dim, inner, heads, dropouts)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross = Attention(dim, heads, dropouts.attention, cross=True)
        self.further_norms, self.further = nn.ModuleList(), nn.ModuleList()
        self.parallel = False

    def add_memories(self, count: int, parallel: bool) -> None:
        """Attend to `count` more memories."""
        dim, self.parallel = self.cross_norm.normalized_shape[0], parallel
        for _ in range(count):
            attention = Attention(dim, self.cross.heads, self.cross.dropout, cross=True)
            self.further.append(attention)
            if not parallel:
                self.further_norms.append(nn.LayerNorm(dim))

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `(B, n * H, S, D / H)` of the n memories `(B, S, n * D)`."""
        if not self.further:
            return self.cross.project_memory(memory)
        attentions = [self.cross, *self.further]
        parts = memory.chunk(len(attentions), dim=-1)
        pairs = [a.project_memory(part) for a, part in zip(attentions, parts, strict=True)]
        keys, values = zip(*pairs, strict=True)
        return torch.cat(keys, dim=1), torch.cat(values, dim=1)

    def attend_memory(self, x: Tensor, key: Tensor, value: Tensor, attend_one: AttendOne) -> Tensor:
        """Add to x what it reads of the memories; `key` and `value` come from `project_memory`."""
        if not self.further:
            return self.add_update(x, attend_one(self.cross, self.cross_norm(x), key, value))
        attentions = [self.cross, *self.further]
        keys, values = (part.chunk(len(attentions), dim=1) for part in (key, value))
        if self.parallel:
            states = self.cross_norm(x)
            updates = [
                attend_one(attention, states, *pair)
                for attention, *pair in zip(attentions, keys, values, strict=True)
            ]
            return self.add_update(x, torch.stack(updates).sum(0))
        norms = [self.cross_norm, *self.further_norms]
        for attention, norm, *pair in zip(attentions, norms, keys, values, strict=True):
            x = self.add_update(x, attend_one(attention, norm(x), *pair))
        return x

    def decode(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """States `(B, T, D)` and memory `(B, S, n * D)` to states `(B, T, D)`."""

        def attend_one(attention: Attention, states: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attention.attend_memory(states, key, value, mask)

        x = self.add_update(x, self.attention(self.attention_norm(x), None, causal=True))
        x = self.attend_memory(x, *self.project_memory(memory), attend_one)
        return self.add_update(x, self.forward_layer(self.forward_norm(x)))

    def decode_step(self, x: Tensor, layer: LayerCache, cache: Cache, seen: Tensor) -> Tensor:
        """States `(R, D)` of the newest position to states `(R, D)`, without dropout.

        Attention works on the grid `(B, W, ...)`, everything else on the rows. `seen` is what
        `Cache.record_written_positions` returns, `(B, 1, W, written_count)`.
        """

        def attend_one(attention: Attention, states: Tensor, key: Tensor, value: Tensor) -> Tensor:
            (query,) = attention.split_heads(cache.to_grid(attention.query(states)), 1)
            attended = attend(query, key, value, cache.mask)
            out: Tensor = attention.output(cache.from_grid(join_heads(attended)))
            return out

        grid = cache.to_grid(self.attention.inputs(self.attention_norm(x)))
        query, key, value = self.attention.split_heads(grid, 3)
        keys, values = layer.append_grid(key, value, cache.written_count - cache.width)
        attended = join_heads(attend(query, keys, values, seen))
        x = x + self.attention.output(cache.from_grid(attended))
        x = self.attend_memory(x, layer.cross_key, layer.cross_value, attend_one)
        out: Tensor = x + self.forward_layer(self.forward_norm(x))
        return out


class FeatureEncoders(nn.Module):
    """An encoder for each feature, with layers like those of the words' encoder.

    Args:
        embedding: embeds the features, each as wide as the model.
        encoders: the layers of each feature's encoder, in the order of `embedding`.
        dim: width of the model.
    """

    def __init__(
        self, embedding: SourceEmbedding, encoders: Sequence[Sequence[EncoderLayer]], dim: int
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.encoders = nn.ModuleList(
            nn.Sequential(*layers, nn.LayerNorm(dim)) for layers in encoders
        )

    def forward(self, features: dict[str, Tensor], mask: Tensor) -> list[Tensor]:
        """The output `(B, S, D)` of each encoder; features and mask `(B, S)`."""
        outputs = []
        for x, encoder in zip(self.embedding.embed_apart(features), self.encoders, strict=True):
            assert isinstance(encoder, nn.Sequential)
            *layers, norm = encoder
            for layer in layers:
                x = layer(x, mask[:, None, None, :])
            outputs.append(norm(x))
        return outputs


class Transformer(TranslationModel):
    """An encoder and a decoder behind two embedding layers; the target table is the output layer.

    Args:
        source: embeds source pieces and features.
        target: embeds target pieces.
        dim, ffn_dim, heads, encoder_layers, decoder_layers: as in `schema.ModelConfig`.
        dropouts: the dropout in each layer.
        method: where features enter beside `source`; nowhere by default.
    """

    def __init__(
        self,
        source: SourceEmbedding,
        target: TargetEmbedding,
        method: Method | None = None,
        *,
        dim: int,
        ffn_dim: int,
        heads: int,
        encoder_layers: int,
        decoder_layers: int,
        dropouts: Dropouts,
    ) -> None:
        super().__init__()
        self.heads = heads
        shape = (dim, ffn_dim, heads, dropouts)
        self.encoder = nn.ModuleList(EncoderLayer(*shape) for _ in range(encoder_layers))
        self.encoder_norm = nn.LayerNorm(dim)
        self.decoder = nn.ModuleList(DecoderLayer(*shape) for _ in range(decoder_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.source = source
        self.target = target
        self.method = method or Embedding(dim, {})

    @property
    def feature_embedding(self) -> SourceEmbedding:
        """The layer that has the features' embedders and their combiner."""
        embedding = self.method.embedding
        if isinstance(embedding, FeatureEncoders):
            return embedding.embedding
        return super().feature_embedding

    def encode(self, source: Tensor, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Memory `(B, S, D)` of source ids and features `(B, S)`; mask `(B, S)`."""
        x = self.source(source, features)
        for number, layer in enumerate(self.encoder):
            factors = self.method.scale_attention(number, features)
            bias = self.method.bias_attention(number, features)
            x = layer(x, mask[:, None, None, :], factors, bias)
        return self.method.change_memory(self.encoder_norm(x), features, mask)

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Hidden states `(B, T, D)` after target ids `(B, T)`; mask `(B, S)` of the memory."""
        x = self.target(target)
        for layer in self.decoder:
            assert isinstance(layer, DecoderLayer)
            x = layer.decode(x, memory, mask[:, None, None, :])
        out: Tensor = self.decoder_norm(x)
        return out

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Scores `(..., vocabulary)` of the next piece after hidden states `(..., D)`."""
        return F.linear(hidden, self.target.words.weight)

    def compute_loss(
        self, states: Tensor, right: Tensor, smoothing: float, loss: LossFunction
    ) -> tuple[Tensor, Tensor]:
        """Summed smoothed loss and negative log-likelihood of `right` `(N,)` after `(N, D)`."""
        return loss(states, self.target.words.weight, right, smoothing)

    def forward(
        self, source: Tensor, features: dict[str, Tensor], mask: Tensor, target: Tensor
    ) -> Tensor:
        """Hidden states `(B, T, D)` of the decoder, for the loss."""
        return self.decode(target, self.encode(source, features, mask), mask)

    def start_cache(self, memory: Tensor, mask: Tensor) -> Cache:
        """The cache before the first step: memory `(B, S, D)`, mask `(B, S)`."""
        memories = []
        for layer in self.decoder:
            assert isinstance(layer, DecoderLayer)
            memories.append(layer.project_memory(memory))
        return Cache.from_memory(memories, mask, self.heads)

    def decode_step(self, token: Tensor, position: int, cache: Cache) -> Tensor:
        """Scores `(R, vocabulary)`, fp32, of the piece after `token` `(R,)` at `position`."""
        x = self.target(token[:, None], position)[:, 0]
        seen = cache.record_written_positions()
        for layer, layer_cache in zip(self.decoder, cache.layers, strict=True):
            assert isinstance(layer, DecoderLayer)
            x = layer.decode_step(x, layer_cache, cache, seen)
        return self.compute_logits(self.decoder_norm(x)).float()
