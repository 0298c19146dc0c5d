"""From the pieces of an encoder to those of a run: which of them share characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from nmt_feat.base.ragged import Ragged
from nmt_feat.data.covers import (
    find_following,
    find_preceding,
    join_texts,
    mark_visible_characters,
)
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import END, FIRST, UNK
from nmt_feat.encoders.states import EncoderInput, States
from nmt_feat.encoders.stored_states import BLOCK
from nmt_feat.errors import UserError
from nmt_feat.text.sentences import Booleans, Integers
from nmt_feat.text.subwords import Pieces, Subwords


class Overlaps(NamedTuple):
    """For each piece of a run, the encoder's pieces whose states' mean is its vector."""

    counts: Integers  # (pieces,) how many pieces of the encoder; 0 if it has none
    rows: Integers  # their numbers, for all pieces one after another
    gaps: Booleans  # (pieces,) whether no piece of the encoder has its letters and digits


def find_overlaps(
    texts: Sequence[str], pieces: Pieces, counts: Integers, spans: Integers
) -> Overlaps:
    """Find for each piece the encoder's pieces that share a visible character with it.

    A piece without a visible character gets the encoder's piece that covers its position, else the
    next one, else the last of its sentence. So does a piece of signs that the encoder skips.

    Args:
        texts: the sentences.
        pieces: their pieces in the run.
        counts: how many pieces each sentence has in the encoder.
        spans: `(encoder's pieces, 2)`, where these begin and end in their sentences.
    """
    text, bases = join_texts(texts)
    is_shape = mark_visible_characters(text)
    next_visible = np.append(find_following(is_shape), len(text))
    visible_before = find_preceding(is_shape)
    next_letter = find_following(np.fromiter(map(str.isalnum, text), bool, len(text)))

    # The encoder's pieces from their first to their last visible character, those that have one.
    base = np.repeat(bases, counts)
    begin, end = next_visible[spans[:, 0] + base], visible_before[spans[:, 1] + base] + 1
    visible_rows = np.flatnonzero(begin < end)
    begin, end = begin[visible_rows], end[visible_rows]
    sentences = np.repeat(np.arange(len(texts)), counts)[visible_rows]
    row_counts = np.bincount(sentences, minlength=len(texts))

    # Ours in the same way. The encoder's pieces `low` to `high` overlap with each.
    base = np.repeat(bases, pieces.counts)
    starts, ends = pieces.starts + base, pieces.ends + base
    first, behind = next_visible[starts], visible_before[ends] + 1
    is_visible = first < behind
    low = np.searchsorted(end, first, side="right")
    high = np.searchsorted(begin, behind, side="left")
    is_covered = is_visible & (low < high)

    # The others take the nearest, unless they have letters or digits that the encoder lacks.
    nearest = np.searchsorted(end, np.where(is_visible, first, starts), side="right")
    nearest = np.minimum(nearest, np.repeat(np.cumsum(row_counts) - 1, pieces.counts))
    gaps = np.zeros(len(starts), bool)
    gaps[is_visible] = next_letter[first[is_visible]] < behind[is_visible]
    gaps &= ~is_covered
    has_nearest = np.repeat(row_counts > 0, pieces.counts) & ~gaps
    number = np.where(is_covered, high - low, has_nearest)
    low = np.where(is_covered, low, nearest)
    offset = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    return Overlaps(number, visible_rows[np.repeat(low, number) + offset], gaps)


def attach_states(
    split: EncodedSplit,
    name: str,
    subwords: Subwords,
    states: States | EncoderInput,
    where: Sequence[str],
    missing: str = "error",
) -> tuple[EncodedSplit, int]:
    """Add to a split the feature `name`, vectors of an encoder.

    Args:
        split: the split.
        name: the feature.
        subwords: cut the source into pieces.
        states: the states of the split's sentences.
        where: by sentence, how messages name it.
        missing: if `error`, a piece that the encoder does not read is an error; else it is unknown.

    Returns:
        The split with the feature, and how many pieces are unknown.
    """
    bounds = np.append(0, np.cumsum(states.counts))
    texts, counts, rows, unknown = iter(split.texts("source")), [], [], 0
    for start in range(0, len(split), BLOCK):
        block = list(islice(texts, BLOCK))
        pieces = subwords.pieces(block)
        first_row, end_row = bounds[start], bounds[start + len(block)]
        state_counts = states.counts[start : start + len(block)]
        overlaps = find_overlaps(block, pieces, state_counts, states.spans[first_row:end_row])
        if overlaps.gaps.any() and missing == "error":
            piece = int(np.argmax(overlaps.gaps))
            i = int(np.searchsorted(np.cumsum(pieces.counts), piece, side="right"))
            part = block[i][pieces.starts[piece] : pieces.ends[piece]]
            raise UserError(
                f"{where[start + i]}: features.{name}: the encoder's tokeniser has no piece for "
                f"{part.strip()!r} of {block[i]!r}; give another encoder, or set "
                f"features.{name}.missing=unknown"
            )
        unknown += int(overlaps.gaps.sum())
        counts.append(overlaps.counts)
        rows.append(overlaps.rows + first_row)
    is_piece = np.ones(len(split.source.values), bool)
    is_piece[split.source.offsets[1:] - 1] = False  # end symbols
    row_counts = np.zeros(len(is_piece), np.int64)
    row_counts[is_piece] = np.concatenate(counts)
    ids = np.where(row_counts > 0, FIRST + np.arange(len(is_piece)), UNK)
    ids[~is_piece] = END
    tokens = Ragged(np.concatenate(rows).astype(np.int32), np.append(0, np.cumsum(row_counts)))
    return split.with_vectors(name, ids.astype(np.int32), tokens, states.vectors), unknown
