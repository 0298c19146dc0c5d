"""Lines that are too long to be translated as one: refused, cut into parts, or left empty.

A line is too long if it has more than `max_pieces` pieces, or if memory does not suffice for it
alone. It is cut at the ends of its sentences. A sentence that is still too long is cut, if possible
between words, into parts that are no longer than the sentences of training.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from nmt_feat.base.terminal import say
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.decoding.search import Hypothesis
from nmt_feat.errors import UserError, is_out_of_memory
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.sentences import Integers, Sentences
from nmt_feat.text.subwords import Subwords

_CLOSING = "[\"')\\]»”’」』）]*"
_SENTENCE_END = re.compile(f"[.!?…؟۔।॥]+{_CLOSING}\\s+|[。！？]+{_CLOSING}\\s*")
_PIECES_PER_CHARACTER = 4  # at most: the bytes of one

Translation = tuple[str, Hypothesis]
Score = tuple[float, int]


def count_excessive_pieces(encoder: SourceEncoder, sentence: Sentence, limit: int) -> int:
    """How many pieces a sentence has if it has more than `limit`, else 0."""
    if _PIECES_PER_CHARACTER * len(sentence.text) + 1 <= limit:
        return 0  # so most lines need not be cut into pieces here
    count = int(encoder.pieces(Sentences.of([sentence])).counts[0])
    return count if count > limit else 0


class LineTooLong(UserError):
    """A line is longer than the model reads with the translations of its terms."""

    def __init__(self, where: str, pieces: int, most: int) -> None:
        self.cause = f"has {pieces:,} pieces with its terms, above the limit of {most:,}"
        super().__init__(f"{where}: {self.cause}; shorten the line")


def refuse_long_sources(counts: Integers, where: Sequence[str], most: int) -> None:
    """Refuse the first line whose source has more pieces than a model reads.

    Other limits are checked before terms are written into the text.
    """
    if (counts > most).any():
        row = int(np.argmax(counts > most))
        raise LineTooLong(where[row], int(counts[row]), most)


@dataclass(frozen=True)
class MostPieces:
    """How many pieces a line may have; a limit that is not the setting's cannot be raised."""

    count: int
    is_setting: bool = True

    @classmethod
    def choose(cls, max_pieces: int, longest: int) -> MostPieces:
        """The setting, or the longest that the model takes, if that is less."""
        return cls(min(max_pieces, longest), max_pieces <= longest)

    def describe_excess(self, pieces: int) -> str:
        """What is said of a line with more pieces."""
        limit = f"max_pieces={self.count}" if self.is_setting else f"the limit of {self.count:,}"
        return f"has {pieces:,} pieces, above {limit}"

    def make_error(self, where: str, pieces: int, without_refusal: str = "") -> UserError:
        """The error of a line with more pieces, with the ways out."""
        raise_it = "raise max_pieces" if self.is_setting else ""
        *ways, last = filter(None, ["shorten the line", raise_it, without_refusal])
        advice = f"{', '.join(ways)}, or {last}" if ways else last
        return UserError(f"{where}: {self.describe_excess(pieces)}; {advice}")


def check_pairs(
    encoder: SourceEncoder,
    target: Subwords,
    sentences: Sequence[Sentence],
    translations: Sequence[str],
    where: Sequence[str],
    limit: MostPieces,
) -> None:
    """Refuse the first pair to score of which a side has more pieces."""
    lengths = map(len, target.encode_ids(translations))
    for sentence, name, length in zip(sentences, where, lengths, strict=True):
        if pieces := count_excessive_pieces(encoder, sentence, limit.count):
            raise limit.make_error(name, pieces)
        if length > limit.count:
            raise limit.make_error(f"{name}: its translation", length)


def cut_line(encoder: SourceEncoder, line: Sentence, limit: int, size: int) -> list[Sentence]:
    """The sentences of a line; a sentence above `limit` pieces in parts of at most `size` pieces.

    A part may have a few more: it is cut into pieces by itself, where they may differ.
    """
    text = line.text
    starts = sorted(set(encoder.pieces(Sentences.of([line])).starts.tolist()))
    sentence_ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    bounds = sorted({0, *sentence_ends, len(text)})
    word_ends = {word.end for word in line.words}
    spans: list[tuple[int, int]] = []
    for begin, end in pairwise(bounds):
        inside = starts[bisect_left(starts, begin) : bisect_left(starts, end)]
        if len(inside) > limit:
            cuts = [begin, *_choose_cuts(text, inside, word_ends, size), end]
            spans += [(a, b) for a, b in pairwise(cuts) if a < b]
        else:
            spans.append((begin, end))
    # By bisection: a document may stand in one line, with thousands of sentences and words.
    starts_of_words = [word.start for word in line.words]
    ends_of_words = [word.end for word in line.words]
    parts = []
    for begin, end in spans:
        words = line.words[bisect_right(ends_of_words, begin) : bisect_left(starts_of_words, end)]
        parts.append(_cut_out(Sentence(text, words, line.comments), begin, end))
    return [part for part in parts if part.text]


def _choose_cuts(text: str, starts: list[int], word_ends: set[int], size: int) -> list[int]:
    """Positions at which to cut between pieces that begin at `starts`, into parts of `size` pieces.

    A part ends at the last space in it, else at the last end of a word, else after `size` pieces.
    """
    cuts, first = [], 0
    while len(starts) - first > size:
        candidates = range(first + size, first, -1)
        at_space = (
            i for i in candidates if text[starts[i] - 1].isspace() or text[starts[i]].isspace()
        )
        after_word = (i for i in candidates if starts[i] in word_ends)
        first = next(at_space, next(after_word, first + size))
        cuts.append(starts[first])
    return cuts


def _cut_out(sentence: Sentence, begin: int, end: int) -> Sentence:
    """A part of a sentence, without white space around it.

    A word that lies across a cut is in both parts, each with its characters there.
    """
    text = sentence.text[begin:end]
    begin += len(text) - len(text.lstrip())
    text = text.strip()
    end = begin + len(text)
    words = []
    for word in sentence.words:
        word_start, word_end = max(word.start, begin), min(word.end, end)
        if word_start < word_end:
            words.append(
                word._replace(
                    form=sentence.text[word_start:word_end],
                    head=-1,  # which may be in another part
                    start=word_start - begin,
                    end=word_end - begin,
                )
            )
    return Sentence(text, tuple(words), sentence.comments)


@dataclass
class Limit:
    """How long a line may be, and what to do with a longer one.

    Attributes:
        encoder: the run's.
        most_pieces: of a line.
        too_long: the setting.
        part_size: pieces of the parts of a sentence that is too long.
        joiner: text between the translations of parts.
        penalty: the length penalty of scores.
    """

    encoder: SourceEncoder
    most_pieces: MostPieces
    too_long: str
    part_size: int
    joiner: str = " "
    penalty: float = 1.0
    line_numbers: list[int] = field(default_factory=list)
    """For each part of the last `divide` the number of its line."""

    def divide(
        self, sentences: Sequence[Sentence], where: Sequence[str]
    ) -> tuple[list[Sentence], list[str]]:
        """The sentences and their names; long sentences in parts, or replaced by empty ones."""
        parts: list[Sentence] = []
        names: list[str] = []
        self.line_numbers = []
        for number, (sentence, name) in enumerate(zip(sentences, where, strict=True)):
            pieces = count_excessive_pieces(self.encoder, sentence, self.most_pieces.count)
            if pieces and self.too_long == "refuse":
                raise self.most_pieces.make_error(
                    name, pieces, "set too_long=split or too_long=empty"
                )
            line_parts = [sentence]
            if pieces:
                cause = self.most_pieces.describe_excess(pieces)
                line_parts = self.shorten(sentence, name, cause, self.most_pieces.count)
            parts += line_parts
            names += [name] * len(line_parts)
            self.line_numbers += [number] * len(line_parts)
        return parts, names

    def shorten(self, sentence: Sentence, name: str, cause: str, limit: int) -> list[Sentence]:
        """The parts of a line that is too long, or one empty sentence; the user is told which."""
        if self.too_long == "empty":
            say(f"{name}: {cause}: its translation is left empty", file=sys.stderr)
            return [Sentence("")]
        parts = cut_line(self.encoder, sentence, limit, min(limit, self.part_size))
        say(f"{name}: {cause}: translated in {len(parts):,} parts", file=sys.stderr)
        return parts

    def gather(self, results: Sequence[list[Translation]]) -> list[list[Translation]]:
        """The translations of whole lines, from those of the parts of the last `divide`."""
        lines: dict[int, list[list[Translation]]] = {}
        for number, translations in zip(self.line_numbers, results, strict=True):
            lines.setdefault(number, []).append(translations)
        return [self.join(parts) for parts in lines.values()]

    def join(self, parts: Sequence[list[Translation]]) -> list[Translation]:
        """The i-th best translation of a line is made of the i-th best of each part."""
        if len(parts) == 1:
            return parts[0]
        joined = []
        for i in range(max(map(len, parts))):
            chosen = [part[min(i, len(part) - 1)] for part in parts]
            text = self.joiner.join(text for text, _ in chosen if text)
            ids = [piece for _, hypothesis in chosen for piece in hypothesis.ids]
            logprob = sum(hypothesis.logprob for _, hypothesis in chosen)
            score = logprob / (len(ids) + len(chosen)) ** self.penalty
            joined.append((text, Hypothesis(ids, score, logprob)))
        return joined

    def within_memory(
        self,
        translate: Callable[[list[Sentence], list[str], bool], list[list[Translation]]],
        sentences: list[Sentence],
        where: list[str],
        first: bool = True,
    ) -> list[list[Translation]]:
        """Translate sentences; if memory is short, fewer at a time, or in shorter parts.

        A line that its terms make too long is translated in shorter parts, too. The third argument
        of `translate` says whether it gets these sentences for the first time.
        """
        cause = ""
        try:
            return translate(sentences, where, first)
        except LineTooLong as error:
            cause = error.cause
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        if len(sentences) > 1:
            half = len(sentences) // 2
            return [
                *self.within_memory(translate, sentences[:half], where[:half], False),
                *self.within_memory(translate, sentences[half:], where[half:], False),
            ]
        (sentence,), (name,) = sentences, where
        pieces = int(self.encoder.pieces(Sentences.of([sentence])).counts[0])
        advice = "shorten the line, set" if cause else "shorten the line, set a smaller beam, or"
        cause = cause or f"memory does not suffice for its {pieces:,} pieces"
        if self.too_long == "refuse" or pieces < 2:
            raise UserError(f"{name}: {cause}; {advice} too_long=split or too_long=empty")
        parts = self.shorten(sentence, name, cause, max(1, pieces // 2))
        results = [self.within_memory(translate, [part], [name], False)[0] for part in parts]
        return [self.join(results)]


def score_within_memory(score: Callable[[int], list[Score]], batch_tokens: int) -> list[Score]:
    """Scores from batches of so many tokens, or of fewer if memory does not suffice."""
    while True:
        try:
            return score(batch_tokens)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if batch_tokens <= 1:  # one line at a time
                raise UserError(
                    "score: memory does not suffice for the longest line; shorten it, or set a "
                    "lower max_pieces to see which it is"
                ) from None
        batch_tokens //= 4
