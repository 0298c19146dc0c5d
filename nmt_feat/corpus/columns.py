"""What a word's annotation says: columns as values, and their vocabularies."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from nmt_feat.corpus.conllu import NONE as NONE
from nmt_feat.corpus.conllu import Word
from nmt_feat.corpus.text import ranked
from nmt_feat.errors import UserError, near
from nmt_feat.schema import FeatureConfig

PAD, UNK, END = 0, 1, 2
FIRST = 3  # id of the first real value
INSIDE = "<inside>"
TEXT_COLUMNS = ("shape", "subword_tag")  # need words, but no annotation
ANNOTATION = ("upos", "xpos", "lemma", "deprel", "feats", "head_upos")
COLUMNS = (*ANNOTATION, *TEXT_COLUMNS)


def check(features: dict[str, FeatureConfig]) -> None:
    """Refuse unknown columns and policies, by the feature's name."""
    for name, cfg in features.items():
        if cfg.column not in COLUMNS and not re.match(r"(feats|misc)\..", cfg.column):
            known = (*COLUMNS, "feats.Case", "misc.NER")
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
    if column.startswith(("feats.", "misc.")):
        field, _, name = column.partition(".")
        return [attribute(getattr(word, field), name) for word in words]
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
    letters = [char for char in form if not unicodedata.category(char).startswith("M")]  # accents
    classes = [
        "X" if char.isupper() else "x" if char.isalpha() else "d" if char.isnumeric() else char
        for char in letters
    ]
    return "".join(kind for kind, _ in groupby(classes)) or NONE


def spaced(text: str) -> tuple[Word, ...]:
    """Words between spaces with no annotation but their span."""
    return tuple(Word(m[0], m.start(), m.end()) for m in re.finditer(r"\S+", text))


@dataclass(frozen=True)
class FeatureVocab:
    """A feature as training fixed it; ids: PAD 0, UNK 1, END 2 (the end symbol's), values from 3.

    Policy `copy`: all pieces of a word carry its value; `first`: later ones are `<inside>`.
    """

    column: str
    policy: str
    values: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # in train; 0 for `<inside>`

    @classmethod
    def build(cls, cfg: FeatureConfig, counts: Counter[str]) -> FeatureVocab:
        """The most frequent values, ties by name; `first` adds the value of later pieces."""
        frequent = [(value, n) for value, n in ranked(counts) if n >= cfg.min_count]
        kept = [(INSIDE, 0)] * (cfg.policy == "first") + frequent[: cfg.max_values]
        return cls(cfg.column, cfg.policy, [v for v, _ in kept], [n for _, n in kept])

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
