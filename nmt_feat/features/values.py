"""Features that have one value for each word or piece."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import numpy as np

from nmt_feat.config.earlier_formats import WHOLE_VALUES
from nmt_feat.errors import UserError, suggest
from nmt_feat.features.dials import apply_dials
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.text.conllu import NONE
from nmt_feat.text.sentences import ANNOTATION, Booleans, DictionaryColumn, Sentences
from nmt_feat.text.term_insertion import COLUMN as MARKS
from nmt_feat.text.units import FORMS, KINDS, visible_characters
from nmt_feat.text.word_values import SENTENCE, read_column

CONTEXT = "context"
"""The column of an encoder's vectors."""
TEXT_COLUMNS = ("shape", "subword_tag", *KINDS, *FORMS, CONTEXT)
"""Columns that need no annotation."""
HEAD_COLUMNS = ("head_position", "head_distance", "tree_depth")
"""Columns that follow from heads."""
COLUMNS = (*(name for name in ANNOTATION if name != "misc"), *HEAD_COLUMNS, *TEXT_COLUMNS)
"""All columns, without those of keys, such as `feats.Case`."""


class AnnotationValues(FeatureKind):
    """A column of the words' annotation: `upos`, `feats.Case`, `misc.NER` ..."""

    takes: ClassVar[tuple[str, ...]] = ("erase", "classes")

    def check_column(self) -> None:
        """Refuse a column that no annotation has."""
        column = self.settings.column
        if column not in COLUMNS and not re.match(r"(feats|misc|sentence)\..", column):
            columns = (*COLUMNS, "feats.Case", "misc.NER", "sentence.formality")
            raise UserError(
                f"{self.where}.column={column}: unknown column; {suggest(column, columns)}"
            )
        if self.sentence_key == "text":
            # `# text = ...` of CoNLL-U is the sentence itself: readers take it as the text, and
            # keep no value of this key.
            raise UserError(
                f"{self.where}.column={column}: the comment `# text = ...` of CoNLL-U is the "
                "sentence itself, not a value of it; write the value under another key"
            )

    @property
    def annotation_column(self) -> str | None:
        """The column; None for values of whole sentences."""
        return self.settings.column if self.sentence_key is None else None

    @property
    def sentence_key(self) -> str | None:
        """For the column `sentence.formality`, `formality`; for columns of words, None."""
        name, _, key = self.settings.column.partition(".")
        return key if name == SENTENCE else None

    @property
    def depends_on_words(self) -> bool:
        """False for values of whole sentences."""
        return self.sentence_key is None

    @property
    def joins_words(self) -> bool:
        """False for values of whole sentences, which all words of a piece share, and for marks.

        A joined mark of terms, such as `1+1`, would be another value than `1`.
        """
        is_mark = self.settings.column == MARKS
        return self.sentence_key is None and not is_mark and super().joins_words

    def check_exportable(self) -> None:
        """Refuse a tag before the sentence: CTranslate2 reads only the pieces of the text."""
        if self.settings.policy == "tag":
            raise UserError(
                f"{self.where}.policy=tag: a tag before the sentence cannot be exported; use "
                "engine=native"
            )

    @property
    def is_wide(self) -> bool:
        """True for a lemma."""
        return self.settings.column == "lemma"

    @property
    def sennrich_width(self) -> int:
        """A lemma is wider than other features."""
        return 115 if self.settings.column == "lemma" else super().sennrich_width

    def identify_data(self, cache: Path) -> list[object]:
        """Also the dials, if any is set."""
        identity = super().identify_data(cache)
        if self.settings.column.startswith("misc."):
            identity.append(WHOLE_VALUES)
        if self.has_dials:
            identity.append({"erase": self.settings.erase, "classes": self.settings.classes})
        return identity

    def read_values(self, words: Sentences, vocabulary: FeatureVocab) -> DictionaryColumn:
        """The values of the column, after the dials."""
        return self.turn_dials(read_column(words, self.settings.column), words, vocabulary)

    def turn_dials(
        self, values: DictionaryColumn, words: Sentences, vocabulary: FeatureVocab
    ) -> DictionaryColumn:
        """Apply the dials to values; see `apply_dials`."""
        return apply_dials(values, words, vocabulary, of_sentences=self.sentence_key is not None)


class ShapeValues(FeatureKind):
    """The shape of each word: `Xx`, `d`, `Xx-d` ..."""

    def read_values(self, words: Sentences, vocabulary: FeatureVocab) -> DictionaryColumn:
        """The shape of each word."""
        return DictionaryColumn.of(words.forms()).map(find_shape)


class SubwordTags(FeatureKind):
    """The position of a piece in its word: B (begin), I (inside), E (end), O (a whole word)."""

    of_pieces = True
    sennrich_width = 5

    def _refuse_first(self) -> None:
        raise UserError(f"{self.where}.policy=first: subword_tag has a value on each piece")

    def read_piece_values(
        self, begins: Booleans, read_surfaces: Callable[[], DictionaryColumn]
    ) -> DictionaryColumn:
        """The tag of each piece."""
        return tag_pieces(begins)


class FormValues(FeatureKind):
    """A word or a piece as a whole, as it is (`form`) or in lower case (`lower`)."""

    takes: ClassVar[tuple[str, ...]] = ("of",)
    values_are_words = True
    is_wide = True

    @property
    def of_pieces(self) -> bool:
        """Whether the forms are those of pieces."""
        return self.settings.of == "piece"

    @property
    def depends_on_words(self) -> bool:
        """Whether the forms are those of words."""
        return not self.of_pieces

    def read_values(self, words: Sentences, vocabulary: FeatureVocab) -> DictionaryColumn:
        """The visible characters of each word."""
        return self._set_case(DictionaryColumn.of(words.forms()).map(visible_characters))

    def read_piece_values(
        self, begins: Booleans, read_surfaces: Callable[[], DictionaryColumn]
    ) -> DictionaryColumn:
        """The visible characters of each piece."""
        return self._set_case(read_surfaces())

    def _set_case(self, forms: DictionaryColumn) -> DictionaryColumn:
        return forms.map(str.lower) if self.settings.column == "lower" else forms


def tag_pieces(begins: Booleans) -> DictionaryColumn:
    """Tag pieces as in Sennrich & Haddow (2016); `begins`: whether each begins a word."""
    ends = np.append(begins[1:], True)
    return DictionaryColumn((2 * begins + ends).astype(np.int32), ["I", "E", "B", "O"])


def find_shape(form: str) -> str:
    """Capital letters become X, other letters x, digits d; a run becomes one character: `Xx-d`."""
    letters = [char for char in form if not unicodedata.category(char).startswith("M")]  # accents
    classes = [
        "X" if char.isupper() else "x" if char.isalpha() else "d" if char.isnumeric() else char
        for char in letters
    ]
    return "".join(letter_class for letter_class, _ in groupby(classes)) or NONE
