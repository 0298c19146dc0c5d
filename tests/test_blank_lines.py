"""Blank lines of public corpora: pairs are left out and counted, translations stay in line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nmt_feat.config.data_schema import DataConfig, SplitConfig
from nmt_feat.data.local_test_sets import read_first_test_set
from nmt_feat.evaluation.readings import measure_readings
from nmt_feat.text.conllu import Sentence, write_conllu
from tests.support import encoders
from tests.support.applied import good
from tests.support.entry import call
from tests.support.pairs import HANTA, folder, four, message, run
from tests.support.small import Small, cut, record


@pytest.fixture
def pairs(tmp_path: Path) -> DataConfig:
    data = four(tmp_path)
    (folder(data) / "train.en").write_text("A dog sleeps.\n\nThe man's duck ran.\n \u00a0\n")
    (folder(data) / "dev.en").write_text("\nTwo cats see it.\n")
    data.tests = {}
    return data


def annotated(pairs: DataConfig) -> dict[str, list[Sentence]]:
    """The sentences of train and dev, as an annotator sees them; blank ones have no words."""
    corpus = run(pairs, HANTA, True)
    assert corpus.notes == ["dev: 1 source lines are blank, their translations are empty"]
    return {"train": corpus.train.source, "dev": corpus.dev.source}


def as_conllu(data: Path, name: str, sentences: list[Sentence]) -> None:
    """Beside the text, without the blank lines, as annotators write it."""
    full = [sentence for sentence in sentences if sentence.words]
    (data / f"{name}.conllu").write_text(write_conllu(full))


def as_conllu_with_blank(data: Path, name: str, sentences: list[Sentence]) -> None:
    """Beside the text, with the blank lines."""
    (data / f"{name}.conllu").write_text(write_conllu(sentences))


def as_jsonl(data: Path, name: str, sentences: list[Sentence]) -> None:
    rows = [
        {"text": s.text, "words": [{"form": w.form, "upos": w.upos} for w in s.words]}
        for s in sentences
    ]
    (data / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def as_pipe(data: Path, name: str, sentences: list[Sentence]) -> None:
    rows = (" ".join(f"{w.form}|{w.upos}" for w in s.words) for s in sentences)
    (data / f"{name}.pipe").write_text("".join(f"{row}\n" for row in rows))


def as_factors(data: Path, name: str, sentences: list[Sentence]) -> None:
    for suffix, column in (("tok", "form"), ("upos", "upos")):
        rows = (" ".join(getattr(w, column) for w in s.words) for s in sentences)
        (data / f"{name}.{suffix}").write_text("".join(f"{row}\n" for row in rows))


def as_jsonl_with_blank(data: Path, name: str, sentences: list[Sentence]) -> None:
    """A blank line of the text is one of the file."""
    as_jsonl(data, name, sentences)
    path = data / f"{name}.jsonl"
    lines = path.read_text().splitlines()
    lines_of_text = [line if s.words else " " for line, s in zip(lines, sentences, strict=True)]
    path.write_text("".join(f"{line}\n" for line in lines_of_text))


FORMATS: dict[str, tuple[Callable[..., None], dict[str, str]]] = {
    "conllu": (as_conllu, {"conllu": "NAME.conllu"}),
    "conllu with blank lines": (as_conllu_with_blank, {"conllu": "NAME.conllu"}),
    "conllu alone": (as_conllu_with_blank, {"source": "NAME.conllu"}),
    "jsonl": (as_jsonl, {"source": "NAME.jsonl"}),
    "jsonl with blank lines": (as_jsonl_with_blank, {"source": "NAME.jsonl"}),
    "pipe": (as_pipe, {"source": "NAME.pipe"}),
    "factors": (as_factors, {"source": "NAME.tok", "factors": "NAME.upos"}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(pairs: DataConfig, name: str) -> None:
    """The same words in the same lines, whatever says them."""
    sentences = annotated(pairs)
    write, files = FORMATS[name]
    for split in ("train", "dev"):
        write(folder(pairs), split, sentences[split])
        config = getattr(pairs, split)
        for key, file in files.items():
            file = file.replace("NAME", split)
            setattr(config, key, {"upos": file} if key == "factors" else file)
    if name == "pipe":
        pairs.format, pairs.factors = "pipe", ["upos"]
    corpus = run(pairs, annotate=True)
    for split, read in (("train", corpus.train), ("dev", corpus.dev)):
        expected = [[(w.form, w.upos) for w in s.words] for s in sentences[split]]
        assert [[(w.form, w.upos) for w in s.words] for s in read.source] == expected
        assert len(read.target) == len(expected)
    assert [bool(s.words) for s in corpus.train.source] == [True, False, True, False]


def test_raw_counterpart(pairs: DataConfig) -> None:
    """Blank tokens have a translation that is empty; tokens without raw text are left out."""
    data = folder(pairs)
    (data / "train.tok").write_text("a dog sleeps .\n\nthe man 's duck ran .\ni go .\n")
    (data / "dev.tok").write_text("\ntwo cats see it .\n")
    for split in ("train", "dev"):
        config = getattr(pairs, split)
        config.source, config.raw = f"{split}.tok", f"{split}.en"
    corpus = run(pairs, HANTA, True)
    assert [len(s.words) for s in corpus.train.source] == [4, 0, 6, 0]
    assert [len(s.words) for s in corpus.dev.source] == [0, 5]
    (data / "dev.en").write_text("\n\n")
    expected = "dev.tok:2: the raw line of 'two cats see it .' is blank; give its text"
    assert message(pairs, HANTA, True) == expected


def test_a_test_set_is_read_again_as_in_training(tmp_path: Path) -> None:
    """Its annotation stands in a file of its own, without the blank lines."""
    (tmp_path / "t.en").write_text("A dog\n\nIt ran\n")
    (tmp_path / "t.de").write_text("Ein Hund\n\nEr lief\n")
    block = "1\t{}" + "\t_" * 8 + "\n2\t{}" + "\t_" * 8 + "\n\n"
    (tmp_path / "t.conllu").write_text(block.format("A", "dog") + block.format("It", "ran"))
    data = DataConfig("x", "en", "de", folder=str(tmp_path))
    data.tests = {"t": SplitConfig("t.en", "t.de", conllu="t.conllu")}
    sentences, targets, _, _ = read_first_test_set(data, tmp_path)
    assert [[word.form for word in s.words] for s in sentences] == [["A", "dog"], [], ["It", "ran"]]
    assert targets == ["Ein Hund", "", "Er lief"]


def test_blank_lines_are_no_readings_of_one_another() -> None:
    assert measure_readings(["", "", "a"], ["b", "c", "d"], ["b", "c", "d"]).readings == 0


@pytest.fixture(scope="module")
def blanks(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The bundled corpus with blank lines in every split, on either side."""
    base = tmp_path_factory.mktemp("blanks")
    corpus = cut(base / "corpus")
    for name in ("train", "dev", "test"):
        path = corpus / f"{name}.conllu"
        path.write_text("# text = \n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
        path = corpus / f"{name}.de"
        lines = ["Ja .", *path.read_text(encoding="utf-8").split("\n")]
        lines[3] = " "
        path.write_text("\n".join(lines), encoding="utf-8")
    return Small(corpus, base / "cache", base)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "more",
    [
        ("combiner=none",),
        ("combiner=add", "features=[upos,head_upos,subword_tag]", "decoding.beam=2"),
        ("combiner=concat", "features=[upos,char]", "control=shuffled", "decoding.nbest=2"),
    ],
    ids=" ".join,
)
def test_runs(blanks: Small, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    more = (*more, "decoding.beam=2") if "decoding.nbest=2" in more else more
    run_folder = blanks.train(*more)
    printed_text = capsys.readouterr().out
    assert "train: 2 pairs have a blank side and are left out" in printed_text
    assert "test: 1 source lines are blank, their translations are empty" in printed_text
    assert "dev: 1 references are blank" in printed_text
    run_record = record(run_folder)
    assert run_record["data_report"]["train_read"] == 81
    assert run_record["data_report"]["filtered"] == {"with a blank side": 2}
    lines = (run_folder / "test.hyp").read_text(encoding="utf-8").split("\n")
    assert lines[0] == ""
    assert len(lines) == 10
    if "decoding.nbest=2" in more:
        nbest = (run_folder / "test.nbest.hyp").read_text(encoding="utf-8").split("\n")
        assert [line.partition(" ||| ")[0] for line in nbest[:4]] == ["0", "1", "1", "2"]


@pytest.mark.thorough
def test_programs(blanks: Small, tmp_path: Path) -> None:
    """translate.py and the test of the run say the same; score.py has a line for each."""
    run_folder = blanks.train("combiner=none")
    source = blanks.corpus / "test.conllu"
    lines = good(call("translate", f"run={run_folder}", f"input={source}"))
    assert lines == (run_folder / "test.hyp").read_text(encoding="utf-8").split("\n")[:-1]
    target = blanks.corpus / "test.de"
    scores = good(call("score", f"run={run_folder}", f"source={source}", f"target={target}"))
    assert len(scores) == 9
    assert scores[3].endswith("\t1")


@pytest.mark.thorough
@pytest.mark.parametrize("live", [False, True])
def test_encoders_read_blank_lines(blanks: Small, live: bool) -> None:
    """As a feature stored beforehand and within the model: the same lines are blank."""
    encoder = blanks.folder / "encoder"
    if not encoder.exists():
        encoders.save(encoder, encoders.word_piece(encoders.corpus_texts(blanks.corpus)))
    more = ["features.contextual.live=true"] if live else []
    run_folder = blanks.train(
        "combiner=add",
        "features=[contextual]",
        f"features.contextual.encoder={encoder}",
        "model.dim=32",
        "trainer.max_steps=2",
        *more,
    )
    lines = (run_folder / "test.hyp").read_text(encoding="utf-8").split("\n")
    assert (lines[0], len(lines)) == ("", 10)
