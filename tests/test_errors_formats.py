"""Mistakes in other toolkits' formats end `train.py`, `translate.py` in one line, with code 2."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.factored import write_factored, write_parallel
from nmt_feat.text.json_lines import write_jsonl
from tests.support.entry import call
from tests.support.mistakes import here, line, refuse
from tests.support.small import Small

__all__ = ["here"]  # a fixture

FILES = shlex.split(
    "data=files data.source_lang=en data.target_lang=de data.train.source=train.SUFFIX "
    "data.train.target=train.de data.dev.source=dev.SUFFIX data.dev.target=dev.de "
    "data.tests.test.source=test.SUFFIX data.tests.test.target=test.de subword.vocab_size=150 "
    "combiner=add features=[upos]"
)
PIPE = "data.format=pipe data.factors=[upos]"
FFE8 = "data.format=ffe8 data.factors=[upos]"
SIDE = " ".join(
    f"+data.{key}.factors.upos={name}.tok.upos"
    for name, key in (("train", "train"), ("dev", "dev"), ("test", "tests.test"))
)


@pytest.fixture
def factored(small: Small, here: Path) -> Path:
    """The corpus as `|` and U+FFE8 factors, parallel files and JSON lines."""
    folder = here / "factored"
    folder.mkdir()
    for path in small.corpus.glob("*.conllu"):
        sentences, name = list(read_conllu(path)), path.stem
        words, values = zip(*write_parallel(sentences, "x", ["upos"]), strict=True)
        contents = {
            "pipe": list(write_factored(sentences, "x", ["upos"], "pipe")),
            "ffe8": list(write_factored(sentences, "x", ["upos"], "ffe8")),
            "jsonl": list(write_jsonl(sentences)),
            "tok": words,
            "tok.upos": values,
        }
        for suffix, lines in contents.items():
            text = "".join(f"{x}\n" for x in lines)
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
        (folder / f"{name}.de").write_bytes(path.with_suffix(".de").read_bytes())
    small.corpus = folder
    return folder


def first(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def same(text: str) -> str:
    return text


CASES: dict[str, tuple[str, str, str, Callable[[str], str], str]] = {
    "pipes read as U+FFE8": (
        "pipe",
        FFE8,
        "train.pipe",
        same,
        "CORPUS/train.pipe:1: token 1 '{token}' has no '\uffe8' (U+FFE8), but '|' (U+007C); set "
        "format=pipe",
    ),
    "U+FFE8 read as pipes": (
        "ffe8",
        PIPE,
        "train.ffe8",
        same,
        "CORPUS/train.ffe8:1: token 1 '{token}' has no '|' (U+007C), but '\uffe8' (U+FFE8); set "
        "format=ffe8",
    ),
    "one token with the other pipe": (
        "pipe",
        PIPE,
        "dev.pipe",
        first("|", "\uffe8"),
        "CORPUS/dev.pipe:1: token 1 '{token}' has no '|' (U+007C), but '\uffe8' (U+FFE8); set "
        "format=ffe8",
    ),
    "factors read as text": (
        "pipe",
        "annotator=hanta",
        "train.pipe",
        same,
        "CORPUS/train.pipe: every token has a '|', as factored text has; set data.format=pipe and "
        "data.factors, or data.format=text if it is plain",
    ),
    "missing factor": (
        "pipe",
        PIPE,
        "train.pipe",
        first("|PRON", ""),
        "CORPUS/train.pipe:1: token 1 '{token}' has 0 factors, not 1 (upos)",
    ),
    "factor too many": (
        "ffe8",
        FFE8,
        "test.ffe8",
        first(" ", "\uffe8X "),
        "CORPUS/test.ffe8:1: token 1 '{token}' has 2 factors, not 1 (upos)",
    ),
    "empty factor": (
        "pipe",
        PIPE,
        "train.pipe",
        first("|PRON", "|"),
        "CORPUS/train.pipe:1: token 1 '{token}' has an empty upos; write _ for no value",
    ),
    "factors without names": (
        "pipe",
        "data.format=pipe",
        "train.pipe",
        same,
        "data.format=pipe: name its factors, such as data.factors=[upos,lemma]",
    ),
    "unknown factor": (
        "pipe",
        "data.format=pipe data.factors=[pos]",
        "train.pipe",
        same,
        "data.factors: unknown factor 'pos'; did you mean 'xpos' or 'upos'?",
    ),
    "factors of text": (
        "tok",
        "data.factors=[upos,lemma]",
        "train.tok",
        same,
        "data.factors=[upos,lemma]: the source is read as text, whose tokens have none; set "
        "data.format=pipe or ffe8, or leave them out",
    ),
    "unknown format": (
        "pipe",
        "data.format=pip",
        "train.pipe",
        same,
        "data.format=pip: unknown; did you mean 'pipe'?",
    ),
    "value too few": (
        "tok",
        SIDE,
        "train.tok.upos",
        lambda text: text[text.index(" ") + 1 :],
        "CORPUS/train.tok.upos:1: {fewer} values for the {tokens} tokens of CORPUS/train.tok:1",
    ),
    "line too few": (
        "tok",
        SIDE,
        "dev.tok.upos",
        lambda text: text[text.index("\n") + 1 :],
        "data.dev: CORPUS/dev.tok has 8 sentences, CORPUS/dev.tok.upos has 7; their lines must "
        "correspond",
    ),
    "factor file that is not there": (
        "tok",
        SIDE.replace("dev.tok.upos", "dev.tok.pos"),
        "dev.tok",
        same,
        "data.dev.factors.upos=dev.tok.pos: no such file in CORPUS; correct the name or set "
        "data.folder",
    ),
    "factors beside CoNLL-U": (
        "tok",
        f"{SIDE} data.dev.conllu=dev.conllu",
        "dev.tok",
        same,
        "data: dev.tok has factors in files and an annotation in dev.conllu; give one of them",
    ),
    "no JSON": (
        "jsonl",
        "",
        "train.jsonl",
        first("{", ""),
        "CORPUS/train.jsonl:1: not JSON (Extra data: line 1 column 7 (char 6))",
    ),
    "key that is no factor": (
        "jsonl",
        "",
        "train.jsonl",
        first('"upos"', '"pos"'),
        "CORPUS/train.jsonl:1: word 1: unknown factor 'pos'; did you mean 'xpos' or 'upos'?",
    ),
    "empty annotation": (
        "tok",
        " ".join(f"data.{k}.conllu=none.conllu" for k in ("train", "dev", "tests.test")),
        "none.conllu",
        lambda text: "",
        "CORPUS/none.conllu: the file is empty; data.train needs sentences",
    ),
}
"""By the mistake: suffix of the sources, settings, the file that is changed, how, the message."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.thorough] * (i > 0)) for i, c in enumerate(CASES)],
)
def test_train(small: Small, factored: Path, case: str) -> None:
    suffix, settings, name, change, message = CASES[case]
    if "hanta" in settings:
        pytest.importorskip("HanTa")
    path = factored / name
    text = change(path.read_text(encoding="utf-8") if path.exists() else "")
    path.write_text(text, encoding="utf-8")
    words = (factored / "train.tok").read_text(encoding="utf-8").split("\n")[0].split()
    token = text.split("\n")[0].split(" ")[0]
    expected = message.format_map({"token": token, "tokens": len(words), "fewer": len(words) - 1})
    arguments = [argument.replace("SUFFIX", suffix) for argument in FILES]
    assert refuse(small, *arguments, *settings.split()) == expected


APPLIED = {
    "the\uffe8DET": "standard input:1: token 1 'the\uffe8DET' has no '|' (U+007C), but '\uffe8' "
    "(U+FFE8); set format=ffe8",
    "the|DET dog": "standard input:1: token 2 'dog' has 0 factors, not 1 (upos)",
    "the|": "standard input:1: token 1 'the|' has an empty upos; write _ for no value",
}


@pytest.mark.thorough
def test_translate(small: Small) -> None:
    run = small.train("combiner=add", "features=[upos]", "trainer.max_steps=2")
    for text, message in APPLIED.items():
        arguments = (f"run={run}", "format=pipe", "factors=[upos]")
        assert line(call("translate", *arguments, stdin=text.encode()), small) == message
