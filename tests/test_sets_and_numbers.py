"""Features that are sets, characters of a column, numbers, and what heads say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import END, FIRST, UNK
from nmt_feat.errors import UserError
from nmt_feat.features import Linear, Sum
from nmt_feat.features.choice import choose_kind
from nmt_feat.features.vocabulary import FeatureVocab, VocabularyBasis
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence, Word, parse_conllu, read_conllu
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.word_values import without_annotation
from tests.support.small import Small, cut, record

PARTS = "nmt_feat.features.ValueParts"
CHARACTERS = "nmt_feat.features.ValueCharacters"
NUMBERS = "nmt_feat.features.Numbers"
ALL = (
    "features=[feats_set,head_distance,tree_depth]",
    "features.head_distance._target_=nmt_feat.features.Linear",
    *("+features.sound.column=misc.Sound", f"features.sound.kind={CHARACTERS}"),
    "features.sound._target_=nmt_feat.features.Max",
    *("+features.size.column=misc.Size", f"features.size.kind={NUMBERS}", "features.size.bins=4"),
    "combiner=add",
)


def add_misc(path: Path) -> None:
    """Give each word that has a letter a number and a sound."""
    lines = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        row = line.split("\t")
        if len(row) == 10 and row[1].isalpha():
            more = f"Size={len(row[1]) / 2}|Sound={row[1].lower()[::-1]}"
            row[9] = more if row[9] == "_" else f"{row[9]}|{more}"
        lines.append("\t".join(row))
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("sets")
    corpus = cut(folder / "corpus")
    for name in ("train", "dev", "test"):
        add_misc(corpus / f"{name}.conllu")
    return Small(corpus, folder / "cache", folder, {"model.dim": 32})


@pytest.fixture(scope="module")
def run(small: Small) -> Path:
    return small.train(*ALL)


def test_parts_of_a_value() -> None:
    kind = choose_kind("f", FeatureConfig(kind=PARTS, column="feats"))
    tokens = Counter({"Case=Nom|Number=Sing": 3, "Case=Dat+_": 2, "_": 4, "<missing>": 1})
    counts = kind.count_values(tokens)
    assert counts == {"Case=Nom": 3, "Number=Sing": 3, "Case=Dat": 2, "<missing>": 1}
    vocabulary = kind.build_vocabulary(counts, VocabularyBasis())
    assert vocabulary.values == ["Case=Nom", "Number=Sing", "Case=Dat"]
    values = ["_", "Number=Sing+Case=Nom|Number=Sing", "Case=Ins", "<missing>"]
    ids, units = kind.encode_values(values, vocabulary)
    assert units == [(), (FIRST + 1, FIRST)]
    assert ids[4:] == [FIRST, FIRST + 1, UNK, UNK]
    assert kind.is_unknown("Case=Ins|Number=Sing", vocabulary)
    assert not kind.is_unknown("_", vocabulary)


def test_commas_cut_other_columns() -> None:
    kind = choose_kind("f", FeatureConfig(kind=PARTS, column="misc.Topic"))
    assert kind.count_values(Counter({"sea,ship": 2, "ship": 1, "_": 5})) == {"sea": 2, "ship": 3}


def test_characters_keep_their_marks() -> None:
    kind = choose_kind("f", FeatureConfig(kind=CHARACTERS, column="misc.Ipa"))
    value = "n\u0303a t\u0361s"
    assert kind.count_values(Counter({value: 1})) == {"n\u0303": 1, "a": 1, "t\u0361": 1, "s": 1}
    assert kind.count_values(Counter({"_": 3})) == {}


def test_a_sum_is_zero_without_units() -> None:
    embed = Sum(6, 4, 1.0)
    actual = embed(torch.tensor([[3, 5, 0], [0, 0, 0]]))
    assert torch.allclose(actual[0], embed.table.weight[3] + embed.table.weight[5])
    assert actual[1].tolist() == [0, 0, 0, 0]


def test_numbers_count_as_the_nearest() -> None:
    kind = choose_kind("f", FeatureConfig(kind=NUMBERS, column="misc.N", bins=3, policy="first"))
    counts = Counter({"1": 4, "2.0": 4, "10": 3, "1e2+7": 1, "_": 2, "<missing>": 5})
    vocabulary = kind.build_vocabulary(counts, VocabularyBasis())
    assert vocabulary.values == ["<inside>", "_", "1", "2", "10"]
    assert vocabulary.counts == [0, 2, 4, 4, 4]
    values = ["-5", "1.5", "1.6", "6.1", "999", "_+3", "<missing>"]
    ids, _ = kind.encode_values(values, vocabulary)
    assert ids[3:] == [FIRST, FIRST + 2, FIRST + 2, FIRST + 3, FIRST + 4, FIRST + 4, FIRST + 1, UNK]
    assert kind.label_value("7", vocabulary) == "10"
    few = kind.build_vocabulary(Counter({"1": 1, "2": 1}), VocabularyBasis())
    assert kind.is_unknown("_", few)  # train has a number of every word


def test_a_line_through_standardised_numbers() -> None:
    kind = choose_kind("f", FeatureConfig(kind=NUMBERS, column="misc.N"))
    vocabulary = kind.build_vocabulary(Counter({"2": 1, "6": 3, "_": 9}), VocabularyBasis())
    embed = Linear(kind.count_ids(vocabulary), 2, 1.0)
    kind.prepare_embedder(embed, vocabulary, lambda: None)
    none, two, six = range(FIRST, FIRST + 3)
    out = embed(torch.tensor([[0, END, none, two, six]]))[0]
    weight, bias = embed.line.weight[:, 0], embed.line.bias
    deviation = 3**0.5  # of 2, 6, 6, 6
    assert torch.allclose(out[3], weight * (2 - 5) / deviation + bias)
    assert torch.allclose(out[4], weight * (6 - 5) / deviation + bias)
    assert torch.equal(out[:3], embed.special.weight[[0, END, none]])
    assert set(embed.state_dict()) == {"special.weight", "line.weight", "line.bias"}


def head_values(column: str, *sentences: Sentence) -> list[str]:
    kind = choose_kind("f", FeatureConfig(column=column))
    spread: list[str] = (
        kind.read_values(Sentences.of(sentences), FeatureVocab(column, "copy"))
        .strings()
        .to_pylist()
    )
    return spread


def test_what_heads_say() -> None:
    rows = ["1-2\tim\t_\t_\t_\t_\t_\t_\t_\t_"]
    heads = {"in": 3, "dem": 3, "Haus": 4, "ist": 0, "es": 4, "gut": "_"}
    for number, (form, head) in enumerate(heads.items(), 1):
        rows.append(f"{number}\t{form}\t_\t_\t_\t_\t{head}\t_\t_\t_")
    (tree,) = parse_conllu(rows, "f")
    bare = without_annotation("so da")
    assert head_values("head_position", tree, bare) == ["2", "3", "0", "3", "_", *["<missing>"] * 2]
    assert head_values("head_distance", tree) == ["1", "1", "0", "-1", "_"]
    assert head_values("tree_depth", bare, tree) == [*["<missing>"] * 2, "2", "1", "0", "1", "_"]
    below_none = Sentence("a b", (Word("a", 0, 1, head=2), Word("b", 2, 3)))
    assert head_values("tree_depth", below_none, tree)[:3] == ["_", "_", "2"]
    assert list(Sentences.of([tree, bare])) == [tree, bare]


def test_depth_of_the_corpus(small: Small) -> None:
    """Against a walk from each word to the root."""
    sentences = list(read_conllu(small.corpus / "test.conllu"))
    expected = []
    for sentence in sentences:
        for word in sentence.words:
            depth = 0
            while word.head:
                word, depth = sentence.words[word.head - 1], depth + 1
            expected.append(str(depth))
    assert head_values("tree_depth", *sentences) == expected
    assert len(set(expected)) > 3


def test_a_run_translates_as_it_was_tested(small: Small, run: Path) -> None:
    model = TrainedModel(run)
    sentences, targets, where = model.read_test_set()
    split = model.encode_pairs(sentences, targets, where)
    (tested,) = prepare_run(small.config(*ALL)).tests.values()
    for name in ("head_distance", "tree_depth", "size"):
        assert np.array_equal(split.features[name], tested.features[name])
    for name in ("feats_set", "sound"):
        assert unit_rows(split, name) == unit_rows(tested, name)
    translated = model.translate_sentences(sentences, where, TranslateConfig())
    assert [best[0][0] for best in translated] == (run / "test.hyp").read_text().splitlines()
    assert not model.unknowns.counts["features.tree_depth"].unknown


def unit_rows(split: EncodedSplit, name: str) -> list[list[int]]:
    """The units on each piece."""
    units = split.units[name]
    rows = [
        units.values[a:b].tolist()
        for a, b in zip(units.offsets[:-1], units.offsets[1:], strict=True)
    ]
    return [[i] if i < FIRST else rows[i - FIRST] for i in split.features[name].tolist()]


def test_the_report(run: Path) -> None:
    features = record(run)["data_report"]["features"]
    assert features["size"]["values"] == features["size"]["kept"] == 5  # 4, and none
    assert features["tree_depth"]["top"][0][0] in ("1", "2")
    assert features["feats_set"]["top"][0][0] == "Number=Sing"
    assert 0.5 < features["feats_set"]["coverage"] < 1
    assert features["sound"]["top"][0][0] == "e"


@pytest.mark.parametrize("control", ["shuffled", "by_type"])
def test_controls_move_them_together(small: Small, control: str) -> None:
    before = prepare_run(small.config(*ALL)).train
    after = prepare_run(small.config(*ALL, f"control={control}")).train
    names = ("feats_set", "sound", "tree_depth", "size")

    def combinations(split: EncodedSplit) -> set[str]:
        columns = [
            unit_rows(split, name) if name in split.units else split.features[name].tolist()
            for name in names
        ]
        return set(map(repr, zip(*columns, strict=True)))

    assert combinations(after) <= combinations(before)
    for name in names:
        assert not np.array_equal(after.features[name], before.features[name])


def test_erased_numbers_and_sets(small: Small) -> None:
    erased = [f"features.{name}.erase=1" for name in ("feats_set", "tree_depth", "size")]
    train = prepare_run(small.config(*ALL, *erased)).train
    for name in ("feats_set", "tree_depth", "size"):
        assert set(train.features[name].tolist()) == {UNK, END}


@pytest.mark.thorough
def test_no_number_is_an_error(small: Small, tmp_path: Path) -> None:
    corpus = cut(tmp_path / "corpus", 20)
    path = corpus / "train.conllu"
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("\t_\t_\n", "\t_\tN=3,5\n", 1), encoding="utf-8")
    bad = Small(corpus, tmp_path / "cache", tmp_path)
    with pytest.raises(UserError) as error:
        prepare_run(
            bad.config("+features.n.column=misc.N", f"features.n.kind={NUMBERS}", "features=[]")
        )
    assert str(error.value) == (
        "features.n: '3,5', the misc.N of 'He' in 'He is bringing her horse blankets.', is not a "
        "number; correct the annotation, or write _ for no number"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "upos", "bins": 4}, "features.f.bins=4: is for numbers; leave it out"),
        (
            {"column": "tree_depth", "max_values": 5},
            "features.f: numbers have no max_values or min_count; set features.f.bins",
        ),
        (
            {"column": "tree_depth", "classes": 5},
            "features.f.classes=5: is for values of an annotation, not for tree_depth; leave it "
            "out",
        ),
        (
            {"column": "tree_depth", "cover": "join"},
            "features.f.cover=join: the numbers of column=tree_depth cannot be joined; set "
            "cover=first, or leave it out",
        ),
        (
            {"kind": PARTS, "column": "feat"},
            "features.f.column=feat: unknown column; did you mean 'feats'?",
        ),
    ],
)
def test_refused_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        choose_kind("f", FeatureConfig(**settings)).check_settings()  # type: ignore[arg-type]
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"column": "upos", "_target_": "nmt_feat.features.Linear"},
            "nmt_feat.features.Linear: cannot embed column=upos; its _target_ is Categorical of "
            "nmt_feat.features",
        ),
        (
            {"kind": PARTS, "column": "feats"},
            "nmt_feat.features.Categorical: cannot embed column=feats; its _target_ is CharCNN, "
            "Mean, Max or Sum of nmt_feat.features",
        ),
    ],
)
def test_refused_embedders(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as error:
        choose_kind("f", FeatureConfig(**settings)).build_embedder(9, 4, 1.0)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_heads_that_nothing_gives(small: Small) -> None:
    plain = [f"data.{split}.source=train.de" for split in ("train", "dev", "tests.test")]
    targets = [setting.replace("source", "target") for setting in plain]
    with pytest.raises(UserError, match=r"head of features\.tree_depth; leave the feature out"):
        small.train("features=[tree_depth]", "annotator=hanta", *plain, *targets)
