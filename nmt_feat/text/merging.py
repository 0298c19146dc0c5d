"""Merge the annotation of one text from several sources, word by word.

Sources are the text itself, if it has columns (CoNLL-U, factors), and annotators. Words come from
the first source that has any. Each word gets the values that other sources have at its position.
Each column comes from one source in the whole corpus: the first that has a value in it in the
training text. If that is the text, and another text lacks the column, an annotator gives it, if one
can. The keys of `misc` may come from different sources: `misc.Term` from the text, `misc.NER` from
spaCy.

    text         don't   sleep        misc.Term comes from the text
    udpipe       do n't  sleep        upos from UDPipe: that of do, which has the first character
    merged       don't   sleep
                 AUX     VERB
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nmt_feat.text.conllu import NONE, Sentence, Word, join_parts
from nmt_feat.text.sentences import HEAD, Sentences
from nmt_feat.text.word_values import MISSING, MISSING_HEAD

TEXT = "text"
"""The name of the text itself as a source."""
MISC = "misc."
"""The prefix of a key of the column `misc`, in names of columns."""
NO_VALUES = {NONE, MISSING, "", "-1", str(MISSING_HEAD)}
"""Strings that stand for no value in some column."""
VALUES = ("lemma", "upos", "xpos", "feats", "deprel", "head_upos")
"""The columns that come from one source each, apart from heads."""


class Annotation(NamedTuple):
    """The annotation of a sentence from one source."""

    source: str  # `TEXT`, or an annotator's name
    sentence: Sentence
    joins: bool = False
    """Whether a larger word takes the values of all this source's words in it, not the first's."""


@dataclass
class Conflicts:
    """Words of other sources that are not the text's words."""

    counts: Counter[str] = field(default_factory=Counter)  # by source
    first: dict[str, str] = field(default_factory=dict)  # by source, the first one as both see it

    def add(self, source: str, word: Word, others: Sequence[Word]) -> None:
        """Count a word that another source divides in another way, into `others`."""
        self.counts[source] += 1
        forms = " + ".join(repr(part.form) for part in others) or "no word"
        self.first.setdefault(source, f"{word.form!r} is {forms}")

    def update(self, others: Conflicts) -> None:
        """Add conflicts of later parts of the text."""
        self.counts.update(others.counts)
        self.first = others.first | self.first

    def describe(self, base: str) -> list[str]:
        """A sentence for each source, about the words of `base`."""
        return [
            f"{count:,} words of {base} are cut in another way by {source}, the first: "
            f"{self.first[source]}; each has the value where it begins"
            for source, count in self.counts.items()
        ]


def choose_owners(sources: Mapping[str, Iterable[Sentences]]) -> dict[str, list[str]]:
    """Choose the source of each column, and of each key of `misc`: the first that has a value.

    Behind the text there may be a second source, for texts without the column.

    Args:
        sources: by name, in order, the annotation of the training text, in parts.
    """
    owners: dict[str, list[str]] = {}
    for source, parts in sources.items():
        columns: set[str] = set()
        for sentences in parts:
            columns |= _list_filled_columns(sentences)
        for column in sorted(columns):
            if owners.setdefault(column, [source]) == [TEXT] != [source]:
                owners[column].append(source)
    return owners


def _list_filled_columns(sentences: Sentences) -> set[str]:
    """The columns that have a value; in place of `misc` its keys, such as `misc.NER`."""
    columns = set()
    for column, strings in sentences.annotation.items():
        values = {*strings.unique().to_pylist()} - NO_VALUES
        if column == "misc":
            columns |= {MISC + key for value in values for key, _ in _items(value)}
        elif values:
            columns.add(column)
    return columns


def source_key(column: str) -> str:
    """The key of a feature's column in sources: `feats` for `feats.Case`, but `misc.NER`."""
    return column if column.startswith(MISC) else column.partition(".")[0]


def describe_second_sources(owners: Mapping[str, Sequence[str]]) -> str:
    """Describe the annotators that give columns which the text gave in training; empty for none."""
    columns = [f"{column} by {names[1]}" for column, names in owners.items() if len(names) > 1]
    return f"{', '.join(columns)}; in training the text's" if columns else ""


def lacks_columns(sentence: Sentence, columns: Iterable[str]) -> bool:
    """Whether no word of a sentence has a value in one of these columns or keys of `misc`."""
    keys = {MISC + key for word in sentence.words for key, _ in _items(word.misc)}
    fields = {source_key(column) for column in columns}
    return any(
        name not in keys if name.startswith(MISC) else not _has_values(sentence.words, name)
        for name in fields
    )


def merge_annotations(
    annotations: Sequence[Annotation],
    owners: Mapping[str, Sequence[str]],
    conflicts: Conflicts,
) -> Sentence:
    """Merge the annotations of a sentence, and count conflicts.

    A column of the text wins in a sentence in which it has a value. If only the text gives a
    column, its values are `MISSING` in a sentence without annotation in the text.
    """
    base = next((a for a in annotations if a.sentence.words), annotations[0])
    if any(not a.sentence.text.strip() for a in annotations):  # for example a blank raw line
        return Sentence("" if base.sentence.words else base.sentence.text)
    if not base.sentence.words:
        return base.sentence
    views = {a.source: _View.of(a, base, conflicts) for a in annotations if a.sentence.words}
    text = views.get(TEXT)
    count = len(base.sentence.words)
    # If the text does not annotate this sentence, the second of two sources, an annotator, counts.
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
    """The values of a column from its source, for `count` words."""
    is_head = column == HEAD
    if source == TEXT and TEXT not in views:
        return [MISSING_HEAD if is_head else MISSING] * count
    if source is None or source not in views:
        return [Word._field_defaults[column]] * count
    return views[source].heads() if is_head else views[source].values(column)


def _merge_misc(views: Mapping[str, _View], owners: Mapping[str, str], count: int) -> list[str]:
    """The column `misc` of each word, with each key from its source."""
    text = views.get(TEXT)
    keys_of_text = {key for word in text.words for key, _ in _items(word.misc)} if text else set()
    missing = [f"{key}={MISSING}" for key in _keys_of(owners, TEXT) if text is None]
    rows: list[list[str]] = [[*missing] for _ in range(count)]
    for source, view in views.items():
        keys = {*_keys_of(owners, source)} - keys_of_text
        for row, value in zip(rows, view.values("misc"), strict=True):
            row += [item for key, item in _items(value) if source == TEXT or key in keys]
    return ["|".join(row) or NONE for row in rows]


def _keys_of(owners: Mapping[str, str], source: str) -> list[str]:
    """The keys of `misc` that come from a source."""
    return [c.removeprefix(MISC) for c, s in owners.items() if s == source and c.startswith(MISC)]


def _items(misc: str) -> list[tuple[str, str]]:
    """The items of a word's column `misc`: each key, with the whole `Key=Value`."""
    items = [] if misc in (NONE, MISSING) else misc.split("|")
    return [(item.partition("=")[0], item) for item in items]


def _has_values(words: Iterable[Word], column: str) -> bool:
    """Whether any word has a value in a column."""
    none = Word._field_defaults[column]
    return any(getattr(word, column) != none for word in words)


class _View(NamedTuple):
    """The words of a source, mapped to those of the base (the source whose words are used)."""

    words: tuple[Word, ...]
    rows: list[Sequence[int]]
    """For each word of the base, the indices of the source's words in it; only the first of them,
    which covers its first character, if the source does not join."""

    @classmethod
    def of(cls, annotation: Annotation, base: Annotation, conflicts: Conflicts) -> _View:
        """Find the words of an annotation in each word of the base, and count conflicts."""
        words = annotation.sentence.words
        if annotation is base:
            return cls(words, [(i,) for i in range(len(words))])
        starts, rows = [word.start for word in words], list[Sequence[int]]()
        for word in base.sentence.words:
            first = bisect_right(starts, word.start) - 1
            while first > 0 and starts[first - 1] == word.start:  # several words with one span
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
        return _has_values(self.words, column)

    def values(self, column: str) -> list[str]:
        """The value of each word of the base."""
        join = _join_items if column == "misc" else join_parts
        return [join([getattr(self.words[i], column) for i in row]) for row in self.rows]

    def heads(self) -> list[int]:
        """For each word of the base, the number of its head in the base; 0 the root, -1 none."""
        base_numbers = {i: number for number, row in enumerate(self.rows, 1) for i in row}
        number, number_of_word = 0, list[int]()
        for i in range(len(self.words)):  # a word that is in no row counts to the row before
            number = base_numbers.get(i, number)
            number_of_word.append(number)
        heads = []
        for row_number, row in enumerate(self.rows, 1):
            source_heads = [self.words[i].head for i in row]
            candidates = [h if h < 1 else number_of_word[h - 1] for h in source_heads]
            # The first head outside of the word itself.
            heads.append(next((h for h in candidates if h not in (row_number, -1)), -1))
        return heads


def _join_items(values: Sequence[str]) -> str:
    """Join the columns `misc` of words, equal ones once; `_` if no word has a value."""
    return "|".join(dict.fromkeys(value for value in values if value != NONE)) or NONE
