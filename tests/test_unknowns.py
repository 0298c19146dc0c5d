"""What a run does not know of its input, in a line each; lines that are too long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.decoding.search import Hypothesis
from nmt_feat.runs.trained import model as apply
from nmt_feat.runs.trained.long_lines import Limit, MostPieces, cut_line
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.subwords import Subwords
from tests.support.applied import Runs, good, hypotheses
from tests.support.entry import Done, call

LINES = ["The dog sees the cat.", "", "The жщ dog ж.", "Мя"]
CHARACTERS = ", with 5 of 29 characters (17.2%),"  # that are visible


def translate(run: Path, lines: list[str], *arguments: object) -> Done:
    stdin = "".join(f"{line}\n" for line in lines).encode()
    return call("translate", f"run={run}", *arguments, stdin=stdin)


def counted(run: Path, lines: list[str]) -> tuple[int, int]:
    """Unknown pieces and all pieces, one line at a time."""
    subwords = TrainedModel(run).encoder.subwords
    ids = [i for line in lines for i in subwords.encode_ids([line])[0]]
    return ids.count(1), len(ids)


@pytest.mark.thorough
def test_unknown_pieces(runs: Runs) -> None:
    unknown, total = counted(runs.words, LINES)
    assert unknown == 3  # neighbours that are unknown are one piece
    line = (
        f"{unknown} of {total} pieces ({unknown / total:.1%}) of the source"
        f"{CHARACTERS} are unknown to the run; first: standard input:3, 'жщ'\n"
    )
    for chunk in (1, 2, 200):
        done = translate(runs.words, LINES, f"chunk={chunk}")
        assert (done.code, done.err) == (0, line)
        assert len(done.out.splitlines()) == 4
    done = translate(runs.words, LINES[:2], "unknown=error")
    assert (done.code, done.err) == (0, "")


def test_a_long_unknown_piece_is_shown_in_part(runs: Runs) -> None:
    done = translate(runs.words, ["The " + "ж" * 300])
    assert done.code == 0
    assert "...жжж" in done.err
    assert "ж" * 120 not in done.err


def test_unknown_pieces_may_be_an_error(runs: Runs) -> None:
    """Before anything of their chunk is written."""
    done = translate(runs.words, LINES, "unknown=error", "chunk=2")
    unknown, total = counted(runs.words, LINES)
    assert done.code == 2
    assert len(done.out.splitlines()) == 2
    assert done.err == (
        f"error: {unknown} of {total} pieces ({unknown / total:.1%}) of the source{CHARACTERS} "
        "are unknown to the run; first: standard input:3, 'жщ'; correct the input, or set "
        "unknown=warn to continue\n"
    )
    done = translate(runs.words, LINES, "unknown=ignore")
    assert (done.code, done.err) == (2, "error: unknown=ignore: unknown; known: error, warn\n")


@pytest.fixture(scope="module")
def odd(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test set; the values of UPOS of one sentence are others."""
    blocks = runs.conllu.read_text(encoding="utf-8").split("\n\n")
    blocks[2] = blocks[2].replace("\tNOUN\t", "\tNOMEN\t").replace("\tDET\t", "\tARTIKEL\t")
    path = tmp_path_factory.mktemp("odd") / "odd.conllu"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    return path


def line_of_values(odd: Path) -> str:
    rows = [r.split("\t") for r in odd.read_text(encoding="utf-8").splitlines() if r[:1].isdigit()]
    changed = [row[3] for row in rows if row[3] in ("NOMEN", "ARTIKEL")]
    share = f"{len(changed)} of {len(rows)} words ({len(changed) / len(rows):.1%})"
    return (
        f"features.upos: {share} have a value that the run does not know; first: {odd}: "
        f"sentence 3, {changed[0]!r}"
    )


@pytest.mark.thorough
def test_unknown_values(runs: Runs, odd: Path) -> None:
    """In translating, scoring, and as an error of both."""
    target = f"target={runs.target}"
    commands = {
        "translate": [f"run={runs.annotated}", f"input={odd}"],
        "score": [f"run={runs.annotated}", f"source={odd}", target],
    }
    for name, arguments in commands.items():
        done = call(name, *arguments)
        assert done.code == 0
        assert line_of_values(odd) in done.err.splitlines(), done.err
        assert len(done.out.splitlines()) == 8
        done = call(name, *arguments, "unknown=error")
        assert (done.code, done.out) == (2, "")
        assert done.err.count("\n") == 1
        assert done.err.endswith("; correct the input, or set unknown=warn to continue\n")


def test_values_that_training_has_are_not_said(runs: Runs) -> None:
    source = runs.conllu.with_name("train.conllu")
    done = call("translate", f"run={runs.annotated}", f"input={source}", "unknown=error")
    assert (done.code, done.err) == (0, "")


def test_unknown_pieces_of_a_translation_that_is_scored(runs: Runs, tmp_path: Path) -> None:
    lines = runs.target.read_text(encoding="utf-8").splitlines()
    (tmp_path / "x.de").write_text("\n".join([*lines[:5], "щщ", *lines[6:], ""]), encoding="utf-8")
    files = [f"source={runs.text}", f"target={tmp_path / 'x.de'}"]
    done = call("score", f"run={runs.words}", *files)
    assert f"of the translations are unknown to the run; first: {runs.text}:6\n" in done.err


def test_lines_longer_than_those_of_training(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    train = runs.text.with_name("train.en").read_text(encoding="utf-8").splitlines()
    longest = max(len(ids) for ids in TrainedModel(runs.words).encoder.subwords.encode_ids(train))
    assert TrainedModel(runs.words).encoder.longest == longest
    line = " ".join(train[:8])
    pieces = counted(runs.words, [line])[1]
    assert pieces > longest
    done = translate(runs.words, [train[0], line, train[1]])
    assert (done.code, done.err) == (
        0,
        f"1 of 3 sentences (33.3%) have more pieces than any of training, which has at most "
        f"{longest}; the longest has {pieces}; first: standard input:2\n",
    )
    load = SourceEncoder.load

    def earlier(*arguments: Any) -> SourceEncoder:
        encoder = load(*arguments)
        encoder.longest = None
        return encoder

    monkeypatch.setattr(SourceEncoder, "load", earlier)
    assert translate(runs.words, [line]).err == ""  # runs of earlier versions do not know it


# ---- too long


@pytest.fixture(scope="module")
def letters() -> SourceEncoder:
    """A piece for each letter, and for each space with the next letter."""
    return SourceEncoder(Subwords.train(SubwordConfig(kind="bpe", vocab_size=14), ["ab. cd"]), {})


@pytest.mark.parametrize(
    ("text", "limit", "part", "parts"),
    [
        ("aa. bb. cc.", 4, 2, ["aa.", "bb.", "cc."]),
        ("aa.", 1, 1, ["a", "a", "."]),
        # a sentence that is short enough stays whole, however long it is for a part
        ("aaaa. bb aa dd. c", 6, 3, ["aaaa.", "bb", "aa", "dd.", "c"]),
        ("acacacaca", 4, 4, ["acac", "acac", "a"]),
        ("ab。cd！", 3, 3, ["ab。", "cd！"]),
        ("dd abc", 3, 3, ["dd", "abc"]),
    ],
)
def test_parts(letters: SourceEncoder, text: str, limit: int, part: int, parts: list) -> None:
    result = cut_line(letters, Sentence(text), limit, part)
    assert [p.text for p in result] == parts
    words = (Word("x", 0, 1), Word("y", 1, len(text)))
    annotated = cut_line(letters, Sentence(text, words), limit, part)
    for one in annotated:
        covered = {at for w in one.words for at in range(w.start, w.end)}
        assert covered >= {at for at, c in enumerate(one.text) if c != " "}
        assert all(one.text[w.start : w.end] == w.form for w in one.words)


@pytest.mark.thorough
def test_a_long_line_is_translated_in_parts(runs: Runs) -> None:
    """As its sentences alone are; the other lines as ever, in every order of chunks."""
    lines = runs.text.read_text(encoding="utf-8").splitlines()
    expected, long = hypotheses(runs.words), " ".join(lines[2:5])
    pieces = counted(runs.words, [long])[1]
    limit = max(counted(runs.words, [line])[1] for line in lines)
    message = (
        f"standard input:2: has {pieces} pieces, above max_pieces={limit}: translated in 3 parts\n"
    )
    for chunk in (1, 200):
        done = translate(
            runs.words, [lines[0], long, lines[1]], f"max_pieces={limit}", f"chunk={chunk}"
        )
        assert done.out.splitlines() == [expected[0], " ".join(expected[2:5]), expected[1]]
        assert (done.code, done.err) == (0, message)
    done = translate(runs.words, [lines[0], long], f"max_pieces={limit}", "nbest=2", "beam=2")
    numbers = [line.split(" ||| ")[0] for line in done.out.splitlines()]
    assert numbers == ["0", "0", "1", "1"]
    done = translate(runs.words, [lines[0], long], f"max_pieces={limit}", "too_long=empty")
    assert done.out.splitlines() == [expected[0], ""]
    assert done.err == message.replace("translated in 3 parts", "its translation is left empty")
    done = translate(
        runs.words, [lines[0], long], f"max_pieces={limit}", "too_long=refuse", "chunk=1"
    )
    assert (done.code, done.out) == (2, expected[0] + "\n")  # a stream is not known beforehand


def test_a_file_is_refused_before_the_start(runs: Runs, tmp_path: Path) -> None:
    lines = runs.text.read_text(encoding="utf-8").splitlines()
    file, out = tmp_path / "in", tmp_path / "out"
    file.write_text("\n".join([*lines, "x" * 2000, ""]), encoding="utf-8")
    arguments = (f"input={file}", f"output={out}", "too_long=refuse")
    done = call("translate", f"run={runs.words}", *arguments, "chunk=1")
    assert (done.code, done.out, out.exists()) == (2, "", False)
    pieces = counted(runs.words, ["x" * 2000])[1]
    assert done.err == (
        f"error: {file}:9: has {pieces:,} pieces, above max_pieces=1024; shorten the line, raise "
        "max_pieces, or set too_long=split or too_long=empty\n"
    )
    for setting, message in (
        ("max_pieces=0", "max_pieces=0: must be at least 1"),
        ("too_long=cut", "too_long=cut: unknown; known: empty, refuse, split"),
    ):
        done = call("translate", f"run={runs.words}", f"input={file}", setting)
        assert (done.code, done.err) == (2, f"error: {message}\n")


@pytest.mark.thorough
def test_a_long_line_with_annotation(runs: Runs) -> None:
    """Plain text is annotated part by part, CoNLL-U is cut with its words."""
    text = runs.text.read_text(encoding="utf-8").splitlines()
    long = " ".join(text[:3])
    limit = max(counted(runs.tagged, [line])[1] for line in text)
    done = translate(runs.tagged, [long], f"max_pieces={limit}")
    assert done.code == 0
    assert done.out == " ".join(hypotheses(runs.tagged)[:3]) + "\n"
    words = [f"w{i}\tx\tNOUN\t_\t_\t0\tdep\t_\t_" for i in range(9)]
    rows = "\n".join(f"{i}\t{word}" for i, word in enumerate(words, 1)) + "\n\n"
    done = call(
        "translate", f"run={runs.annotated}", "format=conllu", "max_pieces=6", stdin=rows.encode()
    )
    assert done.code == 0
    assert "standard input: sentence 1: has " in done.err
    assert len(done.out.splitlines()) == 1


def test_a_limit_that_no_setting_can_raise() -> None:
    """A pretrained model has its positions: the message does not propose a higher setting."""
    assert "max_pieces" not in str(MostPieces.choose(1024, 127).make_error("line 1", 300))
    assert "raise max_pieces" in str(MostPieces.choose(127, 127).make_error("line 1", 300))


def test_a_very_long_word(runs: Runs) -> None:
    """It is said at once, and the next line is translated."""
    lines = runs.text.read_text(encoding="utf-8").splitlines()
    done = translate(runs.words, ["e" * 20_000, lines[0]], "too_long=empty")
    assert done.out.splitlines() == ["", hypotheses(runs.words)[0]]
    assert "above max_pieces=1024: its translation is left empty" in done.err
    done = call(
        "score", f"run={runs.words}", f"source={runs.text}", f"target={runs.target}", "max_pieces=3"
    )
    assert (done.code, done.out) == (2, "")
    assert "above max_pieces=3; shorten the line, or raise max_pieces" in done.err


@pytest.mark.thorough
def test_memory_that_does_not_suffice(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer lines at a time; a line that is too long alone, in parts; nothing is counted twice."""
    lines = runs.text.read_text(encoding="utf-8").splitlines()
    expected, whole = hypotheses(runs.words), apply.translate_split  # type: ignore[attr-defined]
    long = " ".join(lines[2:5])
    most = counted(runs.words, [long])[1]

    def limited(model: Any, split: Any, *arguments: Any, **named: Any) -> Any:
        if len(split) > 2 or split.source_lengths.max() > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(model, split, *arguments, **named)

    monkeypatch.setattr(apply, "translate_split", limited)
    assert good(translate(runs.words, lines)) == expected
    done = translate(runs.words, [*lines[:2], "ж", long])
    assert done.code == 0
    assert done.out.splitlines()[:2] == expected[:2]
    assert done.out.splitlines()[3] == " ".join(expected[2:5])
    assert "standard input:4: memory does not suffice for its" in done.err
    assert f"1 of {counted(runs.words, [*lines[:2], 'ж', long])[1]} pieces" in done.err
    done = translate(runs.words, [long], "too_long=refuse")
    assert done.code == 2
    assert done.err.startswith("error: standard input:1: memory does not suffice for its ")


def test_the_best_of_parts_are_joined(letters: SourceEncoder) -> None:
    """The i-th of each; scores are those of all pieces, end symbols included."""
    limit = Limit(letters, MostPieces(5), "split", 5, joiner="", penalty=1.0)
    first = [("a", Hypothesis([4], -0.5, -1.0)), ("b", Hypothesis([5], -1.0, -2.0))]
    second = [("c", Hypothesis([6, 7], -1.0, -3.0))]
    assert limit.join([first, second]) == [
        ("ac", Hypothesis([4, 6, 7], -4 / 5, -4.0)),
        ("bc", Hypothesis([5, 6, 7], -5 / 5, -5.0)),
    ]
