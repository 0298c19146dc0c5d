"""The vocabulary of a feature: training stores it, and translation reads it again."""

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
"""The code of a token: an id, or the ids of its units."""
INSIDE = "<inside>"
"""With the policy `first`, the value of all pieces of a word but the first."""


class VocabularyBasis(NamedTuple):
    """The fields of a vocabulary that follow neither from counts nor from settings alone."""

    annotated: bool = False  # whether an annotation says what the words are
    cover: str = "first"  # what a piece that covers several words gets
    seed: int = 0  # of the dials


@dataclass(frozen=True)
class FeatureVocab:
    """The vocabulary of a feature, and those settings that translation needs.

    Ids are PAD 0, UNK 1, END 2 (that of the end symbol), then the values, from 3 on. With the
    policy `copy` all pieces of a word have its value; with `first` all but the first have
    `<inside>`. If the column is one of units, the values are units.
    """

    column: str
    policy: str
    values: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # in train; 0 for `<inside>`
    of: str = "piece"  # `piece` or `word`: whose forms or units
    n: int = 1  # length of n-grams
    missing: str = "error"  # what happens without an annotation, or without a vector
    annotated: bool = False  # whether an annotation says what the words are, for any column
    encoder: str = ""  # the encoder's folder
    layer: int = 0  # of the encoder
    precision: str = "float16"  # of the vectors
    sum: str = ""  # of the encoder's files
    scale: float = 1.0  # root mean square of the vectors' elements in train
    erase: float = 0.0  # a dial, see dials.py
    classes: int | None = None  # a dial
    seed: int = 0  # of the dials
    cover: str = "first"  # or `join`: what a piece that covers several words gets, see covers.py

    @property
    def size(self) -> int:
        """The number of ids, so the rows of an embedding table."""
        return FIRST + len(self.values)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {value: i for i, value in enumerate(self.values, FIRST)}

    @property
    def ends_joined(self) -> bool:
        """Whether only a word's last piece has all values that are joined on its pieces.

        This piece may cover the next words too. With `policy=first` the first piece has them.
        """
        return (self.cover, self.policy) == ("join", "copy")

    def id_of(self, value: str) -> int:
        """The value's id, UNK if it is unknown."""
        return self._ids.get(value, UNK)

    def restore_settings(self, kind: str | None = None) -> FeatureConfig:
        """The settings that a kind needs to read values; `kind`: the class of a user's kind."""
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
    """Choose the most frequent values; of equal ones, those that come first in the alphabet.

    Returns:
        The values, with `<inside>` before them if the policy is `first`; and their counts.
    """
    values = [v for v in rank_by_count(counts) if v != MISSING and counts[v] >= cfg.min_count]
    values = values[: cfg.max_values]
    value_counts = [counts[v] for v in values]
    if cfg.policy == "first":
        return [INSIDE, *values], [0, *value_counts]
    return values, value_counts


def number_tokens(codes: Iterable[Code]) -> tuple[list[int], list[Code]]:
    """Give each distinct token an id: UNK, END, or the next from FIRST on.

    Args:
        codes: the units of each token.

    Returns:
        The id of each token; and the units of the ids from FIRST on.
    """
    ids: dict[Code, int] = {(UNK,): UNK, (END,): END}
    return [ids.setdefault(code, len(ids) + FIRST - 2) for code in codes], list(ids)[2:]
