"""What text may hold: control characters, line separators of models, heads that make no tree."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt_feat.annotators import HanTa
from nmt_feat.annotators import files as annotation_files
from nmt_feat.annotators.files import write_annotation
from nmt_feat.config.data_schema import DataConfig, SubwordConfig
from nmt_feat.errors import UserError
from nmt_feat.evaluation import scores
from nmt_feat.text import formats
from nmt_feat.text.conllu import CYCLE, OWN_HEAD, ROOTS, Findings, has_cycle, parse_conllu
from nmt_feat.text.conllu_blocks import parse_block
from nmt_feat.text.factored import parse_parallel
from nmt_feat.text.files import one_line
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Subwords
from tests.support.entry import Done, call
from tests.support.pairs import folder, four, message, run

SEPARATORS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.fixture
def pairs(tmp_path: Path) -> DataConfig:
    return four(tmp_path)


# ---- output


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_line_separators_are_spaces(separator: str) -> None:
    """Of bytes too; whatever counts lines counts one."""
    subwords = Subwords.train(SubwordConfig(vocab_size=276, byte_fallback=True), ["ab cd ef"] * 9)
    ids = [piece.id for piece in subwords.encode(f"ab{separator}cd")]
    text = subwords.decode(ids)
    assert text == "ab cd"
    assert len(f"{text}\n".splitlines()) == 1
    assert one_line(f"ab{separator}cd") == scores.scored_line(f"ab{separator}cd\n") == "ab cd"


# ---- forms

ODD = {"\0": "control character U+0000", "\x85": "control character U+0085"}
ODD |= {"\ufeff": "byte-order mark U+FEFF", "\r": "control character U+000D"}


@pytest.mark.parametrize("character", ODD, ids=ascii)
def test_control_characters_in_forms(character: str) -> None:
    form = f"a{character}b"
    row = "\t".join(["1", form, *"_" * 8])
    json_line = json.dumps({"text": form if character != "\r" else "ab", "words": [{"form": form}]})
    cases = [("conllu", [row], "form"), ("jsonl", [json_line], "word")]
    if not character.isspace():  # which parts tokens
        cases += [("pipe", [f"{form}|X"], "word"), ("ffe8", [f"{form}\uffe8X"], "word")]
    for kind, lines, description in cases:
        with pytest.raises(UserError) as error:
            list(formats.parse_lines(lines, "f", kind, ["upos"]))
        where = f"f:1: the {description} "
        assert str(error.value) == f"{where}{form!r} has the {ODD[character]}; remove it"
    with pytest.raises(UserError):
        parse_block([row], "f", 1, ())
    if not character.isspace():
        with pytest.raises(UserError, match="remove it"):
            list(parse_parallel([form], "f", {"upos": ("g", ["X"])}))


@pytest.mark.parametrize(("number", "head"), [("1", "٠"), ("١", "0"), ("1", "²"), ("१", "_")])
def test_digits_of_other_scripts(number: str, head: str) -> None:
    row = "\t".join([number, "a", *"____", head, *"___"])
    with pytest.raises(UserError, match=r"f:1: the (id|head) .* is "):
        parse_block([row], "f", 1, ())
    with pytest.raises(UserError, match="f:1: the id"):
        parse_block(["\t".join(["1-٢", "a", *"_" * 8])], "f", 1, ())


# ---- heads


def tree(*heads: int) -> list[str]:
    rows = [[str(i), f"w{i}", *"____", str(h), *"___"] for i, h in enumerate(heads, 1)]
    return [*("\t".join(row) for row in rows), ""]


HEADS = st.lists(st.lists(st.integers(-1, 5), min_size=5, max_size=5), min_size=1, max_size=6)


@given(HEADS)
def test_findings_of_blocks(sentences: list[list[int]]) -> None:
    """Counted in columns as sentence by sentence, and as a plain search does."""
    heads = [[head if head >= 0 else "_" for head in row] for row in sentences]
    lines = ["# a", *(line for row in heads for line in tree(*row))]  # type: ignore[arg-type]
    slow, fast = Findings(), Findings()
    expected = Sentences.of(parse_conllu(lines, "f", 7, slow), ("head_upos",))
    assert parse_block(lines, "f", 7, ("head_upos",), fast).annotation == expected.annotation
    assert (fast.counts, fast.first) == (slow.counts, slow.first)
    matches = sum(head == i for row in sentences for i, head in enumerate(row, 1))
    assert (slow.counts[OWN_HEAD], slow.counts[ROOTS]) == (
        matches,
        sum(row.count(0) > 1 for row in sentences),
    )

    def circles(row: list[int]) -> bool:
        for start in range(1, 6):
            at = start
            for _ in range(6):
                at = row[at - 1] if at > 0 and row[at - 1] != at else 0
            if at > 0:
                return True
        return False

    assert slow.counts[CYCLE] == sum(map(circles, sentences))
    assert [has_cycle(row) for row in sentences] == list(map(circles, sentences))


BAD_TREES = {
    "own head": ((1, 0), "1 words that are their own head (first: train.conllu:1)"),
    "cycle": ((0, 3, 2), "1 sentences whose heads form a cycle (first: train.conllu:1)"),
    "roots": ((0, 0), "1 sentences with several roots (first: train.conllu:1)"),
}


@pytest.mark.parametrize("kind", ["conllu", "jsonl"])
@pytest.mark.parametrize("case", BAD_TREES)
def test_trees(pairs: DataConfig, monkeypatch: pytest.MonkeyPatch, case: str, kind: str) -> None:
    heads, result = BAD_TREES[case]
    result = result.replace("conllu", kind)
    data = folder(pairs)
    rows = [heads, (0,), (0, 1), (-1,)]
    if kind == "conllu":
        content = "\n".join("\n".join(tree(*row)) for row in rows).replace("-1", "_")
        (data / "train.conllu").write_text(content + "\n")
    else:
        content = ""
        for row in rows:
            words = [{"form": f"w{i}", "head": h} for i, h in enumerate(row, 1)]
            text = " ".join(f"w{i}" for i in range(1, len(row) + 1))
            content += json.dumps({"text": text, "words": words}) + "\n"
        (data / "train.jsonl").write_text(content)
    pairs.train.source, pairs.dev.source, pairs.tests = f"train.{kind}", "dev.conllu", {}
    (data / "dev.conllu").write_text("\n".join([*tree(0), *tree(0)]) + "\n")
    whole_message = message(pairs, annotate=True)  # with all columns
    assert whole_message == (
        f"train.{kind}: {result}, but features read heads (column=head_upos); correct the "
        "annotation, or leave these features out"
    )
    monkeypatch.setattr("tests.support.pairs.ANNOTATION", ("upos",))
    notes = [note.replace(f"{data}/", "") for note in run(pairs, annotate=True).notes]
    assert notes == [f"train: the annotation has {result}"]


def test_several_roots_of_an_annotator(pairs: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may see several sentences in a line."""
    content = "\n".join("\n".join(tree(0, 0)) for _ in range(4)) + "\n"
    head = f"# sha256 = {'0' * 64}\n# annotation = {'0' * 16}\n"
    (folder(pairs) / "train.conllu").write_text(head + content)
    (folder(pairs) / "dev.conllu").write_text("\n".join([*tree(0), *tree(0)]) + "\n")
    pairs.train.source, pairs.dev.source, pairs.tests = "train.conllu", "dev.conllu", {}
    assert run(pairs, annotate=True).notes == []


# ---- scripts


def call_in(folder: Path, name: str, *arguments: Any) -> Done:
    with contextlib.chdir(folder):
        return call(name, *arguments)


def test_convert_keeps_heads_and_comments(tmp_path: Path) -> None:
    rows = ["# sent_id = 1", "# text = a b im", *tree(2, 0)[:2], "3-4\tim" + "\t_" * 8]
    rows += ["3\tin\t_\tADP\t_\t_\t2\tcase\t2:case\t_", "4\tdem\t_\tDET\t_\t_\t3\tdet\t_\t_"]
    rows += ["4.1\tx" + "\t_" * 8, ""]
    content = "\n".join(rows).replace("w1", "a").replace("w2", "b")
    (tmp_path / "a.conllu").write_text(content + "\n")
    done = call_in(tmp_path, "convert", "a.conllu", "b.jsonl")
    assert done.code == 0
    assert done.err == (
        "1 multi-word tokens (first: a.conllu:5) are one word each\n"
        "1 empty nodes (first: a.conllu:8), 1 values of DEPS (first: a.conllu:6) are left out\n"
    )
    done = call_in(tmp_path, "convert", "b.jsonl", "c.conllu")
    assert (done.code, done.err) == (0, "")
    first, second = (
        list(parse_conllu((tmp_path / name).read_text().split("\n"), name))
        for name in ("a.conllu", "c.conllu")
    )
    assert first == second
    assert [word.head for word in second[0].words] == [2, 0, 2]
    assert second[0].comments == ("# sent_id = 1",)


def test_a_folder_is_annotated_to_its_end(tmp_path: Path) -> None:
    """What fails is named at the end; blank lines are sentences without words."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for name, content in {"a": b"", "b": b"Ja.\n\nNein.\n", "c": b"\xff\n", "d": b"Ja.\n"}.items():
        (texts / name).write_bytes(content)
    settings = ("annotator=hanta", "data.source_lang=de", "annotator.processes=1")
    done = call_in(tmp_path, "annotate", "texts", "out", *settings)
    assert done.code == 2
    assert done.out == (
        "texts/b: 3 sentences in out/b.conllu\ntexts/d: 1 sentences in out/d.conllu\n"
    )
    lines = done.err.splitlines()
    assert lines[0] == "texts/a: the file is empty; leave it out"
    assert lines[1].startswith("texts/c:1: invalid UTF-8")
    assert lines[2:] == ["error: 2 of 4 files are not annotated, see above"]
    sentences = list(parse_conllu((tmp_path / "out/b.conllu").read_text().split("\n"), "b"))
    assert [len(sentence.words) for sentence in sentences] == [2, 0, 2]


def test_progress_on_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(annotation_files, "_REPORT_SECONDS", 0.0)
    write_annotation(HanTa("de"), ["Ja."] * 250, tmp_path / "a.conllu", 1)
    assert capsys.readouterr().err == (
        "annotated with hanta: 100 of 250 lines\nannotated with hanta: 200 of 250 lines\n"
        "annotated with hanta: 250 of 250 lines\n"
    )
