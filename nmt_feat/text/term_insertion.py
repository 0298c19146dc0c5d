"""Write the translations of terms into a source text, marked by a column of its words or by tags.

    append    The bakers sleep.  ->  The bakers Bäcker sleep.      0 1 2 0 0
    replace                          The Bäcker sleep.             0 2 0 0
    tags                             The ⟦ bakers ⟠ Bäcker ⟧ sleep.

After Dinu et al. (2019), who append or replace and mark by a source factor, or by tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.conllu import NONE, Sentence, Word
from nmt_feat.text.glossary import Occurrence, find_tokens
from nmt_feat.text.word_values import misc_value

KEY = "TERM"
COLUMN = f"misc.{KEY}"
"""The column of marks: `0`, `1` for a word of a term, `2` for a word of its translation."""
OTHER_WORD, SOURCE_WORD, TARGET_WORD = "0", "1", "2"


def has_mark(word: Word) -> bool:
    """Whether a word says whether it is one of a term."""
    return misc_value(word.misc, KEY) != NONE


class Insertion(NamedTuple):
    """How terms are written into a text.

    Attributes:
        keeps_source: whether the source term stays before its translation.
        tags: begin a term, stand between it and its translation, and end it; where there are none,
            words are marked.
    """

    keeps_source: bool = True
    tags: tuple[str, ...] = ()

    def refuse_tags(self, text: str, where: str) -> None:
        """Refuse a text that has one of the tags."""
        for tag in self.tags:
            if tag in text:
                raise UserError(
                    f"{where}: {short_repr(text)} has {tag!r}, which marks terms; take it out of "
                    "the text, or train with other data.terminology.tags"
                )

    def write_terms(self, sentence: Sentence, occurrences: Sequence[Occurrence]) -> Sentence:
        """The sentence with the translations of its terms.

        Words of a translation have the annotation of the term's last word, as a rule its head, and
        depend on it. Marks that words have stay.
        """
        if not sentence.words and not self.tags:  # marks are those of words
            tokens = find_tokens(sentence.text)
            words = tuple(Word(sentence.text[start:end], start, end) for start, end in tokens)
            sentence = sentence._replace(words=words)
        bounds = [bound for span in occurrences for bound in (span.start, span.end)]
        builder = _Builder(sentence.text, list(_cut_words(sentence, bounds)), self.tags)
        begin, between, end = self.tags or ("", "", "")
        position = 0
        for occurrence in occurrences:
            builder.copy(position, occurrence.start)
            builder.add_tag(begin)
            if self.keeps_source:
                builder.copy(occurrence.start, occurrence.end, SOURCE_WORD)
                builder.add_tag(between)
            builder.add_translation(occurrence, self.keeps_source)
            builder.add_tag(end)
            position = occurrence.end
        builder.copy(position, len(sentence.text))
        return sentence._replace(text=builder.text, words=builder.attach_words())


class _OldWord(NamedTuple):
    """A word, or a part of one that a term cuts, and its number in the old sentence, from 1."""

    word: Word
    number: int


def _cut_words(sentence: Sentence, bounds: Iterable[int]) -> Iterator[_OldWord]:
    """The words of a sentence, those cut where a term begins or ends inside of them."""
    for number, word in enumerate(sentence.words, 1):
        inside = [bound for bound in bounds if word.start < bound < word.end]
        cuts = [word.start, *inside, word.end]
        for start, end in pairwise(cuts):
            part = word._replace(form=sentence.text[start:end], start=start, end=end)
            yield _OldWord(part, number)


@dataclass
class _Builder:
    """A new sentence that grows from left to right."""

    old_text: str
    old_words: list[_OldWord]
    tags: tuple[str, ...]
    text: str = ""
    words: list[Word] = field(default_factory=list)
    """Those of the new sentence; heads are numbers in the old one."""
    new_numbers: dict[int, int] = field(default_factory=dict)
    """By number of an old word that of the first new one that it is, or stands for it."""
    governors: dict[int, int] = field(default_factory=dict)
    """By place of an inserted word the old number of the word that it depends on."""
    ends_inserted: bool = False
    """Whether the text so far ends with what was not in the old one."""

    @property
    def marks_words(self) -> bool:
        """Whether words say what is inserted, not tags."""
        return not self.tags

    def copy(self, start: int, end: int, mark: str = OTHER_WORD) -> None:
        """Add a part of the old text with its words."""
        part = self.old_text[start:end]
        if self.ends_inserted:
            self._separate(part)
        self.ends_inserted = self.ends_inserted and not part
        shift = len(self.text) - start
        self.text += part
        for word, number in self._words_within(start, end):
            moved = word._replace(start=word.start + shift, end=word.end + shift)
            self.words.append(self._mark(moved, mark))
            self.new_numbers.setdefault(number, len(self.words))

    def add_tag(self, tag: str) -> None:
        """Add a tag, between spaces; a word of its own, where there are words."""
        if not tag:
            return
        self._separate(tag, always=True)
        if self.old_words:
            self.words.append(Word(tag, len(self.text), len(self.text) + len(tag)))
        self.text += tag
        self.ends_inserted = True

    def add_translation(self, occurrence: Occurrence, keeps_source: bool) -> None:
        """Add the words of a translation, with the annotation of the term's last word."""
        target = occurrence.term.target
        self._separate(target, always=keeps_source)
        of_term = self._words_within(occurrence.start, occurrence.end)
        model = of_term[-1] if of_term else _OldWord(Word("", 0, 0), 0)
        first = len(self.words) + 1
        for start, end in find_tokens(target) if self.old_words else ():
            shift = len(self.text)
            word = model.word._replace(form=target[start:end], start=start + shift, end=end + shift)
            if keeps_source or len(self.words) >= first:
                self.governors[len(self.words)] = model.number
            self.words.append(self._mark(word, TARGET_WORD))
        if not keeps_source:
            for _, number in of_term:
                self.new_numbers.setdefault(number, first)
        self.text += target
        self.ends_inserted = True

    def attach_words(self) -> tuple[Word, ...]:
        """The words, with heads of the new sentence."""
        words = []
        for place, word in enumerate(self.words):
            head = word.head
            if head >= 0:
                head = self.governors.get(place, head)
            if head > 0:
                head = self.new_numbers.get(head, -1)
            words.append(word._replace(head=head))
        return tuple(words)

    def _words_within(self, start: int, end: int) -> list[_OldWord]:
        return [old for old in self.old_words if start <= old.word.start and old.word.end <= end]

    def _separate(self, part: str, always: bool = False) -> None:
        """Add a space before a part that would run into the text, or `always`."""
        if not self.text or not part or self.text[-1].isspace() or part[0].isspace():
            return
        runs_into = self.text[-1].isalnum() and part[0].isalnum()
        if always or runs_into or self.text.endswith(self.tags):
            self.text += " "

    def _mark(self, word: Word, mark: str) -> Word:
        if not self.marks_words or has_mark(word):
            return word
        item = f"{KEY}={mark}"
        return word._replace(misc=item if word.misc == NONE else f"{word.misc}|{item}")
