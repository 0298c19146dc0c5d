"""Records of runs: round trip, broken files, what is found in folders."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt_feat.config.identity import shorten_class_name
from nmt_feat.errors import UserError
from nmt_feat.evaluation.scores import Reading, Scores
from nmt_feat.evaluation.test_sets import write_hypotheses
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.provenance import (
    code_revision,
    describe_machine,
    describe_origin,
    package_versions,
    peak_memory_mib,
    restart_peak_memory,
)
from nmt_feat.runs.stored.records import CurvePoint, RunRecord, read_record, write_record


def record(**changes: Any) -> RunRecord:
    scores = Scores(31.25, 55.5, "nrefs:1|case:mixed", "nrefs:1|nc:6", 200)
    return RunRecord(
        **{
            "method": "gate",
            "features": ["upos", "deprel"],
            "seed": 1,
            "data": "toy",
            "hash": "abc",
            "settings": {"seed": 1, "model": {"tie": "target"}, "limits": [1, None, "x"]},
            "config": {"paths": {"runs": "runs"}},
            "parameters": {"total": 10, "combiner": 3},
            "curve": [CurvePoint(100, 2.5, 20.0), CurvePoint(200, 2, None)],
            "dev": scores,
            "tests": {"test": Scores(30, 54, "a", "b", 9, Reading(4, 0.5, 0, None))},
            **describe_origin(),
            **changes,
        }
    )


def test_round_trip(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    assert path == tmp_path / "result.json"
    assert read_record(path) == record()
    assert list(tmp_path.iterdir()) == [path]
    again = read_record(path)
    assert isinstance(again.tests["test"].bleu, float)
    assert isinstance(again.tests["test"].reading, Reading)


def test_json_has_no_nan(tmp_path: Path) -> None:
    path = write_record(tmp_path, record(curve=[CurvePoint(1, math.inf, math.nan)]))
    assert read_record(path).curve == [CurvePoint(1, None, None)]


def test_newer_fields_are_ignored_and_later_ones_have_defaults(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    content = json.loads(path.read_text())
    del content["curve"]
    path.write_text(json.dumps({**content, "more": 1}))
    assert read_record(path) == record(curve=[])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "1"}, 'seed is "1", not int'),
        ({"seed": True}, "seed is true, not int"),
        ({"features": "upos"}, 'features is "upos", not list'),
        ({"dev": {"bleu": 1}}, "dev.chrf is missing"),
        ({"dev": 3}, "dev is 3, not Scores"),
        ({"tests": {"test": {"bleu": None}}}, "tests.test.chrf is missing"),
        ({"parameters": {"total": 1.5}}, "parameters.total is 1.5, not int"),
        ({"curve": [{"step": 1, "loss": "x", "bleu": None}]}, 'curve[0].loss is "x", not float'),
    ],
)
def test_wrong_types(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_record(tmp_path, record())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError) as error:
        read_record(path)
    assert str(error.value) == f"{path}: not the record of a run ({message}); train the run again"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"method": "ga', "Unterminated string starting at: line 1 column 12 (char 11)"),
        (
            b'{"method": "\xff"}',
            "'utf-8' codec can't decode byte 0xff in position 12: invalid start byte",
        ),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_record(path)
    assert str(error.value) == f"{path}: not readable as JSON ({message}); train the run again"


def test_other_json(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for content, message in (("[]", "the file is [], not RunRecord"), ("{}", "method is missing")):
        path.write_text(content)
        with pytest.raises(UserError) as error:
            read_record(path)
        assert (
            str(error.value) == f"{path}: not the record of a run ({message}); train the run again"
        )


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_record(tmp_path / "result.json")
    assert str(error.value) == f"{tmp_path}/result.json: no such file; give the folder of a run"


def test_runs_are_found_once_with_the_unfinished(tmp_path: Path) -> None:
    for name, changes in {"a/b": {}, "a/c": {"dev": None}, "d": {}}.items():
        folder = tmp_path / name
        folder.mkdir(parents=True)
        write_record(folder, record(hash=name, dev=None))
        if "dev" not in changes:
            write_record(folder, record(hash=name))
    result = find_runs([tmp_path / "d", tmp_path, tmp_path / "a" / "b"])
    assert [r.hash for r in result.values()] == ["d", "a/b", "a/c"]
    assert [r.finished for r in result.values()] == [True, True, False]


def test_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        find_runs([tmp_path])
    assert (
        str(error.value)
        == f"{tmp_path}: no result.json in it or below; give a folder of runs, or that of a sweep"
    )
    with pytest.raises(UserError) as error:
        find_runs([tmp_path / "x"])
    assert str(error.value) == (
        f"{tmp_path}/x: no such folder; give folders of runs, or folders above them"
    )


def test_hypotheses_are_one_line_each(tmp_path: Path) -> None:
    assert write_hypotheses(tmp_path, "test", ["a\nb \n", "", "ä"]) == "test.hyp"
    assert (tmp_path / "test.hyp").read_text(encoding="utf-8") == "a b\n\nä\n"


def test_names_of_methods() -> None:
    targets = "nmt_feat.combiners.Gate", "nmt_feat.combiners.DMESigmoid"
    names = map(shorten_class_name, (None, *targets, "my.module.MyCombiner", "Mine"))
    assert list(names) == ["none", "gate", "dme_sigmoid", "MyCombiner", "Mine"]


def test_environment() -> None:
    assert code_revision()["version"]
    assert {"python", "torch", "sacrebleu", "hydra-core"} <= package_versions().keys()
    assert describe_machine()["threads"] >= 1
    assert 50 < peak_memory_mib() < 100_000


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="the system keeps it for the whole process",
)
def test_peak_memory_of_one_run_after_another() -> None:
    large = np.ones(50_000_000)
    before = peak_memory_mib()
    del large
    restart_peak_memory()
    assert peak_memory_mib() < before - 300
