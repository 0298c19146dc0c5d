"""Pieces that cover more than one word, as Korean pieces cover morphemes.

With `cover=join` a piece carries the values of all words that have a visible character in it, from
the first to the last, joined in order (`PROPN+ADP`), as the words of a multi-word token are:

    text      톰은            학교에
    words     톰     은       학교    에
    upos      PROPN  ADP      NOUN    ADP
    pieces    ▁톰은           ▁학  교에
    first     PROPN           NOUN NOUN       the values of 은 and 에 are lost
    join      PROPN+ADP       NOUN NOUN+ADP

A word that is cut into several pieces gives its value to each of them. With `policy=first` the
first piece of a word carries the values of all words that the word's pieces cover. The values that
are counted, and of which the vocabulary is built, are the joined ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmt_feat.text.conllu import NONE
from nmt_feat.text.sentences import DictionaryColumn, Integers, Sentences, slice_texts
from nmt_feat.text.subwords import Pieces
from nmt_feat.text.units import visible_characters
from nmt_feat.text.word_values import MISSING

Booleans = NDArray[np.bool_]

NOWHERE = -1  # the word of a piece of a sentence without words


class Covers(NamedTuple):
    """Runs of words of which pieces carry the values; words are numbered over all sentences."""

    first: Integers  # (covers,) the first word of each
    last: Integers  # (covers,) and its last one
    counts: Integers  # covers of each sentence
    of_piece: Integers  # (pieces,) the number of each piece's cover; `NOWHERE` without words

    @classmethod
    def of(cls, owner: Integers, last: Integers, counts: Integers, policy: str) -> Covers:
        """Those of pieces by their first and last words; `counts`: pieces of each sentence.

        With the policy `first` all pieces that begin with the same word have one.
        """
        changes = np.diff(owner, prepend=NOWHERE - 1) != 0
        if policy == "copy":
            changes |= np.diff(last, prepend=NOWHERE - 1) != 0
        begins = changes & (owner != NOWHERE)
        of_piece = np.where(owner == NOWHERE, NOWHERE, np.cumsum(begins) - 1)
        behind = np.zeros(begins.sum(), np.int64)
        np.maximum.at(behind, of_piece[owner != NOWHERE], last[owner != NOWHERE])
        sentence = np.repeat(np.arange(len(counts)), counts)[begins]
        per_sentence = np.bincount(sentence, minlength=len(counts))
        return cls(owner[begins], behind, per_sentence, of_piece)

    def join(self, values: DictionaryColumn) -> DictionaryColumn:
        """The value of each cover, of the values of all words."""
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
    """`PROPN+ADP`; where no word has a value, or all lack one, that is said once."""
    parts = list(values)
    return parts[0] if set(parts) in ({NONE}, {MISSING}) else "+".join(parts)


def mark_visible_characters(text: str) -> Booleans:
    """Of each character whether it has a shape."""
    table = np.zeros(0x110000, bool)
    table[list(map(ord, visible_characters("".join(set(text)))))] = True
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    shapes: Booleans = table[codes]
    return shapes


def find_following(true: Booleans) -> Integers:
    """For each place the next one, itself or later, that is true; else the length."""
    places = np.where(true, np.arange(len(true)), len(true))
    following: Integers = np.minimum.accumulate(places[::-1])[::-1]
    return following


def find_last_word_of_piece(pieces: Pieces, sentences: Sentences, owner: Integers) -> Integers:
    """For each piece the number of the last word that has a visible character in it.

    `owner` is the first one, which it is for a piece without a visible character, too.
    """
    # All positions are those in the text of all sentences, one after another.
    lengths = np.fromiter(map(len, sentences.texts), np.int64, len(sentences))
    text, bases = "".join(sentences.texts), np.cumsum(lengths) - lengths
    places = np.where(mark_visible_characters(text), np.arange(len(text)), -1)
    # The last visible one before a place.
    before = np.append(-1, np.maximum.accumulate(places))
    base = np.repeat(bases, pieces.counts)
    at = before[pieces.ends + base]
    starts = sentences.starts + np.repeat(bases, sentences.counts)
    # The last word that begins at or before the piece's last visible character.
    word = np.searchsorted(starts, at, side="right") - 1
    last: Integers = np.where(owner == NOWHERE, NOWHERE, np.maximum(owner, word))
    return last


def count_words_without_piece(first: Integers, last: Integers, words: int) -> int:
    """How many of the words are between no piece's first and last one."""
    real = first != NOWHERE
    change = np.bincount(first[real], minlength=words + 1)
    change -= np.bincount(last[real] + 1, minlength=words + 1)
    return int(np.count_nonzero(np.cumsum(change)[:words] == 0))
