"""Sentences without annotation: an error, or unknown values that are counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from entry import call
from small import Small
from splits import encode

from nmt_feat.corpus.columns import END, MISSING, UNK, FeatureVocab
from nmt_feat.corpus.conllu import Sentence, Word
from nmt_feat.corpus.encoder import SourceEncoder
from nmt_feat.corpus.prepare import prepare
from nmt_feat.corpus.sentences import Sentences
from nmt_feat.corpus.store import Split
from nmt_feat.corpus.subwords import Subwords
from nmt_feat.errors import UserError
from nmt_feat.schema import FeatureConfig, SubwordConfig

BOTH = ("combiner=add", "features=[deprel,upos]", "trainer.max_steps=2")
ALLOWED = (*BOTH, "features.upos.missing=unknown", "features.deprel.missing=unknown")


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
    together = encoder.describe(Sentences.of([annotated, Sentence("b"), annotated]), ["", "", ""])
    ids, _ = encoder.look_up(together)
    known = 3 if column == "upos" else 5
    assert ids["f"].tolist() == [known, known, END, UNK, END, known, known, END]
    features["g"] = FeatureVocab("lemma", "copy", ["a"], [1])
    with pytest.raises(UserError) as error:
        encode(encoder, Sentence("a b"), "f:3")
    assert str(error.value).startswith("f:3: no annotation of 'a b', but features need it; ")


def test_a_value_that_is_missing_is_no_value() -> None:
    cfg = FeatureConfig(column="upos", missing="unknown")
    vocab = FeatureVocab.build(cfg, Counter({"X": 2, MISSING: 9}))
    assert vocab.values == ["X"]
    assert vocab.code(MISSING) == UNK
    assert vocab.missing == "unknown"


def test_dev_and_test_may_lack_annotation(small: Small) -> None:
    text = small.folder / "dev.txt"
    text.write_text("I saw her.\n" * 8)
    cfg = small.config(*ALLOWED, f"data.dev.source={text}")
    prepared = prepare(cfg, cfg.features)
    assert prepared.notes == [
        f"features.{name}: unknown for 24 words of dev" for name in ("deprel", "upos")
    ]
    dev: Split = prepared.dev
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
    given = f"data.dev.source={small.folder / 'dev.txt'}", f"data.dev.conllu={file}"
    cfg = small.config(*ALLOWED, *given)
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


def test_translation_counts(small: Small, tmp_path: Path) -> None:
    folder = small.train(*ALLOWED)
    (tmp_path / "text").write_text("I saw her.\n\nShe left.\n")
    (tmp_path / "de").write_text("Ente\nEnte\nEnte\n")
    done = call("translate", f"run={folder}", f"input={tmp_path / 'text'}")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3
    said = "sentences have no annotation: their features are unknown\n"
    assert done.err == f"2 of 3 {said}"
    (tmp_path / "full").write_text("I saw her.\nShe left.\nHe left.\n")
    source, target = tmp_path / "full", tmp_path / "de"
    done = call("score", f"run={folder}", f"source={source}", f"target={target}")
    assert (done.code, done.err) == (0, f"3 of 3 {said}")
    done = call("translate", f"run={folder}", f"input={small.corpus / 'test.conllu'}")
    assert (done.code, done.err) == (0, "")
