"""What makes a run another run, and how runs with an earlier identity are found."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from nmt_feat.base.checksums import hash_json
from nmt_feat.base.typed_json import convert_json
from nmt_feat.config import earlier_formats, identity
from nmt_feat.config.data_schema import SplitConfig
from nmt_feat.config.earlier_formats import FIRST_NAMES
from nmt_feat.config.identity import (
    FIRST,
    VALIDATION,
    drop_defaults,
    earlier_settings,
)
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.identity import hash_cache, hash_data
from nmt_feat.evaluation.packed_runs import PACKED_RECORDS, read_packed_records
from nmt_feat.runs.run import run_training
from nmt_feat.runs.setup import build_trainer
from nmt_feat.runs.setup.identity import identity_settings
from tests.support.earlier import write_first_identity
from tests.support.small import ROOT, Small, outcome, record
from tests.support.stops import refused, stop


@dataclasses.dataclass
class More:
    """A group of settings that came later."""

    rate: float = 0.5


@dataclasses.dataclass
class Later(TrainConfig):
    """The settings of a later version."""

    more: More = dataclasses.field(default_factory=More)


def remove_first(monkeypatch: pytest.MonkeyPatch, group: str, name: str) -> None:
    """As if the setting had come after the first ones."""
    names = [item for item in FIRST[group].split() if item != name]
    monkeypatch.setitem(identity.FIRST, group, " ".join(names))


@pytest.mark.parametrize(
    ("group", "name", "setting"),
    [
        ("", "control", "control=shuffled"),
        ("trainer", "label_smoothing", "trainer.label_smoothing=0.2"),
        ("model", "embedding_std", "model.embedding_std=0.5"),
        ("features.*", "dropout", "features.upos.dropout=0.25"),
        ("data", "tokenized", "data.tokenized=true"),
        ("subword", "byte_fallback", "subword.byte_fallback=true"),
    ],
)
def test_a_new_setting_counts_where_it_is_not_at_its_default(
    small: Small, monkeypatch: pytest.MonkeyPatch, group: str, name: str, setting: str
) -> None:
    def settings(*more: str) -> dict[str, Any]:
        result = identity_settings(small.config(*more), "hash of the data")
        for part in group.split(".") if group else ():
            result = result["upos" if part == "*" else part]
        return result

    value = settings(setting)[name]
    remove_first(monkeypatch, group, name)
    assert name not in settings()
    assert settings(setting)[name] == value


def test_a_new_setting_of_subwords_leaves_the_prepared_data(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(*more: str) -> str:
        cfg = small.config(*more)
        return hash_cache(cfg, cfg.features)

    before = hashed()
    remove_first(monkeypatch, "subword", "byte_fallback")
    without = hashed()
    assert without != before
    assert hashed("subword.byte_fallback=true") != without
    monkeypatch.undo()
    assert hashed() == before


def test_a_new_group_of_settings(small: Small) -> None:
    later = Later(**vars(small.config()))
    assert "more" not in drop_defaults(dataclasses.asdict(later), Later)
    later.more.rate = 1.0
    assert drop_defaults(dataclasses.asdict(later), Later)["more"] == {"rate": 1.0}


# ---- what the data's hashes depend on


def test_test_sets_do_not_count(small: Small) -> None:
    cfg = small.config()
    before = hash_data(cfg, cfg.features)
    more = small.config()
    more.data.tests["again"] = SplitConfig(source="dev.conllu", target="dev.de")
    after = hash_data(more, more.features)
    assert after.training == before.training
    assert after.cache != before.cache
    assert not set(after.earlier) & set(before.earlier)
    assert list(after.tests) == ["test", "again"]
    assert after.tests["test"] == before.tests["test"] != after.tests["again"]
    more.data.dev = more.data.tests["test"]
    assert hash_data(more, more.features).training != before.training


def test_a_control_moves_values_by_the_place_of_a_test_set(small: Small) -> None:
    cfg, second = small.config("control=shuffled"), small.config("control=shuffled")
    second.data.tests = {"again": SplitConfig("dev.conllu", "dev.de"), **second.data.tests}
    before, after = (hash_data(item, item.features) for item in (cfg, second))
    assert before.training == after.training
    assert before.tests["test"] != after.tests["test"]
    for item in (cfg, second):
        item.control = "by_type"
    before, after = (hash_data(item, item.features) for item in (cfg, second))
    assert before.tests["test"] == after.tests["test"]


def test_a_class_that_has_moved(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = small.config("combiner=gate")
    before = identity_settings(cfg, "hash of the data")
    moved = "nmt_feat.combiners.gates.Gate"
    monkeypatch.setitem(FIRST_NAMES, moved, "nmt_feat.combiners.Gate")
    cfg.combiner._target_ = moved
    assert identity_settings(cfg, "hash of the data") == before


# ---- committed records


def committed_records() -> dict[Path, dict[str, Any]]:
    """Each record by what the path of its run's folder would be."""
    return {
        folder: json.loads(content)
        for path in (ROOT / "docs" / "results").rglob(PACKED_RECORDS)
        for folder, content in read_packed_records(path).items()
    }


def test_committed_records() -> None:
    """Their hash is that of their settings; those of the first identity have a meaning today."""
    expected_names = {
        f"{group}.{name}".lstrip(".") for group, names in FIRST.items() for name in names.split()
    }
    expected_names |= {f"decoding.{name}" for name in earlier_formats.SEARCH}
    runs = list(committed_records().values())
    earlier = [run for run in runs if identity.is_earlier(run["settings"])]
    assert len(earlier) == 314
    assert all(run["hash"] == hash_json(run["settings"]) for run in runs)
    for run in earlier:
        flat = set()
        for group, values in run["settings"].items():
            if group == "features":
                flat |= {f"features.*.{name}" for item in values.values() for name in item}
            else:
                flat |= {f"{group}.{n}" for n in values} if isinstance(values, dict) else {group}
        assert flat <= expected_names


CAME_LATER = {
    "trainer": {"batch_by": "larger"},
    "model": {"activation_dropout": 0.0},
    "features": {
        **{"of": "piece", "n": 3, "file": False, "missing": "error"},
        **{"dropout": 0.0, "sentence_dropout": 0.0},
    },
}
"""Settings that came while the first records were made, and their defaults."""


def remove_absent(settings: dict[str, Any], stored: dict[str, Any]) -> None:
    """Take out of settings those that came later, are at their default and not in the stored."""
    groups = [(settings[g], stored[g], CAME_LATER[g]) for g in ("trainer", "model")]
    for name, feature in settings["features"].items():
        groups.append((feature, stored["features"][name], CAME_LATER["features"]))
    for group, before, later in groups:
        for name, default in later.items():  # type: ignore[attr-defined]
            if name not in before and group[name] == default:
                del group[name]


def test_committed_records_have_the_hash_of_their_configuration() -> None:
    """Today's program gives it, but for seven records that lack settings that came later."""
    differing, composed = [], {}
    for folder, run in committed_records().items():
        cfg = convert_json(run["config"], TrainConfig)
        without_seed = hash_json(run["config"] | {"seed": 0, "paths": 0})
        if without_seed not in composed:  # runs differ in their seed, and it takes a moment
            composed[without_seed] = identity_settings(cfg, "none")
        settings = composed[without_seed] | {"seed": run["seed"]}
        data = run["settings"]["data"]["hash"]
        if not identity.is_earlier(run["settings"]):
            settings["data"] = settings["data"] | {"hash": data}
            assert hash_json(settings) == run["hash"]
            continue
        earlier = earlier_settings(settings, cfg, data)
        if hash_json(earlier) != run["hash"]:
            differing.append(folder.name)
            remove_absent(earlier, run["settings"])
        assert hash_json(earlier) == run["hash"]
    assert sorted(differing) == [
        "add-deprel+lemma+upos-s1-156e8268",
        "average-deprel+lemma+upos-s1-3d23acbc",
        "concat-deprel+lemma+upos-s1-bcb26373",
        "gate-deprel+lemma+upos-s1-20176e63",
        "none-s1-1425a3ce",
        "none-s1-842c78a5",
        "none-s1-e510d066",
    ]


# ---- runs with an earlier identity


@pytest.fixture
def whole(small: Small) -> dict[str, Any]:
    """The outcome of a run that nothing has interrupted."""
    return small.whole(*LIMITS)


LIMITS = ("decoding.max_ratio=0.2", "decoding.max_extra=2", "decoding.beam=1")
"""Those of validations here (support/lives.py), for an earlier version used them there."""
OTHER_TEST = ("data.tests.test.source=dev.conllu", "data.tests.test.target=dev.de")


@pytest.mark.thorough
def test_a_finished_run_is_found(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_first_identity(small.train(*LIMITS), small.config(*LIMITS))
    before = record(folder)
    for settings in (LIMITS, (*LIMITS, "trainer.average=3", "decoding.beam=1")):
        capsys.readouterr()
        assert small.train(*settings) == folder
        assert f"finished before: {folder}" in capsys.readouterr().out
        assert record(folder) == before
    assert small.train(*LIMITS, "optimizer.lr=0.1") != folder


@pytest.mark.parametrize(
    "more",
    [
        (),
        pytest.param(("decoding.beam=2",), marks=pytest.mark.slow),
        ("data.tests.test.source=dev.conllu", "data.tests.test.target=dev.de"),
    ],
)
def test_an_unfinished_run_is_resumed(
    small: Small, whole: dict[str, Any], more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """By the same command, and by one with another search or test set; to the same bits."""
    folder = write_first_identity(stop(small, *LIMITS), small.config(*LIMITS))
    before = json.loads((folder / "run.json").read_bytes())
    assert small.train(*LIMITS, *more) == folder
    assert "resumed at update 5 of 6" in capsys.readouterr().out
    result = outcome(folder)
    assert {name: result[name] for name in ("hash", "settings")} == {
        name: before[name] for name in ("hash", "settings")
    }
    same = ["parameters", "updates", "selected", "curve", "model.safetensors"]
    same += [] if more else ["dev", "tests", "files", "dev.hyp", "test.hyp"]
    assert {name: result[name] for name in same} == {name: whole[name] for name in same}
    # Its test sets are no longer those of its first hash; it is the same run.
    assert small.train(*LIMITS, *more) == folder
    assert small.train(*LIMITS) == folder


@pytest.mark.thorough
def test_a_run_is_found_again_with_the_test_set_that_was_added(small: Small) -> None:
    folder = write_first_identity(small.train(*LIMITS), small.config(*LIMITS))
    added = "+data.tests.more.source=dev.conllu", "+data.tests.more.target=dev.de"
    for settings in (added, (*OTHER_TEST, *added), added):
        assert small.train(*LIMITS, *settings) == folder
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]
    assert small.train(*LIMITS, *added, "data.limit=70") != folder


@pytest.mark.thorough
def test_an_earlier_run_is_resumed_elsewhere(small: Small) -> None:
    expected = small.whole(*LIMITS, "trainer.max_steps=8")
    folder = write_first_identity(stop(small, *LIMITS), small.config(*LIMITS))
    assert outcome(small.train(*LIMITS, "trainer.max_steps=8", f"resume={folder}")) == expected


@pytest.mark.thorough
def test_validations_with_limits_of_an_earlier_version(small: Small) -> None:
    """The run itself goes on with them; another run is none that was trained with today's."""
    limits = ("decoding.max_ratio=0.4", "decoding.max_extra=3")
    folder = write_first_identity(stop(small, *limits), small.config(*limits))
    message = refused(small, *limits, "trainer.max_steps=8", f"resume={folder}")
    assert message.startswith(
        f"{folder}: was trained with decoding.max_extra=3, here None; decoding.max_ratio=0.4, "
    )
    searches = []
    with pytest.MonkeyPatch.context() as patch:
        translate = build_trainer.translate_split  # type: ignore[attr-defined]

        def remember(*arguments: Any, **named: Any) -> Any:
            searches.append(arguments[3])
            return translate(*arguments, **named)

        patch.setattr(build_trainer, "translate_split", remember)
        assert small.train(*limits) == folder
        with small.elsewhere("new") as twin:
            twin.train("decoding.max_ratio=0.1")
    first = dataclasses.replace(VALIDATION, max_ratio=0.4, max_extra=3)
    assert searches == [first] + [VALIDATION] * 3


def test_a_run_of_the_first_format(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was made when the cache had another format, too, is found and goes on."""
    first_format = ROOT / "tests" / "formats" / "1"
    before = record(first_format)
    monkeypatch.setattr(sentencepiece, "__version__", before["libraries"]["sentencepiece"])
    name = f"concat-deprel+upos-s1-{before['hash'][:8]}"
    folder = Path(shutil.copytree(first_format, small.folder / "runs" / name))
    cfg = convert_json(before["config"], TrainConfig)
    cfg.data.folder, cfg.data.readings = str(small.corpus), False
    cfg.paths.runs, cfg.paths.cache = str(folder.parent), str(small.cache)
    assert run_training(cfg).record.tests["test"].bleu == before["tests"]["test"]["bleu"]
    assert f"finished before: {folder}" in capsys.readouterr().out
    (folder / "result.json").unlink()
    (folder / "test.hyp").unlink()
    cfg.data.readings = True
    run_training(cfg)
    assert [path.name for path in folder.parent.glob("c*")] == [name]
    after = record(folder)
    for key in ("hash", "settings", "curve", "updates", "selected"):
        assert after[key] == before[key]
    assert after["tests"]["test"]["chrf"] == before["tests"]["test"]["chrf"]
    assert (folder / "test.hyp").read_bytes() == (first_format / "test.hyp").read_bytes()
