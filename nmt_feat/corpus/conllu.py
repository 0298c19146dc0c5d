"""Annotated sentences, their CoNLL-U form, and how annotation is moved onto another text."""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from nmt_feat.corpus.text import read_lines
from nmt_feat.errors import UserError

NONE = "_"
"""No value."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a sentence, with `_` where it has no value.

    A multi-word token (im = in + dem) is one word; its values are those of its parts, joined with
    `+` in order (`ADP+DET`).
    """

    form: str  # as it stands in the text
    start: int  # its first character in the sentence's text
    end: int  # the first character behind it
    lemma: str = "_"
    upos: str = "_"
    xpos: str = "_"
    feats: str = "_"
    deprel: str = "_"
    head_upos: str = "_"  # UPOS of the head, `ROOT` for the root
    head: int = -1  # number of the head in the sentence, from 1; 0 for the root, -1 for none
    misc: str = "_"  # `Key=Value|...` of one's own, without SpaceAfter


@dataclass(frozen=True, slots=True)
class Sentence:
    """A line of raw text with its words in order; without annotation, it has none."""

    text: str
    words: tuple[Word, ...] = ()


class _Row(NamedTuple):
    """A line of CoNLL-U: its number and columns."""

    line: int
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
    for full, block in groupby(enumerate(lines, 1), lambda item: bool(item[1].strip())):
        if full:
            yield _sentence(list(block), name)


def _sentence(block: list[tuple[int, str]], name: str) -> Sentence:
    def fail(line: int, message: str) -> UserError:
        return UserError(f"{name}:{line}: {message}")

    text, text_line = None, block[0][0]
    rows: list[_Row] = []  # syntactic words
    tokens: list[tuple[_Row, list[_Row]]] = []  # surface tokens and their syntactic words
    range_end = 0
    for line, content in block:
        if content.startswith("#"):
            if match := re.fullmatch(r"#\s*text\s*= ?(.*)", content):
                text, text_line = match[1], line
            continue
        columns = content.split("\t")
        if len(columns) != 10:
            raise fail(line, f"{len(columns)} columns, not 10 (CoNLL-U, by tabs): {content[:60]!r}")
        row = _Row(line, *columns)
        if empty := [column for column, value in row._asdict().items() if not str(value).strip()]:
            raise fail(line, f"the column {empty[0].upper()} is empty; write _ for no value")
        if match := re.fullmatch(r"(\d+)-(\d+)", row.id):
            first, last = int(match[1]), int(match[2])
            if not range_end < first == len(rows) + 1 <= last:
                raise fail(line, f"the range {row.id} must stand right before its first word")
            tokens.append((row, []))
            range_end = last
        elif row.id.isdecimal():
            if int(row.id) != len(rows) + 1:
                raise fail(line, f"id {row.id} after {len(rows)} words; ids must count 1, 2, 3 ...")
            rows.append(row)
            if len(rows) > range_end:
                tokens.append((row, []))
            tokens[-1][1].append(row)
        elif not re.fullmatch(r"\d+\.\d+", row.id):
            raise fail(line, f"the id {row.id!r} is no number, range (1-2) or empty node (1.1)")
    if not rows:
        raise fail(block[0][0], "a sentence without words; remove it or annotate it")
    if range_end > len(rows):
        raise fail(block[-1][0], f"a range ends at {range_end}, the sentence at word {len(rows)}")
    for row in rows:
        if not row.head.isdecimal() and row.head != "_":
            raise fail(row.line, f"the head {row.head!r} is not a number; 0 is the root, _ none")
        if row.head != "_" and int(row.head) > len(rows):
            raise fail(row.line, f"the head {row.head} is outside the sentence (0 to {len(rows)})")
    if text is None:
        text = ""
        for token, _ in tokens:
            text += token.form + " " * ("SpaceAfter=No" not in token.misc.split("|"))
        text = text.rstrip()
    what = f"{name}:{text_line}: the forms differ from '# text'"
    spans = locate([token.form for token, _ in tokens], text, what, "correct either")
    upos = ["ROOT", *(row.upos for row in rows), "_"]  # of the heads 0, 1 ... and -1
    word_of = [0, *(n for n, (_, parts) in enumerate(tokens, 1) for _ in parts), -1]
    words = []
    for number, ((start, end), (token, parts)) in enumerate(zip(spans, tokens, strict=True), 1):
        values: dict[str, Any] = {
            column: _join(getattr(row, column) for row in parts)
            for column in ("lemma", "upos", "xpos", "feats", "deprel")
        }
        heads = [-1 if row.head == "_" else int(row.head) for row in parts]
        given = re.search(r"HeadUPOS=([^|]+)", token.misc)  # by write_conllu
        values["head_upos"] = given[1] if given else _join(upos[head] for head in heads)
        values["misc"] = (
            "|".join(
                item
                for item in dict.fromkeys(
                    item for row in [token, *parts] for item in row.misc.split("|")
                )
                if not item.startswith(("SpaceAfter=", "HeadUPOS=")) and item != NONE
            )
            or NONE
        )
        outside = (word_of[head] for head in heads if word_of[head] not in (number, -1))
        words.append(Word(text[start:end], start, end, **values, head=next(outside, -1)))
    return Sentence(text, tuple(words))


def _join(values: Iterable[str]) -> str:
    values = list(values)
    return "_" if set(values) == {"_"} else "+".join(values)


def locate(forms: Sequence[str], text: str, what: str, hint: str) -> list[tuple[int, int]]:
    """The span of each form in a text that they make up, whitespace apart.

    Where they do not, `what` begins the `UserError`, `hint` ends it.
    """
    visible = [at for at, character in enumerate(text) if not character.isspace()]
    plain = "".join(text[at] for at in visible)
    spans, at = [], 0  # at: counts visible characters
    for form in forms:
        bare = "".join(form.split())
        if not plain.startswith(bare, at):
            where = visible[at] if at < len(visible) else len(text)
            found = f"{form!r} is not at character {where} ({text[where:][:20]!r} ...)"
            raise UserError(f"{what}: {found}; {hint}")
        spans.append((visible[at], visible[at + len(bare) - 1] + 1))
        at += len(bare)
    if at < len(visible):
        found = f"no word covers {text[visible[at] :][:20]!r} at character {visible[at]}"
        raise UserError(f"{what}: {found}; {hint}")
    return spans


def write_conllu(sentences: Iterable[Sentence]) -> str:
    """CoNLL-U that `parse_conllu` reads back to the same sentences (a word a line, no ranges)."""
    out: list[str] = []
    for sentence in sentences:
        out.append(f"# text = {sentence.text}")
        upos = ["ROOT", *(word.upos for word in sentence.words), "_"]  # of the heads 0, 1 ... -1
        for number, word in enumerate(sentence.words, 1):
            misc = [word.misc] if word.misc != NONE else []
            if sentence.text[word.end : word.end + 1].strip():
                misc.append("SpaceAfter=No")
            if word.head_upos != upos[word.head]:  # that of a part of a multi-word token
                misc.append(f"HeadUPOS={word.head_upos}")
            head = "_" if word.head < 0 else str(word.head)
            columns = [word.form, word.lemma, word.upos, word.xpos, word.feats, head, word.deprel]
            columns = [re.sub(r"[\t\n]", " ", c) for c in columns]
            out.append("\t".join([str(number), *columns, "_", "|".join(misc) or NONE]))
        out.append("")
    return "".join(f"{line}\n" for line in out)


def align(text: str, words: Sequence[Word], name: str) -> tuple[Word, ...]:
    """The words with their spans in `text`, which may differ in whitespace only.

    `name` (file:line) begins the `UserError` where they do not fit.
    """
    what = f"{name}: the annotation does not fit the text {text!r}"
    spans = locate([word.form for word in words], text, what, "annotate this very text")
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
    raw_words = [word for word, part in zip(raw.words, raw_parts, strict=True) for _ in part]
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
        start, end = token.span()
        word = raw_words[raw_of[at]]
        words.append(replace(word, form=token[0], start=start, end=end, head=-1))
    return Sentence(tokens, tuple(words)), missed
