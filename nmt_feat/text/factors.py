"""Factors: named values of tokens, as other toolkits write them.

A factor has the name of a column: `upos`, `feats.Case`, `misc.NER`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nmt_feat.errors import UserError, short_repr, suggest
from nmt_feat.text.conllu import NONE, Sentence, Word, find_control
from nmt_feat.text.sentences import ANNOTATION, Sentences
from nmt_feat.text.word_values import read_column


def check_factors(factors: Sequence[str], setting: str) -> None:
    """Refuse names that are not columns of an annotation; `setting` begins the message."""
    for name in factors:
        if name not in ANNOTATION and not re.fullmatch(r"(feats|misc)\..+", name):
            names = (*ANNOTATION, "feats.Case", "misc.NER")
            raise UserError(f"{setting}: unknown factor {short_repr(name)}; {suggest(name, names)}")
    if twice := {name for name in factors if factors.count(name) > 1}:
        raise UserError(f"{setting}: {min(twice)} stands twice")
    for whole in ("feats", "misc"):
        one = next((name for name in factors if name.startswith(f"{whole}.")), None)
        if one and whole in factors:
            raise UserError(f"{setting}: {whole} contains {one}; name one of them")


def join_tokens(rows: Sequence[Sequence[str]], factors: Sequence[str], where: str) -> Sentence:
    """Join tokens by single spaces; a row has a token and its values."""
    words, start = [], 0
    for form, *values in rows:
        columns = dict(zip(factors, values, strict=True))
        words.append(build_word(form, start, start + len(form), columns, where))
        start += len(form) + 1
    return Sentence(" ".join(row[0] for row in rows), tuple(words))


def build_word(form: str, start: int, end: int, factors: Mapping[str, str], where: str) -> Word:
    """A word with its factors as columns; keys such as `feats.Case` become one column."""
    if control := find_control(form):
        raise UserError(f"{where}: the word {control}")
    for name, value in factors.items():
        if name not in ANNOTATION and "|" in value:
            raise UserError(
                f"{where}: {short_repr(form)}: the {name} {short_repr(value)} has a |, which ends "
                "a value there; write another character, or _ for no value"
            )
    columns: dict[str, Any] = {n: value for n, value in factors.items() if n in ANNOTATION}
    for column in ("feats", "misc"):
        prefix = f"{column}."
        named = {
            name.removeprefix(prefix): value
            for name, value in sorted(factors.items())
            if name.startswith(prefix) and value != NONE
        }
        # A `+` stands between the parts of a multi-word token: `_+Dat` is the Case of `_+Case=Dat`.
        parts = [v.split("+") if column == "feats" else [v] for v in named.values()]
        if len(set(map(len, parts))) > 1:
            few, *_, many = sorted(named, key=lambda name: named[name].count("+"))
            raise UserError(
                f"{where}: {short_repr(form)}: a + joins the parts of a multi-word token, and "
                f"feats.{many} {short_repr(named[many])} has more than feats.{few} "
                f"{short_repr(named[few])}; where it means something else, name the factor "
                f"misc.{many}"
            )
        rows = [zip(named, row, strict=True) for row in zip(*parts, strict=True)]
        if rows:
            columns[column] = "+".join(
                "|".join(f"{name}={value}" for name, value in row if value != NONE) or NONE
                for row in rows
            )
    return Word(form, start, end, **columns)


def list_columns(sentence: Sentence, factors: Sequence[str], where: str) -> list[list[str]]:
    """The forms, and the values of each factor; it is an error if one has a space."""
    if not sentence.words and sentence.text.strip():
        raise UserError(f"{where}: no annotation of {sentence.text!r}; annotate it first")
    columns = [[word.form for word in sentence.words]]
    annotated = Sentences.of([sentence])
    columns += [read_column(annotated, factor).strings().to_pylist() for factor in factors]
    for name, column in zip(("form", *factors), columns, strict=True):
        for value in column:
            if len(value.split()) != 1:
                raise UserError(
                    f"{where}: the {name} {value!r} has a space, which factored text cannot "
                    "hold; convert to conllu or jsonl"
                )
    return columns
