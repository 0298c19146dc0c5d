"""Write the translations of terms into a source text, marked by a column of its words or by tags.

    append    The bakers sleep.  ->  The bakers Bäcker sleep.      0 1 2 0 0
    replace                          The Bäcker sleep.             0 2 0 0
    tags                             The ⟦ bakers ⟠ Bäcker ⟧ sleep.

This follows Dinu et al. (2019), who append or replace, and mark by a source factor or by tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.conllu import NONE, Sentence, Word
from nmt_feat.text.glossary import Occurrence, find_tokens
from nmt_feat.text.word_values import misc_value, without_annotation

KEY = "TERM"
COLUMN = f"misc.{KEY}"
"""The column of marks: `1` for a word of a term, `2` for a word of its translation, else `0`."""
OTHER_WORD, SOURCE_WORD, TARGET_WORD = "0", "1", "2"


def has_mark(word: Word) -> bool:
    """Whether a word has a mark of terms, of any value."""
    return misc_value(word.misc, KEY) != NONE


class Insertion(NamedTuple):
    """How terms are written into a text.

    Attributes:
        keeps_source: whether the source term stays before its translation.
        tags: three, or none: the first begins a term, the second stands before its translation, the
            third ends it. Without tags, words are marked.
    """

    keeps_source: bool = True
    tags: tuple[str, ...] = ()

    def refuse_tags(self, text: str, where: str) -> None:
        """Refuse a text, of a sentence or a translation, that contains a tag."""
        for tag in self.tags:
            if tag in text:
                raise UserError(
                    f"{where}: {short_repr(text)} has {tag!r}, which marks terms; take it out of "
                    "the text, or train with other data.terminology.tags"
                )

    def write_terms(self, sentence: Sentence, occurrences: Sequence[Occurrence]) -> Sentence:
        """Write the translations of terms, which do not overlap, into a sentence.

        Words of a translation get the annotation of the term's last word, which is usually its
        head, and depend on that word. If the translation replaces the term, its first word takes
        the term's place in the tree. Words that have a mark already are not marked again.
        """
        if not sentence.words and not self.tags:  # only words can be marked
            text = sentence.text
            sentence = sentence._replace(words=without_annotation(text, find_tokens(text)).words)
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
    """A word, or a part of one that a term cuts, and the word's number in the sentence, from 1."""

    word: Word
    number: int


def _cut_words(sentence: Sentence, bounds: Iterable[int]) -> Iterator[_OldWord]:
    """The words of a sentence, cut where a term begins or ends inside of them."""
    for number, word in enumerate(sentence.words, 1):
        # Neighbouring terms share a bound, which cuts once.
        inside = sorted({bound for bound in bounds if word.start < bound < word.end})
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
    """Words of the new sentence; their heads are still numbers of old words."""
    new_numbers: dict[int, int] = field(default_factory=dict)
    """By number of an old word, the number of the new word that stands for it."""
    governors: dict[int, int] = field(default_factory=dict)
    """By index of a new word that was inserted, the number of the old word that it depends on."""
    ends_inserted: bool = False
    """Whether the text so far ends with something that was inserted."""

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
        """Add a tag between spaces, as a word if the sentence has words; no tag adds nothing."""
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
        term_words = self._words_within(occurrence.start, occurrence.end)
        last = term_words[-1] if term_words else _OldWord(Word("", 0, 0), 0)
        shift, first = len(self.text), len(self.words)
        for start, end in find_tokens(target) if self.old_words else ():
            word = last.word._replace(form=target[start:end], start=start + shift, end=end + shift)
            if keeps_source or len(self.words) > first:
                self.governors[len(self.words)] = last.number
            else:
                self.governors[first] = _find_governor(term_words, last.word.head)
            self.words.append(self._mark(word, TARGET_WORD))
        if not keeps_source:
            for _, number in term_words:
                self.new_numbers.setdefault(number, first + 1)
        self.text += target
        self.ends_inserted = True

    def attach_words(self) -> tuple[Word, ...]:
        """The words, with heads that are numbers of new words."""
        words = []
        for index, word in enumerate(self.words):
            head = word.head
            if head >= 0:  # else the old word has no head
                head = self.governors.get(index, head)
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
        if self.tags or has_mark(word):  # tags say what is inserted, so words need no marks
            return word
        item = f"{KEY}={mark}"
        return word._replace(misc=item if word.misc == NONE else f"{word.misc}|{item}")


def _find_governor(term_words: Sequence[_OldWord], head: int) -> int:
    """The number of the first word outside of a term, `head` or one above it; 0 for a root."""
    heads = {number: word.head for word, number in term_words}
    while head in heads:
        head = heads.pop(head)  # once for each word, so that a circle ends as well
    return head
