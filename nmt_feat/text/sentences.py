"""Sentences in columns: the annotation of thousands of sentences at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nmt_feat.text.conllu import Sentence, Word, find_label, write_label

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
TEXT, START, END = "text", "start", "end"
LABEL = "label:"
"""The prefix of a table's columns of labels."""
ORIGINAL = "original text"
"""The label with the text before terms were written into it; keys of users have no spaces."""
ANNOTATION = ("lemma", "upos", "xpos", "feats", "deprel", "head_upos", "misc")
"""The columns of an annotation, as in `Word`."""
HEAD = "head"
"""One more column: the number of each word's head as text, see `Word.head`."""
HEADS = frozenset({HEAD, "head_upos"})
"""The columns that need heads which are a tree."""


class DictionaryColumn(NamedTuple):
    """Strings, stored as indices into a list of the distinct ones."""

    codes: NDArray[np.int32]
    """The index of each string in `values`."""
    values: list[str]

    @classmethod
    def of(cls, strings: pa.Array | Sequence[str]) -> DictionaryColumn:
        """Encode strings."""
        if not isinstance(strings, pa.Array):
            strings = pa.array(strings, pa.string())
        coded = strings.dictionary_encode()
        return cls(coded.indices.to_numpy(), coded.dictionary.to_pylist())

    def map(self, change: Callable[[str], str]) -> DictionaryColumn:
        """Change the strings; `change` is called once for each distinct one."""
        changed = DictionaryColumn.of([change(value) for value in self.values])
        return DictionaryColumn(changed.codes[self.codes], changed.values)

    def counts(self) -> list[int]:
        """How often each value occurs."""
        return list(np.bincount(self.codes, minlength=len(self.values)).tolist())

    def strings(self) -> pa.Array:
        """The strings again."""
        return pa.array(self.values, pa.string()).take(pa.array(self.codes))


@dataclass(frozen=True)
class Sentences:
    """Some sentences: their texts, and the words of all, one after another."""

    texts: list[str]
    counts: Integers  # the number of words of each sentence
    starts: Integers  # the position of each word's first character in its sentence's text
    ends: Integers  # the position behind each word's last character
    annotation: dict[str, pa.Array]  # by column, a string for each word
    labels: dict[str, pa.Array] = field(default_factory=dict)
    """By key, the value of each sentence from comments of CoNLL-U; null if it has none."""

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def of(
        cls,
        sentences: Iterable[Sentence],
        columns: Iterable[str] = (*ANNOTATION, HEAD),
        keys: Iterable[str] = (),
    ) -> Sentences:
        """Sentences with these columns of their annotation, and the labels of these keys."""
        sentences = list(sentences)
        texts, words = [s.text for s in sentences], [s.words for s in sentences]
        counts = np.fromiter(map(len, words), np.int64, len(words))
        all_words = list(chain.from_iterable(words))
        starts, ends = (
            np.fromiter(map(attrgetter(name), all_words), np.int64, len(all_words))
            for name in (START, END)
        )
        values = {name: list(map(attrgetter(name), all_words)) for name in columns}
        if HEAD in values:
            values[HEAD] = list(map(str, values[HEAD]))
        strings = {name: pa.array(column, pa.string()) for name, column in values.items()}
        labels = {
            key: pa.array([find_label(s.comments, key) for s in sentences], pa.string())
            for key in keys
        }
        return cls(texts, counts, starts, ends, strings, labels)

    def __iter__(self) -> Iterator[Sentence]:
        """Iterate over sentences; their words have `_` in columns that are not here."""
        forms, starts, ends = self.forms(), self.starts.tolist(), self.ends.tolist()
        strings_by_column = {name: strings.to_pylist() for name, strings in self.annotation.items()}
        if HEAD in strings_by_column:
            strings_by_column[HEAD] = list(map(int, strings_by_column[HEAD]))
        columns = [
            strings_by_column.get(name) or repeat(Word._field_defaults[name])
            for name in Word._fields[3:]
        ]
        words = map(Word, forms, starts, ends, *columns)
        labels = {key: column.to_pylist() for key, column in self.labels.items()}
        for i, (text, count) in enumerate(zip(self.texts, self.counts.tolist(), strict=True)):
            comments = (write_label(k, value[i]) for k, value in labels.items() if value[i])
            yield Sentence(text, tuple(islice(words, count)), tuple(comments))

    def forms(self) -> list[str]:
        """The words' forms, as they stand in the texts."""
        return slice_texts(self.texts, self.counts, self.starts, self.ends)

    def rows(self, chosen: Booleans) -> Sentences:
        """Some of the sentences."""
        return self if chosen.all() else self.take_rows(np.flatnonzero(chosen))

    def take_rows(self, order: Integers) -> Sentences:
        """The sentences with these numbers, in this order."""
        counts = self.counts[order]
        first = (np.cumsum(self.counts) - self.counts)[order]
        words = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
        return Sentences(
            [self.texts[i] for i in order.tolist()],
            counts,
            self.starts[words],
            self.ends[words],
            {name: strings.take(pa.array(words)) for name, strings in self.annotation.items()},
            {key: column.take(pa.array(order)) for key, column in self.labels.items()},
        )

    @classmethod
    def join(cls, parts: Sequence[Sentences]) -> Sentences:
        """The sentences of several parts with the same columns, one after another."""
        counts, starts, ends = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("counts", "starts", "ends")
        )
        strings = {
            n: pa.concat_arrays([p.annotation[n] for p in parts]) for n in parts[0].annotation
        }
        labels = {k: pa.concat_arrays([p.labels[k] for p in parts]) for k in parts[0].labels}
        return cls([t for part in parts for t in part.texts], counts, starts, ends, strings, labels)

    def table(self) -> pa.RecordBatch:
        """A row of Arrow for each sentence, its words as lists."""
        bounds = pa.array(np.append(0, np.cumsum(self.counts)), pa.int32())
        words = {START: pa.array(self.starts, pa.int32()), END: pa.array(self.ends, pa.int32())}
        lists = {
            name: pa.ListArray.from_arrays(bounds, column)
            for name, column in (words | self.annotation).items()
        }
        labels = {LABEL + key: column for key, column in self.labels.items()}
        return pa.record_batch({TEXT: pa.array(self.texts, pa.large_string())} | lists | labels)

    @classmethod
    def read(cls, table: pa.Table) -> Sentences:
        """Read rows that `table` made, or only texts."""
        column = {name: table[name].combine_chunks() for name in table.column_names}
        texts = column.pop(TEXT).to_pylist()
        names = [name for name in column if name.startswith(LABEL)]
        labels = {name.removeprefix(LABEL): column.pop(name) for name in names}
        if START not in column:
            none = np.zeros(0, np.int64)
            return cls(texts, np.zeros(len(texts), np.int64), none, none, {}, labels)
        counts = column[START].value_lengths().to_numpy().astype(np.int64)
        starts, ends = (column.pop(name).flatten().to_numpy() for name in (START, END))
        strings = {name: lists.flatten() for name, lists in column.items()}
        return cls(texts, counts, starts.astype(np.int64), ends.astype(np.int64), strings, labels)


def slice_texts(
    texts: Sequence[str], counts: Integers, starts: Integers, ends: Integers
) -> list[str]:
    """Cut parts out of texts: `counts` parts of each text, from `starts` to `ends`."""
    repeated = chain.from_iterable(map(repeat, texts, counts.tolist()))
    spans = zip(repeated, starts.tolist(), ends.tolist(), strict=True)
    return [text[start:end] for text, start, end in spans]
