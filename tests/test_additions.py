"""Results that are added to a finished run equal those of a run that had them from the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.analysis.report import Report
from nmt_feat.runs.stored.records import read_record
from nmt_feat.training.loop import Trainer
from tests.support.earlier import write_first_identity
from tests.support.entry import call
from tests.support.small import Small, record

MORE = ("data.tests.more.source=dev.conllu", "data.tests.more.target=dev.de")
RESULTS = ("dev", "tests", "files", "counts")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The updates that are made from now on."""
    updates: list[str] = []
    update = Trainer.update

    def count(trainer: Trainer) -> Any:
        updates.append(trainer.checkpoints.folder.parent.name)
        return update(trainer)

    monkeypatch.setattr(Trainer, "update", count)
    return updates


def results(folder: Path) -> dict[str, Any]:
    """Scores and the content of hypotheses and counts."""
    run_record = record(folder)
    names = [*run_record["files"].values(), *run_record["counts"].values()]
    return {k: run_record[k] for k in RESULTS} | {n: (folder / n).read_bytes() for n in names}


def train(small: Small, *settings: str) -> Path:
    """By the command line; the run's folder."""
    done = call("train", *small.overrides(*settings))
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("written to ")]
    return Path(line.removeprefix("written to "))


def test_a_test_set_that_is_added(small: Small, trained: list[str]) -> None:
    settings = ("control=shuffled", "data.readings=true", "decoding.nbest=2", "decoding.beam=2")
    with small.elsewhere("whole") as twin:
        whole = train(twin, *settings, *MORE)
    folder = train(small, *settings)
    assert folder.name == whole.name
    del trained[:]
    assert train(small, *settings, *MORE) == folder
    assert results(folder) == results(whole)
    assert (folder / "more.nbest.hyp").read_bytes() == (whole / "more.nbest.hyp").read_bytes()
    assert record(folder)["test_hashes"] == record(whole)["test_hashes"]
    before = (folder / "result.json").read_bytes()
    assert train(small, *settings, *MORE) == folder  # nothing is missing any more
    assert train(small, *settings) == folder
    assert (folder / "result.json").read_bytes() == before
    assert trained == []


@pytest.mark.thorough
def test_an_earlier_run_gets_a_test_set(small: Small, trained: list[str]) -> None:
    with small.elsewhere("whole") as twin:
        whole = train(twin, *MORE)
    folder = write_first_identity(train(small), small.config())
    before = record(folder)
    del trained[:]
    assert train(small, *MORE) == folder
    assert results(folder) == results(whole)
    after = record(folder)
    assert (after["hash"], after["settings"]) == (before["hash"], before["settings"])
    assert after["tests"]["test"] == before["tests"]["test"]
    assert trained == []


@pytest.mark.slow
def test_a_sweep_over_beams_trains_once(small: Small, trained: list[str]) -> None:
    settings = ("combiner=none", "trainer.max_steps=12")
    expected = {}
    for beam in (1, 3):
        with small.elsewhere(f"beam{beam}") as twin:
            expected[beam] = train(twin, *settings, f"decoding.beam={beam}")
    del trained[:]
    sweep = small.folder / "sweep"
    arguments = [*small.overrides(*settings, "decoding.beam=1,3"), f"hydra.sweep.dir={sweep}"]
    done = call("train", "-m", *arguments)
    assert done.code == 0, done.err
    assert "Plan: 1 run for 2 jobs, some of which train the same model" in done.out
    assert len(trained) == 12
    table = json.loads((sweep / "table.json").read_text())
    assert [row["settings"]["decoding.beam"] for row in table["rows"]] == ["1", "3"]
    for row, folder in zip(table["rows"], expected.values(), strict=True):
        (run,), whole = row["runs"], record(folder)
        assert run["test BLEU"] == whole["tests"]["test"]["bleu"]
        assert run["test chrF"] == whole["tests"]["test"]["chrf"]
        assert run["dev chrF"] == whole["dev"]["chrf"]
    (run,) = (small.folder / "runs").glob("none*")
    assert (run / "test@beam3.hyp").read_bytes() == (expected[3] / "test.hyp").read_bytes()
    counts = (run / "test@beam3.counts.parquet").read_bytes()
    assert counts == (expected[3] / "test.counts.parquet").read_bytes()
    # The run itself stays what it was: its first search is the one that a report on folders shows.
    alone = Report([(read_record(run / "result.json"), run)]).table.to_rows()
    assert alone[0]["runs"][0]["test chrF"] == record(expected[1])["tests"]["test"]["chrf"]


@pytest.mark.thorough
def test_other_files_under_the_name_of_a_test_set(small: Small, trained: list[str]) -> None:
    """Both results are kept, and each command shows its own."""
    other_files = ("data.tests.test.source=dev.conllu", "data.tests.test.target=dev.de")
    folder = train(small)
    before = results(folder)
    del trained[:]
    done = call("train", *small.overrides(*other_files))
    assert done.code == 0, done.err
    assert f"{folder}: translating test, with the trained weights" in done.out
    run_record = record(folder)
    (further,) = run_record["further"]
    assert further["scores"]["sentences"] == 8
    assert (folder / further["file"]).read_bytes() == (folder / "dev.hyp").read_bytes()
    assert results(folder) == before
    assert trained == []


@pytest.mark.thorough
def test_damaged_weights_are_not_used(small: Small) -> None:
    folder = train(small)
    before = (folder / "result.json").read_bytes()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    done = call("train", *small.overrides(*MORE))
    assert done.code == 2
    assert str(weights) in done.err
    assert done.err.count("\n") == 1
    assert (folder / "result.json").read_bytes() == before
