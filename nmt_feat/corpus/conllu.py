"""Annotated sentences, their CoNLL-U form, and how annotation is moved onto another text."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

from nmt_feat.corpus.text import read_lines
from nmt_feat.errors import UserError

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
VALUES = ("lemma", "upos", "xpos", "feats", "deprel")


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
    word_of = {row: i for i, s in enumerate(spans, 1) for row in range(s.first, s.last + 1)}

    def head_upos(row: Row) -> str:
        return "_" if row.head < 0 else "ROOT" if row.head == 0 else rows[row.head - 1].upos

    words = []
    for number, span in enumerate(spans, 1):
        parts = rows[span.first - 1 : span.last]
        heads = [0 if p.head == 0 else word_of.get(p.head, -1) for p in parts]
        values = {c: _join(getattr(p, c) for p in parts) for c in VALUES}
        words.append(
            Word(
                text[span.start : span.end],
                span.start,
                span.end,
                **values,
                head_upos=_join(head_upos(p) for p in parts),
                head=next((h for h in heads if h not in (-1, number)), -1),
            )
        )
    return Sentence(text, tuple(words))


def _join(values: Iterable[str]) -> str:
    values = list(values)
    return "_" if all(v == "_" for v in values) else "+".join(values)


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

    text: str | None = None
    text_line = block[0][0]
    rows: list[Row] = []
    numbers: list[int] = []  # the line of each row
    surface: list[tuple[int, int, str, bool]] = []  # first row, last row, form, space after
    override: dict[int, str] = {}
    range_end, range_line = 0, 0
    for number, line in block:
        if line.startswith("#"):
            if match := re.fullmatch(r"#\s*text\s*= ?(.*)", line):
                text, text_line = match[1], number
            continue
        columns = line.split("\t")
        if len(columns) != 10:
            raise fail(
                number,
                f"{len(columns)} columns where CoNLL-U has 10, separated by tabs: {line[:60]!r}",
            )
        for column, value in zip(COLUMNS, columns, strict=True):
            if not value.strip():
                raise fail(number, f"the column {column} is empty; write _ for no value")
        id_, form, misc = columns[0], columns[1], columns[9].split("|")
        space = "SpaceAfter=No" not in misc
        if re.fullmatch(r"\d+\.\d+", id_):
            continue
        if match := re.fullmatch(r"(\d+)-(\d+)", id_):
            first, last = int(match[1]), int(match[2])
            if first != len(rows) + 1 or last < first or first <= range_end:
                raise fail(
                    number,
                    f"the range {id_} comes after word {len(rows)}; "
                    "a range stands right before its first word and overlaps no other",
                )
            surface.append((first, last, form, space))
            range_end, range_line = last, number
            continue
        if not re.fullmatch(r"\d+", id_):
            raise fail(
                number, f"the id {id_!r} is neither a number nor a range (1-2) nor an empty node"
            )
        if int(id_) != len(rows) + 1:
            raise fail(
                number, f"the id {id_} follows {len(rows)}; a sentence's ids count 1, 2, 3 ..."
            )
        if not re.fullmatch(r"\d+|_", columns[6]):
            raise fail(number, f"the head {columns[6]!r} is not a number; 0 is the root, _ none")
        head = -1 if columns[6] == "_" else int(columns[6])
        lemma, upos, xpos, feats = columns[2:6]
        rows.append(Row(lemma, upos, xpos, feats, head, columns[7]))
        numbers.append(number)
        if head == len(rows):
            raise fail(number, f"the word {id_} is its own head; 0 is the root")
        if len(rows) > range_end:
            surface.append((len(rows), len(rows), form, space))
            for item in misc:
                if item.startswith("HeadUPOS="):
                    override[len(surface) - 1] = item.removeprefix("HeadUPOS=")
    if not rows:
        raise fail(block[0][0], "a sentence without words; remove it or annotate it")
    if range_end > len(rows):
        raise fail(range_line, f"the range ends at {range_end}, the sentence at word {len(rows)}")
    for number, row in zip(numbers, rows, strict=True):
        if row.head > len(rows):
            raise fail(number, f"the head {row.head} is outside the sentence (0 to {len(rows)})")
    if text is None:
        text = "".join(form + " " * space for _, _, form, space in surface).rstrip()
    try:
        places = _find([form for _, _, form, _ in surface], text)
    except ValueError as error:
        raise fail(text_line, f"the forms differ from '# text': {error}; correct either") from None
    spans = [Span(*s[:2], *place) for s, place in zip(surface, places, strict=True)]
    sentence = assemble(text, spans, rows)
    if not override:
        return sentence
    words = list(sentence.words)
    for index, value in override.items():
        words[index] = replace(words[index], head_upos=value)
    return Sentence(text, tuple(words))


def _find(forms: Sequence[str], text: str) -> list[tuple[int, int]]:
    """The span of each form in a text that they make up, whitespace apart; else `ValueError`."""
    places, at = [], 0

    def skip(at: int) -> int:
        while at < len(text) and text[at].isspace():
            at += 1
        return at

    for form in forms:
        start = end = skip(at)
        for character in form:
            if not character.isspace():
                at = skip(end)
                if not text.startswith(character, at):
                    rest = text[start : start + 20]
                    raise ValueError(f"{form!r} is not at character {start} ({rest!r} ...)")
                end = at + 1
        places.append((start, end))
        at = end
    if (at := skip(at)) < len(text):
        raise ValueError(f"no word covers {text[at : at + 20]!r} at character {at}")
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
        token_text += ("-" if plain == "@-@" else plain).translate(_PUNCTUATION).lower()
    starts = [word.start for word in raw.words]
    raw_text, word_at = "", []  # comparable characters of the raw text; the word of each
    for at, character in enumerate(raw.text):
        if not character.isspace():
            same = character.translate(_PUNCTUATION).lower()
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
