"""What is compared with what, where rows differ in more than their method."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.analysis.comparison_tables import describe_evidence
from nmt_feat.analysis.figure_data import mean_gates, score_by_information
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.result_tables import ResultTable
from nmt_feat.analysis.row_labels import RowLabels
from nmt_feat.cli.sweep import _read_job_record
from nmt_feat.evaluation.combiner_diagnostics import GateValue, Parts
from nmt_feat.runs.stored.records import CurvePoint, RunRecord
from tests.support.toy_runs import run

Runs = list[tuple[RunRecord, Path]]


def made(folder: Path, method: str, seeds: int = 2, wrong: float = 0.2, **settings: Any) -> Runs:
    """Runs of a row; `settings` are its own, with `features` the settings of upos."""
    feature = settings.pop("features", {})
    results = []
    for seed in range(1, seeds + 1):
        record, run_folder = run(folder / f"{settings}{feature}", method, seed, wrong)
        record.hash += f"{settings}{feature}"
        record.settings |= settings | {"features": dict.fromkeys(record.features, feature)}
        results.append((record, run_folder))
    return results


def compared(report: Report) -> list[tuple[str, str | None, list[str]]]:
    """Conditions, baseline and methods of each comparison on BLEU."""
    return [(e.conditions, e.baseline, list(e.against["BLEU"])) for e in report.comparisons]


@pytest.mark.thorough
@pytest.mark.parametrize("first", ["all", "target"])
def test_the_baseline_is_words_only_under_the_methods_settings(tmp_path: Path, first: str) -> None:
    """Whichever comes first: a row of words only with other settings is a method like the others"""
    other_tie = {"all": "target", "target": "all"}[first]
    runs = [
        *made(tmp_path, "none", model={"tie": first}),
        *made(tmp_path, "none", model={"tie": other_tie}),
        *made(tmp_path, "gate", model={"tie": "target"}),
        *made(tmp_path, "add", model={"tie": "target"}),
    ]
    report = Report(runs, pairs=False)
    [(conditions, baseline, methods)] = compared(report)
    assert (conditions, baseline) == ("", "none tie=target")
    assert set(methods) == {"none tie=all", "gate", "add"}
    evidence_text = describe_evidence(report.comparisons[0])
    assert "Trained with other settings than none tie=target: none tie=all." in evidence_text
    chosen_report = Report(runs, pairs=False, baseline="none tie=all")
    assert [baseline for _, baseline, _ in compared(chosen_report)] == ["none tie=all"]


def test_the_baseline_of_terms_is_the_text_as_it_is(tmp_path: Path) -> None:
    """Of rows of words only that share their settings with no method, the plainest counts."""
    tags = {"data": {"terminology": {"mode": "append", "marking": "tags"}}}
    factor = {"data": {"terminology": {"mode": "append", "marking": "factor"}}}
    rows = made(tmp_path, "none", **tags), made(tmp_path, "none"), made(tmp_path, "add", **factor)
    for ordered in (rows, rows[::-1]):
        [comparison] = compared(Report([run for row in ordered for run in row], pairs=False))
        conditions, baseline, methods = comparison
        assert (conditions, baseline) == ("", "none marking=-")
        assert {*methods} == {"none marking=tags", "add"}


@pytest.mark.thorough
def test_each_size_of_a_corpus_has_its_own_baseline(tmp_path: Path) -> None:
    runs = [
        r
        for limit in (100, 200)
        for method, wrong in (("none", 0.4), ("gate", 0.1), ("add", 0.12))
        for r in made(tmp_path, method, wrong=wrong, data={"limit": limit})
    ]
    report = Report(runs, pairs=False)
    assert compared(report) == [(f"data.limit={n}", "none", ["gate", "add"]) for n in (100, 200)]
    for evidence in report.comparisons:
        [pair] = evidence.orders["BLEU"]
        assert {*pair} == {"gate", "add"}
        assert evidence.baseline_row == f"none {evidence.conditions}"
    listed = csv.DictReader(io.StringIO(report.comparisons_csv()))
    result = {(row["conditions"], row["method"], row["other"]) for row in listed}
    assert {("data.limit=100", "gate", "none"), ("data.limit=200", "gate", "none")} < result
    assert any(b.title.startswith("BLEU on test (data.limit=100), against") for b in report.tables)
    # A row that fits nowhere is named, several are compared without a baseline of words only.
    report = Report([*runs, *made(tmp_path, "gate", data={"limit": 300})], pairs=False)
    assert len(report.comparisons) == 2
    note = "Not compared, for no other row has its settings: gate data.limit=300."
    assert note in report.table.notes
    more = [r for m in ("average", "add") for r in made(tmp_path, m, data={"limit": 300})]
    more += made(tmp_path, "none", data={"limit": 400})
    assert compared(Report([*runs, *more], pairs=False))[2:] == [("other settings", None, [])]


def test_what_tells_rows_apart(tmp_path: Path) -> None:
    runs = [
        *made(tmp_path, "gate", 1, combiner={"bias": 1}, features={"erase": 0.5, "dim": 8}),
        *made(tmp_path, "gate", 1, combiner={"bias": 2}, features={"erase": 0.5, "dim": 8}),
        *made(tmp_path, "gate", 1, combiner={"bias": 2}, features={"dim": 8}, control="shuffled"),
        *made(tmp_path, "gate", 1, combiner={"bias": 2}, features={"dim": 9}, trainer={"lr": 1}),
        *made(tmp_path, "gate", 1, combiner={"bias": 2}, features={"dim": 9, "max_values": 7}),
        *made(tmp_path, "gate", 1, combiner={"bias": 2}, features={"dim": 9, "max_values": 8}),
    ]
    first, *_, last = ResultTable(record for record, _ in runs).labels_by_name().values()
    assert first == RowLabels(
        "upos erase=0.5 features.upos.max_values=-",
        "combiner.bias=1",
        "trainer.lr=-",
    )
    assert last.information == "upos features.upos.max_values=8"


def test_settings_without_a_column_are_named(tmp_path: Path) -> None:
    """One column tells two rows apart, although they differ in more."""
    runs = made(tmp_path, "add", model={"dim": 8, "heads": 2})
    runs += made(tmp_path, "add", model={"dim": 16, "heads": 4})
    report = Report(runs, pairs=False)
    assert report.table.labels == ["model.dim"]
    assert "Further settings in which rows differ: model.heads." in report.table.notes
    assert not any("Further" in note for note in Report(runs[:2], pairs=False).table.notes)


def test_an_unfinished_copy_of_a_run_leaves_its_counts_alone(tmp_path: Path) -> None:
    runs = [r for m in ("none", "gate") for r in made(tmp_path, m)]
    record, _ = runs[0]
    copy = RunRecord(record.method, [], record.seed, "toy", record.hash, record.settings, {})
    for some in ([*runs, (copy, tmp_path)], [(copy, tmp_path), *runs]):
        assert [methods for *_, methods in compared(Report(some, pairs=False))] == [["gate"]]


def test_points_over_bits_are_of_runs_with_the_same_settings(tmp_path: Path) -> None:
    runs = []
    for erase, bits in ((0.0, 2.0), (0.5, 1.0)):
        for settings in ({"trainer": {"precision": p}} for p in ("bf16", "fp32")):
            for dim in (8, 9):
                feature = {"erase": erase, "dim": dim}
                runs += made(tmp_path, "gate", 1, 0.1, features=feature, **settings)
                information = {"entropy": bits, "given_word": bits / 2}
                runs[-1][0].data_report = {"features": {"upos": information}}
    result = score_by_information(ResultTable(record for record, _ in runs))
    assert list(result) == [f"toy trainer.precision={p}" for p in ("bf16", "fp32")]
    for lines in result.values():
        assert list(lines) == [f"gate features.upos.dim={dim}" for dim in (8, 9)]
        for points in lines.values():
            assert {bits: len(bleu) for bits, bleu in points.items()} == {(2, 1): 1, (1, 0.5): 1}


def test_a_seed_that_is_not_finished_leaves_the_curves_of_the_others(tmp_path: Path) -> None:
    figures = pytest.importorskip("nmt_feat.analysis.figures")
    pytest.importorskip("matplotlib")
    runs = [r for m in ("gate", "none") for r in made(tmp_path, m)]
    for record, _ in runs:
        record.curve = [CurvePoint(step, 1.0, float(step)) for step in (1, 2)]
    runs[0][0].curve, runs[0][0].dev = [], None
    [axes] = figures.draw_curves(ResultTable(record for record, _ in runs).runs_by_name()).axes
    assert [line.get_label() for line in axes.lines] == ["gate (n=1)", "none (n=2)"]


def test_classes_have_no_gates_over_seeds(tmp_path: Path) -> None:
    """Each seed draws which values are in class 1."""
    whole, classes = (made(tmp_path, "gate", 2, features=f) for f in ({}, {"classes": 4}))
    for record, _ in [*whole, *classes]:
        value = GateValue("1", 10, {"word": 0.5, "upos": 0.5})
        record.parts = Parts({"word": 0.5, "upos": 0.5}, {"upos": [value]})
    assert list(mean_gates([record for record, _ in whole])) == ["upos"]
    assert mean_gates([record for record, _ in classes]) == {}


def test_no_score_is_the_best_of_two_directions(tmp_path: Path) -> None:
    for key, best in (("target_lang", 0), ("limit", 2)):
        runs = [r for v in ("a", "b") for r in made(tmp_path / key, "none", 1, data={key: v})]
        result = {column for _, column in ResultTable(record for record, _ in runs).best_cells()}
        assert len(result) == best


def test_means_over_revisions_and_devices_say_so(tmp_path: Path) -> None:
    runs = [record for record, _ in [*made(tmp_path, "none", 2), *made(tmp_path, "gate", 2)]]
    for number, record in enumerate(runs):
        record.code = {"revision": f"{number // 2:040x}"}
        record.machine = {"cpu": "C", "gpu": None}
    assert not any("Means are" in note for note in ResultTable(runs).notes)  # each row has one
    runs[1].machine = {"cpu": "C", "gpu": "G"}
    runs[3].code = {"revision": "0" * 39 + "1+"}  # changed files
    notes = ResultTable(runs).notes
    assert "Means are over runs of 2 revisions: 0000000, 0000000+." in notes
    assert "Means are over runs of 2 devices: C, G." in notes


def test_means_over_unlike_files_of_a_test_set_say_so(tmp_path: Path) -> None:
    runs = [record for record, _ in [*made(tmp_path, "none", 2), *made(tmp_path, "gate", 2)]]
    for number, record in enumerate(runs):
        record.test_hashes = dict.fromkeys(record.tests, f"of row {number // 2}")
    (name,) = runs[0].tests
    note = f"Means of {name} are over runs that were tested on unlike files of this name."
    assert note not in ResultTable(runs).notes  # the files of each row are alike
    runs[1].test_hashes = {name: "other"}
    assert note in ResultTable(runs).notes


def test_a_job_that_failed_early_is_missing_in_its_row(tmp_path: Path) -> None:
    """Its whole configuration is known, of others what determines the result."""
    model = {"model": {"source_words": False}}  # as another row has it
    runs = [
        *made(tmp_path, "gate", 2),
        *made(tmp_path, "gate", 2, features={"erase": 0.5}),
        *made(tmp_path, "gate", 2, **model),
        *made(tmp_path, "none", 2),
        *made(tmp_path, "none", 2, control="matched"),
        *made(tmp_path, "gate", 2, control="shuffled"),
    ]
    records = [record for record, _ in runs]
    for control, target, erase in (
        ("none", "nmt_feat.combiners.Gate", 0.0),
        ("none", "nmt_feat.combiners.Gate", 0.5),
        ("shuffled", "nmt_feat.combiners.Gate", 0.0),
        ("matched", "nmt_feat.combiners.Gate", 0.0),
        ("shuffled", None, 0.5),
    ):
        upos = {"erase": erase, "classes": None}
        config = {"combiner": {"_target_": target}, "features": {"upos": upos}, "seed": 3}
        config |= {"control": control, "model": {"source_words": True}}
        stub, _ = _read_job_record({"folder": None, "number": 1, "config": config})
        lost = {"folder": str(tmp_path), "number": 1, "config": config}  # the record is gone
        assert _read_job_record(lost) == (stub, None)
        records.append(stub)
    _, rows = ResultTable(records).format_cells()
    assert len(rows) == 6
    column = ResultTable(records).format_cells()[0].index("n")
    assert [row[column] for row in rows] == ["2/3", "2/3", "2", "2/3", "2/3", "2/3"]


def test_jobs_that_failed_early_are_told_apart_by_what_was_asked(tmp_path: Path) -> None:
    stubs = [RunRecord("gate", ["upos"], 1, "", "", {"optimizer": {"lr": lr}}, {}) for lr in (1, 2)]
    finished = made(tmp_path, "gate", 1, optimizer={"lr": 1})
    table = ResultTable([*stubs, finished[0][0]])
    assert sum(len(runs) for runs in table.rows.values()) == 3


def test_a_report_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    """Whatever a report writes, figures too; nothing else in the folder."""
    words, out = made(tmp_path, "none"), tmp_path / "out"
    Report([*words, *made(tmp_path, "gate")], pairs=False).write_files(out)
    assert (out / "comparisons.csv").exists()
    (out / "gates-folder").mkdir()
    users = {out / name for name in ("notes.md", "my-curves.png", "curves.txt", "table.docx")}
    drawn = {out / name for name in ("curves.png", "lengths-test--2.pdf", "gates-gate.png")}
    for path in users | drawn:
        path.touch()
    written = Report(words[:1], pairs=False).write_files(out)
    assert {*out.iterdir()} == {*written, *users, out / "gates-folder"}
    assert out / "comparisons.csv" not in written
