"""Batches by a budget of tokens, the same on every machine."""

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
"""Units have multiples of these as rows and columns: oneDNN compiles a kernel for each shape."""


def collate(split: EncodedSplit, indices: Indices, features: Sequence[str]) -> Batch:
    """Make the batch of these sentences with these features."""

    def pad(values: NDArray[np.int32], cells: Indices, real: NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(np.where(real, values[cells], PAD).astype(np.int64))

    cells, real = split.source.locate_cells(indices)
    source = pad(split.source.values, cells, real)
    ids = {name: pad(split.features[name], cells, real) for name in features}
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
    cells, real = split.target.locate_cells(indices)
    target_out = pad(split.target.values, cells, real)
    target_in = target_out.roll(1, dims=1).masked_fill(target_out == PAD, PAD)
    target_in[:, 0] = BOS
    real_positions = torch.from_numpy(np.flatnonzero(real))
    return Batch(
        indices.tolist(),
        source,
        ids,
        target_in,
        target_out,
        real_positions,
        tokens=len(real_positions),
    )


def prepend_tags(
    tags: Sequence[str], source: Tensor, ids: dict[str, Tensor], features: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Put a token for each of `tags` before each sentence; only this token has the tag's value.

        source    7 5 3 EOS           BOS BOS 7 5 3 EOS
        domain    4 4 4 END            0   4  0 0 0  0      the last one of `tags` stands first
        formality 6 6 6 END     ->     6   0  0 0 0  0
        others    9 8 9 END            0   0  9 8 9 END

    Padding, 0, is embedded as a zero vector, as if the feature were not there. Further entries of
    `ids`, such as units, stay the same.
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
    """Number the distinct tokens of a batch, and collect the units of each.

    Args:
        ids: `(B, S)`, the ids of tokens in the whole split.
        units: the units of the split's distinct tokens.

    Returns:
        Numbers `(B, S)` of tokens in the batch; and the units `(R, U)` of these, padded with 0.
        The rows PAD, UNK and END are always there.
    """
    numbers, tokens = _renumber(ids)
    cells, real = units.locate_cells(tokens)
    end, columns = FIRST + len(tokens), max(1, real.shape[1])
    padded = np.zeros(
        (_round_up(end, SHAPE_STEPS[0]), _round_up(columns, SHAPE_STEPS[1])), np.int64
    )
    padded[UNK, 0], padded[END, 0] = UNK, END
    padded[FIRST:end, : real.shape[1]] = np.where(real, units.values[cells], PAD)
    return numbers, torch.from_numpy(padded)


def average_vectors(ids: Tensor, units: Ragged, vectors: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Number the distinct tokens of a batch, and average the vectors of each.

    Args:
        ids: `(B, S)`, the ids of tokens in the whole split.
        units: for each distinct token, its rows of `vectors`, at least one.
        vectors: the states of an encoder.

    Returns:
        Numbers `(B, S)` of tokens in the batch; and a vector for each, `(R, width)` in float32. The
        rows PAD, UNK and END are 0.
    """
    numbers, tokens = _renumber(ids)
    end = FIRST + len(tokens)
    mean_vectors = np.zeros((_round_up(end, SHAPE_STEPS[0]), vectors.shape[1]), np.float32)
    if len(tokens):
        cells, real = units.locate_cells(tokens)
        counts = real.sum(axis=1)
        # Each row is read from disk once.
        rows, inverse = np.unique(units.values[cells[real]], return_inverse=True)
        token_vectors = vectors[rows].astype(np.float32)[inverse]
        sums = np.add.reduceat(token_vectors, np.cumsum(counts) - counts)
        mean_vectors[FIRST:end] = sums / counts[:, None]
    return numbers, torch.from_numpy(mean_vectors)


def collect_encoder_windows(
    ids: Tensor, units: Ragged, windows: EncoderWindows
) -> tuple[Tensor, Tensor, Tensor]:
    """Number the distinct tokens of a batch, and collect the texts that an encoder reads for them.

    Args:
        ids: `(B, S)`, the ids of tokens in the whole split.
        units: for each distinct token, the indices of its states in `windows.places`.
        windows: the texts that the encoder reads.

    Returns:
        Numbers `(B, S)` of tokens in the batch; for each token the positions of its states in the
        flattened texts, `(R, K)`, filled up with -1; and the texts `(W, L)`, filled up with -1.
    """
    numbers, tokens = _renumber(ids)
    cells, real = units.locate_cells(tokens)
    places = windows.places[units.values[cells[real]]]
    # Which text each place is in. The batch has only these texts, its rows; at least one.
    texts_of_places = np.searchsorted(windows.texts.offsets, places, side="right") - 1
    rows = np.unique(texts_of_places) if len(places) else np.zeros(1, np.int64)
    text_cells, inside = windows.texts.locate_cells(rows)
    texts = np.where(inside, windows.texts.values[text_cells], -1).astype(np.int64)
    columns = places - windows.texts.offsets[texts_of_places]
    states = np.full(real.shape, -1, np.int64)
    states[real] = np.searchsorted(rows, texts_of_places) * inside.shape[1] + columns
    end = FIRST + len(tokens)
    positions = np.full((_round_up(end, SHAPE_STEPS[0]), max(1, real.shape[1])), -1, np.int64)
    positions[FIRST:end, : real.shape[1]] = states
    return numbers, torch.from_numpy(positions), torch.from_numpy(texts)


def _renumber(ids: Tensor) -> tuple[Tensor, Indices]:
    """Number the distinct ids of a batch from FIRST on; special ids keep their numbers.

    Returns:
        The numbers `(B, S)`; and for the numbers from FIRST on, the tokens' rows in the split.
    """
    distinct_ids, inverse = np.unique(ids.numpy(), return_inverse=True)
    special_count = int((distinct_ids < FIRST).sum())
    tokens = distinct_ids[special_count:] - FIRST
    numbers = np.concatenate([distinct_ids[:special_count], np.arange(FIRST, FIRST + len(tokens))])
    return torch.from_numpy(numbers[inverse].reshape(ids.shape)), tokens


def _round_up(size: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `size`."""
    return size + -size % step


def plan_batches(
    split: EncodedSplit, batch_tokens: int, seed: int, epoch: int, by_target: bool = False
) -> list[Indices]:
    """The batches of an epoch: random order, sorted by length, cut by budget, batches shuffled.

    A batch has at most `batch_tokens` cells: its rows times its longest sentence, of both sides or,
    if `by_target`, of the target. A sentence above the budget is a batch by itself. The number of
    batches is the same in every epoch. All random numbers are raw numbers of PCG64, because NumPy
    guarantees only their stream.
    """
    random = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    order = np.argsort(random.random_raw(len(split)), kind="stable")
    order = order[np.lexsort((split.source_lengths[order], split.target_lengths[order]))]
    lengths = split.target_lengths if by_target else _measure_pairs(split)
    batches = _cut_by_budget(lengths[order], order, batch_tokens)
    return [batches[i] for i in np.argsort(random.random_raw(len(batches)), kind="stable")]


def order_batches(split: EncodedSplit, batch_tokens: int) -> list[Indices]:
    """All sentences in batches by budget, the longest sources first."""
    order = np.lexsort((-split.target_lengths, -split.source_lengths))
    return _cut_by_budget(_measure_pairs(split)[order], order, batch_tokens)


def _measure_pairs(split: EncodedSplit) -> Indices:
    """The number of tokens of each pair's longer side, with tags before the source."""
    lengths: Indices = np.maximum(split.source_lengths + len(split.tags), split.target_lengths)
    return lengths


def _cut_by_budget(lengths: Indices, order: Indices, batch_tokens: int) -> list[Indices]:
    """Cut the sentences `order`, of these lengths, into batches of at most `batch_tokens` cells."""
    bounds = [0]
    while (begin := bounds[-1]) < len(lengths):
        most = batch_tokens // int(lengths[begin]) + 1  # more never fit
        rows = lengths[begin : begin + most]
        cells = np.maximum.accumulate(rows) * np.arange(1, len(rows) + 1)
        fitting = int(np.searchsorted(cells, batch_tokens, side="right"))
        bounds.append(begin + max(1, fitting))
    return np.split(order, bounds[1:-1])
