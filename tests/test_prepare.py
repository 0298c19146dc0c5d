"""What preparing makes of a corpus."""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nmt_feat.config.data_schema import DataConfig, SplitConfig
from nmt_feat.config.schema import FeatureConfig, TrainConfig
from nmt_feat.data.encoding import filter_pairs
from nmt_feat.data.prepare import prepare
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import END
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import read_conllu, write_conllu
from nmt_feat.text.factored import SEPARATORS, write_factored, write_parallel
from nmt_feat.text.json_lines import write_jsonl
from tests.support.lexicon import DEV, TRAIN, features, sentence, write
from tests.support.splits import encode


def feature_ids(split: EncodedSplit, name: str, i: int) -> list[int]:
    start, end = split.source.offsets[i : i + 2]
    return split.features[name][start:end].tolist()


def test_prepared_corpus(cfg: TrainConfig) -> None:
    messages: list[str] = []
    prepared_data = prepare(cfg, features("upos", "lemma", "subword_tag"), messages.append)
    assert messages == [
        "reading the corpus and its annotation",
        "training the subword model",
        "encoding",
    ]
    assert (len(prepared_data.train), len(prepared_data.dev), list(prepared_data.tests)) == (
        18,
        2,
        ["test"],
    )
    assert prepared_data.dev.source_texts == ["Peter sees the dog.", "the dog ducks."]
    assert prepared_data.dev.target_texts == ["Peter sieht die Hund .", "die Hund duckt ."]
    assert prepared_data.dev.feature_text("upos", 0) == "PROPN VERB DET NOUN PUNCT"
    for split in (prepared_data.train, prepared_data.dev, prepared_data.tests["test"]):
        for i in range(len(split)):
            source, target = split.source.row(i), split.target.row(i)
            assert prepared_data.encoder.subwords.decode(source) == split.source_texts[i]
            assert prepared_data.target.decode(target) == split.target_texts[i]
            assert source[-1] == target[-1] == 3
            assert feature_ids(split, "upos", i)[-1] == END
    # The store holds what the encoder gives for the same sentence, as in translation.
    for i, line in enumerate(DEV):
        encoded = encode(prepared_data.encoder, sentence(line.split()))
        assert prepared_data.dev.source.row(i).tolist() == encoded.ids
        for name, ids in encoded.features.items():
            assert feature_ids(prepared_data.dev, name, i) == ids
    assert prepared_data.notes == []


def test_every_format_gives_the_same_data(cfg: TrainConfig) -> None:
    """CoNLL-U, factors behind either separator, parallel files, JSON lines: bit for bit."""
    folder, factors = Path(str(cfg.data.folder)), ["feats", "upos", "lemma"]
    for split in ("train", "dev", "test"):
        path = folder / f"{split}.conllu"
        lines = [line for line in path.read_text().split("\n") if not line.startswith("# text")]
        path.write_text("\n".join(lines).replace("SpaceAfter=No", "_"))
        sentences, stem = list(read_conllu(path)), folder / split
        rows = {
            stem.with_suffix(".pipe"): write_factored(sentences, "x", factors, "pipe"),
            stem.with_suffix(".ffe8"): write_factored(sentences, "x", factors, "ffe8"),
            stem.with_suffix(".jsonl"): write_jsonl(sentences),
        }
        columns = zip(*write_parallel(sentences, "x", factors), strict=True)
        for name, column in zip(["words", *factors], columns, strict=True):
            rows[stem.with_suffix(f".{name}")] = iter(column)
        for path, content in rows.items():
            path.write_text("".join(f"{row}\n" for row in content))
    names = dict.fromkeys(("pipe", "ffe8", "jsonl", "conllu", "words"), cfg)
    chosen = features("upos", "lemma", "feats", "subword_tag")
    contents = []
    for suffix in names:
        limited_cfg = deepcopy(cfg)
        limited_cfg.data.factors = factors if suffix in SEPARATORS else []
        limited_cfg.data.format = suffix if suffix in SEPARATORS else "auto"
        for split in (limited_cfg.data.train, limited_cfg.data.dev, limited_cfg.data.tests["test"]):
            stem = split.source.removesuffix(".conllu")  # type: ignore[attr-defined]
            split.source = f"{stem}.{suffix}"  # type: ignore[attr-defined]
            if suffix == "words":
                split.factors = {name: f"{stem}.{name}" for name in factors}  # type: ignore[attr-defined]
        prepared_data = prepare(limited_cfg, chosen)
        files = sorted(
            path for path in prepared_data.folder.iterdir() if path.name != "manifest.json"
        )
        contents.append({path.name: path.read_bytes() for path in files})
    assert contents[0]["0.arrow"]
    assert all(content == contents[0] for content in contents)
    assert len({path.name for path in Path(cfg.paths.cache).glob("prepared-*/")}) == len(names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "pip"}, "data.format=pip: unknown; did you mean 'pipe'?"),
        (
            {"format": "ffe8"},
            "data.format=ffe8: name its factors, such as data.factors=[upos,lemma]",
        ),
        (
            {"factors": ["pos"]},
            "data.factors: unknown factor 'pos'; did you mean 'xpos' or 'upos'?",
        ),
        (
            {"train": SplitConfig("train.conllu", "train.de", factors={"upos": "x"})},
            "data: train.conllu has factors in files and an annotation in conllu; give one of them",
        ),
        (
            {"train": SplitConfig("train.en", "train.de", factors={"upos": "train.upos"})},
            "data.train.factors.upos=train.upos: no such file in FOLDER; correct the name or set "
            "data.folder",
        ),
        (
            {"train": SplitConfig("train.en", "train.de", factors={"upos": "train.de"})},
            "FOLDER/train.de:1: 6 values for the 5 tokens of FOLDER/train.en:1",
        ),
        (
            {"train": SplitConfig("factored", "train.de")},
            "FOLDER/factored: every token has a '|', as factored text has; set data.format=pipe "
            "and data.factors, or data.format=text if it is plain",
        ),
    ],
)
def test_formats_that_do_not_fit(cfg: TrainConfig, settings: dict[str, Any], message: str) -> None:
    folder = str(cfg.data.folder)
    (Path(folder) / "factored").write_text("the|DET dog|NOUN\n" * 18)
    for name, value in settings.items():
        setattr(cfg.data, name, value)
    with pytest.raises(UserError) as error:
        prepare(cfg, {} if "factored" in message.split(":")[0] else features("upos"))
    assert str(error.value).replace(folder, "FOLDER") == message


def test_features_change_nothing_else(cfg: TrainConfig) -> None:
    plain, full = prepare(cfg, {}), prepare(cfg, features("upos"))
    assert plain.folder != full.folder
    for a, b in ((plain.train, full.train), (plain.dev, full.dev)):
        assert a.source.values.tolist() == b.source.values.tolist()
        assert a.target.values.tolist() == b.target.values.tolist()
        assert a.source_texts == b.source_texts
    assert plain.train.features == {}


def test_no_annotation_is_read_without_features(cfg: TrainConfig) -> None:
    cfg.data.train.source, cfg.data.train.conllu = "train.en", "broken.conllu"
    (Path(str(cfg.data.folder)) / "broken.conllu").write_text("1\tbroken\n", encoding="utf-8")
    assert len(prepare(cfg, {}).train) == 18
    pieces = {"char": FeatureConfig(column="char", of="piece")}
    assert len(prepare(cfg, pieces).train) == 18
    with pytest.raises(UserError, match=r"broken\.conllu:1: 2 columns, not 10"):
        prepare(cfg, features("shape"))


def test_separate_subword_models(cfg: TrainConfig) -> None:
    cfg.subword.joint, cfg.subword.vocab_size = False, 30
    prepared_data = prepare(cfg, {})
    source, target = prepared_data.encoder.subwords, prepared_data.target
    assert (source.size, target.size) == (30, 30)
    text = prepared_data.dev.target_texts[0]
    assert target.encode_ids([text]) != source.encode_ids([text])


def test_filters_apply_to_train_only_and_are_counted(cfg: TrainConfig) -> None:
    folder = Path(str(cfg.data.folder))
    long = " ".join(["the dog sees"] * 20)
    write(folder, "train", [*TRAIN, "Peter .", long, "the dog ducks ."])
    write(folder, "dev", [*DEV, long])
    with (folder / "train.de").open("a", encoding="utf-8") as file:
        file.write("die Hund die Hund die Hund die Hund die Hund die\n")
    with (folder / "train.conllu").open("a", encoding="utf-8") as file:
        file.write(write_conllu([sentence(["Peter", "ducks"])]))
    cfg.subword.kind, cfg.subword.vocab_size = "none", 100
    cfg.data.min_words, cfg.data.max_pieces, cfg.data.max_ratio = 2, 40, 5.0
    prepared_data = prepare(cfg, features("upos"))
    assert prepared_data.report.train_read == 22
    assert prepared_data.report.filtered == {"words < 2": 1, "pieces > 40": 1, "ratio > 5": 1}
    assert len(prepared_data.train) == 19
    assert prepared_data.train.source_texts[-1] == "the dog ducks."
    assert prepared_data.train.feature_text("upos", 18) == "DET NOUN VERB PUNCT"
    assert len(prepared_data.dev) == 3
    cfg.data.max_pieces = 1
    with pytest.raises(UserError) as error:
        prepare(cfg, features("upos"))
    assert str(error.value) == (
        f"{folder / 'train.conllu'}: no training pair is left of 22 (21 pieces > 1, 1 words < 2); "
        "see data.min_words, data.max_pieces, data.max_ratio"
    )


def test_the_ratio_itself_is_not_filtered() -> None:
    pieces = np.array([[3, 15], [15, 3], [3, 16]])
    limits = DataConfig(max_pieces=40, max_ratio=5.0)
    remaining, reasons = filter_pairs(limits, pieces, pieces)
    assert remaining.tolist() == [True, True, False]
    assert reasons == {"ratio > 5": 1}


def test_limit_holds_for_everything(cfg: TrainConfig) -> None:
    cfg.data.limit, cfg.subword.kind = 2, "none"
    prepared_data = prepare(cfg, features("upos"))
    assert prepared_data.report.train_read == len(prepared_data.train) == 2
    assert prepared_data.target.size == 4 + 12  # words of both sides of two pairs
    assert len(prepared_data.dev) == 2


def test_vocabulary_limits(cfg: TrainConfig) -> None:
    chosen = {
        "upos": FeatureConfig(column="upos", max_values=2),
        "lemma": FeatureConfig(column="lemma", policy="first"),
    }
    prepared_data = prepare(cfg, chosen)
    assert prepared_data.encoder.features["upos"].values == ["DET", "NOUN"]
    assert prepared_data.encoder.features["lemma"].values[0] == "<inside>"
    assert prepared_data.report.features["upos"]["kept"] == 2
    assert prepared_data.report.features["upos"]["values"] == 5


def test_report(cfg: TrainConfig) -> None:
    write(Path(str(cfg.data.folder)), "train", ["the dog", "the cats", "Peter ."])
    cfg.subword.kind = "none"
    report = prepare(cfg, features("upos")).report
    assert report.splits["train"] == {
        "sentences": 3,
        "source": {"words": 5, "pieces": 5, "unknown": 0.0},
        "target": {"words": 6, "pieces": 6, "unknown": 0.0},
    }
    assert report.splits["dev"]["source"] == {"words": 7, "pieces": 7, "unknown": 3 / 7}
    one, two = 1.5 / 8.5, 2.5 / 8.5  # p of a value seen once, twice; two verbs are new words
    words = [*[(1 + one) / 2] * 3, *[(2 + two) / 3] * 2, *[(1 + two) / 2] * 2, *[0.5 / 8.5] * 2]
    result = dict(report.features["upos"])
    assert 0 < result.pop("random_by_type") < math.log2(17)
    assert result == {
        "coverage": 1.0,
        "agreement": None,  # each word is one piece
        "lost": 1 / 6,  # that of the full stop of `Peter.`
        "values": 4,
        "kept": 4,
        "entropy": pytest.approx(2 * (1 / 3 * 1.5849625) + 2 * (1 / 6 * 2.5849625)),
        "given_word": pytest.approx(-sum(map(math.log2, words)) / 9),
        "unknown_dev": pytest.approx(2 / 9),
        "top": [["DET", 1 / 3], ["NOUN", 1 / 3], ["PROPN", 1 / 6], ["PUNCT", 1 / 6]],
    }
    console = Console(width=80, file=None)
    with console.capture() as capture:
        console.print(report)
    printed_text = " ".join(capture.get().split())
    assert "filtered of 3 training pairs: none" in printed_text
    assert "DET 33%, NOUN 33%, PROPN 17%, PUNCT 17%" in printed_text


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            features("deprel"),
            "features.deprel is constant: deprel is 'dep' on all of train (annotation: {train}); "
            "leave it out of features",
        ),
        (
            features("xpos"),
            "features.xpos: no word of train has xpos (annotation: {train}); leave it out of "
            "features or choose another annotation",
        ),
        (
            features("feats.Nmber"),
            "features.feats_Nmber: no word of train has feats.Nmber (annotation: {train}); "
            "leave it out of features or choose another annotation",
        ),
        (
            features("upos", min_count=1000),
            "features.upos is constant: max_values=None and min_count=1000 keep 0 of its 5 values; "
            "relax them",
        ),
        (
            features("upsos"),
            "features.upsos.column=upsos: unknown column; did you mean 'upos' or 'xpos'?",
        ),
    ],
)
def test_useless_features_are_refused(
    cfg: TrainConfig, chosen: dict[str, FeatureConfig], message: str
) -> None:
    with pytest.raises(UserError) as error:
        prepare(cfg, chosen)
    train = Path(str(cfg.data.folder)) / "train.conllu"
    assert str(error.value) == message.format(train=train)
    assert not list(Path(cfg.paths.cache).glob("prepared-*[!k]/manifest.json"))
