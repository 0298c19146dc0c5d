"""Features that are numbers: from a column, or from the tree of heads."""

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
from nmt_feat.features.values import AnnotationValues
from nmt_feat.features.vocabulary import INSIDE, FeatureVocab, VocabularyBasis
from nmt_feat.text.conllu import NONE
from nmt_feat.text.sentences import HEAD, Booleans, DictionaryColumn, Integers, Sentences
from nmt_feat.text.word_values import MISSING, MISSING_HEAD, read_column

_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?:\+.*)?")
"""A number, and behind `+` those of the further words of a multi-word token, which are not read."""


class Numbers(AnnotationValues):
    """Numbers of a column, such as `misc.Frequency`. An id stands for a number of train.

    If train has more numbers than `bins`, its words are divided into this many equal shares, and
    the ids stand for the middles of these. Each number of a text counts as the nearest of them.
    """

    takes = ("erase", "bins")
    embedders = "Categorical or Linear"
    groups_values = True
    joins_words = False

    def check_settings(self) -> None:
        """Refuse settings that choose values, because numbers have bins instead."""
        super().check_settings()
        if (self.settings.max_values, self.settings.min_count) != (None, 1):
            raise UserError(
                f"{self.where}: numbers have no max_values or min_count; set {self.where}.bins"
            )

    @property
    def embedded_as(self) -> tuple[str, ...]:
        """An embedder may have a row for each id, or read the number of each."""
        return ("ids", "numbers")

    def identify_data(self, cache: Path) -> list[object]:
        """Also the number of bins."""
        return [*super().identify_data(cache), {"bins": self.settings.bins}]

    def describe_values(self) -> str:
        """What its values are, for a message."""
        return f"the numbers of column={self.settings.column}"

    def read_values(self, words: Sentences, vocabulary: FeatureVocab) -> DictionaryColumn:
        """The numbers as the text has them, after the dials."""
        values = self.read_numbers(words)
        for code, value in enumerate(values.values):
            if value != MISSING and not is_none(value) and parse_number(value) is None:
                word = int(np.argmax(values.codes == code))
                sentence = int(np.searchsorted(np.cumsum(words.counts), word, side="right"))
                raise UserError(
                    f"{self.where}: {short_repr(value)}, the {self.settings.column} of "
                    f"{short_repr(words.forms()[word])} in {short_repr(words.texts[sentence])}, "
                    "is not a number; correct the annotation, or write _ for no number"
                )
        return self.turn_dials(values, words, vocabulary)

    def read_numbers(self, words: Sentences) -> DictionaryColumn:
        """The number of each word as text, or `_`."""
        return read_column(words, self.settings.column)

    def build_vocabulary(self, counts: Counter[str], basis: VocabularyBasis) -> FeatureVocab:
        """The numbers that ids stand for, after `<inside>` and `_`, if the feature has these."""
        number_counts, none_count = Counter[float](), 0
        for value, count in counts.items():
            number = parse_number(value)
            if number is not None:
                number_counts[number] += count
            elif value != MISSING:
                none_count += count
        values = choose_typical(number_counts, self.settings.bins)
        typical = tuple(values)
        typical_counts = [0] * len(typical)
        for number, count in number_counts.items():
            typical_counts[find_nearest(number, typical)] += count
        if none_count:
            values, typical_counts = [NONE, *values], [none_count, *typical_counts]
        if self.settings.policy == "first":
            values, typical_counts = [INSIDE, *values], [0, *typical_counts]
        return self._make_vocabulary(values, typical_counts, basis)

    def find_id(self, value: str, vocabulary: FeatureVocab) -> int:
        """The id of the nearest number, or the id of `_` or `<inside>`."""
        number = parse_number(value)
        name_count = sum(name in (INSIDE, NONE) for name in vocabulary.values[:2])
        if number is None or name_count == len(vocabulary.values):
            return vocabulary.id_of(NONE if is_none(value) else value)
        return FIRST + name_count + find_nearest(number, tuple(vocabulary.values[name_count:]))

    def label_value(self, value: str, vocabulary: FeatureVocab) -> str | None:
        """The number of the vocabulary that the value counts as."""
        if value == MISSING:
            return value
        value_id = self.find_id(value, vocabulary)
        return vocabulary.values[value_id - FIRST] if value_id >= FIRST else None

    def prepare_embedder(
        self,
        embedder: nn.Module,
        vocabulary: FeatureVocab,
        open_encoder: Callable[[], LanguageModel | None],
    ) -> None:
        """Load the number that each id stands for."""
        if isinstance(embedder, Linear):
            embedder.load_numbers(list(map(parse_number, vocabulary.values)), vocabulary.counts)


class HeadNumbers(Numbers):
    """Numbers that the tree of heads gives to each word.

    head_position   position of the head in the sentence, from 1; 0 for the root
    head_distance   words from the word to its head, below 0 if the head comes before the word
    tree_depth      number of heads above the word; 0 for the root
    """

    @property
    def gives_heads(self) -> bool:
        """True for distances at the first piece of each word."""
        return (self.settings.column, self.settings.policy) == ("head_distance", "first")

    @property
    def annotation_column(self) -> str | None:
        """The column of heads."""
        return HEAD

    def describe_lost(self, share: float) -> str | None:
        """Also a note on a small share, since heads are found by counting the words of pieces."""
        if not self.gives_heads:
            return super().describe_lost(share)
        percent = f"{100 * share:.2g}%"  # never 0%
        return (
            f"{self.where}: {percent} of the words of train begin with no piece of their own, so "
            "that the distances of others lead to wrong words; set subword.split_at_words=true"
        )

    def read_numbers(self, words: Sentences) -> DictionaryColumn:
        """The number of each word; `_` if it has no head, or if no root is above it."""
        column = DictionaryColumn.of(words.annotation[HEAD])
        heads = np.array(list(map(int, column.values)), np.int64)[column.codes]
        first_words = np.repeat(np.cumsum(words.counts) - words.counts, words.counts)
        if self.settings.column == "head_position":
            numbers, has_number = heads, heads >= 0
        elif self.settings.column == "head_distance":
            distances = heads - 1 - (np.arange(len(heads)) - first_words)
            numbers, has_number = np.where(heads == 0, 0, distances), heads >= 0
        else:
            numbers, has_number = measure_depth(heads, first_words)
        # Two numbers below all others stand for words without a number.
        lowest = int(numbers.min(initial=0))
        stand_ins = np.where(heads == MISSING_HEAD, lowest - 2, lowest - 1)
        distinct, codes = np.unique(np.where(has_number, numbers, stand_ins), return_inverse=True)
        names = {lowest - 2: MISSING, lowest - 1: NONE}
        values = [names.get(number, str(number)) for number in distinct.tolist()]
        return DictionaryColumn(codes.astype(np.int32), values)


def measure_depth(heads: Integers, first_words: Integers) -> tuple[Integers, Booleans]:
    """How many heads are above each word, and whether the topmost is a root.

    Args:
        heads: the number of each word's head in its sentence, from 1; 0 for a root, below 0 for
            none.
        first_words: the index of the first word of each word's sentence.
    """
    depth = np.zeros(len(heads), np.int64)
    ancestors = np.arange(len(heads))
    climbs = heads > 0
    # No tree is deeper than its number of words; in a circle of heads there is no root.
    while climbs.any() and depth.max() <= len(heads):
        ancestors = np.where(climbs, first_words + heads[ancestors] - 1, ancestors)
        depth += climbs
        climbs = heads[ancestors] > 0
    return depth, heads[ancestors] == 0


def parse_number(value: str) -> float | None:
    """The number of a value, of joined words (`3+4`) the first one; None if it is not a number."""
    match = _NUMBER.fullmatch(value)
    number = float(match[1]) if match else math.inf
    return number if math.isfinite(number) else None


def is_none(value: str) -> bool:
    """Whether a value, of joined words the first one, says that there is no number."""
    return value.partition("+")[0] == NONE


def choose_typical(counts: Mapping[float, int], bins: int) -> list[str]:
    """The numbers in order; if there are more than `bins`, the middles of `bins` equal shares."""
    numbers = sorted(counts)
    if len(numbers) > bins:
        cumulative = np.cumsum([counts[number] for number in numbers])
        # The middle of share i is at (2 i + 1) / (2 bins) of the total; in whole numbers:
        middles = (2 * np.arange(bins) + 1) * cumulative[-1]
        indices = np.searchsorted(2 * bins * cumulative, middles)
        numbers = [numbers[index] for index in indices.tolist()]
    return list(dict.fromkeys(f"{number:.12g}" for number in numbers))


def find_nearest(number: float, typical: tuple[str, ...]) -> int:
    """The index of the nearest of the numbers `typical`, which are sorted; of two, the lower."""
    numbers = _parse_all(typical)
    above = bisect_left(numbers, number)
    if above in (0, len(numbers)):
        return min(above, len(numbers) - 1)
    is_lower_nearer = number - numbers[above - 1] <= numbers[above] - number
    return above - 1 if is_lower_nearer else above


@lru_cache(maxsize=64)
def _parse_all(typical: tuple[str, ...]) -> Sequence[float]:
    return tuple(map(float, typical))
