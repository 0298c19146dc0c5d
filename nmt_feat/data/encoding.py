"""Rows of a corpus to rows of the store, in several processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from nmt_feat.base.pool import Pool
from nmt_feat.config.data_schema import DataConfig
from nmt_feat.data.alignment import VALUES, AlignedSentences, Ids, SourceEncoder
from nmt_feat.data.corpora import RawSplit
from nmt_feat.data.sentence_tables import SentenceTable
from nmt_feat.data.store import EncodedSplit, Writer, make_rows
from nmt_feat.text.sentences import Booleans, DictionaryColumn, Integers
from nmt_feat.text.subwords import Subwords
from nmt_feat.text.word_values import MISSING

BLANK = "with a blank side"
"""The reason that leaves out a training pair whatever the settings are."""
INFORMATION = 50_000
"""Words and values are counted together in this many sentences at the start of a split."""
ALL = ""
"""Stands in place of a feature's name for all features together."""


def filter_pairs(
    limits: DataConfig, words: Integers, pieces: Integers
) -> tuple[Booleans, Counter[str]]:
    """Filter training pairs.

    Args:
        limits: has the least and the greatest sizes.
        words, pieces: `(pairs, 2)`, how many words and pieces each side has.

    Returns:
        Whether each pair stays; and for each reason, how many pairs are left out.
    """
    fewest, short, long = words.min(axis=1), pieces.min(axis=1), pieces.max(axis=1)
    reasons = {
        BLANK: fewest == 0,
        f"words < {limits.min_words}": fewest < limits.min_words,
        f"pieces > {limits.max_pieces}": long > limits.max_pieces,
        f"ratio > {limits.max_ratio:g}": long > limits.max_ratio * short,
    }
    first_reasons = np.select(list(reasons.values()), range(len(reasons)), -1)
    names = list(reasons)
    counts = Counter(names[i] for i in first_reasons[first_reasons >= 0])
    return first_reasons < 0, counts


class SplitBuilder:
    """A split on its way to the disk. Values have numbers, in the order in which they came."""

    def __init__(self, path: Path, features: Iterable[str]) -> None:
        self.filtered = Counter[str]()  # pairs left out, by reason
        self.bare = 0  # sentences without the annotation that says what words are
        self.path = path
        self._writer = Writer(path)
        self.joint: dict[str, Counter[tuple[str, ...]]] = {}
        """By feature of words, how often each form has each value, in the first sentences.

        With several features, `ALL` has how often each form has each combination of values.
        """
        self._alike: dict[str, tuple[int, int]] = {}
        self._lost: dict[str, tuple[int, int]] = {}
        self._value_numbers: dict[str, dict[str, int]] = {name: {} for name in features}
        self._values: dict[str, list[str]] = {}
        self._counts: dict[str, list[int]] = {name: [] for name in features}

    def append(self, rows: _Rows) -> None:
        """Add rows; values that are new get the next numbers."""
        self.filtered.update(rows.filtered)
        self.bare += rows.bare
        numbers = {}
        for name, (values, counts) in rows.values.items():
            value_numbers, total = self._value_numbers[name], self._counts[name]
            places = [value_numbers.setdefault(value, len(value_numbers)) for value in values]
            total += [0] * (len(value_numbers) - len(total))
            for position, count in zip(places, counts, strict=True):
                total[position] += count
            value_ids = (VALUES + position for position in places)
            numbers[name] = np.array([*range(VALUES), *value_ids], np.int32)
        for name, joint in rows.joint.items():
            self.joint.setdefault(name, Counter()).update(joint)
        for totals, counts_of_rows in ((self._alike, rows.alike), (self._lost, rows.lost)):
            for name, (part, whole) in counts_of_rows.items():
                before = totals.get(name, (0, 0))
                totals[name] = before[0] + part, before[1] + whole
        self._writer.append(rows.batch, numbers)

    def close(self) -> None:
        """Free memory after the last rows: of the values, which may be millions, a list remains."""
        self._values = {name: list(numbers) for name, numbers in self._value_numbers.items()}
        self._value_numbers.clear()

    def counts(self, feature: str) -> Counter[str]:
        """How often each value of a feature occurs."""
        totals = Counter[str]()
        dict.update(totals, zip(self._values[feature], self._counts[feature], strict=True))
        return totals

    def missing(self, feature: str) -> int:
        """How many words have a missing value, which `missing=unknown` allows."""
        values = self._values[feature]
        return self._counts[feature][values.index(MISSING)] if MISSING in values else 0

    def agreement(self, feature: str) -> float | None:
        """Among words of several pieces, the share whose pieces all have the same value.

        None if each word is one piece. The pieces of a word without a value agree.
        """
        same, multiple = self._alike.get(feature, (0, 0))
        return same / multiple if multiple else None

    def lost(self, feature: str) -> float | None:
        """The share of words whose value no piece has; None for values of pieces."""
        lost, words = self._lost.get(feature, (0, 0))
        return lost / words if words else None

    def finish(self, encoder: SourceEncoder) -> EncodedSplit:
        """Write the final ids of values, and open the split."""
        units = {}
        for name, kind in encoder.valued_kinds.items():
            numbers, codes = kind.encode_values(self._values[name], encoder.features[name])
            self._writer.renumber(name, np.array(numbers, np.int32))
            if kind.reads == "units":
                units[name] = codes
        return self._writer.finish(units)


class _Rows(NamedTuple):
    """What a process makes of some rows of a corpus."""

    batch: pa.RecordBatch  # see `make_rows`; features have `VALUES +` the numbers of values
    filtered: Counter[str]  # pairs left out, by reason
    bare: int  # see `SplitBuilder`
    values: dict[str, tuple[list[str], list[int]]]  # by feature, values and how often each occurs
    joint: dict[str, dict[tuple[str, ...], int]]  # see `SplitBuilder`
    alike: dict[str, tuple[int, int]]  # by feature, see `count_agreeing_words`
    lost: dict[str, tuple[int, int]]  # by feature, words whose value no piece has, and all words


@dataclass(frozen=True)
class _Task:
    """What a process needs to know to encode rows of a split."""

    models: Path  # the folder of the encoder and the target model
    source: Path  # the table of sources
    target: Path  # the table of targets
    name: str  # of the source file, for messages
    limits: DataConfig | None  # for training pairs, see `filter_pairs`
    user_kinds: Mapping[str, str]


def encode(
    split: RawSplit, limits: DataConfig | None, encoder: SourceEncoder, path: Path, pool: Pool
) -> SplitBuilder:
    """Encode a split into the file `path`. Its folder must have the encoder and target model."""
    builder = SplitBuilder(path, encoder.valued_kinds)
    files = path.parent, split.source.path, split.target.path
    task = partial(_encode, _Task(*files, split.source_path, limits, encoder.user_kinds))
    for rows in pool.map(task, split.source.ranges()):
        builder.append(rows)
    builder.close()
    return builder


def _encode(task: _Task, rows: tuple[int, int]) -> _Rows:
    """Encode the rows `[first, end)` of a split."""
    state = (task.models / "features.json").stat()
    user_kinds = tuple(task.user_kinds.items())
    encoder, target = _load(task.models, user_kinds, state.st_ino, state.st_mtime_ns)
    sentences = SentenceTable(task.source).rows(*rows)
    targets = SentenceTable(task.target).rows(*rows).texts
    where = [f"{task.name}: sentence {number}" for number in range(rows[0] + 1, rows[1] + 1)]
    pieces, target_ids = encoder.pieces(sentences), target.encode_ids(targets)
    filtered = Counter[str]()
    if task.limits:
        words = [[len(text.split()) for text in side] for side in (sentences.texts, targets)]
        sizes = [pieces.counts, [len(ids) for ids in target_ids]]
        stays, filtered = filter_pairs(task.limits, np.array(words).T, np.array(sizes).T)
        sentences, pieces = sentences.rows(stays), pieces.rows(stays)
        indices = np.flatnonzero(stays).tolist()
        targets, where = [targets[i] for i in indices], [where[i] for i in indices]
        target_ids = [target_ids[i] for i in indices]
    aligned = encoder.align(sentences, where, pieces)
    ends = np.cumsum(aligned.counts) - 1
    return _Rows(
        batch=make_rows(aligned, aligned.carried, target_ids, targets),
        filtered=filtered,
        bare=aligned.bare,
        values={name: (coded.values, coded.counts()) for name, coded in aligned.values.items()},
        joint=_count_joint(encoder, aligned) if rows[0] < INFORMATION else {},
        alike={
            name: count_agreeing_words(np.delete(carried, ends), aligned.begins)
            for name, carried in aligned.carried.items()
        },
        lost={name: (n, len(aligned.words.starts)) for name, n in aligned.lost.items()},
    )


def _count_joint(
    encoder: SourceEncoder, aligned: AlignedSentences
) -> dict[str, dict[tuple[str, ...], int]]:
    """Count forms and values together, by feature and for `ALL`; see `SplitBuilder.joint`."""
    if not aligned.values:
        return {}
    single = {n: encoder.features[n] for n, kind in encoder.valued_kinds.items() if kind.single}
    forms = {name: aligned.forms(name) for name in single}
    values = {name: aligned.values[name] for name in single}
    joint = {name: _count_combinations(forms[name], coded) for name, coded in values.items()}
    # Only features with values of the same words, or of the same covers, are counted together.
    carriers = {f.cover == "join" and f.policy for f in single.values()}
    if len(single) > 1 and len(carriers) == 1:
        joint[ALL] = _count_combinations(forms[min(forms)], *values.values())
    return joint


def count_agreeing_words(carried: Ids, begins: Booleans) -> tuple[int, int]:
    """Count the words of several pieces that have one value on all of them.

    Args:
        carried: the value of each piece.
        begins: whether each piece begins a word.

    Returns:
        The number of these words, and that of all words of several pieces.
    """
    starts = np.flatnonzero(begins)
    if not len(starts):
        return 0, 0
    is_divided = np.diff(np.append(starts, len(begins))) > 1
    is_same = np.minimum.reduceat(carried, starts) == np.maximum.reduceat(carried, starts)
    return int((is_same & is_divided).sum()), int(is_divided.sum())


def _count_combinations(*columns: DictionaryColumn) -> dict[tuple[str, ...], int]:
    """How often each combination of the columns' values occurs."""
    # The combinations of the first columns are numbered; a pair of such a number and a code of the
    # next column becomes one number, and the numbers that occur are numbered again.
    codes = np.zeros(len(columns[0].codes), np.int64)
    names: list[tuple[str, ...]] = [()]
    for column in columns:
        pairs = codes * len(column.values) + column.codes
        distinct_pairs, codes = np.unique(pairs, return_inverse=True)
        before, value = np.divmod(distinct_pairs, max(len(column.values), 1))
        indices = zip(before.tolist(), value.tolist(), strict=True)
        names = [(*names[i], column.values[j]) for i, j in indices]
    return dict(zip(names, np.bincount(codes).tolist(), strict=True))


@lru_cache(maxsize=1)
def _load(
    folder: Path, user_kinds: tuple[tuple[str, str], ...], inode: int, changed: int
) -> tuple[SourceEncoder, Subwords]:
    return SourceEncoder.load(folder, dict(user_kinds)), Subwords.load(folder / "target")
