"""Annotation replaced at test time: what is replaced, and that a model which needs it fails."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt_feat.cli.reliance import Reliance
from nmt_feat.embedders.ids import FIRST, UNK
from nmt_feat.evaluation.scores import score_translations
from nmt_feat.features.vocabulary import INSIDE
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.files import read_lines
from tests.support.entry import call
from tests.support.lives import python
from tests.support.small import ROOT, Small, record

SCRIPT = ROOT / "scripts" / "reliance.py"
FEW = ("trainer.max_steps=2", "trainer.validate_every=2", "optimizer.lr=0.1")


def opened(run: Path, source: Path) -> Any:
    """The script's view of a run and a text."""
    sentences, targets = list(read_conllu(source)), read_lines(source.with_suffix(".de"))
    return Reliance(TrainedModel(run, 1), sentences, targets, "x")


@pytest.mark.thorough
def test_what_is_replaced(small: Small, tmp_path: Path) -> None:
    """True: the run's own scores; unknown: those of values that training does not have."""
    run = small.train("combiner=gate", "features=[upos,subword_tag]", *FEW)
    source = small.corpus / "test.conllu"
    text = opened(run, source)
    test_scores = record(run)["tests"]["test"]
    result = text.score_translations(text.true)
    assert result["BLEU"] == pytest.approx(test_scores["bleu"])
    assert result["chrF"] == pytest.approx(test_scores["chrf"])
    rows = [line.split("\t") for line in source.read_text(encoding="utf-8").split("\n")]
    changed = [[*row[:3], "NEW", *row[4:]] if len(row) == 10 else row for row in rows]
    new_file = tmp_path / "new.conllu"
    new_file.write_text("\n".join("\t".join(row) for row in changed), encoding="utf-8")
    done = call("translate", f"run={run}", f"input={new_file}")
    assert done.code == 0, done
    expected = score_translations(done.out.split("\n")[:-1], read_lines(source.with_suffix(".de")))
    unknown = text.make_unknown()
    assert text.score_translations(unknown)["chrF"] == pytest.approx(expected.chrf)
    encoded = TrainedModel(run, 1).encode_pairs(list(read_conllu(new_file)), [""] * 8, ["x"] * 8)
    for name in ("upos", "subword_tag"):
        assert (unknown.features[name] == encoded.features[name]).all()
    assert text.true.features["upos"].max() > 2  # the true ones are still there
    carriers = text.carriers["word tokens"]
    for draw in (0, 1):
        shuffled = text.shuffle_words(draw)
        assert (shuffled.features["subword_tag"] == text.true.features["subword_tag"]).all()
        words = [split.features["upos"][carriers.starts] for split in (text.true, shuffled)]
        assert sorted(words[0].tolist()) == sorted(words[1].tolist())
        assert (words[0] != words[1]).mean() > 0.3
        for piece, word in zip(carriers.pieces, carriers.words_of_pieces, strict=True):
            assert shuffled.features["upos"][piece] == words[1][word]


@pytest.mark.thorough
def test_vectors_of_an_encoder(small: Small, encoder: Path) -> None:
    """They are left out and moved as other features are."""
    more = ("features=[upos,contextual]", f"features.contextual.encoder={encoder}")
    text = opened(small.train("combiner=add", *more, *FEW), small.corpus / "test.conllu")
    true = text.score_translations(text.true)
    assert true["BLEU"] == pytest.approx(record(text.model.folder)["tests"]["test"]["bleu"])
    for split in (text.make_unknown(), text.shuffle_words(0)):
        assert (split.features["contextual"] != text.true.features["contextual"]).any()
        assert set(text.score_translations(split)) == set(true)


def test_units_of_first_pieces(small: Small) -> None:
    """Of words that are unknown, later pieces are `<inside>` still, and nothing else is known."""
    units = ("features=[char]", "features.char.of=word", "features.char.policy=first")
    text = opened(small.train("combiner=add", *units, *FEW), small.corpus / "test.conllu")
    inside = [text.model.encoder.features["char"].id_of(INSIDE)]
    unknown, table = text.make_unknown().features["char"], text.true.units["char"]
    words = text.carriers["word tokens"]
    starts = set(words.starts.tolist())
    for piece in words.pieces.tolist():
        if piece in starts:
            assert unknown[piece] == UNK
        else:
            assert table.row(unknown[piece] - FIRST).tolist() == inside
    assert len(starts) < len(words.pieces)


def lines(values: list[str]) -> str:
    """One word, whose part of speech alone says how it is translated."""
    return "".join(f"# text = duck\n1\tduck\t_\t{v}" + "\t_" * 6 + "\n\n" for v in values)


@pytest.mark.thorough
def test_a_model_that_has_learned_to_need_it(small: Small, tmp_path: Path) -> None:
    """`duck` is `Ente` or `ducken` by its part of speech: with that of others, half is wrong."""
    german = {"NOUN": "Die Ente ist es .", "VERB": "Sich ducken muss man ."}
    corpus = tmp_path / "ducks"
    corpus.mkdir()
    for name, count in (("train", 60), ("dev", 20), ("test", 40)):
        values = np.random.default_rng(count).choice(list(german), count).tolist()
        (corpus / f"{name}.conllu").write_text(lines(values), encoding="utf-8")
        text = "".join(f"{german[value]}\n" for value in values)
        (corpus / f"{name}.de").write_text(text, encoding="utf-8")
    small.corpus = corpus
    learned = ("trainer.max_steps=60", "trainer.validate_every=30", "optimizer.lr=0.02")
    longer = ("decoding.max_extra=10", "subword=none", "trainer.batch_tokens=100")
    run = small.train("combiner=add", "features=[upos]", *learned, *longer)
    done = python(SCRIPT, run, "--source", corpus / "test.conllu", "--draws", "2")
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0] == ["annotation", "BLEU", "chrF", "right readings, %"]
    assert [row[0] for row in rows[1:]] == ["true", "unknown", "shuffled"]
    true, unknown, shuffled = ([float(v.split(" ")[0]) for v in row[1:]] for row in rows[1:])
    assert true == [100.0, 100.0, 100.0]
    assert unknown[2] <= 50.0  # one answer for both
    assert unknown[0] < 80
    assert shuffled[0] < 80
    assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d", rows[3][1])
    assert done.stderr.splitlines() == [
        "replaced: upos",
        "unknown: trained without features.*.dropout, the run hardly knows this value",
    ]


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        (
            ("combiner=none",),
            (),
            "{run}: has no features of words; there is nothing to replace",
        ),
        (
            ("combiner=add", "features=[subword_tag]"),
            (),
            "{run}: has no features of words; there is nothing to replace",
        ),
        (("combiner=none",), ("--draws", "0"), "--draws 0: must be at least 1"),
    ],
)
def test_mistakes(
    small: Small,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: tuple[str, ...],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    run = small.train(*settings, *FEW)
    capsys.readouterr()
    source = ("--source", str(small.corpus / "test.conllu"))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(run), *source, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {message.format(run=run)}\n"
