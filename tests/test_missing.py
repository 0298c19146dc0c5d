"""Sentences without annotation: an error, or unknown values that are counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import END, UNK
from nmt_feat.errors import UserError
from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.text.conllu import Sentence, Word, parse_conllu
from nmt_feat.text.files import read_lines
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Subwords
from nmt_feat.text.word_values import MISSING
from tests.support.applied import said as errors_of
from tests.support.entry import call
from tests.support.kinds import build_vocabulary
from tests.support.small import Small
from tests.support.splits import encode

BOTH = ("combiner=add", "features=[deprel,upos]", "trainer.max_steps=2")
ALLOWED = (*BOTH, "features.upos.missing=unknown", "features.deprel.missing=unknown")
SPLITS = (("train", "train"), ("dev", "dev"), ("tests.test", "test"))


@pytest.mark.parametrize("column", ["upos", "feats.Case"])
def test_values_are_unknown(column: str) -> None:
    """Only those of the annotation: words are then what stands between spaces."""
    subwords = Subwords.train(SubwordConfig(kind="none", vocab_size=9), ["a b"])
    values = ["X", "_", "Nom"]
    features = {
        "f": FeatureVocab(column, "copy", values, [1, 1, 1], missing="unknown"),
        "tag": FeatureVocab("subword_tag", "copy", ["O"], [1]),
        "shape": FeatureVocab("shape", "copy", ["x"], [1]),
    }
    encoder = SourceEncoder(subwords, features)
    annotated = Sentence("a b", (Word("a b", 0, 3, upos="X", feats="Case=Nom"),))
    assert encode(encoder, Sentence("a b")).features == {
        "f": [UNK, UNK, END],
        "tag": [3, 3, END],
        "shape": [3, 3, END],
    }
    together = encoder.align(Sentences.of([annotated, Sentence("b"), annotated]), ["", "", ""])
    ids, _ = encoder.look_up(together)
    known_count = 3 if column == "upos" else 5
    assert ids["f"].tolist() == [
        known_count,
        known_count,
        END,
        UNK,
        END,
        known_count,
        known_count,
        END,
    ]
    encoder = encoder.with_features({"g": FeatureVocab("lemma", "copy", ["a"], [1])})
    with pytest.raises(UserError) as error:
        encode(encoder, Sentence("a b"), "f:3")
    assert str(error.value).startswith("f:3: no annotation of 'a b', but features need it; ")


def test_a_value_that_is_missing_is_no_value() -> None:
    cfg = FeatureConfig(column="upos", missing="unknown")
    vocab = build_vocabulary(cfg, Counter({"X": 2, MISSING: 9}))
    assert vocab.values == ["X"]
    assert vocab.id_of(MISSING) == UNK
    assert vocab.missing == "unknown"


def test_dev_and_test_may_lack_annotation(small: Small) -> None:
    text = small.folder / "dev.txt"
    text.write_text("I saw her.\n" * 8)
    cfg = small.config(*ALLOWED, f"data.dev.source={text}")
    prepared = prepare(cfg, cfg.features)
    assert prepared.notes == [
        f"features.{name}: unknown for 24 words of dev" for name in ("deprel", "upos")
    ]
    dev: EncodedSplit = prepared.dev
    assert set(dev.features["upos"].tolist()) == {UNK, END}
    assert set(prepared.train.features["upos"].tolist()) > {END}
    assert UNK not in prepared.train.features["upos"]


def test_a_file_of_annotation_may_lack_sentences(small: Small) -> None:
    """Also where another sentence has other spaces than its text."""
    texts = ["I saw her.", "She  left."]
    (small.folder / "dev.txt").write_text("".join(f"{text}\n" for text in texts * 4))
    words = [{"form": form, "upos": "X", "deprel": "x"} for form in ("She", "left.")]
    lines = [{"text": texts[0]}, {"text": "She left.", "words": words}]
    file = small.folder / "dev.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines * 4))
    arguments = f"data.dev.source={small.folder / 'dev.txt'}", f"data.dev.conllu={file}"
    cfg = small.config(*ALLOWED, *arguments)
    assert prepare(cfg, cfg.features).notes == [
        f"features.{name}: unknown for 12 words of dev" for name in ("deprel", "upos")
    ]
    file.write_text(file.read_text().replace("saw", "see"))
    with pytest.raises(UserError, match=r"sentence 1: the annotation does not fit the text 'I saw"):
        prepare(cfg, cfg.features)


@pytest.mark.parametrize("changed", [BOTH, ALLOWED[:-1]])
def test_an_error_where_any_feature_needs_it(changed: tuple[str, ...], small: Small) -> None:
    text = small.folder / "dev.txt"
    text.write_text("I saw her.\n" * 8)
    done = call("train", *small.overrides(*changed, f"data.dev.source={text}"))
    assert done.code == 2
    assert done.err == (
        f"error: data.dev.source={text}: features need annotation; set annotator=udpipe or "
        "annotator=hanta, or data.dev.conllu=FILE.conllu\n"
    )


def test_train_needs_it_always(small: Small) -> None:
    text = small.folder / "train.txt"
    text.write_text("I saw her.\n" * 80)
    done = call("train", *small.overrides(*ALLOWED, f"data.train.source={text}"))
    assert done.code == 2
    assert done.err.startswith(f"error: data.train.source={text}: features need annotation; ")


@pytest.mark.thorough
def test_translation_counts(small: Small, tmp_path: Path) -> None:
    folder = small.train(*ALLOWED)
    (tmp_path / "text").write_text("I saw her.\n\nShe left.\n")
    (tmp_path / "de").write_text("Ente\nEnte\nEnte\n")
    done = call("translate", f"run={folder}", f"input={tmp_path / 'text'}")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3
    message = "sentences have no annotation: their features are unknown, words are those between "
    message += "spaces\n"
    assert errors_of(done) == f"2 of 3 {message}"
    (tmp_path / "full").write_text("I saw her.\nShe left.\nHe left.\n")
    source, target = tmp_path / "full", tmp_path / "de"
    done = call("score", f"run={folder}", f"source={source}", f"target={target}")
    assert (done.code, errors_of(done)) == (0, f"3 of 3 {message}")
    done = call("translate", f"run={folder}", f"input={small.corpus / 'test.conllu'}")
    assert (done.code, errors_of(done)) == (0, "")


def prepared_with(small: Small, *settings: str) -> Prepared:
    cfg = small.config("combiner=add", *settings)
    return prepare(cfg, cfg.features)


@pytest.mark.thorough
def test_words_are_the_annotation_s_whatever_the_features(small: Small) -> None:
    """What stands between spaces is a word only where nothing annotates the text."""
    for name in ("shape", "subword_tag"):
        alone = prepared_with(small, f"features=[{name}]")
        beside = prepared_with(small, f"features=[{name},upos]")
        assert alone.notes == beside.notes == []
        for split, counterpart in ((alone.train, beside.train), (alone.dev, beside.dev)):
            assert split.features[name].tolist() == counterpart.features[name].tolist()
    shapes = prepared_with(small, "features=[shape]").encoder.features["shape"].values
    assert "." in shapes
    for name in ("train", "dev", "test"):
        read = parse_conllu(read_lines(small.corpus / f"{name}.conllu"), name)
        text = "".join(f"{sentence.text}\n" for sentence in read)
        (small.folder / f"{name}.txt").write_text(text)
    plain = [f"data.{key}.source={small.folder / f'{name}.txt'}" for key, name in SPLITS]
    spaces = prepared_with(small, "features=[shape]", *plain).encoder.features["shape"].values
    assert "." not in spaces
    assert "x." in spaces
    hanta = prepared_with(small, "features=[shape]", *plain, "annotator=hanta")
    assert "." in hanta.encoder.features["shape"].values


def test_units_of_pieces_ask_for_no_annotation(small: Small) -> None:
    assert not prepared_with(small, "features=[char]").encoder.annotated
    assert prepared_with(small, "features=[char]", "features.char.of=word").encoder.annotated


@pytest.mark.thorough
def test_words_between_spaces_are_said(small: Small, tmp_path: Path) -> None:
    """Where train is annotated and another split, or a text to translate, is not."""
    text = small.folder / "dev.txt"
    text.write_text("I saw her.\n" * 8)
    settings = "features=[shape]", f"data.dev.source={text}"
    message = "sentences have no annotation: their words are what stands between spaces"
    assert prepared_with(small, *settings).notes == [f"dev: 8 {message}"]
    folder = small.train("combiner=add", "features=[shape]", "trainer.max_steps=2")
    (tmp_path / "text").write_text("I saw her.\n\nShe left.\n")
    done = call("translate", f"run={folder}", f"input={tmp_path / 'text'}")
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    assert errors_of(done) == (
        "2 of 3 sentences have no annotation: their features are unknown, words are those "
        "between spaces\n"
    )
    done = call("translate", f"run={folder}", f"input={small.corpus / 'test.conllu'}")
    assert (done.code, errors_of(done)) == (0, "")


def test_an_older_run_keeps_its_words(small: Small) -> None:
    """Text features once had words between spaces, unless others needed an annotation."""
    folder = small.folder / "encoder"
    folder.mkdir()
    prepared_with(small, "features=[shape]").encoder.save(folder)
    assert SourceEncoder.load(folder).annotated
    file = folder / "features.json"
    features = json.loads(file.read_text())
    del features["shape"]["annotated"]
    file.write_text(json.dumps(features))
    assert not SourceEncoder.load(folder).annotated
