"""Parse CoNLL-U directly into columns, thousands of sentences at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, repeat
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from nmt_feat.text.conllu import (
    COLUMNS,
    FILE_COMMENT,
    NONE,
    NUMBERS,
    ROOT,
    ROOTS,
    TEXT_COMMENT,
    Findings,
    find_control,
    own_misc,
    parse_conllu,
    space_after,
)
from nmt_feat.text.sentences import Booleans, DictionaryColumn, Integers, Sentences

_NO_NUMBER = -2
_TYPES = dict.fromkeys(COLUMNS, pa.dictionary(pa.int32(), pa.string()))


def parse_block(
    lines: Sequence[str],
    name: str,
    first: int,
    columns: Sequence[str],
    findings: Findings | None = None,
) -> Sentences:
    """Return `Sentences.of(parse_conllu(lines, name, first, findings), columns)`, but faster.

    Plain sentences need no object for each word. Their ids count 1, 2, 3 ..., no column has white
    space, and the text is the one that forms and SpaceAfter give. `parse_conllu` gets all other
    sentences, and every mistake.
    """
    findings = Findings() if findings is None else findings
    tabs = np.fromiter(map(str.count, lines, repeat("\t")), np.int64, len(lines))
    is_word = tabs == len(COLUMNS) - 1
    words = [lines[i] for i in np.flatnonzero(is_word).tolist()]
    if not words or "\r" in "".join(words) or words[0].startswith("\ufeff"):
        return Sentences.of(parse_conllu(lines, name, first, findings), columns)
    blank, odd, texts = [], [], {}
    for i in np.flatnonzero(~is_word).tolist():
        if not lines[i] or lines[i].isspace():
            blank.append(i)
        elif not lines[i].startswith("#"):
            odd.append(i)
        elif match := TEXT_COMMENT.fullmatch(lines[i]):
            texts[i] = match[1]
    part = np.zeros(len(lines), np.int64)  # of each line; a blank line begins one
    part[blank] = 1
    part = np.cumsum(part)
    plain = np.zeros(part[-1] + 1, bool)
    plain[part[is_word]] = True
    plain[part[odd]] = False
    text_of_part = {int(part[i]): text for i, text in texts.items()}
    findings.automatic = FILE_COMMENT.fullmatch(lines[0]) is not None
    plain_sentences, plain, rooted = _parse_plain(
        words, part[is_word], text_of_part, plain, columns
    )
    if count := int(rooted.sum()):
        in_part = (part == np.argmax(rooted)) & is_word
        findings.add(ROOTS, name, first + int(np.argmax(in_part)), count)
    others, parts = [], []
    for number in np.flatnonzero(~plain).tolist():
        begin, end = np.searchsorted(part, (number, number + 1)).tolist()
        read = list(parse_conllu(lines[begin:end], name, first + begin, findings))
        others += read
        parts += [number] * len(read)
    if not others:
        return plain_sentences
    order = np.argsort([*np.flatnonzero(plain).tolist(), *parts], kind="stable")
    return Sentences.join([plain_sentences, Sentences.of(others, columns)]).take_rows(order)


def _parse_plain(
    words: list[str],
    part: Integers,
    text_of_part: dict[int, str],
    plain: Booleans,
    columns: Sequence[str],
) -> tuple[Sentences, Booleans, Booleans]:
    """Parse the plain parts; a part is the lines of a sentence.

    Args:
        words: lines of ten columns.
        part: the part of each word.
        text_of_part: by part, the text of its comment.
        plain: by part, whether it may be plain.
        columns: the columns to read.

    Returns:
        The sentences; by part, whether it is plain; by part, whether it also has several roots.
    """
    fields = _read_columns(words)
    begins = np.flatnonzero(np.diff(part, prepend=-1))
    counts = np.diff(np.append(begins, len(part)))
    begin = np.repeat(begins, counts)  # of each word, the first word of its part
    head = _apply_to_strings(fields["head"], _parse_number)
    odd = _find_odd_words(fields, head, begin, counts)
    plain = plain.copy()
    plain[part[odd]] = False
    texts, starts, lengths = _spell_sentences(fields, begins, begin)
    parts = part[begins].tolist()
    unlike = [p for p, text in zip(parts, texts, strict=True) if text_of_part.get(p, text) != text]
    plain[unlike] = False
    if "head_upos" in columns:
        fields["head_upos"] = _find_head_upos(fields["upos"], np.where(odd, -1, head), begin)
    if "head" in columns:
        fields["head"] = fields["head"].map(lambda s: "-1" if s == NONE else s)
    fields["misc"] = fields["misc"].map(lambda s: own_misc((s,)))
    strings = {column: fields[column].strings() for column in columns}
    rooted = np.zeros(len(plain), bool)
    rooted[part[begins]] = np.add.reduceat((head == 0).astype(np.int64), begins) > 1
    sentences = Sentences(texts, counts, starts, starts + lengths, strings)
    return sentences.rows(plain[part[begins]]), plain, rooted & plain


def _parse_number(value: str) -> int:
    return NUMBERS.get(value, _NO_NUMBER)


def _find_odd_words(
    fields: dict[str, DictionaryColumn], head: Integers, begin: Integers, counts: Integers
) -> Booleans:
    """Whether only `parse_conllu` can read, or refuse, a word; for arguments see `_in_circle`."""
    number, count = _apply_to_strings(fields["id"], _parse_number), np.repeat(counts, counts)
    odd: Booleans = (number != np.arange(len(head)) - begin + 1) | (head < -1) | (head > count)
    for column in fields.values():
        odd |= _apply_to_strings(column, lambda s: s.split() != [s])
    odd |= _apply_to_strings(fields["form"], lambda s: find_control(s) is not None)
    odd |= _in_circle(np.where(odd, 0, head), begin, counts)
    odd |= _apply_to_strings(fields["misc"], lambda s: "HeadUPOS=" in s)
    return odd


def _spell_sentences(
    fields: dict[str, DictionaryColumn], begins: Integers, begin: Integers
) -> tuple[list[str], Integers, Integers]:
    """Spell texts by forms and SpaceAfter; also the start of each word in its text, and its length.

    All forms are joined to one string, which is then cut into sentences.
    """
    form = fields["form"]
    space = _apply_to_strings(fields["misc"], lambda s: len(space_after(s)))
    forms = np.array([*form.values, *(f"{value} " for value in form.values)], object)
    joined = "".join(forms[form.codes + len(form.values) * space].tolist())
    lengths = _apply_to_strings(form, len)
    ends = np.append(0, np.cumsum(lengths + space))
    bounds = ends[np.append(begins, len(lengths))].tolist()
    texts = [joined[a:b].rstrip() for a, b in pairwise(bounds)]
    return texts, ends[:-1] - ends[begin], lengths


def _find_head_upos(upos: DictionaryColumn, head: Integers, begin: Integers) -> DictionaryColumn:
    """The part of speech of each word's head: `ROOT` for a root, `_` without a head."""
    codes = np.append(upos.codes, [len(upos.values), len(upos.values) + 1])
    rows = np.where(head > 0, begin + head - 1, len(upos.codes) + (head < 0))
    return DictionaryColumn(codes[rows], [*upos.values, ROOT, NONE])


def _in_circle(head: Integers, begin: Integers, counts: Integers) -> Booleans:
    """Whether each word is in a circle of heads, or below one.

    Args:
        head: heads as in CoNLL-U.
        begin: for each word, the index of its sentence's first word.
        counts: the number of words of each sentence.
    """
    top = len(head)  # stands above all roots
    above = np.append(np.where(head > 0, begin + head - 1, top), top)
    for _ in range(int(counts.max(initial=1)).bit_length()):  # each round doubles the steps up
        above = above[above]
    circle: Booleans = above[:-1] != top
    return circle


def _read_columns(words: list[str]) -> dict[str, DictionaryColumn]:
    """The columns of lines with ten columns."""
    data = "\n".join(words).encode()
    table = csv.read_csv(
        pa.BufferReader(data),
        csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=list(COLUMNS)),
        csv.ParseOptions(delimiter="\t", quote_char=False),
        csv.ConvertOptions(check_utf8=False, column_types=_TYPES, null_values=[]),
    )
    arrays = {name: table[name].combine_chunks() for name in COLUMNS}
    return {
        n: DictionaryColumn(c.indices.to_numpy(), c.dictionary.to_pylist())
        for n, c in arrays.items()
    }


def _apply_to_strings(column: DictionaryColumn, function: Callable[[str], Any]) -> NDArray[Any]:
    """Call `function` once for each distinct string; returns its result for each word."""
    return np.array([function(value) for value in column.values])[column.codes]
