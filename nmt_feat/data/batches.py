"""Batches by token budget, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nmt_feat.base.ragged import Ragged
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import BOS, END, FIRST, PAD, TEXTS, UNITS, UNK
from nmt_feat.encoders.windows import EncoderWindows
from nmt_feat.model.batch import Batch

Indices = NDArray[np.int64]

SHAPE_STEPS = 64, 4
"""Rows and columns of units come in multiples of these: oneDNN keeps a kernel for every shape."""


def collate(split: EncodedSplit, indices: Indices, features: Sequence[str]) -> Batch:
    """The batch of these sentences with these features."""
    places, real = split.source.locate_cells(indices)

    def padded(values: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(np.where(real, values[places], PAD).astype(np.int64))

    source = padded(split.source.values)
    ids = {name: padded(split.features[name]) for name in features}
    for name in split.units.keys() & ids.keys():
        vectors = split.vectors.get(name)
        if isinstance(vectors, EncoderWindows):
            arrays = collect_encoder_windows(ids[name], split.units[name], vectors)
            ids[name], ids[name + UNITS], ids[name + TEXTS] = arrays
        elif vectors is not None:
            ids[name], ids[name + UNITS] = average_vectors(ids[name], split.units[name], vectors)
        else:
            ids[name], ids[name + UNITS] = number_distinct_tokens(ids[name], split.units[name])
    if tags := [name for name in features if name in split.tags]:
        source, ids = prepend_tags(tags, source, ids, features)
    places, real = split.target.locate_cells(indices)
    target_out = padded(split.target.values)
    target_in = target_out.roll(1, dims=1).masked_fill(target_out == PAD, PAD)
    target_in[:, 0] = BOS
    cells = torch.from_numpy(np.flatnonzero(real))
    return Batch(indices.tolist(), source, ids, target_in, target_out, cells, len(cells))


def prepend_tags(
    tags: Sequence[str], source: Tensor, ids: dict[str, Tensor], features: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Put a token before each sentence for each of these features, which alone has a value there.

        source    7 5 3 EOS           BOS BOS 7 5 3 EOS
        domain    4 4 4 END            0   4  0 0 0  0      the last one of `tags` stands first
        formality 6 6 6 END     ->     6   0  0 0 0  0
        others    9 8 9 END            0   0  9 8 9 END

    Padding, 0, is a zero vector: there the model reads what it reads without the feature. Other
    columns of `ids`, as units, stay.
    """
    changed = dict(ids)
    for name in features:
        front, rest = ids[name].new_zeros(len(source), len(tags)), ids[name]
        if name in tags:
            front[:, -1 - tags.index(name)] = rest[:, 0]
            rest = torch.zeros_like(rest)
        changed[name] = torch.cat([front, rest], dim=1)
    return torch.cat([source.new_full((len(source), len(tags)), BOS), source], dim=1), changed


def number_distinct_tokens(ids: Tensor, units: Ragged) -> tuple[Tensor, Tensor]:
    """A batch's own numbers for tokens with units, and the units: R rows of U at most.

    Args:
        ids: `(B, S)`, of the whole split.
        units: those of the split's distinct tokens.

    Returns:
        Numbers `(B, S)`, of rows of the units `(R, U)`, padded with 0. PAD, UNK and END are rows of
        their own, also where none is in the batch, with the number that they have everywhere.
    """
    numbers, tokens = _renumber(ids)
    where, real = units.locate_cells(tokens)
    end, columns = FIRST + len(tokens), max(1, real.shape[1])
    padded = np.zeros((end + -end % SHAPE_STEPS[0], columns + -columns % SHAPE_STEPS[1]), np.int64)
    padded[UNK, 0], padded[END, 0] = UNK, END
    padded[FIRST:end, : real.shape[1]] = np.where(real, units.values[where], PAD)
    return numbers, torch.from_numpy(padded)


def average_vectors(ids: Tensor, units: Ragged, vectors: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """A batch's own numbers for tokens with vectors, and a vector `(R, width)`, float32, of each.

    `units` has the rows of `vectors` of which a token's is the mean, at least one; otherwise as
    `number_distinct_tokens`. The first rows, those of PAD, UNK and END, are 0.
    """
    numbers, tokens = _renumber(ids)
    end = FIRST + len(tokens)
    mean_vectors = np.zeros((end + -end % SHAPE_STEPS[0], vectors.shape[1]), np.float32)
    if len(tokens):
        where, real = units.locate_cells(tokens)
        rows, counts = np.unique(units.values[where[real]], return_inverse=True), real.sum(axis=1)
        read = vectors[rows[0]].astype(np.float32)[rows[1]]
        sums = np.add.reduceat(read, np.cumsum(counts) - counts)
        mean_vectors[FIRST:end] = sums / counts[:, None]
    return numbers, torch.from_numpy(mean_vectors)


def collect_encoder_windows(
    ids: Tensor, units: Ragged, read: EncoderWindows
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch's own numbers for tokens whose vectors an encoder in the model makes; otherwise as
    `average_vectors`.

    Returns:
        Numbers `(B, S)`; of each token `(R, K)` the places of the states whose mean it has, in the
        flattened texts, -1 where there is none; the texts `(W, L)` that the encoder reads, padded
        with -1.
    """
    numbers, tokens = _renumber(ids)
    where, real = units.locate_cells(tokens)
    places = read.places[units.values[where[real]]]
    text = np.searchsorted(read.texts.offsets, places, side="right") - 1
    rows = np.unique(text) if len(text) else np.zeros(1, np.int64)
    cells, inside = read.texts.locate_cells(rows)
    texts = np.where(inside, read.texts.values[cells], -1).astype(np.int64)
    end = FIRST + len(tokens)
    state_rows = np.full((end + -end % SHAPE_STEPS[0], max(1, real.shape[1])), -1, np.int64)
    state_cells = np.full(real.shape, -1, np.int64)
    column = places - read.texts.offsets[text]
    state_cells[real] = np.searchsorted(rows, text) * inside.shape[1] + column
    state_rows[FIRST:end, : real.shape[1]] = state_cells
    return numbers, torch.from_numpy(state_rows), torch.from_numpy(texts)


def _renumber(ids: Tensor) -> tuple[Tensor, Indices]:
    """Ids of a batch numbered from FIRST on, special ones as they are; the rows of the others."""
    distinct_ids, places = np.unique(ids.numpy(), return_inverse=True)
    special = int((distinct_ids < FIRST).sum())
    tokens = distinct_ids[special:] - FIRST
    numbers = np.concatenate([distinct_ids[:special], np.arange(FIRST, FIRST + len(tokens))])
    return torch.from_numpy(numbers[places].reshape(ids.shape)), tokens


def plan_batches(
    split: EncodedSplit, batch_tokens: int, seed: int, epoch: int, by_target: bool = False
) -> list[Indices]:
    """The batches of an epoch: random order, sorted by length, cut by budget, batches shuffled.

    A batch has at most `batch_tokens` cells: its rows times its longest sentence, of either side,
    or of the target; a sentence above the budget is a batch by itself. The number of batches is
    the same in every epoch. Only raw PCG64 numbers are used, whose stream NumPy guarantees.
    """
    random = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    order = np.argsort(random.random_raw(len(split)), kind="stable")
    order = order[np.lexsort((split.source_lengths[order], split.target_lengths[order]))]
    lengths = split.target_lengths if by_target else _measure_pairs(split)
    batches = _cut_by_budget(lengths[order], order, batch_tokens)
    return [batches[i] for i in np.argsort(random.random_raw(len(batches)), kind="stable")]


def order_batches(split: EncodedSplit, batch_tokens: int) -> list[Indices]:
    """All sentences in batches of the same budget, the longest source first."""
    order = np.lexsort((-split.target_lengths, -split.source_lengths))
    return _cut_by_budget(_measure_pairs(split)[order], order, batch_tokens)


def _measure_pairs(split: EncodedSplit) -> Indices:
    """The tokens of each pair's longer side, tags before the source among them."""
    lengths: Indices = np.maximum(split.source_lengths + len(split.tags), split.target_lengths)
    return lengths


def _cut_by_budget(lengths: Indices, order: Indices, batch_tokens: int) -> list[Indices]:
    bounds = [0]
    while (begin := bounds[-1]) < len(lengths):
        rows = lengths[begin : begin + batch_tokens // int(lengths[begin]) + 1]  # more never fit
        cells = np.maximum.accumulate(rows) * np.arange(1, len(rows) + 1)
        fit = int(np.searchsorted(cells, batch_tokens, side="right"))
        bounds.append(begin + max(1, fit))
    return np.split(order, bounds[1:-1])
