"""Hostile files: each reader reads what is whole, and refuses the rest in one line with the place.

`tools/fuzz.py` tries many more.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt_feat.base.checksums import hash_json
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.records import read_record
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.files import read_lines
from nmt_feat.text.formats import parse_lines
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.word_values import read_column
from nmt_feat.text.word_vectors import read_vectors
from nmt_feat.training.checkpoints import Checkpoints
from tests.support.small import ROOT

sys.path.append(str(ROOT / "tools"))

from fuzz import Fuzzer

READERS = (
    *("conllu", "pipe", "ffe8", "parallel", "jsonl", "vectors", "vectors.gz"),
    *("record", "checkpoint", "weights"),
)


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    """The readers, on one folder."""
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


def test_every_reader_is_here(fuzzer: Fuzzer) -> None:
    assert tuple(fuzzer.readers) == READERS


@pytest.mark.parametrize("name", READERS)
def test_what_is_whole_is_read(fuzzer: Fuzzer, name: str) -> None:
    """The seeds themselves, whose counts are right at any size of block."""
    for seed in fuzzer.readers[name].seeds:
        for block in (1, 7, 1 << 20):
            assert fuzzer.read(name, seed, block) is None


@pytest.mark.thorough
@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(chance=st.integers(0, 2**62).map(random.Random), block=st.sampled_from((7, 100, 1 << 20)))
def test_mutated(fuzzer: Fuzzer, name: str, chance: random.Random, block: int) -> None:
    """Read with the right counts, or refused in one line that begins with the file."""
    fuzzer.read(name, fuzzer.input(name, chance), block)


ROW = "{}\t{}\t_\tNOUN\t_\t_\t{}\troot\t_\t_\n"
DIGITS = "9" * 5000
DEEP = '{"text": "a", "x": ' + "[" * 200 + "]" * 200 + "}"
REFUSED = {
    "id of 5,000 digits": (
        "x.conllu",
        ROW.format(DIGITS, "a", 0),
        f":1: the id '{DIGITS[:57]}...{DIGITS[:58]}' is not a number, range (1-2) or empty node "
        "(1.1)",
    ),
    "head of ten digits": (
        "x.conllu",
        ROW.format(1, "a", "9999999999"),
        ":1: the head '9999999999' is not a number; 0 is the root, _ none",
    ),
    "key that stands twice": (
        "x.jsonl",
        '{"text": "a", "words": []}\n{"text": "a", "text": "b"}\n',
        ":1: the forms differ from the text: no word covers 'a' at character 0; correct either",
    ),
    "text that stands twice": (
        "x.jsonl",
        '{"text": "a", "text": "b"}\n',
        ":1: not JSON (the key 'text' is twice in an object)",
    ),
    "lone surrogate": (
        "x.jsonl",
        '{"text": "a \\ud83d b"}\n',
        ":1: not JSON (a lone surrogate, '\\ud83d', is not a character)",
    ),
    "deep nesting": ("x.jsonl", DEEP, ":1: not JSON (nested deeper than 100)"),
    "deeper nesting": ("x.jsonl", "[" * 10**6, ":1: not JSON (nested deeper than 100)"),
    "line feed in a key": (
        "x.jsonl",
        '{"text": "a", "words": [{"form": "a", "u\\np": 1}]}',
        ":1: word 1: u\\np is 1, not text",
    ),
    "surrogate's bytes": (
        "x.txt",
        b"a\nb\xed\xa0\x80\n",
        ":2: invalid UTF-8 at byte offset 3 (0xed); convert the file: iconv -f ENCODING -t UTF-8",
    ),
    "count of 5,000 digits": (
        "x.vec",
        f"{DIGITS} 2\na 1 2\n",
        ":2: 2 numbers behind 'a', the file's width is 1; correct the line or get the file again",
    ),
    "record with a number too large": (
        "result.json",
        '{"seed": ' + DIGITS + "}",
        ": not readable as JSON (Exceeds the limit (4300 digits) for integer string conversion: "
        "value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit); train the "
        "run again",
    ),
    "record nested too deep": (
        "result.json",
        "[" * 10**6,
        ": not readable as JSON (nested deeper than 100); train the run again",
    ),
}
"""By what is wrong: the file, its content, the message behind its path."""


def read(path: Path) -> None:
    """By the reader of the file's kind."""
    match path.suffix:
        case ".vec":
            read_vectors(path)
        case ".conllu":
            list(read_conllu(path))
        case ".json":
            read_record(path)
        case kind:
            list(parse_lines(read_lines(path), str(path), kind[1:], ["upos"]))


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())  # type: ignore[attr-defined]
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value) == f"{path}{message}"


LINES = {
    "all planes": "".join(chr(plane << 16 | 0x1234) for plane in range(17)) + " \U0010fffd",
    "combining marks": "e\u0301\u0323 " + "o" + "\u0308" * 1000,
    "right to left": "\u202eשלום\u202c עולם",
    "zero width": "a\u200bb \u200d \u2060",
    "separators of other kinds": "a\u2028b \x1cc",
    "one character": "a",
    "100,000 tokens": "a " * 99_999 + "b",
    "a token of 1,000,000 characters": "x" * 10**6,
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] * (c == "100,000 tokens")) for c in LINES],
)
def test_read_whole(tmp_path: Path, case: str) -> None:
    """Unusual text, with a byte-order mark before it and an empty line behind, as it stands."""
    line, path = LINES[case], tmp_path / "x"
    path.write_bytes(f"\ufeff{line}\r\n\r\n{line}\n".encode())
    assert read_lines(path) == [line, "", line]
    tokens = line.split()
    written = {
        "pipe": " ".join(f"{token}|NOUN" for token in tokens),
        "jsonl": json.dumps(
            {"text": line, "words": [{"form": token, "upos": "NOUN"} for token in tokens]}
        ),
        "conllu": "".join(ROW.format(n, token, 0) for n, token in enumerate(tokens, 1)),
    }
    for kind, content in written.items():
        path.write_bytes(content.replace("\n", "\r\n").encode())
        (result,) = parse_lines(read_lines(path), "x", kind, ["upos"])
        assert [word.form for word in result.words] == tokens, kind
        assert {word.upos for word in result.words} == {"NOUN"}


@pytest.mark.parametrize("token", ["a\0b", "\x01", "\x7f", "\ufeffa"])
@pytest.mark.parametrize("kind", ["pipe", "jsonl", "conllu"])
def test_control_characters_in_a_form_are_refused(token: str, kind: str) -> None:
    """They are read as plain text, but no annotation has them in a word."""
    written = {
        "pipe": f"b|NOUN {token}|NOUN",
        "jsonl": json.dumps({"text": f"b {token}", "words": [{"form": "b"}, {"form": token}]}),
        "conllu": ROW.format(1, token, 0),
    }
    with pytest.raises(UserError, match=r"U\+(0000|0001|007F|000D|FEFF)"):
        list(parse_lines(written[kind].split("\n"), "x", kind, ["upos"]))


def test_ten_thousand_values(tmp_path: Path) -> None:
    """Of a feature in one file, all are kept; on one token, all are there."""
    path = tmp_path / "x.txt"
    path.write_text("".join(f"a|V{n}\n" for n in range(10_000)))
    result = Sentences.of(parse_lines(read_lines(path), "x", "pipe", ["upos"]))
    assert len(read_column(result, "upos").values) == 10_000
    names = [f"misc.K{n}" for n in range(10_000)]
    line = "a|" + "|".join(f"v{n}" for n in range(10_000))
    (sentence,) = parse_lines([line], "x", "pipe", names)
    assert read_column(Sentences.of([sentence]), "misc.K9999").values == ["v9999"]


def test_vectors_behind_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.vec"
    path.write_bytes("\ufeff1 2\na 1 2\n".encode())
    assert read_vectors(path)[0] == ["a"]


def test_checkpoint_of_another_kind(fuzzer: Fuzzer, tmp_path: Path) -> None:
    """With a right sum: nothing outside its folder is named, no field is of another type."""
    whole = json.loads(fuzzer.readers["checkpoint"].seeds[0])
    del whole["sum"]
    path = tmp_path / "checkpoint-2.json"
    for change in (
        {"sha256": {"../../x": "0"}},
        {"sha256": {f"state-{'9' * 300}.safetensors": "0"}},
        {"steps": "2"},
        {"meta": {**whole["meta"], "step": "2"}},
        {"step": 3},
    ):
        content = {**whole, **change}
        path.write_text(json.dumps({"sum": hash_json(content), **content}))
        with pytest.raises(UserError) as error:
            Checkpoints(tmp_path, 1)
        assert str(error.value) == (
            f"{path}: damaged; to train from the start, delete {tmp_path.parent}"
        )
