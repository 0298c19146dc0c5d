"""Features that are numbers: of a column, or how words hang together in the tree of their heads."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import nn

from nmt_feat.embedders.ids import FIRST
from nmt_feat.embedders.linear import Linear
from nmt_feat.encoders.states import LanguageModel
from nmt_feat.errors import UserError, short_repr
from nmt_feat.features.kind import Booleans
from nmt_feat.features.values import AnnotationValues
from nmt_feat.features.vocabulary import INSIDE, FeatureVocab, VocabularyBasis
from nmt_feat.text.conllu import NONE
from nmt_feat.text.sentences import HEAD, DictionaryColumn, Integers, Sentences
from nmt_feat.text.word_values import MISSING, MISSING_HEAD, read_column

_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?:\+.*)?")
"""A number, and those of the further words of a multi-word token, which are not read."""


class Numbers(AnnotationValues):
    """Numbers of a column, such as `misc.Frequency`. An id stands for a number of train.

    Where train has more numbers than `bins`, the ids stand for the middles of so many equal shares
    of its words. Whatever number a text has, it counts as the nearest of these.
    """

    takes = ("erase", "bins")
    embedders = "Categorical or Linear"
    groups_values = True
    joins_words = False

    def check_settings(self) -> None:
        """Refuse a choice of values, which numbers do not have."""
        super().check_settings()
        if (self.settings.max_values, self.settings.min_count) != (None, 1):
            raise UserError(
                f"{self.where}: numbers have no max_values or min_count; set {self.where}.bins"
            )

    @property
    def embedded_as(self) -> tuple[str, ...]:
        """A row for each id, or the number that it stands for."""
        return ("ids", "numbers")

    def identify_data(self, cache: Path) -> list[object]:
        """With the number of bins."""
        return [*super().identify_data(cache), {"bins": self.settings.bins}]

    def describe_values(self) -> str:
        """What its values are, for a message."""
        return f"the numbers of column={self.settings.column}"

    def read_values(self, words: Sentences, vocabulary: FeatureVocab) -> DictionaryColumn:
        """The numbers as the text has them, and as the dials leave them."""
        values = self.read_numbers(words)
        for code, value in enumerate(values.values):
            if value != MISSING and not is_none(value) and parse_number(value) is None:
                word = int(np.argmax(values.codes == code))
                sentence = int(np.searchsorted(np.cumsum(words.counts), word, side="right"))
                raise UserError(
                    f"{self.where}: {short_repr(value)} is no number, the {self.settings.column} "
                    f"of {short_repr(words.forms()[word])} in {short_repr(words.texts[sentence])}; "
                    "correct the annotation, or write _ for no number"
                )
        return self.turn_dials(values, words, vocabulary)

    def read_numbers(self, words: Sentences) -> DictionaryColumn:
        """The number of each word, written out; `_` for none."""
        return read_column(words, self.settings.column)

    def build_vocabulary(self, counts: Counter[str], basis: VocabularyBasis) -> FeatureVocab:
        """The numbers that ids stand for, after `<inside>` and `_`, where there are such."""
        numbers, without = Counter[float](), 0
        for value, count in counts.items():
            number = parse_number(value)
            if number is not None:
                numbers[number] += count
            elif value != MISSING:
                without += count
        values = choose_typical(numbers, self.settings.bins)
        typical = tuple(values)
        totals = Counter[int]()
        for number, count in numbers.items():
            totals[find_nearest(number, typical)] += count
        all_counts = [totals[i] for i in range(len(values))]
        if without:
            values, all_counts = [NONE, *values], [without, *all_counts]
        if self.settings.policy == "first":
            values, all_counts = [INSIDE, *values], [0, *all_counts]
        return self._make_vocabulary(values, all_counts, basis)

    def find_id(self, value: str, vocabulary: FeatureVocab) -> int:
        """The id of the nearest number; of `_` and `<inside>` their own."""
        number = parse_number(value)
        first = len([name for name in vocabulary.values[:2] if name in (INSIDE, NONE)])
        if number is None or first == len(vocabulary.values):
            return vocabulary.id_of(NONE if is_none(value) else value)
        return FIRST + first + find_nearest(number, tuple(vocabulary.values[first:]))

    def label_value(self, value: str, vocabulary: FeatureVocab) -> str | None:
        """The number that stands for the value."""
        if value == MISSING:
            return value
        number = self.find_id(value, vocabulary)
        return vocabulary.values[number - FIRST] if number >= FIRST else None

    def prepare_embedder(
        self,
        embedder: nn.Module,
        vocabulary: FeatureVocab,
        open_encoder: Callable[[], LanguageModel | None],
    ) -> None:
        """Say what each id stands for."""
        if isinstance(embedder, Linear):
            embedder.load_numbers(list(map(parse_number, vocabulary.values)), vocabulary.counts)


class HeadNumbers(Numbers):
    """Numbers that the tree of heads gives each word.

    head_position   place of the head in the sentence, from 1; 0 for the root
    head_distance   how many words further on the head is, below 0 where it stands before the word
    tree_depth      heads between the word and the end of the tree; 0 for the root
    """

    @property
    def gives_heads(self) -> bool:
        """Distances do, on the first piece of a word."""
        return (self.settings.column, self.settings.policy) == ("head_distance", "first")

    @property
    def annotation_column(self) -> str | None:
        """Heads."""
        return HEAD

    def describe_lost(self, share: float) -> str | None:
        """Where heads are found by counting the words that pieces begin, any word counts."""
        if not self.gives_heads:
            return super().describe_lost(share)
        return (
            f"{self.where}: {share:.1%} of the words of train begin with no piece of their own, so "
            "that the distances of others lead to wrong words; set subword.split_at_words=true"
        )

    def read_numbers(self, words: Sentences) -> DictionaryColumn:
        """The number of each word; `_` for one that has no head, or is not below a root."""
        column = DictionaryColumn.of(words.annotation[HEAD])
        heads = np.array(list(map(int, column.values)), np.int64)[column.codes]
        first = np.repeat(np.cumsum(words.counts) - words.counts, words.counts)
        if self.settings.column == "head_position":
            numbers, has_number = heads, heads >= 0
        elif self.settings.column == "head_distance":
            distance = heads - 1 - (np.arange(len(heads)) - first)
            numbers, has_number = np.where(heads == 0, 0, distance), heads >= 0
        else:
            numbers, has_number = measure_depth(heads, first)
        # Names for numbers: what has none is below all of them.
        lowest = int(numbers.min(initial=0))
        without = np.where(heads == MISSING_HEAD, lowest - 2, lowest - 1)
        coded = np.where(has_number, numbers, without)
        distinct, codes = np.unique(coded, return_inverse=True)
        names = {lowest - 2: MISSING, lowest - 1: NONE}
        values = [names.get(number, str(number)) for number in distinct.tolist()]
        return DictionaryColumn(codes.astype(np.int32), values)


def measure_depth(heads: Integers, first: Integers) -> tuple[Integers, Booleans]:
    """How many heads are above each word, and whether the last of them is a root.

    Args:
        heads: numbers of heads, from 1, in each word's sentence; 0 for a root, below 0 for none.
        first: the place of the first word of each word's sentence.
    """
    depth = np.zeros(len(heads), np.int64)
    above = np.arange(len(heads))
    climbs = heads > 0
    while climbs.any() and depth.max() <= len(heads):  # no tree is deeper; a circle has no root
        above = np.where(climbs, first + heads[above] - 1, above)
        depth += climbs
        climbs = heads[above] > 0
    return depth, heads[above] == 0


def parse_number(value: str) -> float | None:
    """The number that a value begins with, if it is one; of `3+4`, of joined words, the first."""
    match = _NUMBER.fullmatch(value)
    number = float(match[1]) if match else math.inf
    return number if math.isfinite(number) else None


def is_none(value: str) -> bool:
    """Whether a value, or the first one of joined words, says that there is no number."""
    return value.partition("+")[0] == NONE


def choose_typical(counts: Mapping[float, int], bins: int) -> list[str]:
    """The numbers, or the middles of `bins` equal shares of them where they are more, in order."""
    numbers = sorted(counts)
    if len(numbers) > bins:
        cumulative = np.cumsum([counts[number] for number in numbers])
        middles = (2 * np.arange(bins) + 1) * cumulative[-1]  # in shares of 2 * bins
        indices = np.searchsorted(2 * bins * cumulative, middles)
        numbers = [numbers[index] for index in indices.tolist()]
    return list(dict.fromkeys(f"{number:.12g}" for number in numbers))


def find_nearest(number: float, typical: tuple[str, ...]) -> int:
    """The place of the nearest of some numbers, which are in order; the lower one of two."""
    numbers = _parse_all(typical)
    above = bisect_left(numbers, number)
    if above in (0, len(numbers)):
        return min(above, len(numbers) - 1)
    is_lower_nearer = number - numbers[above - 1] <= numbers[above] - number
    return above - 1 if is_lower_nearer else above


@lru_cache(maxsize=64)
def _parse_all(typical: tuple[str, ...]) -> Sequence[float]:
    return tuple(map(float, typical))
