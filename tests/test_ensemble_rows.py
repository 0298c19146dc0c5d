"""Ensembles as rows of reports: in tables, comparisons, figures and the page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nmt_feat.analysis.corpora import choose_runs
from nmt_feat.analysis.examples import Corpora
from nmt_feat.analysis.figures import draw_figures
from nmt_feat.analysis.page import write_page
from nmt_feat.analysis.report import Report
from nmt_feat.runs.stored.records import Member, RunRecord
from tests.support import toy_runs


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three seeds of two methods, and two ensembles of one of them."""
    folder = tmp_path_factory.mktemp("toys")
    pairs = [
        toy_runs.run(folder, method, seed, wrong)
        for method, wrong in (("none", 0.3), ("gate", 0.25))
        for seed in (1, 2, 3)
    ]
    for seeds in ("1+2+3", "1+2"):
        count = len(seeds.split("+"))
        run_record, position = toy_runs.run(folder, f"gate, ensemble of {count}", 0, 0.1)
        members = [Member(int(seed), "", "") for seed in seeds.split("+")]
        settings = {"features": {"upos": {}}, "ensemble": seeds}
        pairs.append((replace(run_record, seed=-1, settings=settings, members=members), position))
    return Report(pairs)


def test_a_table_has_an_ensemble_as_one_measurement(report: Report) -> None:
    rows = {row["name"]: row for row in json.loads(report.to_json())["rows"]}
    assert list(rows) == ["none", "gate", "gate, ensemble of 3", "gate, ensemble of 2"]
    ensemble = rows["gate, ensemble of 3"]
    assert [run["seeds"] for run in ensemble["runs"]] == [[1, 2, 3]]
    assert ensemble["statistics"]["test BLEU"]["sd"] is None
    lines = list(csv.DictReader(io.StringIO(report.table.to_csv())))
    assert [(line["n"], line["seeds"]) for line in lines[1:3]] == [("3", "1 2 3"), ("1", "1+2+3")]
    assert any(note.startswith("An ensemble translates with") for note in report.table.notes)
    column = report.table.format_cells()[0].index("test BLEU")
    assert (1, column) in report.table.best_cells()  # the best method, not the best ensemble


def test_nothing_is_tested_against_an_ensemble(report: Report) -> None:
    compared = csv.DictReader(io.StringIO(report.comparisons_csv()))
    tested = {name for line in compared for name in (line["method"], line["other"])}
    assert tested == {"none", "gate"}
    titles = {table.title: table for table in report.tables}
    differences = titles["BLEU on test, against none"]
    assert differences.rows[2][3:] == ["-", "-", "-"]
    expected = (
        "One measurement, without interval or test: gate, ensemble of 3, gate, ensemble of 2."
    )
    assert expected in differences.notes
    assert not any("One seed supports no ranking" in note for note in differences.notes)
    pairs = next(table for title, table in titles.items() if title.startswith("Single models"))
    assert {row[0] for row in pairs.rows} == {"gate"}
    assert "The highest is gate (" in report.tables[0].notes[0]


def test_figures_and_page_show_it(report: Report, tmp_path: Path) -> None:
    figures = draw_figures(report)
    [axes] = figures["differences-test"][0].axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["gate", "gate, ensemble of 3", "gate, ensemble of 2"]
    assert "diamond: an ensemble" in figures["differences-test"][0].get_supxlabel()
    write_page(report, tmp_path / "page.html", Corpora())
    assert "gate, ensemble of 3" in (tmp_path / "page.html").read_text()


def test_where(report: Report) -> None:
    runs = {Path(str(i)): run for i, (run, _) in enumerate(report.runs)}
    count: Callable[[str], int] = lambda condition: len(choose_runs(runs, [condition]))  # noqa: E731
    assert [count("method=gate"), count("method=gate, ensemble of 2"), count("seed=1")] == [5, 1, 2]


def test_a_row_of_two_ensembles_says_which(report: Report) -> None:
    runs = [run for run, _ in report.runs]
    third: RunRecord = replace(runs[-1], hash="x", settings=runs[-1].settings | {"ensemble": "1+3"})
    names = list(Report([(run, None) for run in (*runs, third)]).table.runs_by_name())
    assert names[-2:] == ["gate ensemble=1+2, ensemble of 2", "gate ensemble=1+3, ensemble of 2"]
