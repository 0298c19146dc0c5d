"""What a word's annotation says: columns as values, and their vocabularies."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from nmt_feat.corpus.conllu import Word
from nmt_feat.errors import UserError, near
from nmt_feat.schema import FeatureConfig

PAD, UNK, END = 0, 1, 2
FIRST = 3  # id of the first real value
INSIDE = "<inside>"
NONE = "_"
TEXT_COLUMNS = ("shape", "subword_tag")  # need words, but no annotation
COLUMNS = ("upos", "xpos", "lemma", "deprel", "feats", "head_upos", *TEXT_COLUMNS)


def check(features: dict[str, FeatureConfig]) -> None:
    """Refuse unknown columns and policies, by the feature's name."""
    for name, cfg in features.items():
        if cfg.column not in COLUMNS and not re.match(r"feats\..", cfg.column):
            known = (*COLUMNS, "feats.Case")
            raise UserError(
                f"features.{name}.column={cfg.column}: unknown column; {near(cfg.column, known)}"
            )
        if cfg.policy not in ("copy", "first"):
            raise UserError(f"features.{name}.policy={cfg.policy}: one of copy, first")
        if cfg.column == "subword_tag" and cfg.policy == "first":
            raise UserError(f"features.{name}.policy=first: subword_tag has a value on each piece")


def needs_annotation(features: dict[str, FeatureConfig]) -> bool:
    """Whether any feature needs more than the text itself."""
    return any(cfg.column not in TEXT_COLUMNS for cfg in features.values())


def values(words: Sequence[Word], column: str) -> list[str]:
    """The column's value of each word, `_` for none. Not for `subword_tag` (values of pieces)."""
    if column.startswith("feats."):
        return [attribute(word.feats, column.removeprefix("feats.")) for word in words]
    if column == "shape":
        return [shape(word.form) for word in words]
    return [getattr(word, column) or NONE for word in words]


def attribute(feats: str, name: str) -> str:
    """`Case` of `Case=Nom|Number=Sing`; of joined words (`_+Case=Dat`) joined: `_+Dat`."""
    parts = [
        dict(item.partition("=")[::2] for item in part.split("|")) for part in feats.split("+")
    ]
    found = [part.get(name) or NONE for part in parts]
    return NONE if set(found) == {NONE} else "+".join(found)


def shape(form: str) -> str:
    """Capital letters X, other letters x, digits d, the rest as it is; runs as one: `Xx-d`."""
    out = ""
    for char in form:
        if unicodedata.category(char).startswith("M"):
            continue  # an accent of its own belongs to the letter before
        if char.isupper():
            char = "X"
        elif char.isalpha():
            char = "x"
        elif char.isnumeric():
            char = "d"
        if not out.endswith(char):
            out += char
    return out or NONE


def spaced(text: str) -> tuple[Word, ...]:
    """Words between spaces with no annotation but their span."""
    return tuple(Word(m[0], m.start(), m.end()) for m in re.finditer(r"\S+", text))


@dataclass(frozen=True)
class FeatureVocab:
    """Values of a feature and their ids: PAD 0, UNK 1, END 2 (the end symbol's), values from 3."""

    values: list[str]
    counts: list[int]
    """Occurrences in train (words; pieces for `subword_tag`; 0 for `<inside>`)."""

    @classmethod
    def build(
        cls, counts: Counter[str], max_values: int | None, min_count: int, inside: bool
    ) -> FeatureVocab:
        """The most frequent values, ties by name; `inside` adds the value of later pieces."""
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [(INSIDE, 0)] * inside + [(v, n) for v, n in ranked if n >= min_count][:max_values]
        return cls([value for value, _ in kept], [count for _, count in kept])

    @property
    def size(self) -> int:
        """Number of ids: rows of an embedding table."""
        return FIRST + len(self.values)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {value: i for i, value in enumerate(self.values, FIRST)}

    def id(self, value: str) -> int:
        """The value's id, UNK where it is unknown."""
        return self._ids.get(value, UNK)
