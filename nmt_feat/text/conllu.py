"""Annotated sentences, and reading and writing of CoNLL-U."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.files import read_blocks
from nmt_feat.text.forms import locate_forms
from nmt_feat.text.units import visible_characters

NONE = "_"
"""The mark for no value."""
ROOT = "ROOT"
"""The UPOS of the root's head."""


class Word(NamedTuple):
    """A word of a sentence. A column without a value is `_`.

    A multi-word token (im = in + dem) is one word; its values are those of its parts, joined with
    `+` in order (`ADP+DET`).
    """

    form: str
    """The word as it stands in the text."""
    start: int
    """The position of its first character in the sentence's text."""
    end: int
    """The position behind its last character."""
    lemma: str = "_"
    upos: str = "_"
    xpos: str = "_"
    feats: str = "_"
    """Morphology, `Case=Nom|Number=Sing`."""
    deprel: str = "_"
    """Relation to the head."""
    head_upos: str = "_"
    """UPOS of the head, `ROOT` for the root."""
    head: int = -1
    """The number of the head in the sentence, from 1; 0 for the root, -1 for none."""
    misc: str = "_"
    """`Key=Value|...`, without SpaceAfter."""


class Sentence(NamedTuple):
    """A line of raw text with its words in order; without annotation, it has no words."""

    text: str
    """The raw text."""
    words: tuple[Word, ...] = ()
    """The words, in order."""
    comments: tuple[str, ...] = ()
    """Lines of CoNLL-U that begin with #, without the comment `# text`."""


OWN_HEAD = "words that are their own head"
CYCLE = "sentences whose heads form a cycle"
ROOTS = "sentences with several roots"
RANGE = "multi-word tokens"
EMPTY_NODE = "empty nodes"
DEPS = "values of DEPS"


@dataclass
class Findings:
    """Special things in CoNLL-U: how often each kind occurs, and where first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[str, int]] = field(default_factory=dict)  # file and line
    automatic: bool = False  # by scripts/annotate.py, with lines of several sentences

    def add(self, kind: str, name: str, line: int, count: int = 1) -> None:
        """Add `count` occurrences of a kind, the first of them in this line of a file."""
        self.counts[kind] += count
        before = self.first.setdefault(kind, (name, line))
        if before[0] == name and line < before[1]:
            self.first[kind] = name, line

    def update(self, others: Findings) -> None:
        """Add findings of later parts of the text."""
        self.counts.update(others.counts)
        self.automatic |= others.automatic
        self.first = others.first | self.first

    def describe_trees(self) -> str:
        """Describe heads that are not a tree; empty if there are none."""
        # An annotator may find several sentences, so several roots, in a line.
        return self.describe(*(OWN_HEAD, CYCLE) if self.automatic else (OWN_HEAD, CYCLE, ROOTS))

    def describe(self, *kinds: str) -> str:
        """The counts and first positions of these kinds; empty if there are none."""
        return ", ".join(
            f"{self.counts[kind]:,} {kind} (first: {':'.join(map(str, self.first[kind]))})"
            for kind in kinds
            if self.counts[kind]
        )


COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
TEXT_COMMENT = re.compile(r"#\s*text\s*= ?(.*)")
FILE_COMMENT = re.compile("# (?:sha256|annotation) = [0-9a-f]+")  # by scripts/annotate.py
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufeff]")
NUMBERS = {str(number): number for number in range(1000)} | {"_": -1}


def sentence_end(data: bytes) -> int:
    """The position behind the last complete sentence; 0 if there is none."""
    if at := data.rfind(b"\n\n") + 1:
        return at + 1
    return max((match.end() for match in re.finditer(rb"\n\s*\n", data)), default=0)


def read_conllu(path: Path | str) -> Iterator[Sentence]:
    """Read the sentences of a CoNLL-U file, plain or gzipped."""
    for block in read_blocks(path, sentence_end):
        yield from parse_conllu(block.lines(), str(path), block.line)


def parse_conllu(
    lines: Iterable[str], name: str, first: int = 1, findings: Findings | None = None
) -> Iterator[Sentence]:
    """Parse the sentences in `lines`.

    A sentence's text is that of `# text`, and the forms must stand in it in order; without this
    comment, the forms are joined by SpaceAfter. Empty nodes are skipped. A text without visible
    characters needs no words.

    Args:
        lines: lines of CoNLL-U.
        name: the file's name, for messages.
        first: the number of the first line.
        findings: counts what `Findings` names.

    Raises:
        UserError: for a broken line; the message begins `name:line:`.
    """
    findings = Findings() if findings is None else findings
    block: list[str] = []
    number = first - 1
    for number, line in enumerate(lines, first):
        if line and not line.isspace():
            block.append(line)
        elif block:
            yield _parse_sentence(block, number - len(block), name, findings)
            block = []
    if block:
        yield _parse_sentence(block, number + 1 - len(block), name, findings)


@dataclass
class _Block:
    """The lines of a sentence, sorted by their kind."""

    text: str | None = None  # of the comment `# text`
    text_line: int = 0  # the number of this comment's line
    comments: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)  # the columns of each syntactic word
    lines: list[int] = field(default_factory=list)  # the numbers of the rows' lines
    ranges: dict[int, tuple[list[str], int]] = field(default_factory=dict)
    """Multi-word tokens by their first row: the token's columns, and its last word's number."""
    range_end: int = 0  # the number of the last word of the last range


def _parse_sentence(lines: list[str], first: int, name: str, findings: Findings) -> Sentence:
    """Parse the lines of a sentence; `first` is the number of the first line."""
    block = _sort_lines(lines, first, name, findings)
    rows, text = block.rows, block.text
    if not rows and text is not None and not visible_characters(text):
        return Sentence(text, (), tuple(block.comments))
    if not rows:
        raise UserError(f"{name}:{first}: a sentence without words; remove it or annotate it")
    if block.range_end > len(rows):
        raise UserError(
            f"{name}:{first + len(lines) - 1}: a range ends at {block.range_end}, the sentence at "
            f"word {len(rows)}"
        )
    columns = list(map(list, zip(*rows, strict=True)))
    _, forms, lemma, upos, xpos, feats, head_fields, deprel, _, misc = columns
    heads = _read_heads(head_fields, block.lines, name)
    check_tree(heads, block.lines, name, findings)
    tags = [ROOT, *upos, "_"]  # of the heads 0, 1 ... and -1
    values = [lemma, upos, xpos, feats, deprel, [tags[head] for head in heads]]
    if block.ranges:
        parts = _parts_of_tokens(block)
        tokens = [block.ranges.get(part.start, (rows[part.start], 0))[0] for part in parts]
        token_misc = [(token[9], *misc[part]) for token, part in zip(tokens, parts, strict=True)]
        forms, misc = [token[1] for token in tokens], [token[9] for token in tokens]
        values = [[join_parts(column[part]) for part in parts] for column in values]
        heads = _heads_of_tokens(heads, parts)
    else:
        heads = [-1 if head == number else head for number, head in enumerate(heads, 1)]
        token_misc = [(value,) for value in misc]
    head_upos = values[-1]
    for i, value in enumerate(misc):
        if "HeadUPOS=" in value and (match := re.search(r"(?:^|\|)HeadUPOS=([^|]+)", value)):
            head_upos[i] = match[1]  # by write_conllu
    if text is None:
        text = "".join(map(str.__add__, forms, map(space_after, misc))).rstrip()
    where = f"{name}:{block.text_line or first}: the forms differ from '# text'"
    spans = locate_forms(forms, text, where, "correct either")
    starts, ends = zip(*spans, strict=True)
    forms = [text[start:end] for start, end in spans]
    words = tuple(map(Word, forms, starts, ends, *values, heads, map(own_misc, token_misc)))
    return Sentence(text, words, tuple(block.comments))


def _sort_lines(lines: list[str], first: int, name: str, findings: Findings) -> _Block:
    """Sort the lines of a sentence by their kind; a broken line is an error."""
    block = _Block()
    for line, content in enumerate(lines, first):
        if content[0] == "#":
            if match := TEXT_COMMENT.fullmatch(content):
                block.text, block.text_line = match[1], line
            elif FILE_COMMENT.fullmatch(content):
                findings.automatic = True
            else:
                block.comments.append(content)
            continue
        row = content.split("\t")
        is_plain = row == content.split() and len(row) == 10  # the usual case, checked fast
        if not is_plain and (mistake := _find_mistake(row, content)):
            raise UserError(f"{name}:{line}: {mistake}")
        if control := find_control(row[1]):
            raise UserError(f"{name}:{line}: the form {control}")
        kind = _add_row(block, row, line, f"{name}:{line}")
        if kind:
            findings.add(kind, name, line)
        if row[8] != NONE:
            findings.add(DEPS, name, line)
    return block


def _add_row(block: _Block, row: list[str], line: int, where: str) -> str | None:
    """Put a word or a range into the block; returns its kind in `Findings`, None for a word."""
    number, word_count = row[0], len(block.rows)
    if NUMBERS.get(number) == word_count + 1 or _read_number(number) >= 0:
        if int(number) != word_count + 1:
            raise UserError(
                f"{where}: id {number} after {word_count} words; ids must count 1, 2, 3 ..."
            )
        block.rows.append(row)
        block.lines.append(line)
        return None
    if match := re.fullmatch("([0-9]{1,9})-([0-9]{1,9})", number):
        begin, end = int(match[1]), int(match[2])
        if not block.range_end < begin == word_count + 1 <= end:
            raise UserError(f"{where}: the range {number} must stand right before its first word")
        block.ranges[begin - 1] = row, end
        block.range_end = end
        return RANGE
    if re.fullmatch(r"[0-9]+\.[0-9]+", number):
        return EMPTY_NODE
    raise UserError(
        f"{where}: the id {short_repr(number)} is not a number, range (1-2) or empty node (1.1)"
    )


def _read_heads(fields: list[str], lines: list[int], name: str) -> list[int]:
    """The column HEAD as numbers, -1 for `_`."""
    heads = [NUMBERS[head] if head in NUMBERS else _read_number(head) for head in fields]
    if max(heads) <= len(fields) and min(heads) >= -1:
        return heads
    for line, text, head in zip(lines, fields, heads, strict=True):
        if head < -1:
            raise UserError(
                f"{name}:{line}: the head {short_repr(text)} is not a number; 0 is the root, _ none"
            )
        if head > len(fields):
            raise UserError(
                f"{name}:{line}: the head {text} is outside the sentence (0 to {len(fields)})"
            )
    return heads


def _parts_of_tokens(block: _Block) -> list[slice]:
    """The rows of each token: several for a range, else one."""
    parts, row = [], 0
    while row < len(block.rows):
        end = block.ranges[row][1] if row in block.ranges else row + 1
        parts.append(slice(row, end))
        row = end
    return parts


def _heads_of_tokens(heads: list[int], parts: list[slice]) -> list[int]:
    """The head of each token: the first head of its parts that lies outside of the token.

    im = in + dem     1 in   head 3      token 1 (rows 1, 2): its parts' heads are words 3, 3
    Haus              2 dem  head 3      word 3 is token 2, so token 1 has head 2
    """
    token_of = [0]  # by a word's number: the token's number; 0 stays the root, -1 no head
    for number, part in enumerate(parts, 1):
        token_of += [number] * (part.stop - part.start)
    token_of.append(-1)
    token_heads = []
    for number, part in enumerate(parts, 1):
        candidates = (token_of[head] for head in heads[part])
        token_heads.append(next((head for head in candidates if head not in (number, -1)), -1))
    return token_heads


def check_tree(heads: Sequence[int], lines: Sequence[int], name: str, findings: Findings) -> None:
    """Count heads that are not a tree; `heads` and `lines` are those of the words 1, 2 ..."""
    if heads.count(0) > 1:
        findings.add(ROOTS, name, lines[0])
    for number, (head, line) in enumerate(zip(heads, lines, strict=True), 1):
        if head == number:
            findings.add(OWN_HEAD, name, line)
    if has_cycle(heads):
        findings.add(CYCLE, name, lines[0])


def has_cycle(heads: Sequence[int]) -> bool:
    """Whether some words are heads of one another, in a circle of two or more.

    `heads` are those of the words 1, 2 ...; 0 is the root, -1 none.
    """
    checked = {0, -1}
    for start in range(1, len(heads) + 1):
        path: dict[int, None] = {}
        word = start
        while word not in checked and word not in path:
            path[word] = None
            head = heads[word - 1]
            word = 0 if head == word else head
        if word in path:
            return True
        checked.update(path)  # in place: `|=` with keys would copy the whole set
    return False


def find_control(form: str) -> str | None:
    """A message about a form with a control character or a byte-order mark; else None."""
    if not (match := _CONTROL.search(form)):
        return None
    kind = "byte-order mark" if match[0] == "\ufeff" else "control character"
    return f"{short_repr(form)} has the {kind} U+{ord(match[0]):04X}; remove it"


def space_after(misc: str) -> str:
    """The white space that follows a word with this column MISC: a space, or nothing."""
    return "" if "SpaceAfter=No" in misc.split("|") else " "


@lru_cache(maxsize=1 << 14)
def own_misc(misc: tuple[str, ...]) -> str:
    """Join the columns MISC of a token and its parts, without SpaceAfter and HeadUPOS."""
    items = dict.fromkeys(item for value in misc for item in value.split("|"))
    user_items = (i for i in items if not i.startswith(("SpaceAfter=", "HeadUPOS=")) and i != NONE)
    return "|".join(user_items) or NONE


def _find_mistake(row: list[str], content: str) -> str | None:
    """What is wrong with the columns of a line, if anything."""
    if len(row) != 10:
        return f"{len(row)} columns, not 10 (CoNLL-U, by tabs): {content[:60]!r}"
    empty = [column for column, value in zip(COLUMNS, row, strict=True) if not value.strip()]
    return f"the column {empty[0].upper()} is empty; write _ for no value" if empty else None


def _read_number(head: str) -> int:
    """A number of at most 9 digits, -1 for `_`; -2 for anything else."""
    return -1 if head == "_" else int(head) if re.fullmatch("[0-9]{1,9}", head) else -2


def join_parts(values: Sequence[str]) -> str:
    """Join the values of a token's parts, `ADP+DET`; `_` if no part has one."""
    return NONE if set(values) <= {NONE} else "+".join(values)


def find_label(comments: Iterable[str], key: str) -> str | None:
    """The value of the first comment `# key = value` with this key, in normal form, or None."""
    for comment in comments:
        name, _, value = comment[1:].partition("=")
        if name.strip() == key and value.strip():
            # Comments and settings are not brought into normal form where they are read.
            return " ".join(normalize("NFC", value).split())
    return None


def write_label(key: str, value: str) -> str:
    """The comment that `find_label` reads."""
    return f"# {key} = {value}"


def replace_labels(comments: Iterable[str], labels: Mapping[str, str]) -> tuple[str, ...]:
    """Comments with these labels, by key, in place of their own; a blank label is none."""
    others = (c for c in comments if c[1:].partition("=")[0].strip() not in labels)
    return (*(write_label(key, value) for key, value in labels.items()), *others)


def write_conllu(sentences: Iterable[Sentence]) -> str:
    """Write CoNLL-U, a line per word, that `parse_conllu` reads as the same sentences."""
    out: list[str] = []
    for sentence in sentences:
        out += [*sentence.comments, f"# text = {sentence.text}"]
        upos = [ROOT, *(word.upos for word in sentence.words), "_"]  # of the heads 0, 1 ... -1
        for number, word in enumerate(sentence.words, 1):
            misc = [word.misc] if word.misc != NONE else []
            if sentence.text[word.end : word.end + 1].strip():
                misc.append("SpaceAfter=No")
            if word.head_upos != upos[word.head]:  # that of a part of a multi-word token
                misc.append(f"HeadUPOS={word.head_upos}")
            head = "_" if word.head < 0 else str(word.head)
            columns = [word.form, word.lemma, word.upos, word.xpos, word.feats, head, word.deprel]
            columns += [NONE, "|".join(misc) or NONE]
            out.append("\t".join([str(number), *(re.sub(r"[\t\n]", " ", c) for c in columns)]))
        out.append("")
    return "".join(f"{line}\n" for line in out)


def align_words(text: str, words: Sequence[Word], name: str) -> tuple[Word, ...]:
    """Give words their spans in `text`, from which they may differ only in white space.

    `name` (file:line) begins the `UserError` if they do not fit.
    """
    where = f"{name}: the annotation does not fit the text {short_repr(text)}"
    spans = locate_forms([word.form for word in words], text, where, "annotate this very text")
    return tuple(
        word._replace(form=text[start:end], start=start, end=end)
        for word, (start, end) in zip(words, spans, strict=True)
    )
