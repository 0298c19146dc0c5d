"""Features of whole sentences: from comments and files, on all words or as a tag before them."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt_feat.api import load_run
from nmt_feat.cli.reliance import Reliance
from nmt_feat.cli.score import score_text
from nmt_feat.cli.translate import translate_text
from nmt_feat.config.inference_schema import ScoreConfig, TranslateConfig
from nmt_feat.data.batches import collate, order_batches, plan_batches, prepend_tags
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import BOS, END, FIRST, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.features.vocabulary import INSIDE
from nmt_feat.runs.trained.inputs import Reader, Text
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence, read_conllu
from tests.support.small import Small, cut, record

SPLITS = ("train", "dev", "test")
KEYS = ("train", "dev", "tests.test")
VALUES = ("formal", "informal", "very formal")
FEATURE = ("features=[formality]", "combiner=add")
TAG = (*FEATURE, "features.formality.policy=tag")
PLAIN = [
    *(f"data.{split}.source={split}.en" for split in ("train", "dev")),
    "data.tests.test.source=test.en",
    *(f"+data.{split}.labels.formality={split}.formality" for split in ("train", "dev")),
    "+data.tests.test.labels.formality=test.formality",
]


def write_corpus(folder: Path) -> Path:
    """CoNLL-U with comments, and the same as plain text with files of labels."""
    cut(folder)
    for split in SPLITS:
        path = folder / f"{split}.conllu"
        blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
        labels = [VALUES[len(block) % 3] for block in blocks]
        texts = [sentence.text for sentence in read_conllu(path)]
        blocks = [f"# formality = {v}\n{b}" for v, b in zip(labels, blocks, strict=True)]
        path.write_text("\n\n".join([*blocks, ""]), encoding="utf-8")
        (folder / f"{split}.formality").write_text("\n".join([*labels, ""]), encoding="utf-8")
        (folder / f"{split}.en").write_text("\n".join([*texts, ""]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("labels")
    return Small(write_corpus(folder / "corpus"), folder / "cache", folder)


@pytest.fixture(scope="module")
def tagged(small: Small) -> Path:
    """Trained on plain text."""
    return small.train(*TAG, *PLAIN)


@pytest.mark.thorough
def test_comments_and_files_say_the_same(small: Small) -> None:
    """With words of an annotation, and without."""
    annotated = prepare_run(small.config("features=[upos,formality]"))
    from_files = prepare_run(small.config("features=[formality]", *PLAIN))
    from_comments = prepare_run(small.config("features=[formality]"))
    for split, labels in (("train", from_files.train), ("dev", from_files.dev)):
        lines = (small.corpus / f"{split}.formality").read_text().splitlines()
        assert [labels.feature_text("formality", i).partition(" ")[0] for i in range(8)] == [
            line.partition(" ")[0] for line in lines[:8]
        ]
    for prepared in (annotated, from_comments):
        ids, expected = prepared.train.features["formality"], from_files.train.features["formality"]
        assert np.array_equal(ids, expected)
    assert not from_files.encoder.annotated
    assert sorted(from_files.encoder.features["formality"].values) == sorted(VALUES)
    assert from_files.report.features["formality"]["coverage"] == 1


def test_all_pieces_of_a_sentence_have_its_value(small: Small) -> None:
    train = prepare_run(small.config("features=[formality]", *PLAIN)).train
    for start, end in zip(train.source.offsets[:-1], train.source.offsets[1:], strict=True):
        ids = train.features["formality"][start:end].tolist()
        assert len(set(ids[:-1])) == 1
        assert (ids[0] >= FIRST, ids[-1]) == (True, END)


def test_a_tag_stands_before_the_sentence(small: Small) -> None:
    """Alone it has a value there, whatever other features have."""
    names = ["formality", "upos"]
    settings = "features=[upos,formality]", "features.formality.policy=tag"
    train = prepare_run(small.config(*settings)).train
    tagged = collate(train, np.array([0, 1, 2]), names)
    train.tags = ()
    copied = collate(train, np.array([0, 1, 2]), names)
    assert torch.equal(tagged.source[:, 1:], copied.source)
    assert (tagged.source[:, 0] == BOS).all()
    assert torch.equal(tagged.features["upos"][:, 1:], copied.features["upos"])
    assert (tagged.features["upos"][:, 0] == PAD).all()
    assert torch.equal(tagged.features["formality"][:, 0], copied.features["formality"][:, 0])
    assert (tagged.features["formality"][:, 1:] == PAD).all()
    assert tagged.source_mask.sum() == copied.source_mask.sum() + 3


def test_each_of_two_tags_has_its_value() -> None:
    """By hand: the last feature stands first; words and padding read neither."""
    source = torch.tensor([[7, 5, 3], [8, 3, PAD]])
    ids = {
        "domain": torch.tensor([[4, 4, END], [5, END, PAD]]),
        "formality": torch.tensor([[6, 6, END], [7, END, PAD]]),
        "upos": torch.tensor([[9, 8, END], [9, END, PAD]]),
    }
    source, ids = prepend_tags(["domain", "formality"], source, ids, [*ids])
    assert source.tolist() == [[BOS, BOS, 7, 5, 3], [BOS, BOS, 8, 3, PAD]]
    assert ids["domain"].tolist() == [[PAD, 4, PAD, PAD, PAD], [PAD, 5, PAD, PAD, PAD]]
    assert ids["formality"].tolist() == [[6, PAD, PAD, PAD, PAD], [7, PAD, PAD, PAD, PAD]]
    assert ids["upos"].tolist() == [[PAD, PAD, 9, 8, END], [PAD, PAD, 9, END, PAD]]


def test_erased_values_are_those_of_whole_sentences(small: Small) -> None:
    erased = (*FEATURE, *PLAIN, "features.formality.erase=0.5")
    train = prepare_run(small.config(*erased)).train
    bounds = zip(train.source.offsets[:-1], train.source.offsets[1:] - 1, strict=True)
    values = [set(train.features["formality"][start:end].tolist()) for start, end in bounds]
    assert all(len(ids) == 1 for ids in values)
    assert 0.3 < sum(ids == {UNK} for ids in values) / len(values) < 0.7


def test_numbers_of_whole_sentences(small: Small, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    for split in SPLITS:
        count = len((corpus / f"{split}.en").read_text(encoding="utf-8").splitlines())
        lines = "".join(f"{i % 5 / 2}\n" for i in range(count))
        (corpus / f"{split}.formality").write_text(lines, encoding="utf-8")
    numbered = Small(corpus, small.cache, tmp_path)
    kind = "features.formality.kind=nmt_feat.features.Numbers"
    prepared = prepare_run(numbered.config(*TAG, *PLAIN, kind))
    assert prepared.encoder.features["formality"].values == ["0", "0.5", "1", "1.5", "2"]


def values_of_sentences(split: EncodedSplit) -> list[list[int]]:
    """The different ids of each sentence's pieces."""
    ids, offsets = split.features["formality"], split.source.offsets
    bounds = zip(offsets[:-1], offsets[1:] - 1, strict=True)
    return [np.unique(ids[start:end]).tolist() for start, end in bounds]


@pytest.mark.parametrize("control", ["shuffled", "resampled", "by_type"])
def test_controls_move_values_of_whole_sentences(small: Small, control: str) -> None:
    """Beside values of words, which move as without them."""
    features = ("features=[upos,formality]", "features.formality.policy=tag")
    before = prepare_run(small.config(*features)).train
    prepared = prepare_run(small.config(*features, f"control={control}"))
    after = prepared.train
    assert after.tags == ("formality",)
    values = [values_of_sentences(split) for split in (before, after)]
    assert all(len(ids) == 1 for ids in values[1])
    if control != "by_type":
        assert sorted(values[1]) == sorted(values[0])
    equal = [one == two for one, two in zip(*values, strict=True)]
    assert 0.2 < sum(equal) / len(equal) < 0.8
    words = prepare_run(small.config("features=[upos]", f"control={control}"))
    assert np.array_equal(after.features["upos"], words.train.features["upos"])
    assert "values of formality move together over 80 sentences of train" in prepared.notes[-1]
    if prepared.redraw is not None:
        assert values_of_sentences(prepared.redraw(2)) != values[1]


def test_first_pieces_alone_have_the_value_of_the_sentence(small: Small) -> None:
    """With policy=first, the other pieces stay `<inside>`, in controls and in `reliance`."""
    first = ("features=[upos,formality]", "features.formality.policy=first", "combiner=add")
    before = prepare_run(small.config(*first)).train
    prepared = prepare_run(small.config(*first, "control=shuffled"))
    inside = prepared.encoder.features["formality"].id_of(INSIDE)
    assert inside >= FIRST
    is_inside = before.features["formality"] == inside
    assert is_inside.any()
    assert np.array_equal(prepared.train.features["formality"] == inside, is_inside)
    values = [
        [[i for i in ids if i != inside] for ids in values_of_sentences(split)]
        for split in (before, prepared.train)
    ]
    assert all(len(ids) == 1 for ids in values[1])
    assert sorted(values[0]) == sorted(values[1])
    assert values[0] != values[1]
    model = TrainedModel(small.train(*first, "trainer.max_steps=2"))
    text = Reliance(model, *model.read_test_set())
    true, moved = text.true, text.shuffle_words(1)
    ids = moved.features["formality"]
    assert np.array_equal(ids == inside, true.features["formality"] == inside)
    assert all(len({*row} - {inside}) == 1 for row in values_of_sentences(moved))


def test_tags_count_in_the_budget(small: Small) -> None:
    """A batch is as large as it says with its tags."""
    train = prepare_run(small.config(*TAG, *PLAIN)).train
    for batches in (plan_batches(train, 128, 1, 0), order_batches(train, 128)):
        cells = [collate(train, b, ["formality"]).source.numel() for b in batches if len(b) > 1]
        assert cells
        assert max(cells) <= 128


def translated(run: Path, **settings: object) -> list[str]:
    """The lines of a translation."""
    out = run.parent / "out.txt"
    translate_text(TranslateConfig(run=str(run), output=str(out), **settings))  # type: ignore[arg-type]
    return out.read_text(encoding="utf-8").splitlines()


def test_files_of_labels_translate_as_tested(small: Small, tagged: Path) -> None:
    text, labels = (str(small.corpus / f"test.{ending}") for ending in ("en", "formality"))
    expected = (tagged / "test.hyp").read_text(encoding="utf-8").splitlines()
    assert translated(tagged, input=text, label_files={"formality": labels}) == expected
    assert translated(tagged, input=str(small.corpus / "test.conllu")) == expected
    assert record(tagged)["config"]["features"]["formality"]["policy"] == "tag"
    model = TrainedModel(tagged)
    split = model.encode_pairs(*model.read_test_set())
    (tested,) = prepare_run(small.config(*TAG, *PLAIN)).tests.values()
    assert np.array_equal(split.features["formality"], tested.features["formality"])


@pytest.mark.parametrize("missing", ["error", "unknown"])
def test_sentences_without_words_are_annotated(missing: str, small: Small, tmp_path: Path) -> None:
    """JSON lines of a text and its comments, by the run's annotator, as in training."""
    pytest.importorskip("HanTa")
    corpus = write_corpus(tmp_path / "corpus")
    for split in SPLITS:
        texts = (corpus / f"{split}.en").read_text(encoding="utf-8").splitlines()
        labels = (corpus / f"{split}.formality").read_text(encoding="utf-8").splitlines()
        rows = [
            json.dumps({"text": text, "comments": [f"# formality = {label}"]})
            for text, label in zip(texts, labels, strict=True)
        ]
        (corpus / f"{split}.jsonl").write_text("\n".join([*rows, ""]), encoding="utf-8")
    sources = [f"data.{key}.source={key.rpartition('.')[2]}.jsonl" for key in KEYS]
    run = Small(corpus, small.cache, tmp_path).train(
        *("annotator=hanta", "features=[upos,formality]", "combiner=add", *sources),
        *("trainer.max_steps=2", f"features.upos.missing={missing}"),
    )
    expected = (run / "test.hyp").read_text(encoding="utf-8").splitlines()
    text = Text(str(corpus / "test.jsonl"))
    model = TrainedModel(run)
    sentences = model.read_source(model.make_reader(text))
    encoded = model.encode_pairs(sentences, [""] * 8, ["x"] * 8)
    tested = model.encode_pairs(*model.read_test_set())
    for name in ("upos", "formality"):
        assert np.array_equal(encoded.features[name], tested.features[name])
    assert translated(run, input=text.name) == expected
    assert load_run(run).translate(list(Reader(text).read_sentences())) == expected


def test_reliance_moves_labels_between_sentences(small: Small) -> None:
    """As controls do: all words of a sentence have one value."""
    run = small.train("features=[formality,upos]", "combiner=add", "trainer.max_steps=2")
    model = TrainedModel(run)
    text = Reliance(model, *model.read_test_set())
    before, after = text.true, text.shuffle_words(1)
    rows = [
        [{*split.features["formality"][a : b - 1].tolist()} for a, b in pairwise(bounds)]
        for split in (before, after)
        if len(bounds := split.source.offsets.tolist())
    ]
    assert all(len(ids) == 1 for ids in rows[1])
    assert rows[0] != rows[1]
    assert sorted(map(min, rows[0])) == sorted(map(min, rows[1]))
    assert not np.array_equal(before.features["upos"], after.features["upos"])
    unknown = text.make_unknown().features
    assert all({*unknown[name].tolist()} == {UNK, END} for name in ("formality", "upos"))


def test_one_flag_for_all_sentences(small: Small, tagged: Path) -> None:
    """Other tags, other probabilities; the flag wins over the text's own."""
    text, target = str(small.corpus / "test.en"), str(small.corpus / "test.de")
    translations = {}
    for name, source, label in (
        ("formal", text, "formal"),
        ("informal", text, "informal"),
        ("both", str(small.corpus / "test.conllu"), "formal"),
    ):
        out = tagged.parent / "scores"
        score_text(
            ScoreConfig(
                run=str(tagged),
                source=source,
                target=target,
                output=str(out),
                labels={"formality": label},
            )
        )
        translations[name] = out.read_text()
    assert translations["both"] == translations["formal"] != translations["informal"]


def test_long_lines_keep_their_label(small: Small, tagged: Path) -> None:
    short = str(small.corpus / "test.en")
    lines = translated(tagged, input=short, labels={"formality": "formal"}, max_pieces=5)
    assert len(lines) == 8


def test_an_unknown_label_is_said(
    small: Small, tagged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    translated(tagged, input=str(small.corpus / "test.en"), labels={"formality": "rude"})
    assert "have a value that the run does not know" in capsys.readouterr().err


def test_inspect_shows_the_tag(tagged: Path) -> None:
    sentence = Sentence("Anna waits.", comments=("# formality = formal",))
    words = load_run(tagged).inspect(sentence)
    assert (words[0].pieces, words[0].features) == (["<formality>"], {"formality": "formal"})
    assert {word.features["formality"] for word in words[1:]} == {"<pad>"}
    assert "".join(word.text for word in words[1:]) == "Annawaits."


def test_missing_labels_may_be_unknown(small: Small) -> None:
    more = ["features.formality.missing=unknown", "features=[upos,formality]"]
    corpus = small.folder / "partly"
    if not corpus.exists():
        shutil.copytree(small.corpus, corpus)
    path = corpus / "dev.conllu"
    path.write_text(path.read_text(encoding="utf-8").replace("# formality = formal\n", ""))
    partly = Small(corpus, small.cache, small.folder)
    prepared = prepare_run(partly.config(*more))
    ids = prepared.dev.features["formality"]
    assert UNK in ids
    assert any(i >= FIRST for i in ids.tolist())
    with pytest.raises(UserError, match=r"dev.conllu: sentence \d: nothing says the formality of"):
        prepare_run(partly.config(*more, "features.formality.missing=error"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            [line for line in PLAIN if "dev.labels" not in line],
            "data.dev: nothing says the formality of its sentences; set "
            "+data.dev.labels.formality=FILE, a value a line, or give CoNLL-U with comments "
            "(# formality = ...)",
        ),
        (
            [*PLAIN[:-1], "+data.tests.test.labels.formality=train.formality"],
            "data.tests.test: CORPUS/test.en has 8 sentences, CORPUS/train.formality has 80; their "
            "lines must correspond",
        ),
        (
            [*PLAIN[:-1], "+data.tests.test.labels.formality=nowhere"],
            "data.tests.test.labels.formality=nowhere: no such file in CORPUS; correct the name or "
            "set data.folder",
        ),
    ],
)
def test_refused(small: Small, settings: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        prepare_run(small.config(*FEATURE, *settings))
    assert str(error.value) == message.replace("CORPUS", str(small.corpus))


def test_refused_in_translation(small: Small, tagged: Path) -> None:
    text = str(small.corpus / "test.en")
    with pytest.raises(UserError, match=r"test.en:1: nothing says the formality of 'Tomorrow"):
        translated(tagged, input=text)
    with pytest.raises(UserError, match=r"^labels.formalty=x: .* did you mean 'formality'\?"):
        translated(tagged, input=text, labels={"formalty": "x"})
    for name, problem in (("dev", "more"), ("few", "fewer")):
        lines = (small.corpus / "dev.formality").read_text().splitlines()
        lines = lines[:3] if name == "few" else [*lines, "formal"]
        path = small.folder / name
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(UserError, match=f"label_files.formality=.*: has {problem} lines"):
            translated(tagged, input=text, label_files={"formality": str(path)})
