"""Features that are sequences of units of words or pieces: characters, jamo, attributes ..."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from nmt_feat.embedders.ids import END, FIRST, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.values import AnnotationValues, FormValues
from nmt_feat.features.vocabulary import INSIDE, Code, FeatureVocab, number_tokens
from nmt_feat.text.conllu import NONE
from nmt_feat.text.units import split_units
from nmt_feat.text.word_values import MISSING


class UnitKind(FeatureKind):
    """Base class of features whose values have units. The vocabulary has the units."""

    reads = "units"
    embedders = "CharCNN, Mean, Max or Sum"
    unknown_meaning = "units that the run does not know"

    def describe_values(self) -> str:
        """What its values are, for a message."""
        return f"the units of column={self.settings.column}"

    def list_units(self, value: str) -> tuple[str, ...]:
        """The units of a value, in order."""
        raise NotImplementedError(f"{type(self).__name__} has no list_units")

    def count_values(self, tokens: Counter[str]) -> Counter[str]:
        """From the counts of tokens to the counts of units."""
        units = Counter[str]()
        for token, count in tokens.items():
            for unit in (MISSING,) if token == MISSING else self.list_units(token):
                units[unit] += count
        return units

    def name_ids(self, vocabulary: FeatureVocab) -> None:
        """None: ids stand for tokens, not for values."""

    def name_tokens(
        self, vocabulary: FeatureVocab, units: Iterable[Iterable[int]]
    ) -> list[str] | None:
        """The units of each token, with spaces between."""

        def name_unit(unit: int) -> str:
            return vocabulary.values[unit - FIRST] if unit >= FIRST else "<unk>"

        return [" ".join(map(name_unit, token)) for token in units]

    def encode_token(self, value: str, vocabulary: FeatureVocab) -> tuple[int, ...]:
        """The ids of a value's units."""
        if value == MISSING:
            return (UNK,)
        return tuple(vocabulary.id_of(unit) for unit in self.list_units(value))

    def encode_values(
        self, values: Sequence[str], vocabulary: FeatureVocab
    ) -> tuple[list[int], list[Code]]:
        """Ids of distinct tokens, and the units of each; see `FeatureKind.encode_values`."""
        codes = [self.encode_token(value, vocabulary) for value in values]
        (*ids, inside), units = number_tokens([*codes, (vocabulary.id_of(INSIDE),)])
        return [PAD, UNK, END, inside, *ids], units

    def is_unknown(self, value: str, vocabulary: FeatureVocab) -> bool:
        """Whether the vocabulary lacks one of a token's units."""
        return value != MISSING and UNK in self.encode_token(value, vocabulary)

    def check_exportable(self) -> None:
        """Refuse: CTranslate2 has no sequences of units."""
        raise UserError(f"{self.where}: units cannot be exported; use engine=native")


class UnitSequences(UnitKind, FormValues):
    """The units of the text of each word or piece; each has at least one."""

    values_are_words = False

    def list_units(self, value: str) -> tuple[str, ...]:
        """The units of a text."""
        return split_units(value, self.settings.column, self.settings.n)


class NGrams(UnitSequences):
    """Runs of `n` characters."""

    takes = ("of", "n")


class ValueUnits(UnitKind, AnnotationValues):
    """Base class of features that are units of a word's value in a column of the annotation.

    A word without a value has no units, so its embedding is zero.
    """

    takes = ("erase",)

    def refuse_constant(self, counts: Counter[str], value_count: int, annotation: str) -> None:
        """Refuse a column without any units. One is enough: only some words have it."""
        if not value_count:
            super().refuse_constant(counts or Counter({NONE: 1}), value_count, annotation)


class ValueParts(ValueUnits):
    """The parts of each value: attributes such as `Case=Nom` in `feats`, elsewhere between commas.

    A multi-word token has the parts of all its words, each part once.
    """

    def list_units(self, value: str) -> tuple[str, ...]:
        """The parts of a value."""
        separator = "|" if self.settings.column == "feats" else ","
        parts = (part for word in value.split("+") for part in word.split(separator))
        return tuple(dict.fromkeys(part for part in parts if part not in ("", NONE)))


class ValueCharacters(ValueUnits):
    """The characters of each value, such as a reading: each letter with its combining marks."""

    is_wide = True

    def list_units(self, value: str) -> tuple[str, ...]:
        """The characters of a value without white space."""
        letters: list[str] = []
        for character in "" if value == NONE else "".join(value.split()):
            if letters and unicodedata.category(character).startswith("M"):
                letters[-1] += character
            else:
                letters.append(character)
        return tuple(letters)
