"""Annotated text in the formats of other toolkits: factors on tokens, parallel files, JSON lines.

Factors have the names of columns (`upos`, `feats.Case`, `misc.NER`). The tokens of a factored line,
joined by spaces, are the sentence's text; what such a line cannot hold is refused.
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
    COLUMNS,
    NONE,
    ROOT,
    Findings,
    Sentence,
    Word,
    check_tree,
    find_control,
    parse_conllu,
)
from nmt_feat.text.forms import locate_forms
from nmt_feat.text.sentences import ANNOTATION, Sentences
from nmt_feat.text.word_values import read_column, whitespace_words

SEPARATORS = {"pipe": "|", "ffe8": "\uffe8"}
"""`word|f1|f2` as in Nematus and Sockeye; the same with U+FFE8 as in OpenNMT."""
FORMATS = ("text", "conllu", *SEPARATORS, "jsonl")
_LOOKALIKES = {"|": "U+007C", "\uffe8": "U+FFE8", "\u2502": "U+2502", "\uff5c": "U+FF5C"}
_ESCAPED = re.compile("&((?:amp;)*)#124;")


def kind_of(path: Path | str) -> str:
    """The format of a file by its name: conllu or jsonl, else text."""
    name = str(path).removesuffix(".gz")
    return next((kind for kind in ("conllu", "jsonl") if name.endswith(f".{kind}")), "text")


def guess_format(lines: Sequence[str]) -> str | None:
    """The format of annotated text that plain text seems to have, if all its lines have it."""
    tokens = [token for line in lines for token in line.split()]
    for kind, separator in SEPARATORS.items():
        counts = {token.count(separator) for token in tokens}
        if len(tokens) > 4 and len(counts) == 1 and 0 not in counts:
            return kind
    content = [line for line in lines if line.strip() and not line.startswith("#")]
    if content and all(map(_is_word_of_conllu, content)):
        return "conllu"
    return "jsonl" if content and all(map(_is_sentence_of_json, content)) else None


def _is_word_of_conllu(line: str) -> bool:
    """Whether a line looks like a word; in normal form, it has spaces in place of tabs."""
    row = line.split()
    patterns = (0, "[0-9]+(?:[-.][0-9]+)?"), (6, "[0-9]+|_"), (8, "_|[0-9.]+:.*")
    return len(row) == len(COLUMNS) and all(re.fullmatch(p, row[i]) for i, p in patterns)


def _is_sentence_of_json(line: str) -> bool:
    try:
        content = load_json(line) if line.startswith("{") else None
    except ValueError:
        return False
    return isinstance(content, dict) and isinstance(content.get("text"), str)


def describe_look(kind: str) -> str:
    """Why text looks like this format, for a message."""
    if kind in SEPARATORS:
        return f"every token has a {SEPARATORS[kind]!r}, as factored text has"
    return "its lines are words of CoNLL-U" if kind == "conllu" else "its lines are JSON"


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


def parse_lines(
    lines: Iterable[str],
    name: str,
    kind: str,
    factors: Sequence[str] = (),
    first: int = 1,
    findings: Findings | None = None,
) -> Iterator[Sentence]:
    """Parse lines in the format `kind`, one of `FORMATS`.

    Args:
        lines: the lines.
        name: the file's name, which begins the errors.
        kind: the format.
        factors: the names of the factors in the lines.
        first: the number of the first line.
        findings: counts what `Findings` names.
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
    """Parse JSON lines.

    A line is `{"text": ..., "words": [{"form": ..., "upos": ..., ...}, ...]}`, where the forms
    stand in the text in order; or, as in Sockeye, `{"text": ..., "factors": ["f f f", ...]}`, where
    `factors` has the names. The `head` of a word is a number, as in CoNLL-U. `comments` may be
    lines as in CoNLL-U. Other keys of a line are ignored, as in Sockeye; other keys of a word are
    errors.
    """
    findings = Findings() if findings is None else findings
    for number, line in enumerate(lines, first):
        where = f"{name}:{number}"
        if not line.strip():
            yield Sentence("")
            continue
        content = _read_json_line(line, where)
        text: str = content["text"]
        comments = read_comments(content.get("comments"))
        if "words" in content:
            words = _words_of_json(text, content["words"], where)
            check_tree([word.head for word in words], [number] * len(words), name, findings)
            words = tuple(
                word._replace(head=-1) if word.head == position else word
                for position, word in enumerate(words, 1)
            )
            yield Sentence(text, words, comments)
        elif factors or "factors" in content:
            sentence = _parse_factors(text, content.get("factors", []), factors, where)
            yield sentence._replace(comments=comments)
        else:
            yield Sentence(text, (), comments)


def _read_json_line(line: str, where: str) -> dict[str, Any]:
    """The object of a line of JSON; its `text` must be one line."""
    try:
        content = load_json(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("text"), str):
        raise UserError(f'{where}: not an object with a "text": {line[:60]!r}')
    if "\n" in content["text"] or "\r" in content["text"]:
        raise UserError(f"{where}: the text has a line break; a sentence is one line")
    return content


def _parse_factors(text: str, factor_lines: Any, factors: Sequence[str], where: str) -> Sentence:
    """The sentence of tokens and lines of their factors, as in Sockeye; `factors`: the names."""
    is_list = isinstance(factor_lines, list)
    if not is_list or not all(isinstance(row, str) for row in factor_lines):
        raise UserError(f'{where}: "factors" is not a list of strings')
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


def read_comments(comments: Any) -> tuple[str, ...]:
    """The comments of a line of JSON if they are as in CoNLL-U; the key may mean something else."""
    items = comments if isinstance(comments, list) else []
    if all(isinstance(c, str) and re.fullmatch("#[^\n\r]*", c) for c in items):
        return tuple(items)
    return ()


def _words_of_json(text: str, words: Any, where: str) -> tuple[Word, ...]:
    """The words of a JSON line, with spans in its text."""
    if not isinstance(words, list) or not all(isinstance(word, dict) for word in words):
        raise UserError(f'{where}: "words" is not a list of objects')
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
                    f"{where}: word {position}: {short_repr(key)[1:-1]} is {short_repr(value)}, "
                    "not text"
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
    """Join tokens by single spaces; a row has a token and its values."""
    words, start = [], 0
    for form, *values in rows:
        columns = dict(zip(factors, values, strict=True))
        words.append(_build_word(form, start, start + len(form), columns, where))
        start += len(form) + 1
    return Sentence(" ".join(row[0] for row in rows), tuple(words))


def _build_word(form: str, start: int, end: int, factors: Mapping[str, str], where: str) -> Word:
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


def write_factored(
    sentences: Iterable[Sentence], name: str, factors: Sequence[str], kind: str
) -> Iterator[str]:
    """Write lines that `parse_factored` reads; `name` begins errors about what they cannot hold."""
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
    """Write lines that `parse_parallel` reads: for each sentence, one of words and each factor."""
    for number, sentence in enumerate(sentences, 1):
        yield tuple(map(" ".join, _columns_of(sentence, factors, f"{name}: sentence {number}")))


def write_jsonl(sentences: Iterable[Sentence]) -> Iterator[str]:
    """Write JSON lines that `parse_jsonl` reads: the text, and forms with all their values.

    A sentence without annotation has only its text.
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


def _escape_pipe(value: str) -> str:
    return _ESCAPED.sub(r"&amp;\1#124;", value).replace("|", "&#124;")


def _unescape_pipe(value: str) -> str:
    return _ESCAPED.sub(lambda m: f"&{m[1][4:]}#124;" if m[1] else "|", value)
