"""Annotated sentences, their CoNLL-U form, and how annotation is moved onto another text."""

import html
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from nmt_feat.corpus.text import read_lines
from nmt_feat.errors import UserError


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a sentence, with `_` where it has no value.

    A multi-word token (im = in + dem) is one word; its values are those of its parts, joined with
    `+` in order (`ADP+DET`).
    """

    form: str
    """The word as it stands in the text."""
    start: int
    """First character in the sentence's text."""
    end: int
    """First character behind the word."""
    lemma: str = "_"
    upos: str = "_"
    xpos: str = "_"
    feats: str = "_"
    deprel: str = "_"
    head_upos: str = "_"
    """UPOS of the head, `ROOT` for the root."""
    head: int = -1
    """Number of the head in the sentence, from 1; 0 for the root, -1 where there is none."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A line of raw text with its words in order; without annotation, it has none."""

    text: str
    words: tuple[Word, ...] = ()


class _Row(NamedTuple):
    """The columns of a line of CoNLL-U."""

    id: str
    form: str
    lemma: str
    upos: str
    xpos: str
    feats: str
    head: str
    deprel: str
    deps: str
    misc: str


def is_conllu(path: Path | str) -> bool:
    """Whether a file is CoNLL-U, by its name."""
    return str(path).removesuffix(".gz").endswith(".conllu")


def read_conllu(path: Path | str) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file, plain or gzipped."""
    return parse_conllu(read_lines(path), str(path))


def parse_conllu(lines: Iterable[str], name: str) -> Iterator[Sentence]:
    """The sentences in `lines`; whatever is broken is a `UserError` that begins `name:line:`.

    The text is that of `# text`, in which the forms must be found in order; without it, the forms
    joined as SpaceAfter says. Empty nodes are skipped.
    """
    block: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield _sentence(block, name)
            block = []
    if block:
        yield _sentence(block, name)


def _sentence(block: list[tuple[int, str]], name: str) -> Sentence:
    def fail(number: int, message: str) -> UserError:
        return UserError(f"{name}:{number}: {message}")

    text, text_line = None, block[0][0]
    rows: list[_Row] = []  # syntactic words
    heads: list[int] = []  # as in `Word`, but numbers of rows
    numbers: list[int] = []  # the line of each row
    tokens: list[tuple[_Row, range]] = []  # surface tokens and the indices of their rows
    range_end = 0
    for number, line in block:
        if line.startswith("#"):
            if match := re.fullmatch(r"#\s*text\s*= ?(.*)", line):
                text, text_line = match[1], number
            continue
        columns = line.split("\t")
        if len(columns) != 10:
            raise fail(number, f"{len(columns)} columns, not 10 (CoNLL-U, by tabs): {line[:60]!r}")
        row = _Row(*columns)
        for column, value in row._asdict().items():
            if not value.strip():
                raise fail(number, f"the column {column.upper()} is empty; write _ for no value")
        if match := re.fullmatch(r"(\d+)-(\d+)", row.id):
            first, last = int(match[1]), int(match[2])
            if not range_end < first == len(rows) + 1 <= last:
                raise fail(number, f"the range {row.id} must stand right before its first word")
            tokens.append((row, range(first - 1, last)))
            range_end = last
        elif row.id.isdecimal():
            if int(row.id) != len(rows) + 1:
                raise fail(
                    number, f"id {row.id} after {len(rows)} words; ids must count 1, 2, 3 ..."
                )
            if not row.head.isdecimal() and row.head != "_":
                raise fail(number, f"the head {row.head!r} is not a number; 0 is the root, _ none")
            rows.append(row)
            numbers.append(number)
            heads.append(-1 if row.head == "_" else int(row.head))
            if len(rows) > range_end:
                tokens.append((row, range(len(rows) - 1, len(rows))))
        elif not re.fullmatch(r"\d+\.\d+", row.id):
            raise fail(number, f"the id {row.id!r} is no number, range (1-2) or empty node (1.1)")
    if not rows:
        raise fail(block[0][0], "a sentence without words; remove it or annotate it")
    if range_end > len(rows):
        raise fail(block[-1][0], f"a range ends at {range_end}, the sentence at word {len(rows)}")
    for number, head in zip(numbers, heads, strict=True):
        if head > len(rows):
            raise fail(number, f"the head {head} is outside the sentence (0 to {len(rows)})")
    if text is None:
        after = ("" if "SpaceAfter=No" in token.misc.split("|") else " " for token, _ in tokens)
        text = "".join(t.form + space for (t, _), space in zip(tokens, after, strict=True)).rstrip()
    try:
        spans = _find([token.form for token, _ in tokens], text)
    except ValueError as error:
        raise fail(text_line, f"the forms differ from '# text': {error}; correct either") from None
    return Sentence(text, tuple(_words(text, spans, tokens, rows, heads)))


def _words(
    text: str,
    spans: list[tuple[int, int]],
    tokens: list[tuple[_Row, range]],
    rows: list[_Row],
    heads: list[int],
) -> Iterator[Word]:
    """A word for each surface token, with the values of its rows."""
    upos = ["ROOT", *(row.upos for row in rows), "_"]  # of the heads 0, 1 ... and -1
    word_of = [0, *(n for n, (_, parts) in enumerate(tokens, 1) for _ in parts), -1]
    for number, ((start, end), (token, parts)) in enumerate(zip(spans, tokens, strict=True), 1):
        outside = (word_of[heads[i]] for i in parts if word_of[heads[i]] != number)
        given = re.search(r"HeadUPOS=([^|]+)", token.misc)  # by write_conllu
        yield Word(
            text[start:end],
            start,
            end,
            _join(rows[i].lemma for i in parts),
            _join(rows[i].upos for i in parts),
            _join(rows[i].xpos for i in parts),
            _join(rows[i].feats for i in parts),
            _join(rows[i].deprel for i in parts),
            given[1] if given else _join(upos[heads[i]] for i in parts),
            next((head for head in outside if head >= 0), -1),
        )


def _join(values: Iterable[str]) -> str:
    values = list(values)
    return "_" if set(values) == {"_"} else "+".join(values)


def _find(forms: Sequence[str], text: str) -> list[tuple[int, int]]:
    """The span of each form in a text that they make up, whitespace apart; else `ValueError`."""
    visible = [at for at, character in enumerate(text) if not character.isspace()]
    plain = "".join(text[at] for at in visible)
    spans, at = [], 0  # at: counts visible characters
    for form in forms:
        bare = "".join(form.split())
        if not plain.startswith(bare, at):
            where = visible[at] if at < len(visible) else len(text)
            raise ValueError(f"{form!r} is not at character {where} ({text[where:][:20]!r} ...)")
        spans.append((visible[at], visible[at + len(bare) - 1] + 1))
        at += len(bare)
    if at < len(visible):
        where = visible[at]
        raise ValueError(f"no word covers {text[where:][:20]!r} at character {where}")
    return spans


def write_conllu(sentences: Iterable[Sentence]) -> str:
    """CoNLL-U that `parse_conllu` reads back to the same sentences (a word a line, no ranges)."""
    out: list[str] = []
    for sentence in sentences:
        out.append(f"# text = {sentence.text}")
        upos = ["ROOT", *(word.upos for word in sentence.words), "_"]  # of the heads 0, 1 ... -1
        for number, word in enumerate(sentence.words, 1):
            head = "_" if word.head < 0 else str(word.head)
            after = sentence.text[word.end : word.end + 1]
            misc = ["SpaceAfter=No"] if after and not after.isspace() else []
            if word.head_upos != upos[word.head]:  # that of a part of a multi-word token
                misc.append(f"HeadUPOS={word.head_upos}")
            columns = [word.form, word.lemma, word.upos, word.xpos, word.feats, head, word.deprel]
            columns = [re.sub(r"[\t\n]", " ", c) for c in columns]
            out.append("\t".join([str(number), *columns, "_", "|".join(misc) or "_"]))
        out.append("")
    return "\n".join(out) + "\n" if out else ""


def align(text: str, words: Sequence[Word], name: str) -> tuple[Word, ...]:
    """The words with their spans in `text`, which may differ in whitespace only.

    `name` (file:line) begins the `UserError` where they do not fit.
    """
    try:
        spans = _find([word.form for word in words], text)
    except ValueError as error:
        raise UserError(
            f"{name}: the annotation does not fit the text {text!r}: {error}; "
            "annotate this very text"
        ) from None
    return tuple(
        replace(word, form=text[start:end], start=start, end=end)
        for word, (start, end) in zip(words, spans, strict=True)
    )


# What the Moses normaliser makes of punctuation.
_PUNCTUATION = str.maketrans(
    dict.fromkeys("„“”«»″", '"') | dict.fromkeys("‘’‚‛´`′", "'") | dict.fromkeys("–—‐‑", "-")
) | {ord("…"): "..."}


def _comparable(part: str) -> str:
    """A part of a raw or of a tokenised text as both would have it, without whitespace."""
    return "".join(part.split()).translate(_PUNCTUATION).lower()


def project(raw: Sentence, tokens: str, name: str = "projection") -> tuple[Sentence, int]:
    """Annotation of a raw line on its lower-cased tokens, and how many tokens matched nothing.

    `tokens` are separated by spaces, lower-cased, normalised and escaped as Moses does. Characters
    of both sides, without whitespace, lower-cased, normalised and unescaped, are aligned (longest
    common blocks). A token takes the values of the raw word that covers its first character; where
    that is in no block (counted), those of the nearest character that is, of its own or else of
    another token. A line of which no character matches is a `UserError` that begins with `name`.
    """
    if not raw.words:
        raise UserError(f"{name}: no annotation for {raw.text!r}")
    bounds = [0, *(word.start for word in raw.words[1:]), len(raw.text)]
    raw_parts = [_comparable(raw.text[start:end]) for start, end in pairwise(bounds)]
    word_ends = list(accumulate(map(len, raw_parts)))  # as the token bounds, in all characters
    found = list(re.finditer(r"\S+", tokens))
    token_parts = [
        _comparable("-" if token[0] == "@-@" else html.unescape(token[0])) for token in found
    ]
    token_bounds = pairwise(accumulate(map(len, token_parts), initial=0))
    matcher = SequenceMatcher(None, "".join(token_parts), "".join(raw_parts), autojunk=False)
    raw_of = {  # the raw character of each token character that matches one
        block.a + i: block.b + i
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    }
    if not raw_of:
        raise UserError(f"{name}: the tokens {tokens!r} have no character of {raw.text!r}")
    words, missed = [], 0
    for token, (first, behind) in zip(found, token_bounds, strict=True):
        at = first
        if first not in raw_of:
            missed += 1
            at = min(raw_of, key=lambda i: (not first <= i < behind, abs(i - first)))
        word = raw.words[bisect_right(word_ends, raw_of[at])]
        start, end = token.span()
        words.append(replace(word, form=token[0], start=start, end=end, head=-1))
    return Sentence(tokens, tuple(words)), missed
