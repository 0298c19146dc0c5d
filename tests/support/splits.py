"""Ids of single sentences, and splits of given ids, made by what the program makes its own by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from nmt_feat.data.alignment import AlignedSentences, SourceEncoder
from nmt_feat.data.prepare import Prepared
from nmt_feat.data.store import UNITS, EncodedSplit, make_rows
from nmt_feat.embedders.ids import END, PAD, UNK
from nmt_feat.features.vocabulary import Code, number_tokens
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.sentences import DictionaryColumn, Integers, Sentences
from nmt_feat.text.subwords import Pieces


class Encoded(NamedTuple):
    """Ids of a source sentence, EOS included; each feature has the same length, END at EOS."""

    ids: list[int]
    features: dict[str, list[Code]]


def encode(encoder: SourceEncoder, sentence: Sentence, where: str = "input") -> Encoded:
    """Ids of one sentence; of features that have units, these."""
    described = encoder.align(Sentences.of([sentence]), [where])
    ids, units = encoder.look_up(described)
    features: dict[str, list[Code]] = {name: results.tolist() for name, results in ids.items()}
    for name, tokens in units.items():
        codes = [(PAD,), (UNK,), (END,), *tokens]
        features[name] = [codes[i] for i in ids[name].tolist()]
    return Encoded(described.ids.tolist(), features)


def split_of(
    source: Sequence[Encoded],
    target: Sequence[Sequence[int]],
    source_text: Sequence[str],
    target_text: Sequence[str],
    values: dict[str, list[str]] | None = None,
) -> EncodedSplit:
    """A split in memory. `target`: ids with EOS; `values`: feature values by sentence."""
    features, units = {}, {}
    for name in source[0].features:
        codes = list(chain.from_iterable(one.features[name] for one in source))
        if isinstance(codes[0], tuple):
            numbers, units[name] = number_tokens(codes)
            codes = [*numbers]
        features[name] = np.array(codes, np.int32)
    words = {name: [line.split() for line in lines] for name, lines in (values or {}).items()}
    described = AlignedSentences(
        words=Sentences.of(map(Sentence, source_text), ()),
        pieces=Pieces(*[np.zeros(0, np.int64)] * 4),
        ids=np.array(list(chain.from_iterable(one.ids for one in source)), np.int32),
        counts=lengths([one.ids for one in source]),
        bare=0,
        begins=np.array([], np.bool_),
        values={
            name: DictionaryColumn.of([*chain.from_iterable(lines)])
            for name, lines in words.items()
        },
        value_counts={name: lengths(lines) for name, lines in words.items()},
    )
    rows = make_rows(described, features, [row[:-1] for row in target], target_text)
    table = pa.Table.from_batches([rows])
    for name, tokens in units.items():  # those of all tokens are in the first row
        column = pa.array([tokens] + [[]] * (len(source) - 1), pa.large_list(rows["source"].type))
        table = table.append_column(UNITS + name, column)
    return EncodedSplit(table)


def lengths(rows: Sequence[Sequence[object]]) -> Integers:
    return np.array([len(row) for row in rows])


def pieces(*sentences: list[tuple[int, int]]) -> Pieces:
    spans = [span for sentence in sentences for span in sentence]
    starts, ends = np.array(spans, np.int64).reshape(-1, 2).T
    counts = np.array([len(sentence) for sentence in sentences])
    return Pieces(np.full(len(spans), 9, np.int32), counts, starts, ends)


def content(split: EncodedSplit) -> dict[str, Any]:
    """All that a split holds."""
    ids = {"source": split.source.values, "target": split.target.values, **split.features}
    ids |= {"rows": split.source.offsets}
    ids |= {f"units {name}": units.values for name, units in split.units.items()}
    result: dict[str, Any] = {name: values.tolist() for name, values in ids.items()}
    words = {n: [split.feature_text(n, i) for i in range(len(split))] for n in split.features}
    return result | {"texts": (split.source_texts, split.target_texts, words)}


def whole(made: Prepared) -> list[Any]:
    splits = [made.train, made.dev, *made.tests.values()]
    return [made.report, made.encoder.features, *map(content, splits)]
