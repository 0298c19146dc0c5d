"""What a word's annotation says: columns as values, and their vocabularies."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
        if cfg.column not in COLUMNS and not cfg.column.startswith("feats."):
            known = (*COLUMNS, "feats.Case")
            raise UserError(
                f"features.{name}.column={cfg.column}: unknown column; {near(cfg.column, known)}"
            )
        if cfg.column == "feats.":
            raise UserError(f"features.{name}.column=feats.: name an attribute, as in feats.Case")
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
        return [attribute(word.feats, column[6:]) for word in words]
    if column == "shape":
        return [shape(word.form) for word in words]
    return [getattr(word, column) or NONE for word in words]


def attribute(feats: str, name: str) -> str:
    """`Case` of `Case=Nom|Number=Sing`; of joined words (`_+Case=Dat`) joined: `_+Dat`."""
    found = [
        next((item[len(name) + 1 :] for item in word.split("|") if item.startswith(name + "=")), "")
        for word in feats.split("+")
    ]
    return "+".join(value or NONE for value in found) if any(found) else NONE


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
    words, start = [], 0
    for form in text.split():
        start = text.index(form, start)
        end = start + len(form)
        words.append(Word(form, start, end))
        start = end
    return tuple(words)


@dataclass(frozen=True)
class FeatureVocab:
    """Values of a feature and their ids: PAD 0, UNK 1, END 2 (the end symbol's), values from 3."""

    values: list[str]
    counts: list[int]
    """Occurrences in train (words; pieces for `subword_tag`; 0 for `<inside>`)."""

    def __post_init__(self) -> None:
        ids = {value: i for i, value in enumerate(self.values, FIRST)}
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def build(
        cls, counts: Counter[str], max_values: int | None, min_count: int, inside: bool
    ) -> FeatureVocab:
        """The most frequent values, ties by name; `inside` adds the value of later pieces."""
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [(v, n) for v, n in ranked if n >= min_count][:max_values]
        kept = [(INSIDE, 0)] * inside + kept
        return cls([v for v, _ in kept], [n for _, n in kept])

    @property
    def size(self) -> int:
        """Number of ids: rows of an embedding table."""
        return FIRST + len(self.values)

    def id(self, value: str) -> int:
        """The value's id, UNK where it is unknown."""
        ids: dict[str, int] = self.__dict__["_ids"]
        return ids.get(value, UNK)

    def value(self, i: int) -> str:
        """The value of an id."""
        return ("<pad>", "<unk>", "<end>")[i] if i < FIRST else self.values[i - FIRST]

    def to_json(self) -> dict[str, Any]:
        """For a JSON file; `from_json` reads it."""
        return {"values": self.values, "counts": self.counts}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> FeatureVocab:
        """What `to_json` gave."""
        return cls(content["values"], content["counts"])
