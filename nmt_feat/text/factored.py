"""Factored text: `word|f1|f2` in one file, or a file of words and one for each factor.

The tokens of a factored line, joined by spaces, are the sentence's text; what such a line cannot
hold is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.factors import build_word, join_tokens, list_columns
from nmt_feat.text.word_values import whitespace_words

SEPARATORS = {"pipe": "|", "ffe8": "\uffe8"}
"""`word|f1|f2` as in Nematus and Sockeye; the same with U+FFE8 as in OpenNMT."""
_LOOKALIKES = {"|": "U+007C", "\uffe8": "U+FFE8", "\u2502": "U+2502", "\uff5c": "U+FF5C"}
_ESCAPED = re.compile("&((?:amp;)*)#124;")


def parse_factored(
    lines: Iterable[str], name: str, factors: Sequence[str], kind: str, first: int = 1
) -> Iterator[Sentence]:
    """Parse lines `word|f1|f2 ...`; a broken line is a `UserError` that begins `name:line:`.

    In `pipe`, `&#124;` is a literal `|`, and `&amp;#124;` is a literal `&#124;`. In general, one
    `amp;` is removed: `&amp;amp;#124;` is a literal `&amp;#124;`.
    """
    separator = SEPARATORS[kind]
    for number, line in enumerate(lines, first):
        rows = []
        for position, token in enumerate(line.split(), 1):
            parts = token.split(separator)
            if len(parts) != 1 + len(factors):
                _refuse_uneven(
                    f"{name}:{number}", position, token, len(parts) - 1, factors, separator
                )
            if "" in parts:
                role = ("word", *factors)[parts.index("")]
                raise UserError(
                    f"{name}:{number}: token {position} {short_repr(token)} has an empty {role}; "
                    "write _ for no value"
                )
            rows.append([_unescape_pipe(part) for part in parts] if kind == "pipe" else parts)
        yield join_tokens(rows, factors, f"{name}:{number}")


def _refuse_uneven(
    where: str, position: int, token: str, factor_count: int, factors: Sequence[str], separator: str
) -> NoReturn:
    for lookalike, code in _LOOKALIKES.items():
        if lookalike != separator and token.count(lookalike) == len(factors) and not factor_count:
            kind = next((k for k, s in SEPARATORS.items() if s == lookalike), None)
            advice = f"set format={kind}" if kind else "replace it"
            raise UserError(
                f"{where}: token {position} {short_repr(token)} has no {separator!r} "
                f"({_LOOKALIKES[separator]}), but {lookalike!r} ({code}); {advice}"
            )
    names = ", ".join(factors) or "none"
    raise UserError(
        f"{where}: token {position} {short_repr(token)} has {factor_count} factors, "
        f"not {len(factors)} ({names})"
    )


def parse_parallel(
    lines: Iterable[str],
    name: str,
    factors: Mapping[str, tuple[str, Iterable[str]]],
    first: int = 1,
) -> Iterator[Sentence]:
    """Parse a file of words, and a file (name, lines) of values for each factor, as in Sockeye.

    The sentence's text is the line of words as it is. If the files do not have the same number of
    tokens in a line, it is a `UserError` that names both files and the line.
    """
    sides = [iter(side) for _, side in factors.values()]
    number = first - 1
    for number, line in enumerate(lines, first):
        tokens, columns = whitespace_words(line), []
        for (file, _), side in zip(factors.values(), sides, strict=True):
            if (row := next(side, None)) is None:
                raise UserError(f"{file}: has {number - 1} lines, {name} has more")
            columns.append(row.split())
            if len(columns[-1]) != len(tokens):
                raise UserError(
                    f"{file}:{number}: {len(columns[-1])} values for the {len(tokens)} "
                    f"tokens of {name}:{number}"
                )
        where = f"{name}:{number}"
        words = [
            build_word(
                token.form, token.start, token.end, dict(zip(factors, values, strict=True)), where
            )
            for token, *values in zip(tokens, *columns, strict=True)
        ]
        yield Sentence(line, tuple(words))
    for (file, _), side in zip(factors.values(), sides, strict=True):
        if next(side, None) is not None:
            raise UserError(f"{file}: has more lines than {name}, which has {number}")


def write_factored(
    sentences: Iterable[Sentence], name: str, factors: Sequence[str], kind: str
) -> Iterator[str]:
    """Write lines that `parse_factored` reads; `name` begins errors about what they cannot hold."""
    separator = SEPARATORS[kind]
    for number, sentence in enumerate(sentences, 1):
        columns = list_columns(sentence, factors, f"{name}: sentence {number}")
        if kind == "pipe":
            columns = [[_escape_pipe(value) for value in column] for column in columns]
        for column in columns:
            for value in column:
                if separator in value:
                    raise UserError(
                        f"{name}: sentence {number}: {value!r} has the separator {separator!r}; "
                        "convert to another format"
                    )
        yield " ".join(map(separator.join, zip(*columns, strict=True)))


def write_parallel(
    sentences: Iterable[Sentence], name: str, factors: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    """Write lines that `parse_parallel` reads: for each sentence, one of words and each factor."""
    for number, sentence in enumerate(sentences, 1):
        yield tuple(map(" ".join, list_columns(sentence, factors, f"{name}: sentence {number}")))


def _escape_pipe(value: str) -> str:
    return _ESCAPED.sub(r"&amp;\1#124;", value).replace("|", "&#124;")


def _unescape_pipe(value: str) -> str:
    return _ESCAPED.sub(lambda m: f"&{m[1][4:]}#124;" if m[1] else "|", value)
