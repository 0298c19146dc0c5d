"""The formats of annotated text: which one a file has, and the parser of each.

CoNLL-U is in conllu.py, factored text in factored.py, lines of JSON in json_lines.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nmt_feat.base.typed_json import load_json
from nmt_feat.text.conllu import COLUMNS, Findings, Sentence, parse_conllu
from nmt_feat.text.factored import SEPARATORS, parse_factored
from nmt_feat.text.json_lines import parse_jsonl

FORMATS = ("text", "conllu", *SEPARATORS, "jsonl")


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
