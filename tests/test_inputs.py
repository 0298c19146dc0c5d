"""All programs read a text as its settings, its name, or the run's training text say."""

from __future__ import annotations

import math
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from nmt_feat.cli.reliance import Reliance
from nmt_feat.errors import UserError
from nmt_feat.runs.trained.inputs import Reader, Text, parse_nbest
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.factored import write_factored, write_parallel
from nmt_feat.text.files import read_lines
from tests.support.applied import FEW, said, translate
from tests.support.entry import call
from tests.support.small import ROOT, Small, record

SPLITS = {"train": "train", "dev": "dev", "test": "tests.test"}
ONLY = ["features=[upos]", "combiner=add", "data=files", "data.source_lang=en", *FEW]
ONLY += ["data.target_lang=de", "subword.vocab_size=150"]


class Kinds(NamedTuple):
    """Runs on factored text, and its folder."""

    folder: Path
    pipe: Path
    parallel: Path


@pytest.fixture(scope="module")
def kinds(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Kinds:
    folder = tmp_path_factory.mktemp("kinds")
    small = Small(corpus, corpus.parent / "cache", folder)
    small.settings["data.folder"] = folder
    names = ONLY + [f"data.{key}.target={corpus / split}.de" for split, key in SPLITS.items()]
    pipe, parallel = [*names, "data.format=pipe", "data.factors=[upos]"], [*names]
    for split, key in SPLITS.items():
        sentences = list(read_conllu(corpus / f"{split}.conllu"))
        rows = list(write_parallel(sentences, split, ["upos"]))
        for name, lines in (
            (f"{split}.pipe", write_factored(sentences, split, ["upos"], "pipe")),
            (f"{split}.en", [words for words, _ in rows]),
            (f"{split}.upos", [values for _, values in rows]),
        ):
            (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        pipe.append(f"data.{key}.source={split}.pipe")
        parallel += [f"data.{key}.source={split}.en", f"+data.{key}.factors.upos={split}.upos"]
    return Kinds(folder, small.train(*pipe), small.train(*parallel))


def script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code and output of a script, in this process."""
    path = ROOT / "scripts" / f"{arguments[0]}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments[1:])])
    code = 0
    capsys.readouterr()  # of what came before
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        code = int(end.code or 0)
    return (code, *capsys.readouterr())


@pytest.mark.thorough
def test_a_run_reads_its_kind(kinds: Kinds) -> None:
    """Pipe text and files of factors without a setting; a line says so."""
    for run, name, used in (
        (kinds.pipe, "test.pipe", "trained on pipe text"),
        (kinds.parallel, "test.en", "trained on files of factors"),
    ):
        source = kinds.folder / name
        done = call("translate", f"run={run}", f"input={source}")
        assert done.code == 0, done
        assert done.out.splitlines() == read_lines(run / "test.hyp")
        assert used in done.err
        assert f"{source} is read so (format=" in done.err
        target = record(run)["config"]["data"]["tests"]["test"]["target"]
        scored = call("score", f"run={run}", f"source={source}", f"target={target}")
        assert len(scored.out.splitlines()) == 8
        total = sum(float(line.split("\t")[0]) for line in scored.out.splitlines())
        words = sum(len(line.split()) + 1 for line in read_lines(target))
        perplexity = record(run)["tests"]["test"]["perplexity"]
        assert -total / words == pytest.approx(math.log(perplexity), rel=1e-4)


@pytest.mark.thorough
def test_the_same_settings_everywhere(kinds: Kinds, corpus: Path) -> None:
    """A run on files of factors scores pipe text where that is set."""
    target = f"target={corpus / 'test.de'}"
    beside = call("score", f"run={kinds.parallel}", f"source={kinds.folder / 'test.en'}", target)
    arguments = ["format=pipe", "factors=[upos]", f"source={kinds.folder / 'test.pipe'}", target]
    done = call("score", f"run={kinds.parallel}", *arguments)
    assert (done.code, said(done)) == (0, "")
    assert done.out == beside.out
    assert translate(kinds.parallel, *arguments[:2], f"input={kinds.folder / 'test.pipe'}") == (
        read_lines(kinds.parallel / "test.hyp")
    )


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["reliance", "contrast"])
def test_scripts_take_the_runs_test_set(
    name: str,
    kinds: Kinds,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not the bundled corpus's; where it is gone, one line."""
    for run in kinds[1:]:
        code, out, error = script(monkeypatch, capsys, name, run)
        if name == "reliance":
            assert code == 0, error
            bleu = record(run)["tests"]["test"]["bleu"]
            assert out.splitlines()[1].split("\t")[:2] == ["true", f"{bleu:.2f}"]
        else:
            assert (code, error) == (0, "")
    pair = ["--source", kinds.folder / "test.en", "--target", corpus / "test.de"]
    again = script(monkeypatch, capsys, name, kinds.parallel, *pair)
    assert (again[0], again[1]) == (code, out)
    assert "trained on files of factors" in again[2]
    monkeypatch.setattr("nmt_feat.data.corpora.list_shards", lambda path: [Path("gone")])
    code, out, error = script(monkeypatch, capsys, name, kinds.pipe)
    assert (code, out) == (2, "")
    assert error.startswith(f"error: {kinds.pipe}: its test set cannot be read (data.tests.test")
    assert error.endswith("give --source FILE --target FILE\n")


@pytest.mark.thorough
def test_test_sets_with_annotation_beside_and_of_an_annotator(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in training: BLEU of the run's record."""
    pytest.importorskip("HanTa")
    small = Small(corpus, corpus.parent / "cache", tmp_path)
    for split in SPLITS:
        text = "".join(f"{s.text}\n" for s in read_conllu(corpus / f"{split}.conllu"))
        (tmp_path / f"{split}.en").write_text(text, encoding="utf-8")
    names = [f"data.{key}.source={tmp_path / split}.en" for split, key in SPLITS.items()]
    names += [f"data.{key}.target={corpus / split}.de" for split, key in SPLITS.items()]
    beside = [f"data.{key}.conllu={corpus / split}.conllu" for split, key in SPLITS.items()]
    tool = ["annotator=hanta", "annotator.processes=1"]
    for more in (beside, tool):
        run = small.train(*ONLY, *names, *more)
        opened = TrainedModel(run, 1)
        text = Reliance(opened, *opened.read_test_set())
        bleu = text.score_translations(text.true)["BLEU"]  # type: ignore[attr-defined]
        assert bleu == pytest.approx(record(run)["tests"]["test"]["bleu"])
        assert text.true.features["upos"].max() > 2  # type: ignore[attr-defined]


FACTORED = "the|DET dog|NOUN sleeps|VERB today|ADV .|PUNCT"
HINT = (
    "every token has a '|', as factored text has; set {0}format{1}pipe and factors, or "
    "{0}format{1}text if it is plain"
)


@pytest.mark.thorough
def test_text_that_looks_factored_is_refused(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By every program that reads text, unless format=text says that it is plain."""
    run = Small(corpus, corpus.parent / "cache", tmp_path).train("combiner=none", *FEW)
    (text := tmp_path / "text").write_text(f"{FACTORED}\n", encoding="utf-8")
    (target := tmp_path / "target").write_text("Der Hund schläft heute.\n", encoding="utf-8")
    hint = HINT.format("", "=")
    for command, stdin, arguments, name in (
        ("translate", b"", [f"input={text}"], text),
        ("translate", f"{FACTORED}\n".encode(), [], "standard input"),
        ("score", b"", [f"source={text}", f"target={target}"], text),
    ):
        done = call(command, f"run={run}", *arguments, stdin=stdin)
        assert (done.code, done.out, done.err) == (2, "", f"error: {name}: {hint}\n")
        plain = call(command, f"run={run}", "format=text", *arguments, stdin=stdin)
        assert (plain.code, said(plain)) == (0, "")
    refused = (2, "", f"error: {text}: {HINT.format('--', ' ')}\n")
    pair = ["--source", text, "--target", target]
    for arguments in (
        ["reliance", run, *pair],
        ["contrast", run, *pair],
        ["score_comet", *pair, target],
        ["train_vectors", tmp_path / "out", "--source", text],
        ["annotate", text, tmp_path / "out.conllu", "annotator=hanta", "data.source_lang=en"],
    ):
        assert script(monkeypatch, capsys, *arguments) == refused, arguments


def test_what_goes_with_no_text(
    kinds: Kinds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (alone := tmp_path / "alone.en").write_text("the dog\n", encoding="utf-8")
    for run, arguments, stdin, message in (
        (
            kinds.parallel,
            [f"input={alone}"],
            b"",
            f"{alone}: its upos is in no file {alone}.upos or {alone.with_suffix('.upos')}; put it "
            "there, a value for each token, or give CoNLL-U (format=conllu)",
        ),
        (
            kinds.parallel,
            [],
            b"the dog\n",
            "standard input has no files of factors beside it; give the words as a file, or "
            "format=pipe",
        ),
        (
            kinds.pipe,
            [f"input={alone}"],
            b"",
            f"{alone}:1: token 1 'the' has 0 factors, not 1 (upos); for plain text set format=text",
        ),
    ):
        done = call("translate", f"run={run}", *arguments, stdin=stdin)
        assert (done.code, done.out) == (2, "")
        assert done.err.splitlines()[-1] == f"error: {message}"
    outcome = script(monkeypatch, capsys, "reliance", kinds.pipe, "--target", alone)
    assert outcome == (2, "", "error: --target: goes with --source FILE; give both, or neither\n")


def test_lines_of_a_pipe_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes them may wait for each answer."""

    class Asked:
        def __iter__(self) -> Asked:
            return self

        def __next__(self) -> bytes:
            nonlocal asked
            asked += 1
            return b"a line\n"

    asked = 0
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": Asked()}))
    sentences = Reader(Text("-")).read_sentences()
    assert next(sentences).text == "a line"
    assert asked == 1


# ---- n-best lists


def test_scores_of_an_nbest_list(kinds: Kinds, tmp_path: Path) -> None:
    """Each hypothesis is scored for its sentence, and what is not the search's is said."""
    run, source = kinds.parallel, kinds.folder / "test.en"
    listed = call("translate", f"run={run}", f"input={source}", "nbest=3")
    (path := tmp_path / "list").write_text(listed.out, encoding="utf-8")
    done = call("score", f"run={run}", f"source={source}", f"target={path}")
    assert done.code == 0
    assert f"{path}: an n-best list" in done.err
    numbers, texts = parse_nbest(listed.out.splitlines(), "x", 8) or ([], [])
    assert numbers == sorted([*range(8)] * 3)
    (tmp_path / "one").write_text(f"{texts[4]}\n", encoding="utf-8")
    for suffix in ("en", "upos"):
        line = read_lines(kinds.folder / f"test.{suffix}")[1]
        (tmp_path / f"single.{suffix}").write_text(f"{line}\n", encoding="utf-8")
    names = [f"source={tmp_path / 'single.en'}", f"target={tmp_path / 'one'}"]
    single = call("score", f"run={run}", *names)
    [(logprob, pieces)] = [line.split("\t") for line in single.out.splitlines()]
    result, count = done.out.splitlines()[4].split("\t")
    assert (float(result), count) == (pytest.approx(float(logprob), abs=1e-4), pieces)


def test_nbest_numbers() -> None:
    assert parse_nbest(["a ||| b", "c"], "x", 9) is None
    assert parse_nbest([], "x", 9) is None
    assert parse_nbest(["0 ||| a ||| b ||| -1.5000", "2 |||  ||| -0.1"], "x", 3) == (
        [0, 2],
        ["a ||| b", ""],
    )
    with pytest.raises(UserError) as error:
        parse_nbest(["3 ||| a ||| -1.0"], "x", 3)
    assert str(error.value) == (
        "x:1: sentence 3 of an n-best list, but the source has 3 (the first is 0); give the source "
        "that was translated"
    )
