"""Lines that are too long to be translated as one: refused, cut into parts, or left empty.

A line is too long above `max_pieces` pieces, or if memory does not suffice for it alone. It is cut
at the ends of its sentences. A sentence that is still too long is cut into parts that are no longer
than the sentences of training, between words if it can be.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from nmt_feat.base.terminal import say
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.decoding.search import Hypothesis
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Subwords

UNSPACED = ("zh", "ja", "th", "lo", "km", "my")
"""Languages whose sentences stand side by side without a space."""
_CLOSING = "[\"')\\]»”’」』）]*"
_SENTENCE_END = re.compile(f"[.!?…؟۔।॥]+{_CLOSING}\\s+|[。！？]+{_CLOSING}\\s*")
_PIECES_PER_CHARACTER = 4  # at most: the bytes of one

Translation = tuple[str, Hypothesis]
Score = tuple[float, int]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, PyTorch or CTranslate2 says that memory does not suffice."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def too_many_pieces(encoder: SourceEncoder, sentence: Sentence, limit: int) -> int:
    """How many pieces a sentence has if it has more than `limit`, else 0."""
    if _PIECES_PER_CHARACTER * len(sentence.text) + 1 <= limit:
        return 0  # most lines, which are not cut into pieces for this
    count = int(encoder.pieces(Sentences.of([sentence])).counts[0])
    return count if count > limit else 0


def refuse(where: str, pieces: int, limit: int, hint: str) -> UserError:
    """The error of a line that has too many pieces."""
    return UserError(f"{where}: has {pieces:,} pieces, above max_pieces={limit}; {hint}")


REFUSED = "shorten the line, raise max_pieces, or set too_long=split or too_long=empty"


def check_lengths(
    encoder: SourceEncoder, sentences: Sequence[Sentence], where: Sequence[str], limit: int
) -> None:
    """Refuse the first sentence with more than `limit` pieces."""
    for sentence, name in zip(sentences, where, strict=True):
        if pieces := too_many_pieces(encoder, sentence, limit):
            raise refuse(name, pieces, limit, REFUSED)


def check_pairs(
    encoder: SourceEncoder,
    target: Subwords,
    sentences: Sequence[Sentence],
    translations: Sequence[str],
    where: Sequence[str],
    limit: int,
) -> None:
    """Refuse the first pair of which a side has more than `limit` pieces; to score them."""
    hint = "shorten the line, or raise max_pieces"
    lengths = map(len, target.encode_ids(translations))
    for sentence, name, length in zip(sentences, where, lengths, strict=True):
        if pieces := too_many_pieces(encoder, sentence, limit):
            raise refuse(name, pieces, limit, hint)
        if length > limit:
            raise refuse(f"{name}: its translation", length, limit, hint)


def cut(encoder: SourceEncoder, sentence: Sentence, limit: int, part: int) -> list[Sentence]:
    """The sentences of a line; one above `limit` pieces in parts of about `part` pieces at most."""
    text = sentence.text
    starts = sorted(set(encoder.pieces(Sentences.of([sentence])).starts.tolist()))
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    bounds = sorted({0, *ends, len(text)})
    word_ends = {word.end for word in sentence.words}
    spans: list[tuple[int, int]] = []
    for begin, end in pairwise(bounds):
        inside = starts[bisect_left(starts, begin) : bisect_left(starts, end)]
        if len(inside) > limit:
            cuts = [begin, *_cuts(text, inside, word_ends, part), end]
            spans += [(a, b) for a, b in pairwise(cuts) if a < b]
        else:
            spans.append((begin, end))
    # By bisection: a document may stand in one line, with thousands of sentences and words.
    firsts, lasts = [word.start for word in sentence.words], [word.end for word in sentence.words]
    parts = []
    for begin, end in spans:
        words = sentence.words[bisect_right(lasts, begin) : bisect_left(firsts, end)]
        parts.append(_part(Sentence(text, words, sentence.comments), begin, end))
    return [part for part in parts if part.text]


def _cuts(text: str, starts: list[int], word_ends: set[int], size: int) -> list[int]:
    """Where to cut between pieces that begin at `starts`, `size` of them at most in each part."""
    cuts, first = [], 0
    while len(starts) - first > size:
        candidates = range(first + size, first, -1)
        between = (
            i for i in candidates if text[starts[i] - 1].isspace() or text[starts[i]].isspace()
        )
        after_word = (i for i in candidates if starts[i] in word_ends)
        first = next(between, next(after_word, first + size))
        cuts.append(starts[first])
    return cuts


def _part(sentence: Sentence, begin: int, end: int) -> Sentence:
    """A part of a sentence without the white space around it; a word that is cut is in both."""
    text = sentence.text[begin:end]
    begin += len(text) - len(text.lstrip())
    text = text.strip()
    end = begin + len(text)
    words = []
    for word in sentence.words:
        start, behind = max(word.start, begin), min(word.end, end)
        if start < behind:
            form = sentence.text[start:behind]
            at, behind = start - begin, behind - begin
            words.append(word._replace(form=form, head=-1, start=at, end=behind))
    return Sentence(text, tuple(words), sentence.comments)


@dataclass
class Limit:
    """How long a line may be, and what is done with a longer one.

    Attributes:
        encoder: the run's.
        max_pieces, too_long: the settings.
        part: pieces of the parts of a sentence that is too long.
        joiner: what stands between the translations of parts.
        penalty: the length penalty of scores.
    """

    encoder: SourceEncoder
    max_pieces: int
    too_long: str
    part: int
    joiner: str = " "
    penalty: float = 1.0
    owners: list[int] = field(default_factory=list)
    """Of each part of the last `divide` the number of its line."""

    def divide(
        self, sentences: Sequence[Sentence], where: Sequence[str]
    ) -> tuple[list[Sentence], list[str]]:
        """The sentences and their names, those that are too long in parts, or as empty ones."""
        parts: list[Sentence] = []
        names: list[str] = []
        self.owners = []
        for number, (sentence, name) in enumerate(zip(sentences, where, strict=True)):
            pieces = too_many_pieces(self.encoder, sentence, self.max_pieces)
            if pieces and self.too_long == "refuse":
                raise refuse(name, pieces, self.max_pieces, REFUSED)
            cause = f"has {pieces:,} pieces, above max_pieces={self.max_pieces}"
            mine = self.handle(sentence, name, cause, self.max_pieces) if pieces else [sentence]
            parts += mine
            names += [name] * len(mine)
            self.owners += [number] * len(mine)
        return parts, names

    def handle(self, sentence: Sentence, name: str, cause: str, limit: int) -> list[Sentence]:
        """The parts of a line that is too long, at once said; at least one, which may be empty."""
        if self.too_long == "empty":
            say(f"{name}: {cause}: its translation is left empty", file=sys.stderr)
            return [Sentence("")]
        parts = cut(self.encoder, sentence, limit, min(limit, self.part))
        say(f"{name}: {cause}: translated in {len(parts):,} parts", file=sys.stderr)
        return parts

    def gather(self, results: Sequence[list[Translation]]) -> list[list[Translation]]:
        """The translations of lines from those of their parts, of the last `divide`."""
        lines: dict[int, list[list[Translation]]] = {}
        for owner, translations in zip(self.owners, results, strict=True):
            lines.setdefault(owner, []).append(translations)
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
        """`translate` of sentences, fewer at a time, or in shorter parts, where memory is short.

        It also gets whether it sees them for the first time.
        """
        try:
            return translate(sentences, where, first)
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
        cause = f"memory does not suffice for its {pieces:,} pieces"
        if self.too_long == "refuse" or pieces < 2:
            raise UserError(
                f"{name}: {cause}; shorten the line, set a smaller beam, or too_long=split or "
                "too_long=empty"
            )
        parts = self.handle(sentence, name, cause, max(1, pieces // 2))
        results = [self.within_memory(translate, [part], [name], False)[0] for part in parts]
        return [self.join(results)]


def score_within_memory(score: Callable[[int], list[Score]], batch_tokens: int) -> list[Score]:
    """`score` with batches of so many tokens, of fewer where memory does not suffice."""
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
