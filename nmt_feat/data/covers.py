"""Pieces that cover more than one word, such as Korean pieces that cover morphemes.

With `cover=join` a piece gets the values of all words that have a visible character in it, joined
in order (`PROPN+ADP`), like the values of a multi-word token:

    text      톰은            학교에
    words     톰     은       학교    에
    upos      PROPN  ADP      NOUN    ADP
    pieces    ▁톰은           ▁학  교에
    first     PROPN           NOUN NOUN       the values of 은 and 에 are lost
    join      PROPN+ADP       NOUN NOUN+ADP

A word that is cut into several pieces gives its value to each of them. With `policy=first` the
first piece of a word gets the values of all words that the word's pieces cover. The vocabulary is
built from the joined values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from nmt_feat.text.conllu import NONE
from nmt_feat.text.sentences import Booleans, DictionaryColumn, Integers, Sentences, slice_texts
from nmt_feat.text.subwords import Pieces
from nmt_feat.text.units import visible_characters
from nmt_feat.text.word_values import MISSING

NOWHERE = -1
"""The word of a piece, if its sentence has no words."""


class Covers(NamedTuple):
    """Runs of words whose values pieces get. Words are numbered over all sentences."""

    first: Integers  # (covers,) the first word of each cover
    last: Integers  # (covers,) the last word of each cover
    counts: Integers  # (sentences,) the number of covers of each sentence
    of_piece: Integers  # (pieces,) the number of each piece's cover; `NOWHERE` without words

    @classmethod
    def of(cls, owner: Integers, last: Integers, counts: Integers, policy: str) -> Covers:
        """The covers of pieces, adjacent equal ones once.

        Args:
            owner, last: the first and the last word of each piece.
            counts: the number of pieces of each sentence.
            policy: with `first`, all pieces that begin with the same word share a cover.
        """
        changes = np.diff(owner, prepend=NOWHERE - 1) != 0
        if policy == "copy":
            changes |= np.diff(last, prepend=NOWHERE - 1) != 0
        has_word = owner != NOWHERE
        begins = changes & has_word
        of_piece = np.where(has_word, np.cumsum(begins) - 1, NOWHERE)
        last_words = np.zeros(begins.sum(), np.int64)
        np.maximum.at(last_words, of_piece[has_word], last[has_word])
        sentences = np.repeat(np.arange(len(counts)), counts)[begins]
        cover_counts = np.bincount(sentences, minlength=len(counts))
        return cls(owner[begins], last_words, cover_counts, of_piece)

    def join(self, values: DictionaryColumn) -> DictionaryColumn:
        """Join the values of each cover's words."""
        names, codes = values.values, values.codes.tolist()
        spans = zip(self.first.tolist(), self.last.tolist(), strict=True)
        return DictionaryColumn.of(
            [join_values(names[c] for c in codes[a : b + 1]) for a, b in spans]
        )

    def forms(self, sentences: Sentences) -> list[str]:
        """The text of each cover, from its first to its last word."""
        starts, ends = sentences.starts[self.first], sentences.ends[self.last]
        return slice_texts(sentences.texts, self.counts, starts, ends)


def join_values(values: Iterable[str]) -> str:
    """Join values with `+`; if all are `_`, or all are missing, that value stands once."""
    parts = list(values)
    return parts[0] if set(parts) in ({NONE}, {MISSING}) else "+".join(parts)


def join_texts(texts: Sequence[str]) -> tuple[str, Integers]:
    """Join texts to one, so that a position is enough to name a character of any text.

    Returns:
        The one text; and for each of `texts`, the position at which it begins in it.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return "".join(texts), np.cumsum(lengths) - lengths


def mark_visible_characters(text: str) -> Booleans:
    """Whether each character is visible."""
    table = np.zeros(0x110000, bool)
    table[list(map(ord, visible_characters("".join(set(text)))))] = True
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    shapes: Booleans = table[codes]
    return shapes


def find_following(true: Booleans) -> Integers:
    """For each position, the nearest position from there on that is true; else the length."""
    positions = np.where(true, np.arange(len(true)), len(true))
    following: Integers = np.minimum.accumulate(positions[::-1])[::-1]
    return following


def find_preceding(true: Booleans) -> Integers:
    """For each position and the end, the nearest position before it that is true; else -1."""
    positions = np.where(true, np.arange(len(true)), -1)
    return np.append(-1, np.maximum.accumulate(positions))


def find_last_word_of_piece(pieces: Pieces, sentences: Sentences, owner: Integers) -> Integers:
    """For each piece, find the last word that has a visible character in it.

    `owner` is the first such word; for a piece without a visible character it is also the last.
    """
    text, bases = join_texts(sentences.texts)
    visible_before = find_preceding(mark_visible_characters(text))
    last_visible = visible_before[pieces.ends + np.repeat(bases, pieces.counts)]
    starts = sentences.starts + np.repeat(bases, sentences.counts)
    # The last word that begins at or before the piece's last visible character.
    words = np.searchsorted(starts, last_visible, side="right") - 1
    last: Integers = np.where(owner == NOWHERE, NOWHERE, np.maximum(owner, words))
    return last


def count_words_without_piece(first: Integers, last: Integers, words: int) -> int:
    """Count the words that no piece covers; `first`, `last`: the words of each piece."""
    real = first != NOWHERE
    # The number of pieces that cover a word rises at their first words, and falls behind the last.
    changes = np.bincount(first[real], minlength=words + 1)
    changes -= np.bincount(last[real] + 1, minlength=words + 1)
    return int(np.count_nonzero(np.cumsum(changes)[:words] == 0))
