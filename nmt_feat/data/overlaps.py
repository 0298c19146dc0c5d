"""From an encoder's pieces to ours: which of them stand for the same characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmt_feat.base.ragged import Ragged
from nmt_feat.data.covers import find_following, mark_visible_characters
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import END, FIRST, UNK
from nmt_feat.encoders.states import BLOCK, EncoderInput, States
from nmt_feat.errors import UserError
from nmt_feat.text.sentences import Integers
from nmt_feat.text.subwords import Pieces, Subwords


class Overlaps(NamedTuple):
    """For each of our pieces the pieces of an encoder that its vector is the mean of."""

    counts: Integers  # (pieces,); 0 where the encoder has none for it
    rows: Integers  # of all, one behind the other: numbers of the encoder's
    gaps: NDArray[np.bool_]  # (pieces,): its letters and digits are in none of the encoder's


def overlaps(texts: Sequence[str], pieces: Pieces, counts: Integers, spans: Integers) -> Overlaps:
    """Map pieces by the visible characters of both; `counts` and `spans` are the encoder's.

    A piece without a visible character has the encoder's piece that covers its position, else the
    next one, else the last of its sentence; so has one of signs that the encoder does not read.
    """
    # All positions are those in the text of all sentences, one after another.
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    text, bases = "".join(texts), np.cumsum(lengths) - lengths
    shapes = mark_visible_characters(text)
    after = np.append(find_following(shapes), len(text))
    before = np.append(-1, np.maximum.accumulate(np.where(shapes, np.arange(len(text)), -1)))
    letters = find_following(np.fromiter(map(str.isalnum, text), bool, len(text)))

    base = np.repeat(bases, counts)
    begin, end = after[spans[:, 0] + base], before[spans[:, 1] + base] + 1
    overlapping = np.flatnonzero(begin < end)
    begin, end = begin[overlapping], end[overlapping]
    overlap_counts = np.bincount(
        np.repeat(np.arange(len(texts)), counts)[overlapping], minlength=len(texts)
    )

    base = np.repeat(bases, pieces.counts)
    starts, ends = pieces.starts + base, pieces.ends + base
    first, behind = after[starts], before[ends] + 1
    is_visible = first < behind
    low = np.searchsorted(end, first, side="right")
    high = np.searchsorted(begin, behind, side="left")
    covered = is_visible & (low < high)
    near = np.searchsorted(end, np.where(is_visible, first, starts), side="right")
    near = np.minimum(near, np.repeat(np.cumsum(overlap_counts) - 1, pieces.counts))
    gaps = np.zeros(len(starts), bool)
    gaps[is_visible] = letters[first[is_visible]] < behind[is_visible]
    gaps &= ~covered
    number = np.where(covered, high - low, np.repeat(overlap_counts > 0, pieces.counts) & ~gaps)
    low = np.where(covered, low, near)
    offset = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    return Overlaps(number, overlapping[np.repeat(low, number) + offset], gaps)


def attach_states(
    split: EncodedSplit,
    name: str,
    subwords: Subwords,
    states: States | EncoderInput,
    where: Sequence[str],
    missing: str = "error",
) -> tuple[EncodedSplit, int]:
    """The split with the feature `name`, vectors of its source; how many pieces are unknown.

    A piece that the encoder does not read is an error, which begins with its sentence's `where`,
    or unknown if `missing` says so.
    """
    bounds = np.append(0, np.cumsum(states.counts))
    texts, counts, rows, unknown = iter(split.texts("source")), [], [], 0
    for start in range(0, len(split), BLOCK):
        block = list(islice(texts, BLOCK))
        pieces = subwords.pieces(block)
        here = bounds[start], bounds[start + len(block)]
        theirs = states.counts[start : start + len(block)]
        rows_of_tokens = overlaps(block, pieces, theirs, states.spans[here[0] : here[1]])
        if rows_of_tokens.gaps.any() and missing == "error":
            piece = int(np.argmax(rows_of_tokens.gaps))
            i = int(np.searchsorted(np.cumsum(pieces.counts), piece, side="right"))
            part = block[i][pieces.starts[piece] : pieces.ends[piece]]
            raise UserError(
                f"{where[start + i]}: features.{name}: the encoder's tokeniser has no piece for "
                f"{part.strip()!r} of {block[i]!r}; give another encoder, or set "
                f"features.{name}.missing=unknown"
            )
        unknown += int(rows_of_tokens.gaps.sum())
        counts.append(rows_of_tokens.counts)
        rows.append(rows_of_tokens.rows + here[0])
    real = np.ones(len(split.source.values), bool)
    real[split.source.offsets[1:] - 1] = False  # the end symbol
    number = np.zeros(len(real), np.int64)
    number[real] = np.concatenate(counts)
    ids = np.where(number > 0, FIRST + np.arange(len(real)), UNK)
    ids[~real] = END
    tokens = Ragged(np.concatenate(rows).astype(np.int32), np.append(0, np.cumsum(number)))
    return split.with_vectors(name, ids.astype(np.int32), tokens, states.vectors), unknown
