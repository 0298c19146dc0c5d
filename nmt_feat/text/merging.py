"""The annotation of one text from several sources, brought together word by word.

Sources are the text itself, where it brings columns (CoNLL-U, factors), and annotators. Words are
those of the first source that has any; each takes the values that another source has where it
stands. Each column is of one source in the whole corpus: the first that has a value of it in the
training text. Where that is the text, and another text does not bring the column, an annotator
gives it, if one can. `misc` is shared by its keys: `misc.Term` may be the text's, `misc.NER`
spaCy's.

    text         don't   sleep        misc.Term is the text's
    udpipe       do n't  sleep        upos is UDPipe's: of do, which covers the first character
    merged       don't   sleep
                 AUX     VERB
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nmt_feat.text.conllu import NONE, Sentence, Word
from nmt_feat.text.sentences import HEAD, Sentences
from nmt_feat.text.word_values import MISSING, MISSING_HEAD

TEXT = "text"
"""The source that is the text itself."""
MISC = "misc."
"""Begins the name of a key of the column `misc`."""
NO_VALUES = {NONE, MISSING, "", "-1", str(MISSING_HEAD)}
VALUES = ("lemma", "upos", "xpos", "feats", "deprel", "head_upos")


class Annotation(NamedTuple):
    """What a source says of a sentence."""

    source: str  # `TEXT`, or an annotator's name
    sentence: Sentence
    joins: bool = False
    """Whether a larger word takes the values of all its words, as of morphemes, not the first."""


@dataclass
class Conflicts:
    """Words of other sources that are not the text's words."""

    counts: Counter[str] = field(default_factory=Counter)  # by source
    first: dict[str, str] = field(default_factory=dict)  # by source, the first one as both see it

    def add(self, source: str, word: Word, others: Sequence[Word]) -> None:
        """Count a word that another source cuts in another way."""
        self.counts[source] += 1
        there = " + ".join(repr(unlike.form) for unlike in others) or "no word"
        self.first.setdefault(source, f"{word.form!r} is {there}")

    def update(self, others: Conflicts) -> None:
        """Add those of what stands behind."""
        self.counts.update(others.counts)
        self.first = others.first | self.first

    def describe(self, base: str) -> list[str]:
        """A sentence for each source."""
        return [
            f"{count:,} words of {base} are cut in another way by {source}, the first: "
            f"{self.first[source]}; each has the value where it begins"
            for source, count in self.counts.items()
        ]


class ColumnOwners:
    """Which source each column comes from: the first one that says anything in it."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._columns: dict[str, set[str]] = {source: set() for source in sources}

    def add(self, source: str, sentences: Sentences) -> None:
        """Note the columns that have a value in sentences of a source."""
        for column, strings in sentences.annotation.items():
            values = {*strings.unique().to_pylist()} - NO_VALUES
            if column == "misc":
                self._columns[source] |= {MISC + k for value in values for k, _ in _items(value)}
            elif values:
                self._columns[source].add(column)

    def choose(self) -> dict[str, list[str]]:
        """The source of each column, and of each key of `misc`, as `misc.NER`.

        A second one stands behind the text: it gives the column of a text that does not bring it.
        """
        owners: dict[str, list[str]] = {}
        for source, columns in self._columns.items():
            for column in sorted(columns):
                if owners.setdefault(column, [source]) == [TEXT] != [source]:
                    owners[column].append(source)
        return owners


def source_key(column: str) -> str:
    """What has one source: `feats` of the feature's column `feats.Case`, `misc.NER` as it is."""
    return column if column.startswith(MISC) else column.partition(".")[0]


def describe_second_sources(owners: Mapping[str, Sequence[str]]) -> str:
    """Which annotators give columns that were the text's in training; empty for none."""
    columns = [f"{column} by {names[1]}" for column, names in owners.items() if len(names) > 1]
    return f"{', '.join(columns)}; in training the text's" if columns else ""


def merge_annotations(
    annotations: Sequence[Annotation],
    owners: Mapping[str, Sequence[str]],
    conflicts: Conflicts,
) -> Sentence:
    """One sentence of what the sources say of it, in order; conflicts are counted.

    The text wins where it says anything in a column of this sentence. A column that the text alone
    gives is missing (`MISSING`) in a sentence of which the text says nothing.
    """
    base = next((a for a in annotations if a.sentence.words), annotations[0])
    if any(not a.sentence.text.strip() for a in annotations):  # such as a raw line that is blank
        return Sentence("" if base.sentence.words else base.sentence.text)
    if not base.sentence.words:
        return base.sentence
    views = {a.source: _View.of(a, base, conflicts) for a in annotations if a.sentence.words}
    text = views.get(TEXT)
    count = len(base.sentence.words)
    # The second of two sources, an annotator, is that of a sentence of which the text says nothing.
    chosen = {column: names[0 if text else -1] for column, names in owners.items()}
    columns: dict[str, Sequence[Any]] = {}
    for column in (*VALUES, HEAD):
        source = TEXT if text and text.has(column) else chosen.get(column)
        columns[column] = _read_values(views, source, column, count)
    misc = _merge_misc(views, chosen, count)
    words = [
        word._replace(misc=misc[i], **{name: v[i] for name, v in columns.items()})
        for i, word in enumerate(base.sentence.words)
    ]
    return Sentence(base.sentence.text, tuple(words), annotations[0].sentence.comments)


def _read_values(
    views: Mapping[str, _View], source: str | None, column: str, count: int
) -> Sequence[Any]:
    """A column of each word, from its source."""
    is_head = column == HEAD
    if source == TEXT and TEXT not in views:
        return [MISSING_HEAD if is_head else MISSING] * count
    if source is None or source not in views:
        return [Word._field_defaults[column]] * count
    return views[source].heads() if is_head else views[source].values(column)


def _merge_misc(views: Mapping[str, _View], owners: Mapping[str, str], count: int) -> list[str]:
    """The column `misc` of each word: each key from its source."""
    text = views.get(TEXT)
    keys_of_text = {key for word in text.words for key, _ in _items(word.misc)} if text else set()
    lacking = [f"{key}={MISSING}" for key in _keys_of(owners, TEXT) if text is None]
    rows: list[list[str]] = [[*lacking] for _ in range(count)]
    for source, view in views.items():
        keys = {*_keys_of(owners, source)} - keys_of_text
        for row, value in zip(rows, view.values("misc"), strict=True):
            row += [item for key, item in _items(value) if source == TEXT or key in keys]
    return ["|".join(row) or NONE for row in rows]


def _keys_of(owners: Mapping[str, str], source: str) -> list[str]:
    """The keys of `misc` that are a source's."""
    return [c.removeprefix(MISC) for c, s in owners.items() if s == source and c.startswith(MISC)]


def _items(misc: str) -> list[tuple[str, str]]:
    """`Key=Value` of a word's column `misc`, each with its key."""
    items = [] if misc in (NONE, MISSING) else misc.split("|")
    return [(item.partition("=")[0], item) for item in items]


class _View(NamedTuple):
    """A source's words, as the words of the base take them."""

    words: tuple[Word, ...]
    rows: list[Sequence[int]]
    """Of each word of the base the places of the source's words in it; where it takes the first
    only, that which covers its first character."""

    @classmethod
    def of(cls, annotation: Annotation, base: Annotation, conflicts: Conflicts) -> _View:
        words = annotation.sentence.words
        if annotation is base:
            return cls(words, [(i,) for i in range(len(words))])
        starts, rows = [word.start for word in words], list[Sequence[int]]()
        for word in base.sentence.words:
            first = bisect_right(starts, word.start) - 1
            while first > 0 and starts[first - 1] == word.start:  # tokens that share their span
                first -= 1
            if first < 0 or words[first].end <= word.start:
                first += 1
            last = max(first + 1, bisect_right(starts, word.end - 1))
            inside = [i for i in range(first, min(last, len(words))) if starts[i] < word.end]
            parts = [words[i] for i in inside]
            if [(part.start, part.end) for part in parts] != [(word.start, word.end)]:
                conflicts.add(annotation.source, word, parts)
            rows.append(inside if annotation.joins else inside[:1])
        return cls(words, rows)

    def has(self, column: str) -> bool:
        """Whether any word has a value in a column."""
        none = Word._field_defaults[column]
        return any(getattr(word, column) != none for word in self.words)

    def values(self, column: str) -> list[str]:
        """The value of each word of the base."""
        separator = "|" if column == "misc" else "+"
        return [
            _join_parts([getattr(self.words[i], column) for i in row], separator)
            for row in self.rows
        ]

    def heads(self) -> list[int]:
        """The number of each word's head among the words of the base; -1 for none, 0 the root."""
        numbers = {i: number for number, row in enumerate(self.rows, 1) for i in row}
        number, of_word = 0, list[int]()
        for i in range(len(self.words)):  # a word that no word of the base takes is in the last one
            of_word.append(number := numbers.get(i, number))
        heads = []
        for row_number, row in enumerate(self.rows, 1):
            above = [self.words[i].head for i in row]
            places = [head if head < 1 else of_word[head - 1] for head in above]
            heads.append(next((p for p in places if p not in (row_number, -1)), -1))
        return heads


def _join_parts(values: Sequence[str], separator: str) -> str:
    """The values of words in one; `_` where none has a value."""
    if len(values) == 1:
        return values[0]
    parts = [v for v in values if v != NONE] if separator == "|" else values
    return (
        separator.join(dict.fromkeys(parts) if separator == "|" else parts)
        if any(value != NONE for value in values)
        else NONE
    )
