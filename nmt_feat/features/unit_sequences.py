"""Features that are a sequence of units of each word or piece: characters, syllables, jamo ..."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nmt_feat.embedders.ids import END, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.features.values import FormValues
from nmt_feat.features.vocabulary import INSIDE, Code, FeatureVocab, number_tokens
from nmt_feat.text.units import split_units
from nmt_feat.text.word_values import MISSING


class UnitSequences(FormValues):
    """The units of each word or piece. A value is the token's text, the vocabulary its units'."""

    reads = "units"
    embedders = "CharCNN, Mean or Max"
    values_are_words = False
    unknown_meaning = "units that the run does not know"

    def describe_values(self) -> str:
        """What its values are, for a message."""
        return f"the units of column={self.settings.column}"

    def list_units(self, text: str) -> tuple[str, ...]:
        """The units of a token, at least one."""
        return split_units(text, self.settings.column, self.settings.n)

    def count_values(self, tokens: Counter[str]) -> Counter[str]:
        """How often each unit stands in tokens of these counts."""
        units = Counter[str]()
        for token, count in tokens.items():
            for unit in self.list_units(token):
                units[unit] += count
        return units

    def name_ids(self, vocabulary: FeatureVocab) -> None:
        """Ids are those of tokens, not of values."""

    def encode_token(self, text: str, vocabulary: FeatureVocab) -> tuple[int, ...]:
        """The ids of a token's units, at least one."""
        return tuple(vocabulary.id_of(unit) for unit in self.list_units(text))

    def encode_values(
        self, values: Sequence[str], vocabulary: FeatureVocab
    ) -> tuple[list[int], list[Code]]:
        """Ids of distinct tokens, and the units of these."""
        codes = [self.encode_token(value, vocabulary) for value in values]
        (*ids, inside), units = number_tokens([*codes, (vocabulary.id_of(INSIDE),)])
        return [PAD, UNK, END, inside, *ids], units

    def is_unknown(self, value: str, vocabulary: FeatureVocab) -> bool:
        """Whether the vocabulary lacks one of a token's units."""
        return value != MISSING and UNK in self.encode_token(value, vocabulary)

    def check_exportable(self) -> None:
        """CTranslate2 has no sequences of units."""
        raise UserError(f"{self.where}: units cannot be exported; use engine=native")


class NGrams(UnitSequences):
    """Runs of `n` characters."""

    takes = ("of", "n")
