"""The Python API: what it gives is what the programs give."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from nmt_feat.api import (
    COLUMNS,
    FinishedRun,
    LoadedRun,
    Sentence,
    UserError,
    load_run,
    read_conllu,
    read_runs,
    train,
)
from nmt_feat.cli.translate import translate_text
from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.runs.stored.records import read_record
from nmt_feat.text.conllu import Word, write_conllu
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.word_values import whitespace_words
from tests.support.entry import call
from tests.support.small import Small


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("api")
    small = Small(corpus, folder / "cache", folder)
    settings = ("combiner=gate", "features=[upos]", "trainer.max_steps=2")
    return train(small.overrides(*settings))


@pytest.fixture(scope="module")
def run(finished: FinishedRun) -> LoadedRun:
    return load_run(finished.folder, threads=1)


def test_translations_and_scores_are_those_of_the_programs(
    finished: FinishedRun, run: LoadedRun, corpus: Path, tmp_path: Path
) -> None:
    source = corpus / "test.conllu"
    sentences = list(read_conllu(source))
    translations = run.translate(sentences)
    assert translations == (finished.folder / "test.hyp").read_text("utf-8").splitlines()
    target = tmp_path / "target"
    target.write_text("".join(f"{line}\n" for line in translations), encoding="utf-8")
    done = call("score", f"run={finished.folder}", f"source={source}", f"target={target}")
    rows = [line.split("\t") for line in done.out.splitlines()]
    scores = run.score(list(zip(sentences, translations, strict=True)))
    assert [(f"{s.log_probability:.6f}", str(s.pieces)) for s in scores] == [tuple(r) for r in rows]


def test_sentences_are_brought_into_normal_form(run: LoadedRun, corpus: Path) -> None:
    """With their values, as where a file of them is read."""
    (sentence,) = list(read_conllu(corpus / "test.conllu"))[:1]
    words = [word._replace(upos=f"\u00a0{word.upos} ") for word in sentence.words]
    odd = sentence._replace(words=tuple(words))
    assert run.score([(odd, "Ja.")]) == run.score([(sentence, "Ja.")])
    assert run.translate([odd]) == run.translate([sentence])


def test_lines_are_refused_by_the_length_of_their_normal_form(
    finished: FinishedRun, run: LoadedRun, tmp_path: Path
) -> None:
    """Which is what is translated; decomposed, they may have more pieces."""

    def count_pieces(text: str) -> int:
        return int(run.model.encoder.pieces(Sentences.of([Sentence(text)])).counts[0])

    composed, decomposed = "tä tä tä tä", "ta\u0308 ta\u0308 ta\u0308 ta\u0308"
    limit = count_pieces(composed)
    assert count_pieces(decomposed) > limit
    path, out = tmp_path / "test.conllu", tmp_path / "out"
    path.write_text(write_conllu([Sentence(decomposed, whitespace_words(decomposed))]), "utf-8")
    cfg = TranslateConfig(
        str(finished.folder), str(path), str(out), max_pieces=limit, too_long="refuse"
    )
    translate_text(cfg)
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1
    with pytest.raises(UserError, match=f"sentence 1: has {limit} pieces, above max_pieces=1;"):
        translate_text(replace(cfg, max_pieces=1))


def test_a_sentence_is_shown_word_by_word(run: LoadedRun, corpus: Path) -> None:
    sentence = next(iter(read_conllu(corpus / "test.conllu")))
    words = run.inspect(sentence)
    assert [word.text for word in words] == [word.form for word in sentence.words]
    assert [word.features["upos"] for word in words] == [word.upos for word in sentence.words]
    for word in words:
        assert set(word.gates) == {"word", "upos"}
        assert sum(word.gates.values()) == pytest.approx(1, abs=1e-5)


def test_numbers_of_threads_that_end_the_process() -> None:
    for threads in (-1, 100_000):
        with pytest.raises(UserError, match=f"threads={threads}: must be 0 to 1024"):
            load_run("nowhere", threads=threads)


def test_plain_text_without_an_annotator(run: LoadedRun) -> None:
    with pytest.raises(UserError, match="annotator"):
        run.translate(["The house is old."])


def test_what_is_no_list_of_sentences_of_one_kind(run: LoadedRun, corpus: Path) -> None:
    sentence = next(iter(read_conllu(corpus / "test.conllu")))
    for texts, message in (("The house.", "is one text"), ([sentence, "No."], "plain text and")):
        with pytest.raises(UserError, match=message):
            run.translate(texts)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="beam=0: must be 1 to 1000"):
        run.translate([sentence], beam=0)
    assert run.score([]) == run.translate([]) == run.inspect(Sentence("")) == []


def test_words_of_a_run_without_features(corpus: Path, tmp_path: Path) -> None:
    small = Small(corpus, tmp_path / "cache", tmp_path)
    words_only = train(small.overrides("combiner=none", "features=[]", "trainer.max_steps=1"))
    run = load_run(words_only.folder, threads=1)
    words = run.inspect("The old  house is red.")
    assert [word.text for word in words] == ["The", "old", "house", "is", "red."]
    pairs: list[tuple[str | Sentence, str]] = [
        (Sentence("The house."), "Das Haus."),
        ("It is red.", "Es."),
        (Sentence("No."), "Nein."),
    ]
    texts = [(source if isinstance(source, str) else source.text, to) for source, to in pairs]
    assert run.score(pairs) == run.score(texts), "plain and read sentences keep their order"


def test_words_of_a_run_that_cuts_at_them(corpus: Path, tmp_path: Path) -> None:
    """Its pieces end where words of the annotation end, also between spaces."""
    small = Small(corpus, tmp_path / "cache", tmp_path)
    settings = ("combiner=none", "features=[]", "trainer.max_steps=1")
    cutting = train(small.overrides(*settings, "subword.split_at_words=true"))
    text = "The house is red."
    halves = [Word(text[a:b], a, b) for a, b in pairwise([0, 1, 3, 4, 6, 9, 10, 12, 13, 14, 17])]
    words = load_run(cutting.folder, threads=1).inspect(
        Sentence(text, tuple(half for half in halves if half.form.strip()))
    )
    assert [word.text for word in words] == text.split()


def test_runs_as_a_data_frame(finished: FinishedRun) -> None:
    pytest.importorskip("pandas")
    table = read_runs(finished.folder.parent)
    record = read_record(finished.folder / "result.json")
    assert list(table["set"]) == ["dev", *record.tests]
    assert list(table["bleu"]) == [scores.bleu for scores in record.scores.values()]
    assert set(table["method"]) == {"gate"}
    assert list(table.columns) == [*COLUMNS]


def test_a_data_frame_without_rows(finished: FinishedRun, tmp_path: Path) -> None:
    """While the first run trains, a notebook's line already works."""
    pytest.importorskip("pandas")
    shutil.copytree(finished.folder, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    table = read_runs(tmp_path)
    assert list(table[table["set"] == "test"].columns) == [*COLUMNS]


def test_a_wrong_setting_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"model\.dmi"):
        train(["model.dmi=3"])
    with pytest.raises(UserError, match=r"^settings: is one text; give a list, such as "):
        train("combiner=gate")
    with pytest.raises(UserError, match=r"^the settings cannot be read: Config group override"):
        train(["~features=[upos]"])


def test_a_changed_scale_is_reduced_as_by_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report would call the run the paper's otherwise."""
    monkeypatch.setattr("nmt_feat.api.run_training", lambda cfg: cfg)
    full = ["experiment=wu2021_tiny", "scale=full"]
    scales = [train([*full, *more]).scale for more in ((), ["seed=2"], ["model.dim=64"])]  # type: ignore[attr-defined]
    assert scales == ["full", "full", "reduced"]
