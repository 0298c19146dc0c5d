"""A glossary: terms with their translations, and how they are found in a text."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.files import read_lines
from nmt_feat.text.normalization import normalize_line

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Characters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
A term may begin and end at any of them."""
HYPHENS = "-\u2010\u2011"
"""Signs at which lemmas are cut into tokens, as terms are."""
FORM = "a line is: source term, tab, target term, and maybe a tab and the source term's lemmas"

Span = tuple[int, int]
"""The position of the first character, and the position behind the last one."""


class Term(NamedTuple):
    """A row of a glossary."""

    source: str
    target: str
    lemmas: str = ""
    """Lemmas of the source's words; empty where the words are their own lemmas."""


class Occurrence(NamedTuple):
    """A term, and its span in a text."""

    start: int
    end: int
    term: Term


@lru_cache(maxsize=1)
def _token_pattern() -> re.Pattern[str]:
    """Matches words with accents and vowel signs, characters of unspaced scripts, and signs."""
    # Python's \w has no combining marks, so a vowel sign would cut its word in two.
    characters = map(chr, range(0x20000))
    marks = "".join(c for c in characters if unicodedata.category(c)[0] == "M")
    unspaced = f"[{UNSPACED}][{marks}]*"
    part = rf"(?:(?![{UNSPACED}])[\w{marks}])+"
    # Zero-width joiners and non-joiners shape letters, in Persian or Hindi, inside of a word.
    return re.compile(rf"{unspaced}|{part}(?:[\u200c\u200d]+{part})*|[^\w\s]")


def find_tokens(text: str) -> list[Span]:
    """The spans of a text's tokens; a term is a sequence of them."""
    return [match.span() for match in _token_pattern().finditer(text)]


def join_tokens(tokens: Iterable[str]) -> str:
    """Tokens as a text: with spaces between, but not within scripts that have none."""
    text = " ".join(tokens)
    return re.sub(f"(?<=[{UNSPACED}]) (?=[{UNSPACED}])", "", text)


def split_tokens(text: str) -> tuple[str, ...]:
    """The tokens of a text."""
    return tuple(text[start:end] for start, end in find_tokens(text))


class TokenSequences:
    """Finds sequences of tokens in texts.

    A sequence in lower case matches in any case; any other one matches only as it is.
    """

    def __init__(self, sequences: Iterable[Sequence[str]]) -> None:
        self.number_by_tokens: dict[tuple[str, ...], int] = {}
        """The number of each sequence; of equal ones, that of the first."""
        self.lengths: dict[str, set[int]] = {}
        """By first token, in lower case, the lengths of the sequences that begin with it."""
        for number, tokens in enumerate(sequences):
            self.number_by_tokens.setdefault(tuple(tokens), number)
            self.lengths.setdefault(tokens[0].lower(), set()).add(len(tokens))

    def find(self, tokens: Sequence[str]) -> list[tuple[int, int, int]]:
        """Find all matches, which may overlap: first token, token behind, number of the sequence.

        If a sequence as it is and one in lower case match the same tokens, the first one counts.
        """
        lower = [token.lower() for token in tokens]
        matches = []
        for first, token in enumerate(lower):
            for length in self.lengths.get(token, ()):
                behind = first + length
                if behind > len(tokens):
                    continue
                for candidate in (tokens[first:behind], lower[first:behind]):
                    number = self.number_by_tokens.get(tuple(candidate))
                    if number is not None:
                        matches.append((first, behind, number))
                        break
        return matches


class Glossary:
    """Terms, each with one translation.

    Args:
        terms: their sources are different.
    """

    def __init__(self, terms: Sequence[Term] = ()) -> None:
        self.terms = list(terms)

    @classmethod
    def read(cls, path: Path | str) -> Glossary:
        """Read the glossary in a file.

        Raises:
            UserError: if the file is not a glossary; the message names the line.
        """
        # Terms are found by their tokens, so "e-mail" and "e - mail" are one source.
        rows: dict[tuple[str, ...], tuple[Term, int]] = {}
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            term = _parse_row(line, f"{path}:{number}")
            earlier, earlier_line = rows.setdefault(split_tokens(term.source), (term, number))
            if earlier.target != term.target:
                raise UserError(
                    f"{path}:{number}: {short_repr(term.source)} is {short_repr(term.target)} "
                    f"here, {short_repr(earlier.target)} in line {earlier_line}; keep one of them"
                )
        if not rows:
            raise UserError(f"{path}: the file is empty; {FORM}")
        return cls([term for term, _ in rows.values()])

    @cached_property
    def sources(self) -> TokenSequences:
        """The tokens of the source terms as they are written."""
        return TokenSequences(split_tokens(term.source) for term in self.terms)

    @cached_property
    def lemmas(self) -> TokenSequences:
        """The lemmas of the source terms, in lower case."""
        lemmas = (term.lemmas or term.source for term in self.terms)
        return TokenSequences(split_tokens(text.lower()) for text in lemmas)

    def find_terms(
        self, text: str, words: Sequence[Span] = (), lemmas: Sequence[str] = ()
    ) -> list[Occurrence]:
        """Find the terms of a text, from left to right.

        If terms overlap, the one that begins first counts; if they begin together, the longest.

        Args:
            text: the text.
            words, lemmas: spans and lemmas of its words; without them, terms are found only as
                they are written.
        """
        spans = find_tokens(text)
        tokens = [text[start:end] for start, end in spans]
        matches = [(spans[a][0], spans[b - 1][1], n) for a, b, n in self.sources.find(tokens)]
        if lemmas:
            by_lemma = self._find_by_lemma(lemmas)
            matches += [(words[a][0], words[b - 1][1], n) for a, b, n in by_lemma]
        chosen: list[Occurrence] = []
        # Sorting is stable, so of two terms with one span, a match as written comes first.
        for start, end, number in sorted(matches, key=lambda match: (match[0], -match[1])):
            if not chosen or start >= chosen[-1].end:
                chosen.append(Occurrence(start, end, self.terms[number]))
        return chosen

    def _find_by_lemma(self, lemmas: Sequence[str]) -> list[tuple[int, int, int]]:
        """Matches of whole words by their lemmas: first word, word behind, number of the term."""
        tokens: list[str] = []
        word_at: dict[int, int] = {}  # by index of a token, the number of the word it begins
        for number, lemma in enumerate(lemmas):
            word_at[len(tokens)] = number
            tokens += _cut_lemma(lemma.lower())
        word_at[len(tokens)] = len(lemmas)
        # A term begins and ends where words do: `mail` is no term within the word `e-mail`.
        return [
            (word_at[first], word_at[behind], number)
            for first, behind, number in self.lemmas.find(tokens)
            if first in word_at and behind in word_at
        ]

    def exchange_targets(self) -> dict[str, str]:
        """By source term, the translation of another term, for the control.

        The exchange depends only on the terms. With a single translation, nothing changes.
        """
        # Sorted by hashes, because neighbours in the alphabet have similar translations.
        targets = sorted({term.target for term in self.terms}, key=_hash_text)
        following = dict(zip(targets, [*targets[1:], *targets[:1]], strict=True))
        return {term.source: following[term.target] for term in self.terms}


def contains_tokens(tokens: Sequence[str], sought: Sequence[str]) -> bool:
    """Whether the sequence `sought` occurs in the tokens of a text."""
    return count_tokens(tokens, sought) > 0


def count_tokens(tokens: Sequence[str], sought: Sequence[str]) -> int:
    """How often the sequence `sought` occurs in the tokens of a text."""
    length = len(sought)
    if not length:  # an annotator may find no word in a term
        return 0
    starts = range(len(tokens) - length + 1)
    return sum(tuple(tokens[i : i + length]) == tuple(sought) for i in starts)


def _cut_lemma(lemma: str) -> tuple[str, ...]:
    """The tokens of a lemma with hyphens; any other lemma is one token."""
    return split_tokens(lemma) if any(sign in lemma for sign in HYPHENS) else (lemma,)


def _hash_text(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _parse_row(line: str, where: str) -> Term:
    cells = [normalize_line(cell) for cell in line.split("\t")]
    if not 2 <= len(cells) <= 3:
        raise UserError(f"{where}: {len(cells)} columns in {short_repr(line)}; {FORM}")
    for cell, side in zip(cells, ("source", "target"), strict=False):
        if not split_tokens(cell):
            raise UserError(f"{where}: the {side} term is empty; {FORM}")
    return Term(*cells)
