"""Annotated text as other toolkits have it: factors on each token, parallel files, JSON lines.

Names of factors are those of the features' columns (`upos`, `feats.Case`, `misc.NER`). Tokens with
factors on them, separated by spaces, are the sentence's text; what such a line cannot hold is
refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nmt_feat.base.typed_json import load_json
from nmt_feat.errors import UserError, short_repr, suggest
from nmt_feat.text.conllu import (
    NONE,
    ROOT,
    Findings,
    Sentence,
    Word,
    check_tree,
    find_control,
    locate_forms,
    parse_conllu,
)
from nmt_feat.text.sentences import ANNOTATION, Sentences
from nmt_feat.text.word_values import read_column, whitespace_words

SEPARATORS = {"pipe": "|", "ffe8": "\uffe8"}
"""`word|f1|f2` of Nematus and Sockeye, the same with U+FFE8 of OpenNMT."""
FORMATS = ("text", "conllu", *SEPARATORS, "jsonl")
_LOOKALIKES = {"|": "U+007C", "\uffe8": "U+FFE8", "\u2502": "U+2502", "\uff5c": "U+FF5C"}
_ESCAPED = re.compile("&((?:amp;)*)#124;")


def kind_of(path: Path | str) -> str:
    """The format that a file's name tells: conllu or jsonl, else text."""
    name = str(path).removesuffix(".gz")
    return next((kind for kind in ("conllu", "jsonl") if name.endswith(f".{kind}")), "text")


def guess_format(lines: Sequence[str]) -> str | None:
    """The format of factored text that plain text seems to be: every token has a separator."""
    tokens = [token for line in lines for token in line.split()]
    for kind, separator in SEPARATORS.items():
        counts = {token.count(separator) for token in tokens}
        if len(tokens) > 4 and len(counts) == 1 and 0 not in counts:
            return kind
    return None


def check_factors(factors: Sequence[str], setting: str) -> None:
    """Refuse names that are no column of an annotation; `setting` begins the message."""
    for name in factors:
        if name not in ANNOTATION and not re.fullmatch(r"(feats|misc)\..+", name):
            names = (*ANNOTATION, "feats.Case", "misc.NER")
            raise UserError(f"{setting}: unknown factor {short_repr(name)}; {suggest(name, names)}")
    if twice := {name for name in factors if factors.count(name) > 1}:
        raise UserError(f"{setting}: {min(twice)} stands twice")
    for whole in ("feats", "misc"):
        one = next((name for name in factors if name.startswith(f"{whole}.")), None)
        if one and whole in factors:
            raise UserError(f"{setting}: {whole} holds {one} already; name either")


def parse_lines(
    lines: Iterable[str],
    name: str,
    kind: str,
    factors: Sequence[str] = (),
    first: int = 1,
    findings: Findings | None = None,
) -> Iterator[Sentence]:
    """Sentences of `lines`, the first of which has the number `first`, in one of `FORMATS`.

    `name` begins the errors. What `Findings` names is counted in `findings`.
    """
    if kind == "conllu":
        return parse_conllu(lines, name, first, findings)
    if kind == "jsonl":
        return parse_jsonl(lines, name, factors, first, findings)
    if kind in SEPARATORS:
        return parse_factored(lines, name, factors, kind, first)
    return map(Sentence, lines)


def parse_factored(
    lines: Iterable[str], name: str, factors: Sequence[str], kind: str, first: int = 1
) -> Iterator[Sentence]:
    """Sentences of `word|f1|f2 ...` lines; whatever is broken is a `UserError` at `name:line:`.

    In `pipe`, `&#124;` is a literal `|`, and one `amp;` is taken from `&amp;#124;`.
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
        yield _join_tokens(rows, factors, f"{name}:{number}")


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
    """Sentences of a file of words and, by factor, a file (name, lines) of values, as Sockeye has.

    The text is the line as it stands, as it is where no factor is wanted. Files that are not
    token-parallel are a `UserError` that names both and the line.
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
            _build_word(
                token.form, token.start, token.end, dict(zip(factors, values, strict=True)), where
            )
            for token, *values in zip(tokens, *columns, strict=True)
        ]
        yield Sentence(line, tuple(words))
    for (file, _), side in zip(factors.values(), sides, strict=True):
        if next(side, None) is not None:
            raise UserError(f"{file}: has more lines than {name}, which has {number}")


def parse_jsonl(
    lines: Iterable[str],
    name: str,
    factors: Sequence[str],
    first: int = 1,
    findings: Findings | None = None,
) -> Iterator[Sentence]:
    """Sentences of JSON lines.

    A line is `{"text": ..., "words": [{"form": ..., "upos": ..., ...}, ...]}`, whose forms stand
    in the text in order, or Sockeye's `{"text": ..., "factors": ["f f f", ...]}`, whose factors
    `factors` names. The `head` of a word is a number, as in CoNLL-U; `comments` are CoNLL-U's, if
    they are such. Other keys of the line are ignored, as in Sockeye; those of a word are not.
    """
    findings = Findings() if findings is None else findings
    for number, line in enumerate(lines, first):
        where = f"{name}:{number}"
        if not line.strip():
            yield Sentence("")
            continue
        content = _read_json_line(line, where)
        text: str = content["text"]
        if "words" in content:
            words = _words_of_json(text, content["words"], where)
            check_tree([word.head for word in words], [number] * len(words), name, findings)
            words = tuple(
                word._replace(head=-1) if word.head == position else word
                for position, word in enumerate(words, 1)
            )
            yield Sentence(text, words, _read_comments(content.get("comments")))
        elif factors or "factors" in content:
            yield _parse_factors(text, content.get("factors", []), factors, where)
        else:
            yield Sentence(text, (), _read_comments(content.get("comments")))


def _read_json_line(line: str, where: str) -> dict[str, Any]:
    """The object of a line of JSON, which has a text of one line."""
    try:
        content = load_json(line)
    except ValueError as error:
        raise UserError(f"{where}: no JSON ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("text"), str):
        raise UserError(f'{where}: no object with a "text": {line[:60]!r}')
    if "\n" in content["text"] or "\r" in content["text"]:
        raise UserError(f"{where}: the text has a line break; a sentence is one line")
    return content


def _parse_factors(text: str, factor_lines: Any, factors: Sequence[str], where: str) -> Sentence:
    """The sentence of Sockeye's tokens and lines of their factors, which `factors` names."""
    is_list = isinstance(factor_lines, list)
    if not is_list or not all(isinstance(row, str) for row in factor_lines):
        raise UserError(f'{where}: "factors" is no list of strings')
    if len(factor_lines) != len(factors):
        names = ", ".join(factors) or "none"
        raise UserError(f"{where}: {len(factor_lines)} factors, not {len(factors)} ({names})")
    columns = [text.split(), *map(str.split, factor_lines)]
    for factor, column in zip(factors, columns[1:], strict=True):
        if len(column) != len(columns[0]):
            raise UserError(
                f"{where}: {len(column)} values of {factor} for {len(columns[0])} tokens"
            )
    return _join_tokens(list(map(list, zip(*columns, strict=True))), factors, where)


def _read_comments(comments: Any) -> tuple[str, ...]:
    """Those of CoNLL-U; what somebody else calls so is none of them."""
    items = comments if isinstance(comments, list) else []
    if all(isinstance(c, str) and re.fullmatch("#[^\n\r]*", c) for c in items):
        return tuple(items)
    return ()


def _words_of_json(text: str, words: Any, where: str) -> tuple[Word, ...]:
    if not isinstance(words, list) or not all(isinstance(word, dict) for word in words):
        raise UserError(f'{where}: "words" is no list of objects')
    forms, rows, heads = [], [], []
    for position, word in enumerate(words, 1):
        head = word.pop("head", -1)
        if type(head) is not int or not -1 <= head <= len(words):
            raise UserError(
                f"{where}: word {position}: head is {short_repr(head)}, not a number from 0 (the "
                f"root) to {len(words)}"
            )
        heads.append(head)
        for key, value in word.items():
            if not isinstance(value, str) or not value.strip():
                raise UserError(
                    f"{where}: word {position}: {short_repr(key)[1:-1]} is {short_repr(value)}, no "
                    "text"
                )
        if "form" not in word:
            raise UserError(f"{where}: word {position} has no form")
        if control := find_control(word["form"]):
            raise UserError(f"{where}: the word {control}")
        forms.append(word["form"])
        rows.append({key: value for key, value in word.items() if key != "form"})
        check_factors(list(rows[-1]), f"{where}: word {position}")
    spans = locate_forms(forms, text, f"{where}: the forms differ from the text", "correct either")
    parsed = [
        _build_word(text[a:b], a, b, row, where) for (a, b), row in zip(spans, rows, strict=True)
    ]
    upos = [ROOT, *(word.upos for word in parsed), NONE]  # of the heads 0, 1 ... and -1
    return tuple(
        word._replace(head=head, head_upos=row.get("head_upos", upos[head]))
        for word, row, head in zip(parsed, rows, heads, strict=True)
    )


def _join_tokens(rows: Sequence[Sequence[str]], factors: Sequence[str], where: str) -> Sentence:
    """Of the tokens and their values, `rows`, joined by single spaces."""
    words, at = [], 0
    for form, *values in rows:
        columns = dict(zip(factors, values, strict=True))
        words.append(_build_word(form, at, at + len(form), columns, where))
        at += len(form) + 1
    return Sentence(" ".join(row[0] for row in rows), tuple(words))


def _build_word(form: str, start: int, end: int, factors: Mapping[str, str], where: str) -> Word:
    if control := find_control(form):
        raise UserError(f"{where}: the word {control}")
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


def write_factored(
    sentences: Iterable[Sentence], name: str, factors: Sequence[str], kind: str
) -> Iterator[str]:
    """Lines that `parse_factored` reads; `name` begins the error about what they cannot hold."""
    separator = SEPARATORS[kind]
    for number, sentence in enumerate(sentences, 1):
        columns = _columns_of(sentence, factors, f"{name}: sentence {number}")
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
    """A line of each file, words and factors, that `parse_parallel` reads."""
    for number, sentence in enumerate(sentences, 1):
        yield tuple(map(" ".join, _columns_of(sentence, factors, f"{name}: sentence {number}")))


def write_jsonl(sentences: Iterable[Sentence]) -> Iterator[str]:
    """JSON lines that `parse_jsonl` reads back: the text, and forms with all values there are.

    A sentence that is not annotated is its text alone.
    """
    for sentence in sentences:
        words = []
        for word in sentence.words:
            filled = {name: getattr(word, name) for name in ANNOTATION}
            values: dict[str, Any] = {n: v for n, v in filled.items() if v != NONE}
            if word.head >= 0:
                values["head"] = word.head
            words.append({"form": word.form} | values)
        content: dict[str, Any] = {"text": sentence.text} | ({"words": words} if words else {})
        if sentence.comments:
            content["comments"] = list(sentence.comments)
        yield json.dumps(content, ensure_ascii=False)


def _columns_of(sentence: Sentence, factors: Sequence[str], where: str) -> list[list[str]]:
    """Forms and the values of each factor, none of which has a space."""
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


def _escape_pipe(value: str) -> str:
    return _ESCAPED.sub(r"&amp;\1#124;", value).replace("|", "&#124;")


def _unescape_pipe(value: str) -> str:
    return _ESCAPED.sub(lambda m: f"&{m[1][4:]}#124;" if m[1] else "|", value)
