from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from nmt_feat.base.resources import find_resource
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.embedders.ids import END, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.features import Categorical
from nmt_feat.features.choice import choose_kind, choose_kinds, list_annotation_columns
from nmt_feat.features.values import COLUMNS, find_shape
from nmt_feat.features.vocabulary import INSIDE, FeatureVocab
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.word_values import feats_value, misc_value, whitespace_words
from tests.support.kinds import build_vocabulary

WORDS = (
    Word("Im", 0, 2, "in+der", "ADP+DET", "_", "_+Case=Dat|Number=Sing", "case+det", "NOUN"),
    Word("Haus", 3, 7, "Haus", "NOUN", "NN", "Case=Dat|Number=Sing", "root", "ROOT"),
)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("upos", ["ADP+DET", "NOUN"]),
        ("xpos", ["_", "NN"]),
        ("lemma", ["in+der", "Haus"]),
        ("deprel", ["case+det", "root"]),
        ("head_upos", ["NOUN", "ROOT"]),
        ("feats", ["_+Case=Dat|Number=Sing", "Case=Dat|Number=Sing"]),
        ("feats.Case", ["_+Dat", "Dat"]),
        ("feats.Gender", ["_", "_"]),
        ("shape", ["Xx", "Xx"]),
    ],
)
def test_values(column: str, expected: list[str]) -> None:
    sentences = [Sentence("Im Haus", WORDS), Sentence(""), Sentence("Im Haus", WORDS[:1])]
    kind = choose_kind("f", FeatureConfig(column=column))
    result = kind.read_values(Sentences.of(sentences), FeatureVocab(column, "copy"))
    assert result.strings().to_pylist() == [*expected, expected[0]]


@pytest.mark.parametrize(
    ("feats", "name", "expected"),
    [
        ("Case=Nom|Number=Sing", "Number", "Sing"),
        ("Number[psor]=Sing|Number=Plur", "Number", "Plur"),
        ("Number[psor]=Sing", "Number[psor]", "Sing"),
        ("PronType=Int,Rel", "PronType", "Int,Rel"),
        ("Case=Nom+Case=Acc", "Case", "Nom+Acc"),
        ("Case=Nom+_", "Case", "Nom+_"),
        ("_+_", "Case", "_"),
        ("_", "Case", "_"),
    ],
)
def test_feats_value(feats: str, name: str, expected: str) -> None:
    assert feats_value(feats, name) == expected


@pytest.mark.parametrize(
    ("misc", "name", "expected"),
    [
        ("NER=A+B|Phone=+49=0", "NER", "A+B"),
        ("NER=A+B|Phone=+49=0", "Phone", "+49=0"),
        ("Gloss=in|Gloss=the|NER=X", "Gloss", "in+the"),
        ("Gloss=in|Gloss=the|NER=X", "NER", "X"),
        ("Note|NER=", "NER", "_"),
        ("Note", "Note", "_"),
        ("_", "NER", "_"),
    ],
)
def test_misc_value(misc: str, name: str, expected: str) -> None:
    assert misc_value(misc, name) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("Haus", "Xx"),
        ("NATO", "X"),
        ("iPhone", "xXx"),
        ("USA-Reise", "X-Xx"),
        ("1,000.50", "d,d.d"),
        ("...", "."),
        ("?!", "?!"),
        ("A\u030angstro\u0308m", "Xx"),
        ("한국어", "x"),
        ("Ⅳ½", "Xd"),
        ("👩‍👧", "👩‍👧"),
        ("\u0301", "_"),
    ],
)
def test_shape(form: str, expected: str) -> None:
    assert find_shape(form) == expected


def test_whitespace_words() -> None:
    assert [(w.form, w.start, w.end) for w in whitespace_words(" a\u3000a  ba ")] == [
        ("a", 1, 2),
        ("a", 3, 4),
        ("ba", 6, 8),
    ]


def test_vocabulary() -> None:
    counts = Counter({"b": 5, "a": 5, "c": 9, "d": 1})
    vocab = build_vocabulary(FeatureConfig(column="upos"), counts)
    assert vocab.values == ["c", "a", "b", "d"]
    assert vocab.counts == [9, 5, 5, 1]
    assert vocab.size == 7
    assert [vocab.id_of(v) for v in "abcd?"] == [4, 5, 3, 6, UNK]
    assert (PAD, UNK, END) == (0, 1, 2)


def test_vocabulary_limits() -> None:
    counts = Counter({"b": 5, "a": 5, "c": 9, "d": 1})

    def build(**settings: Any) -> FeatureVocab:
        return build_vocabulary(FeatureConfig(column="upos", **settings), counts)

    assert build(max_values=2).values == ["c", "a"]
    assert build(min_count=2).values == ["c", "a", "b"]
    inside = build(max_values=2, policy="first")
    assert inside.values == [INSIDE, "c", "a"]
    assert inside.id_of(INSIDE) == 3


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (
            FeatureConfig(column="upso"),
            "features.f.column=upso: unknown column; did you mean 'upos'?",
        ),
        (
            FeatureConfig(column="Case"),
            "features.f.column=Case: unknown column; known: char, context, deprel, feats, "
            "feats.Case, form, head_distance, head_position, head_upos, jamo, lemma, lower, "
            "misc.NER, ngram, sentence.formality, shape, subword_tag, syllable, tree_depth, upos, "
            "xpos",
        ),
        (
            FeatureConfig(column="zzz"),
            "features.f.column=zzz: unknown column; known: char, context, deprel, feats, "
            "feats.Case, form, head_distance, head_position, head_upos, jamo, lemma, lower, "
            "misc.NER, ngram, sentence.formality, shape, subword_tag, syllable, tree_depth, upos, "
            "xpos",
        ),
        (
            FeatureConfig(column="feats."),
            "features.f.column=feats.: unknown column; did you mean 'feats' or 'feats.Case'?",
        ),
        (
            FeatureConfig(column="subword_tag", policy="first"),
            "features.f.policy=first: subword_tag has a value on each piece",
        ),
        (
            FeatureConfig(column="jamo", policy="first"),
            "features.f.policy=first: each piece has a value; set of=word",
        ),
        (
            FeatureConfig(column="upos", file="v"),
            "features.f.file=v: needs column=form or column=lower, policy=copy",
        ),
        (
            FeatureConfig(column="char", n=2),
            "features.f.n=2: is for column=ngram; leave it out",
        ),
        (
            FeatureConfig(column="upos", layer=3),
            "features.f.layer=3: is for an encoder; leave it out",
        ),
        (
            FeatureConfig(column="upos", precision="float32"),
            "features.f.precision=float32: is for an encoder; leave it out",
        ),
        (
            FeatureConfig(column="form", file="v", min_count=2),
            "features.f.min_count=2: the words of v are kept however often train has them; leave "
            "it out, or set max_values",
        ),
        (
            FeatureConfig(column="upos", of="word"),
            "features.f.of=word: is for char, syllable, jamo, ngram, form, lower; leave it out",
        ),
    ],
)
def test_check(feature: FeatureConfig, message: str) -> None:
    with pytest.raises(UserError) as error:
        choose_kind("f", feature).check_settings()
    assert str(error.value) == message


def test_which_need_an_annotation_and_which_words() -> None:
    text = {c: FeatureConfig(column=c) for c in ("shape", "subword_tag")}
    pieces = {c: FeatureConfig(column=c, of="piece") for c in ("char", "form", "context")}
    assert list_annotation_columns(choose_kinds(text | pieces).values()) == ()
    case = {"case": FeatureConfig(column="feats.Case"), "upos": FeatureConfig(column="upos")}
    assert list_annotation_columns(choose_kinds(text | case).values()) == ("feats", "upos")
    assert not any(kind.depends_on_words for kind in choose_kinds(pieces).values())
    words = {c: FeatureConfig(column=c, of="word") for c in ("char", "form")}
    assert all(kind.depends_on_words for kind in choose_kinds(text | words | case).values())


@pytest.mark.parametrize("path", sorted(find_resource("conf").glob("features/*.yaml")), ids=str)
def test_shipped_features(path: Path) -> None:
    first, content = path.read_text(encoding="utf-8").split("\n", 1)
    assert first.startswith("# ")
    ((name, settings),) = OmegaConf.to_container(OmegaConf.create(content)).items()
    assert name == path.stem
    choose_kind(name, FeatureConfig(**settings)).check_settings()


def test_every_column_is_shipped() -> None:
    shipped = {path.stem for path in find_resource("conf").glob("features/*.yaml")}
    assert shipped | {"form", "lower", "context"} == {
        *COLUMNS,
        "case",
        "number",
        "vectors",
        "vectors_sentence",
        "vectors_window",
        "contextual",
        "feats_set",
        "heads",
        "formality",
        "domain",
        "term",
    }


def test_categorical() -> None:
    torch.manual_seed(0)
    feature = Categorical(size=2000, dim=16, std=0.25)
    assert abs(float(feature.table.weight[1:].detach().std()) - 0.25) < 0.005
    ids = torch.tensor([[3, 1, 0], [2, 0, 0]])
    out = feature(ids)
    assert out.shape == (2, 3, 16)
    assert torch.equal(out[ids == 0], torch.zeros(3, 16))
    assert torch.equal(out[0, 0], feature.table.weight[3])
    out.sum().backward()
    gradient = feature.table.weight.grad
    assert gradient is not None
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [1, 2, 3]
