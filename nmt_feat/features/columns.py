"""What a word's annotation says: columns as values, and their vocabularies."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from nmt_feat.config.schema import FeatureConfig
from nmt_feat.embedders.ids import END, FIRST, PAD, UNK
from nmt_feat.errors import UserError, suggest
from nmt_feat.text import units
from nmt_feat.text.conllu import NONE as NONE
from nmt_feat.text.files import rank_by_count
from nmt_feat.text.sentences import ANNOTATION, DictionaryColumn, Sentences
from nmt_feat.text.word_values import MISSING, read_column

Code = int | tuple[int, ...]
"""What a feature says of a token: an id, or the ids of its units."""
INSIDE = "<inside>"
PRECISIONS = ("float16", "float32")
CONTEXT = "context"  # an encoder's vectors
TEXT_COLUMNS = ("shape", "subword_tag", *units.KINDS, *units.FORMS, CONTEXT)  # no annotation
COLUMNS = (*(name for name in ANNOTATION if name != "misc"), *TEXT_COLUMNS)


def check(features: dict[str, FeatureConfig]) -> None:
    """Refuse unknown columns and policies, by the feature's name."""
    for name, cfg in features.items():
        if cfg.column not in COLUMNS and not re.match(r"(feats|misc)\..", cfg.column):
            known = (*COLUMNS, "feats.Case", "misc.NER")
            raise UserError(
                f"features.{name}.column={cfg.column}: unknown column; {suggest(cfg.column, known)}"
            )
        if cfg.policy not in ("copy", "first"):
            raise UserError(f"features.{name}.policy={cfg.policy}: one of copy, first")
        if cfg.missing not in ("error", "unknown"):
            raise UserError(f"features.{name}.missing={cfg.missing}: one of error, unknown")
        if cfg.column == "subword_tag" and cfg.policy == "first":
            raise UserError(f"features.{name}.policy=first: subword_tag has a value on each piece")
        units.check_units(name, cfg.column, cfg.of, cfg.n)
        if cfg.column in (*units.KINDS, *units.FORMS) and (cfg.of, cfg.policy) == (
            "piece",
            "first",
        ):
            raise UserError(f"features.{name}.policy=first: each piece has a value; set of=word")
        _check_cover(name, cfg)
        if cfg.file and (cfg.column not in units.FORMS or cfg.policy == "first"):
            raise UserError(
                f"features.{name}.file={cfg.file}: needs column=form or column=lower, policy=copy"
            )
        if bool(cfg.encoder) != (cfg.column == CONTEXT):
            raise UserError(
                f"features.{name}.encoder={cfg.encoder}: goes with column={CONTEXT}, not "
                f"{cfg.column}"
            )
        if cfg.file and cfg.min_count > 1:
            raise UserError(
                f"features.{name}.min_count={cfg.min_count}: the words of {cfg.file} are kept "
                "however often train has them; leave it out, or set max_values"
            )
        for key, used, what in (
            ("n", cfg.column == "ngram", "column=ngram"),
            ("layer", cfg.encoder, "an encoder"),
            ("precision", cfg.encoder, "an encoder"),
        ):
            if not used and (value := getattr(cfg, key)) != getattr(FeatureConfig, key):
                raise UserError(f"features.{name}.{key}={value}: is for {what}; leave it out")
        if dialled(cfg) and cfg.column in TEXT_COLUMNS:
            dial = f"erase={cfg.erase}" if cfg.erase else f"classes={cfg.classes}"
            raise UserError(
                f"features.{name}.{dial}: is for values of an annotation, not for {cfg.column}; "
                "leave it out"
            )
        if cfg.precision not in PRECISIONS:
            raise UserError(
                f"features.{name}.precision={cfg.precision}: one of {', '.join(PRECISIONS)}"
            )
        if cfg.encoder and (cfg.policy, cfg.max_values, cfg.min_count) != ("copy", None, 1):
            raise UserError(
                f"features.{name}: an encoder's vectors have no policy, max_values or min_count; "
                "leave them out"
            )


def _check_cover(name: str, cfg: FeatureConfig) -> None:
    """Refuse a cover that is none, or where no piece takes a value of the words that it covers."""
    if cfg.cover not in (None, "first", "join"):
        raise UserError(f"features.{name}.cover={cfg.cover}: one of first, join")
    if cfg.cover and not of_each_word(cfg):
        raise UserError(
            f"features.{name}.cover={cfg.cover}: is for values of words, not for "
            f"{cfg.column} of {'pieces' if cfg.column != CONTEXT else 'an encoder'}; leave it out"
        )
    if cfg.cover == "join" and not joinable(cfg):
        kind = f"vectors of {cfg.file}" if cfg.file else f"the units of column={cfg.column}"
        raise UserError(
            f"features.{name}.cover=join: {kind} are those of one word; set cover=first, or leave "
            "it out"
        )


def of_each_word(feature: FeatureConfig | FeatureVocab) -> bool:
    """Whether it gives words a value, not pieces."""
    if feature.column in (*units.KINDS, *units.FORMS):
        return feature.of == "word"
    return feature.column not in ("subword_tag", CONTEXT)


def joinable(feature: FeatureConfig) -> bool:
    """Whether the values of several words can be one: not their units, nor ready-made vectors."""
    return of_each_word(feature) and feature.column not in units.KINDS and not feature.file


def required_features(features: Mapping[str, FeatureConfig | FeatureVocab]) -> list[str]:
    """The features that every sentence must have: annotated ones with `missing=error`."""
    return [
        name
        for name, feature in features.items()
        if feature.missing == "error" and feature.column not in TEXT_COLUMNS
    ]


def dialled(feature: FeatureConfig | FeatureVocab) -> bool:
    """Whether a dial (dials.py) changes its values, by the seed."""
    return bool(feature.erase or feature.classes)


def of_words(features: Mapping[str, FeatureConfig | FeatureVocab]) -> bool:
    """Whether any feature depends on what a word is; units and forms of pieces do not."""
    return any(
        feature.column not in (CONTEXT, *units.KINDS, *units.FORMS) or feature.of == "word"
        for feature in features.values()
    )


def annotation(features: Mapping[str, FeatureConfig | FeatureVocab]) -> tuple[str, ...]:
    """The columns of an annotation that the features are made of; none if text is enough."""
    needed = {feature.column.partition(".")[0] for feature in features.values()}
    return tuple(sorted(needed.difference(TEXT_COLUMNS)))


def values(sentences: Sentences, column: str) -> DictionaryColumn:
    """The column's value of each word, `_` for none; for units, its visible characters, as `form`.

    Not for values of pieces (`subword_tag`, units of pieces).
    """
    if column in TEXT_COLUMNS:
        forms = DictionaryColumn.of(sentences.forms())
        return (
            forms.map(shape)
            if column == "shape"
            else cased(forms.map(units.visible_characters), column)
        )
    return read_column(sentences, column)


def cased(forms: DictionaryColumn, column: str) -> DictionaryColumn:
    """Forms in lower case for the column `lower`, else as they are."""
    return forms.map(str.lower) if column == "lower" else forms


def shape(form: str) -> str:
    """Capital letters X, other letters x, digits d, the rest as it is; runs as one: `Xx-d`."""
    letters = [char for char in form if not unicodedata.category(char).startswith("M")]  # accents
    classes = [
        "X" if char.isupper() else "x" if char.isalpha() else "d" if char.isnumeric() else char
        for char in letters
    ]
    return "".join(kind for kind, _ in groupby(classes)) or NONE


@dataclass(frozen=True)
class FeatureVocab:
    """A feature as training fixed it; ids: PAD 0, UNK 1, END 2 (the end symbol's), values from 3.

    Policy `copy`: all pieces of a word carry its value; `first`: later ones are `<inside>`. For a
    column of units, a token's value is its text, the vocabulary that of its units.
    """

    column: str
    policy: str
    values: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # in train; 0 for `<inside>`
    of: str = "piece"  # whose units
    n: int = 1  # length of n-grams
    missing: str = "error"  # what a sentence without annotation is, or a piece without vector
    annotated: bool = False  # whether words are those of an annotation, whatever the column
    encoder: str = ""  # folder of the encoder whose vectors these are
    layer: int = 0  # of it
    precision: str = "float16"  # of the vectors
    sum: str = ""  # of the encoder's files
    scale: float = 1.0  # root mean square of the numbers in train
    erase: float = 0.0  # its dials, see dials.py
    classes: int | None = None
    seed: int = 0  # of the dials
    cover: str = "first"  # or `join`: what a piece of several words carries, see covers.py

    @classmethod
    def build(cls, cfg: FeatureConfig, counts: Counter[str], seed: int = 0) -> FeatureVocab:
        """The most frequent values, ties by name; `first` adds the value of later pieces.

        `seed`: of the feature's dials.
        """
        kept = [v for v in rank_by_count(counts) if v != MISSING and counts[v] >= cfg.min_count]
        kept = kept[: cfg.max_values]
        numbers = [counts[v] for v in kept]
        if cfg.policy == "first":
            kept, numbers = [INSIDE, *kept], [0, *numbers]
        vocab = cls(
            cfg.column,
            cfg.policy,
            kept,
            numbers,
            cfg.of,
            cfg.n,
            cfg.missing,
            precision=cfg.precision,
        )
        if dialled(cfg):
            vocab = replace(vocab, erase=cfg.erase, classes=cfg.classes, seed=seed)
        return vocab

    @classmethod
    def of_words(cls, cfg: FeatureConfig, words: list[str], counts: Counter[str]) -> FeatureVocab:
        """That of ready-made vectors, whether training has the words or not."""
        return cls(cfg.column, cfg.policy, words, [counts[word] for word in words], cfg.of)

    @property
    def has_units(self) -> bool:
        """Whether a token has a sequence of units, not one value."""
        return self.column in units.KINDS

    @property
    def contextual(self) -> bool:
        """Whether it has vectors of an encoder, no values."""
        return self.column == CONTEXT

    @property
    def of_pieces(self) -> bool:
        """Whether values are those of pieces, not of words."""
        return not (of_each_word(self) or self.contextual)

    @property
    def single(self) -> bool:
        """Whether each word has one value."""
        return not (self.of_pieces or self.has_units or self.contextual)

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

    def units(self, text: str) -> tuple[str, ...]:
        """The units of a token."""
        return units.split_units(text, self.column, self.n)

    def count_units(self, tokens: Counter[str]) -> Counter[str]:
        """How often each unit stands in tokens of these counts."""
        found = Counter[str]()
        for token, count in tokens.items():
            for unit in self.units(token):
                found[unit] += count
        return found

    def code(self, value: str) -> Code:
        """The id of a token's value; for units, the ids of its text's units, at least one."""
        if not self.has_units:
            return self.id(value)
        return tuple(self.id(unit) for unit in self.units(value))

    def special(self, id: int) -> Code:
        """UNK, END or the id of `<inside>` as `code` would give it."""
        return (id,) if self.has_units else id

    def numbers(self, values: Iterable[str]) -> tuple[list[int], list[Code]]:
        """The ids of PAD, UNK, END, `<inside>` and of the values.

        For a column of units, ids are those of tokens by their units (see `number`), which also
        are given.
        """
        if not self.has_units:
            return [PAD, UNK, END, self.id(INSIDE), *map(self.id, values)], []
        (*ids, inside), units = number([*map(self.code, values), self.special(self.id(INSIDE))])
        return [PAD, UNK, END, inside, *ids], units


def number(codes: Iterable[Code]) -> tuple[list[int], list[Code]]:
    """Ids for tokens by the ids of their units: UNK, END, or from FIRST on; the units of these."""
    known: dict[Code, int] = {(UNK,): UNK, (END,): END}
    return [known.setdefault(code, len(known) + FIRST - 2) for code in codes], list(known)[2:]
