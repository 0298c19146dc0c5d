"""Annotated sentences, their CoNLL-U form, and how annotation is moved onto another text."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from nmt_feat.corpus.text import read_lines
from nmt_feat.errors import UserError

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")


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


class Row(NamedTuple):
    """A syntactic word as annotators and CoNLL-U give it; `head` counts rows from 1."""

    lemma: str
    upos: str
    xpos: str
    feats: str
    head: int
    deprel: str


class Span(NamedTuple):
    """A surface token: rows `first` to `last` (from 1) stand at characters `start` to `end`."""

    first: int
    last: int
    start: int
    end: int


def assemble(text: str, spans: Sequence[Span], rows: Sequence[Row]) -> Sentence:
    """The sentence whose surface tokens are `spans`, which together cover all `rows`."""
    word_of = [0]  # the word of each row
    for number, span in enumerate(spans, 1):
        word_of += [number] * (span.last - span.first + 1)
    upos = ["ROOT", *(row.upos for row in rows), "_"]  # of the heads 0, 1 ... and -1
    words = []
    for number, span in enumerate(spans, 1):
        parts = rows[span.first - 1 : span.last]
        lemma, upos_, xpos, feats, _, deprel = parts[0] if len(parts) == 1 else _join(parts)
        words.append(
            Word(
                text[span.start : span.end],
                span.start,
                span.end,
                lemma,
                upos_,
                xpos,
                feats,
                deprel,
                _plus(upos[p.head] for p in parts),
                next((h for p in parts if p.head >= 0 and (h := word_of[p.head]) != number), -1),
            )
        )
    return Sentence(text, tuple(words))


def _join(parts: Sequence[Row]) -> Row:
    lemma, upos, xpos, feats, _, deprel = zip(*parts, strict=True)
    return Row(_plus(lemma), _plus(upos), _plus(xpos), _plus(feats), -1, _plus(deprel))


def _plus(values: Iterable[str]) -> str:
    values = list(values)
    return "_" if set(values) == {"_"} else "+".join(values)


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
    rows: list[Row] = []
    numbers: list[int] = []  # the line of each row
    surface: list[tuple[int, int, str, str]] = []  # first row, last row, form, misc
    range_end = range_line = 0
    for number, line in block:
        if line.startswith("#"):
            if match := re.fullmatch(r"#\s*text\s*= ?(.*)", line):
                text, text_line = match[1], number
            continue
        columns = line.split("\t")
        if len(columns) != 10:
            raise fail(number, f"{len(columns)} columns, not 10 (CoNLL-U, by tabs): {line[:60]!r}")
        if not all(map(str.strip, columns)):
            empty = next(c for c, v in zip(COLUMNS, columns, strict=True) if not v.strip())
            raise fail(number, f"the column {empty} is empty; write _ for no value")
        id_, form, lemma, upos, xpos, feats, head, deprel, _, misc = columns
        if match := re.fullmatch(r"(\d+)-(\d+)", id_):
            range_line, first, last = number, int(match[1]), int(match[2])
            if first != len(rows) + 1 or last < first or first <= range_end:
                raise fail(number, f"the range {id_} must stand right before its first word, once")
            surface.append((first, last, form, misc))
            range_end = last
        elif id_.isdecimal():
            if int(id_) != len(rows) + 1:
                raise fail(number, f"id {id_} after {len(rows)} words; ids must count 1, 2, 3 ...")
            if not head.isdecimal() and head != "_":
                raise fail(number, f"the head {head!r} is not a number; 0 is the root, _ none")
            if head == id_:
                raise fail(number, f"the word {id_} is its own head; 0 is the root")
            rows.append(Row(lemma, upos, xpos, feats, -1 if head == "_" else int(head), deprel))
            numbers.append(number)
            if len(rows) > range_end:
                surface.append((len(rows), len(rows), form, misc))
        elif not re.fullmatch(r"\d+\.\d+", id_):
            raise fail(number, f"the id {id_!r} is no number, range (1-2) or empty node (1.1)")
    if not rows:
        raise fail(block[0][0], "a sentence without words; remove it or annotate it")
    if range_end > len(rows):
        raise fail(range_line, f"the range ends at {range_end}, the sentence at word {len(rows)}")
    for number, row in zip(numbers, rows, strict=True):
        if row.head > len(rows):
            raise fail(number, f"the head {row.head} is outside the sentence (0 to {len(rows)})")
    if text is None:
        after = ("" if "SpaceAfter=No" in misc.split("|") else " " for *_, misc in surface)
        text = "".join(s[2] + space for s, space in zip(surface, after, strict=True)).rstrip()
    try:
        places = _find([form for _, _, form, _ in surface], text)
    except ValueError as error:
        raise fail(text_line, f"the forms differ from '# text': {error}; correct either") from None
    spans = [Span(*s[:2], *place) for s, place in zip(surface, places, strict=True)]
    sentence = assemble(text, spans, rows)
    if not any("HeadUPOS=" in misc for *_, misc in surface):
        return sentence
    given = (re.search(r"HeadUPOS=([^|]+)", misc) for *_, misc in surface)  # by write_conllu
    pairs = zip(sentence.words, given, strict=True)
    return Sentence(text, tuple(replace(w, head_upos=g[1]) if g else w for w, g in pairs))


def _find(forms: Sequence[str], text: str) -> list[tuple[int, int]]:
    """The span of each form in a text that they make up, whitespace apart; else `ValueError`."""
    visible = [at for at, character in enumerate(text) if not character.isspace()]
    plain = "".join(text[at] for at in visible)
    places, at = [], 0  # at: counts visible characters
    for form in forms:
        bare = "".join(form.split())
        if not plain.startswith(bare, at):
            where = visible[at] if at < len(visible) else len(text)
            rest = text[where : where + 20]
            raise ValueError(f"{form!r} is not at character {where} ({rest!r} ...)")
        places.append((visible[at], visible[at + len(bare) - 1] + 1))
        at += len(bare)
    if at < len(visible):
        rest = text[visible[at] : visible[at] + 20]
        raise ValueError(f"no word covers {rest!r} at character {visible[at]}")
    return places


def write_conllu(sentences: Iterable[Sentence]) -> str:
    """CoNLL-U that `parse_conllu` reads back to the same sentences (a word a line, no ranges)."""
    out: list[str] = []
    for sentence in sentences:
        out.append(f"# text = {sentence.text}")
        for number, word in enumerate(sentence.words, 1):
            head = "_" if word.head < 0 else str(word.head)
            implied = "_" if word.head < 0 else "ROOT"
            if word.head > 0:
                implied = sentence.words[word.head - 1].upos
            after = sentence.text[word.end : word.end + 1]
            misc = ["SpaceAfter=No"] if after and not after.isspace() else []
            if word.head_upos != implied:
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
        places = _find([word.form for word in words], text)
    except ValueError as error:
        raise UserError(
            f"{name}: the annotation does not fit the text {text!r}: {error}; "
            "annotate this very text"
        ) from None
    return tuple(
        replace(w, form=text[s:e], start=s, end=e) for w, (s, e) in zip(words, places, strict=True)
    )


# What the Moses tokeniser writes in tokens, and its punctuation normaliser in raw text.
_ENTITIES = {"&amp;": "&", "&#124;": "|", "&lt;": "<", "&gt;": ">", "&apos;": "'"}
_ENTITIES |= {"&quot;": '"', "&#91;": "[", "&#93;": "]"}
_ENTITY = re.compile("|".join(_ENTITIES))
_PUNCTUATION = str.maketrans(
    dict.fromkeys("„“”«»″", '"') | dict.fromkeys("‘’‚‛´`′", "'") | dict.fromkeys("–—‐‑", "-")
) | {ord("…"): "..."}


@lru_cache(10_000)
def _comparable(characters: str) -> str:
    return characters.translate(_PUNCTUATION).lower()


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
    here = [(m.start(), m.end()) for m in re.finditer(r"\S+", tokens)]
    token_text, first = "", []  # comparable characters of all tokens; where each token begins
    for start, end in here:
        token = tokens[start:end]
        first.append(len(token_text))
        plain = _ENTITY.sub(lambda m: _ENTITIES[m[0]], token)
        token_text += _comparable("-" if plain == "@-@" else plain)
    starts = [word.start for word in raw.words]
    raw_text, word_at = "", []  # comparable characters of the raw text; the word of each
    for at, character in enumerate(raw.text):
        if not character.isspace():
            same = _comparable(character)
            raw_text += same
            word_at += [max(bisect_right(starts, at) - 1, 0)] * len(same)
    if token_text == raw_text:
        blocks = [(0, 0, len(raw_text))]
    else:
        matcher = SequenceMatcher(None, token_text, raw_text, autojunk=False)
        blocks = [(b.a, b.b, b.size) for b in matcher.get_matching_blocks()]
    raw_of = {a + i: b + i for a, b, size in blocks for i in range(size)}
    matched = sorted(raw_of)
    if not matched:
        raise UserError(f"{name}: the tokens {tokens!r} have no character of {raw.text!r}")
    words, missed = [], 0
    for (start, end), at, behind in zip(here, first, [*first[1:], len(token_text)], strict=True):
        if at not in raw_of:
            missed += 1
            right = bisect_left(matched, at)
            near = matched[max(right - 1, 0) : right + 1]
            own_or_right = near[-1] < behind or near[-1] - at < at - near[0]
            at = near[-1] if own_or_right else near[0]
        word = raw.words[word_at[raw_of[at]]]
        words.append(replace(word, form=tokens[start:end], start=start, end=end, head=-1))
    return Sentence(tokens, tuple(words)), missed
