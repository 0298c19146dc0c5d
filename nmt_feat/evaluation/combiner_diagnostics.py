"""What a trained combiner makes of its parts: mean gates by feature value, shares of the norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nmt_feat.data.batches import collate, ordered
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import EOS, PAD
from nmt_feat.model.translation_model import TranslationModel

SPECIAL = ["<pad>", "<unknown>", "<end>"]
MOST_VALUES = 20
"""Values of a feature at most."""
BATCH_PIECES = 4096
"""Of a batch at most: each needs `parts * model_dim` numbers, several times."""


@dataclass
class GateValue:
    """The gate where a feature has one value."""

    value: str
    pieces: int
    """How many have it."""
    weights: dict[str, float]
    """By part, what it is multiplied by: the mean over these pieces and the model's width."""


@dataclass
class Parts:
    """What the word and each feature, the parts, do in the source embedding of a set of text."""

    shares: dict[str, float] = field(default_factory=dict)
    """By part: the squared norm of what it adds to the embedding, summed over the pieces, as a
    share of that of all parts. Empty where the combiner's result is no sum over the parts."""
    gates: dict[str, list[GateValue]] = field(default_factory=dict)
    """By feature, its most frequent values, the most frequent first; only of gates."""


@torch.inference_mode()
def measure_parts(
    model: TranslationModel, split: EncodedSplit, values: Mapping[str, list[str]]
) -> Parts:
    """Over all pieces of `split` but the end symbols; `model` must be in its evaluation mode.

    `values`: by feature what its ids from FIRST on stand for; gates by value are of these features.
    """
    source, features = model.source, list(model.source.features)
    device = next(source.parameters()).device
    names = source.combiner.names
    labels = {name: [*SPECIAL, *values[name]] for name in values if name in features}
    norms = torch.zeros(len(names), dtype=torch.float64)
    pieces = {name: torch.zeros(len(labels[name]), dtype=torch.int64) for name in labels}
    sums = {
        name: torch.zeros(len(labels[name]), len(names), dtype=torch.float64) for name in labels
    }
    gated = False
    for indices in ordered(split, BATCH_PIECES):
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
            gated = True
            mean = weights.mean(-1)[0].double().cpu()  # (N, parts)
            for name in labels:
                ids = batch.features[name][real].cpu()
                pieces[name] += torch.bincount(ids, minlength=len(pieces[name]))
                sums[name].index_add_(0, ids, mean)
    parts_use = Parts()
    if norms.any():
        shares = (norms / norms.sum()).tolist()
        parts_use.shares = dict(zip(names, shares, strict=True))
    if not gated:
        return parts_use
    for name in labels:
        order = pieces[name].argsort(descending=True, stable=True)[:MOST_VALUES].tolist()
        parts_use.gates[name] = [
            GateValue(
                value=labels[name][id],
                pieces=int(pieces[name][id]),
                weights=dict(zip(names, (sums[name][id] / pieces[name][id]).tolist(), strict=True)),
            )
            for id in order
            if pieces[name][id]
        ]
    return parts_use
