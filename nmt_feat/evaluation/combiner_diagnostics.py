"""How a trained combiner uses its parts: mean gates by feature value, shares of the norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nmt_feat.data.batches import collate, order_batches
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import EOS, PAD
from nmt_feat.model.translation_model import TranslationModel

SPECIAL = ["<pad>", "<unknown>", "<end>"]
MOST_VALUES = 20
"""The most values of a feature that are listed."""
BATCH_PIECES = 4096
"""The most pieces of a batch; each needs `parts * model_dim` numbers, several times."""


@dataclass
class GateValue:
    """The mean gate of the pieces that have one value of a feature."""

    value: str
    pieces: int
    """Number of these pieces."""
    weights: dict[str, float]
    """By part, its factor: the mean over these pieces and the model's width."""


@dataclass
class Parts:
    """What each part (the word, each feature) adds to the source embedding of a set of text."""

    shares: dict[str, float] = field(default_factory=dict)
    """By part: the squared norm of its contribution to the embedding, summed over the pieces, as a
    share of all parts. Empty if the combiner's result is not a sum over the parts."""
    gates: dict[str, list[GateValue]] = field(default_factory=dict)
    """By feature, its most frequent values; the most frequent comes first. Only for gates."""


class _GateSums:
    """Sums over the pieces that have each value of a feature.

    Args:
        labels: the feature's values by id.
        parts: names of the parts.
    """

    def __init__(self, labels: Sequence[str], parts: Sequence[str]) -> None:
        self.labels, self.parts = labels, parts
        self.pieces = torch.zeros(len(labels), dtype=torch.int64)
        self.weights = torch.zeros(len(labels), len(parts), dtype=torch.float64)

    def add(self, ids: Tensor, weights: Tensor) -> None:
        """Add pieces with the feature's `ids` `(N,)`, whose parts have `weights` `(N, parts)`."""
        self.pieces += torch.bincount(ids, minlength=len(self.labels))
        self.weights.index_add_(0, ids, weights)

    def list_means(self) -> list[GateValue]:
        """The mean weights of the most frequent values."""
        order = self.pieces.argsort(descending=True, stable=True)[:MOST_VALUES].tolist()
        values = []
        for id in order:
            if pieces := int(self.pieces[id]):
                means = (self.weights[id] / self.pieces[id]).tolist()
                weights = dict(zip(self.parts, means, strict=True))
                values.append(GateValue(self.labels[id], pieces, weights))
        return values


@torch.inference_mode()
def measure_parts(
    model: TranslationModel, split: EncodedSplit, values: Mapping[str, list[str]]
) -> Parts:
    """Measure the parts over all pieces of a split, without end symbols.

    Args:
        model: in evaluation mode.
        split: the text.
        values: the features whose gates are listed, with the values of their ids from FIRST on.
    """
    source, features = model.source, list(model.source.features)
    device = next(source.parameters()).device
    names = source.combiner.names
    norms = torch.zeros(len(names), dtype=torch.float64)
    gates = {
        name: _GateSums([*SPECIAL, *values[name]], names) for name in values if name in features
    }
    is_gated = False
    for indices in order_batches(split, BATCH_PIECES):
        batch = collate(split, indices, features).to(device)
        rows = [batch.source, *(batch.features[name] for name in features)]
        real = (batch.source != PAD) & (batch.source != EOS)  # (B, S)
        embedded = source.embed_parts(rows, source.compose_units(batch.features))
        parts = [part[real][None] for part in embedded]  # (1, N, width)
        added = source.combiner.contributions_of(parts)  # (1, N, parts, dim)
        if added is not None:
            norms += added.square().sum(-1).double().sum((0, 1)).cpu()
        weights: Tensor | None = source.combiner.weights_of(parts)
        if weights is not None:
            is_gated = True
            mean = weights.mean(-1)[0].double().cpu()  # (N, parts)
            for name, sums in gates.items():
                sums.add(batch.features[name][real].cpu(), mean)
    results = Parts()
    if norms.any():
        results.shares = dict(zip(names, (norms / norms.sum()).tolist(), strict=True))
    if is_gated:
        results.gates = {name: sums.list_means() for name, sums in gates.items()}
    return results
