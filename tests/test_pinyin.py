"""Units of a column by an annotator from outside, `examples/pinyin.py`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from nmt_feat.annotators.texts import annotate_texts
from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.data.controls import prepare_run
from nmt_feat.runs.trained.model import TrainedModel
from tests.support.small import Small

# Looked for, not imported: that takes seconds in each process of the tests.
pytestmark = pytest.mark.skipif(find_spec("pypinyin") is None, reason="needs pypinyin")
LINES = ["中国人在重庆。", "银行 在 中国", "iPhone 15 很好!", "他们行走。", "他们在银行里。"]
SETTINGS = (
    "data=files",
    *("data.name=chinese", "data.source_lang=zh", "data.target_lang=en"),
    *(f"data.{split}.source=text.zh" for split in ("train", "dev", "tests.test")),
    *(f"data.{split}.target=text.en" for split in ("train", "dev", "tests.test")),
    *("annotator._target_=examples.pinyin.Pinyin", "subword.kind=none", "combiner=add"),
    *("features=[]", "+features.pinyin.column=misc.Pinyin"),
    "features.pinyin.kind=nmt_feat.features.ValueCharacters",
    "features.pinyin._target_=nmt_feat.features.CharCNN",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("pinyin")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "text.zh").write_text("\n".join([*LINES * 3, ""]), encoding="utf-8")
    english = [f"line {i}" for i in range(15)]
    (folder / "corpus" / "text.en").write_text("\n".join([*english, ""]), encoding="utf-8")
    return Small(folder / "corpus", folder / "cache", folder, {"trainer.max_steps": 2})


def test_words_and_their_reading() -> None:
    from examples.pinyin import Pinyin

    first, _, third, *_ = annotate_texts(Pinyin(), LINES)
    assert [(w.form, w.misc) for w in first.words] == [
        ("中国人", "Pinyin=zhong1guo2ren2"),
        ("在", "Pinyin=zai4"),
        ("重庆", "Pinyin=chong2qing4"),
        ("。", "_"),
    ]
    assert [(w.form, w.start, w.misc) for w in third.words] == [
        ("iPhone", 0, "_"),
        ("15", 7, "_"),
        ("很", 10, "Pinyin=hen3"),
        ("好", 11, "Pinyin=hao3"),
        ("!", 12, "_"),
    ]


def test_letters_of_readings_are_units(small: Small) -> None:
    prepared = prepare_run(small.config(*SETTINGS))
    letters = prepared.encoder.features["pinyin"].values
    assert {"z", "h", "2", "4"} <= set(letters) <= set("abcdefghijklmnopqrstuvwxyz12345")
    assert 0.4 < prepared.report.features["pinyin"]["coverage"] < 1


def test_raw_text_is_annotated_as_in_training(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMT_FEAT_MODULES", "examples")
    model = TrainedModel(small.train(*SETTINGS))
    sentences = model.annotation.annotate_texts(LINES, None, "lines")
    where = [f"lines:{i}" for i in range(len(LINES))]
    assert len(model.translate_sentences(sentences, where, TranslateConfig())) == len(LINES)
    assert not model.unknowns.counts["features.pinyin"].unknown
