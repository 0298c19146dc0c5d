"""A kind of feature from outside, `examples/log_frequency.py`: no line of the package knows it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from examples.log_frequency import LogFrequency
from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.config.instantiate import refuse_classes_of_run
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.identity import hash_cache
from nmt_feat.embedders.ids import FIRST
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kind
from nmt_feat.features.vocabulary import VocabularyBasis
from nmt_feat.runs.trained.model import TrainedModel
from tests.support.small import Small, cut, record

KIND = "examples.log_frequency.LogFrequency"
CHOSEN = (
    "features=[upos]",
    "combiner=gate",
    "+features.often.column=log_frequency",
    f"features.often.kind={KIND}",
)
BINS = ["1", *(f"{2**n}-{2 ** (n + 1) - 1}" for n in range(1, 12))]
LINE = "features.often._target_=examples.log_frequency.Line"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("kind")
    return Small(cut(folder / "corpus"), folder / "cache", folder)


@pytest.fixture(scope="module")
def run(small: Small) -> Path:
    return small.train(*CHOSEN, LINE)


def test_ids_follow_from_the_vocabulary() -> None:
    kind = choose_kind("often", FeatureConfig(kind=KIND, column="any"))
    counts = Counter({"the": 9, "saw": 3, "her": 2, "duck": 1})
    vocabulary = kind.build_vocabulary(counts, VocabularyBasis())
    ids, units = kind.encode_values(["the", "saw", "her", "duck", "owl"], vocabulary)
    assert ids[4:] == [FIRST + 3, FIRST + 1, FIRST + 1, FIRST, FIRST]
    assert units == []
    assert kind.count_ids(vocabulary) == FIRST + 4
    assert kind.name_ids(vocabulary) == ["1", "2-3", "4-7", "8-15"]


def test_a_run_translates_with_the_frequencies_of_training(
    small: Small, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its vocabulary is in the run's folder, its class is named in the run's settings alone."""
    monkeypatch.setenv("NMT_FEAT_MODULES", "examples")
    assert KIND not in (run / "encoder" / "features.json").read_text(encoding="utf-8")
    model, prepared = TrainedModel(run), prepare_run(small.config(*CHOSEN, LINE))
    sentences, targets, where = model.read_test_set()
    split = model.encode_pairs(sentences, targets, where)
    (trained_on,) = prepared.tests.values()
    assert np.array_equal(split.features["often"], trained_on.features["often"])
    assert len(set(split.features["often"].tolist())) > 3
    translations = model.translate_sentences(sentences[:2], where[:2], TranslateConfig())
    assert [len(best) for best in translations] == [1, 1]
    assert record(run)["settings"]["features"]["often"].keys() >= {"kind", "code"}


def test_the_report_shows_bins(small: Small) -> None:
    report = prepare_run(small.config(*CHOSEN, LINE)).report
    described = report.features["often"]
    assert described["values"] == described["kept"] <= 12
    assert all(label[0].isdigit() for label, _ in described["top"])
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report)
    assert "often" in capture.get()


def test_by_bins(small: Small) -> None:
    """The same data, embedded by a table; gates are shown by the words' frequency."""
    run = small.train(*CHOSEN)
    gates = record(run)["parts"]["gates"]["often"]
    assert {gate["value"] for gate in gates} <= {"<pad>", "<unknown>", "<end>", *BINS}
    assert hash_cache(small.config(*CHOSEN), small.config(*CHOSEN).features) == hash_cache(
        small.config(*CHOSEN, LINE), small.config(*CHOSEN, LINE).features
    )


class Broken(LogFrequency):
    """Fails while data is prepared."""

    def encode_values(self, *args: Any) -> Any:
        """A mistake."""
        return [][len(args)]


class Unfit(LogFrequency):
    """Fails at once."""

    def __init__(self, name: str) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Broken", r"test_user_kind\.Broken, line \d+: IndexError: list index out of range$"),
        ("Unfit", r"test_user_kind\.Unfit: TypeError: "),
    ],
)
def test_mistakes_of_a_kind(small: Small, kind: str, message: str) -> None:
    """Are one sentence, as those of combiners are."""
    with pytest.raises(UserError, match=message):
        prepare_run(small.config(*CHOSEN[:3], f"features.often.kind={__name__}.{kind}"))


def test_a_class_that_is_no_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"must be derived from nmt_feat.features.FeatureKind"):
        choose_kind("f", FeatureConfig(kind="examples.log_frequency.Line", column="any"))


def test_a_run_brings_no_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in a run's folder is never imported."""
    (tmp_path / "config.yaml").touch()
    (tmp_path / "run.json").touch()
    (tmp_path / "brought.py").write_text("raise AssertionError", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"features": {"f": {"column": "upos", "kind": "brought.Kind"}}}
    with pytest.raises(UserError, match=r"features.f.kind=brought.Kind"):
        refuse_classes_of_run(settings, "config.yaml")
