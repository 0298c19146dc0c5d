"""Sentences as lines of JSON, with words or with factors as in Sockeye."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nmt_feat.base.typed_json import load_json
from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.conllu import NONE, ROOT, Findings, Sentence, Word, check_tree, find_control
from nmt_feat.text.factors import build_word, check_factors, join_tokens
from nmt_feat.text.forms import locate_forms
from nmt_feat.text.sentences import ANNOTATION


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
        comments = parse_comments(content.get("comments"))
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
    return join_tokens(list(map(list, zip(*columns, strict=True))), factors, where)


def parse_comments(comments: Any) -> tuple[str, ...]:
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
        build_word(text[a:b], a, b, row, where) for (a, b), row in zip(spans, rows, strict=True)
    ]
    upos = [ROOT, *(word.upos for word in parsed), NONE]  # of the heads 0, 1 ... and -1
    return tuple(
        word._replace(head=head, head_upos=row.get("head_upos", upos[head]))
        for word, row, head in zip(parsed, rows, heads, strict=True)
    )


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
