"""The vocabulary of a feature: what training stores of it, and translation reads again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from nmt_feat.config.schema import FeatureConfig
from nmt_feat.embedders.ids import END, FIRST, UNK
from nmt_feat.text.files import rank_by_count
from nmt_feat.text.word_values import MISSING

Code = int | tuple[int, ...]
"""What a feature says of a token: an id, or the ids of its units."""
INSIDE = "<inside>"
"""The value of a word's later pieces, with the policy `first`."""


class VocabularyBasis(NamedTuple):
    """What a vocabulary has that does not depend on counts."""

    annotated: bool = False  # whether words are those of an annotation
    cover: str = "first"  # what a piece of several words carries
    seed: int = 0  # of the dials


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

    @property
    def size(self) -> int:
        """Number of ids: rows of an embedding table."""
        return FIRST + len(self.values)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {value: i for i, value in enumerate(self.values, FIRST)}

    def id_of(self, value: str) -> int:
        """The value's id, UNK where it is unknown."""
        return self._ids.get(value, UNK)

    def restore_settings(self, kind: str | None = None) -> FeatureConfig:
        """The settings that determine what the kind of feature does with text."""
        return FeatureConfig(
            kind=kind,
            column=self.column,
            of=self.of,
            n=self.n,
            policy=self.policy,
            missing=self.missing,
            cover=self.cover,
            erase=self.erase,
            classes=self.classes,
        )


def choose_values(cfg: FeatureConfig, counts: Counter[str]) -> tuple[list[str], list[int]]:
    """The most frequent values, ties by name, and how often train has them.

    The policy `first` adds the value of later pieces.
    """
    values = [v for v in rank_by_count(counts) if v != MISSING and counts[v] >= cfg.min_count]
    values = values[: cfg.max_values]
    numbers = [counts[v] for v in values]
    if cfg.policy == "first":
        return [INSIDE, *values], [0, *numbers]
    return values, numbers


def number_tokens(codes: Iterable[Code]) -> tuple[list[int], list[Code]]:
    """Ids for tokens by the ids of their units: UNK, END, or from FIRST on; the units of these."""
    ids: dict[Code, int] = {(UNK,): UNK, (END,): END}
    return [ids.setdefault(code, len(ids) + FIRST - 2) for code in codes], list(ids)[2:]
