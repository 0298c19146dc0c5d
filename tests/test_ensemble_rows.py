"""Ensembles as rows: `evaluate ensemble=true`, and what tables, page and figures make of them."""

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
from nmt_feat.base.checksums import check_sums
from nmt_feat.evaluation.metrics import score
from nmt_feat.runs import additions
from nmt_feat.runs.records import Member, RunRecord
from nmt_feat.text.files import read_lines
from tests.support import toy_runs
from tests.support.entry import call
from tests.support.small import Small, record

WORDS = ("combiner=none", "trainer.max_steps=4")


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of words only, and what can be in no ensemble with them."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("ensembles"))
    for seed in (1, 2):
        small.train(*WORDS, f"seed={seed}")
    more = f"data.tests.more={{source: {corpus}/dev.conllu, target: {corpus}/dev.de}}"
    small.train(*WORDS, "seed=3", more)
    small.train(*WORDS, "seed=4", "decoding.beam=2")
    small.train("combiner=add", "trainer.max_steps=2", "control=shuffled")
    small.train("combiner=add", "trainer.max_steps=2", "features.upos.classes=2", "seed=1")
    small.train("combiner=add", "trainer.max_steps=2", "features.upos.classes=2", "seed=2")
    return small.folder / "runs"


def test_an_ensemble_is_a_row(
    runs: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_split = additions.evaluate_split  # type: ignore[attr-defined]
    sets = list[str]()

    def stop_before_dev(*arguments: object) -> object:
        sets.append(str(arguments[-1]))
        if sets == ["test", "dev"]:
            raise KeyboardInterrupt
        return evaluate_split(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(additions, "evaluate_split", stop_before_dev)
    asked = (f"run={runs}/none-s[12]*", "ensemble=true")
    assert call("evaluate", *asked).code == 130
    [folder] = runs.glob("none-ensemble2-*")
    assert not (folder / "result.json").exists()
    done = call("evaluate", *asked)
    assert done.code == 0, done.err
    assert sets == ["test", "dev", "dev"]  # what was there is not made again
    assert f"3 of 3 done: {folder}" in done.out
    assert "none, ensemble of 2" in done.out

    ensemble = record(folder)
    one, two = sorted(runs.glob("none-s[12]*"))
    assert [run["folder"] for run in ensemble["members"]] == [f"../{one.name}", f"../{two.name}"]
    assert ensemble["parameters"]["total"] == 2 * record(one)["parameters"]["total"]
    check_sums(folder)
    text = f"input={small.corpus}/test.conllu"
    translated = call("translate", f"run={one},{two}", text, "threads=1")
    assert (folder / "test.hyp").read_text() == translated.out
    assert call("translate", f"run={folder}", text, "threads=1").out == translated.out
    scores = score(translated.out.splitlines(), read_lines(small.corpus / "test.de"))
    assert ensemble["tests"]["test"]["chrf"] == scores.chrf

    more = ("decoding.beam=2", "metrics=[bleu,chrf,ter,chrf++]")
    assert call("evaluate", *asked, *more).code == 0
    assert sets[-2:] == ["dev@beam2", "test@beam2"]
    assert record(folder)["further"][1]["scores"]["metrics"]["chrF++"]["score"] > 0
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    again = call("evaluate", *asked, *more)
    assert "translating" not in again.out
    assert {path: path.read_bytes() for path in folder.iterdir()} == contents
    alone = call("evaluate", f"run={runs}/none-[es][n12]*")
    assert f"{folder}: is an ensemble; ensemble=true tests its runs together" in alone.out
    refused = call("export", folder)
    assert refused.code == 2
    assert "an ensemble has no weights of its own; give one of its runs" in refused.err


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none-s1*", "one run is no ensemble; give several seeds of a row"),
        ("none-s[13]*", "has other test sets (test, more) than"),
        ("none-s[14]*", "was tested by another search than"),
        ("add-deprel+upos-s[12]*", "has other pieces or values of features than"),
        ("*shuffled*", "only controls, whose features differ by seed"),
    ],
)
def test_what_is_refused(runs: Path, pattern: str, message: str) -> None:
    done = call("evaluate", f"run={runs}/{pattern}", "ensemble=true")
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_other_features_are_refused(runs: Path) -> None:
    one, two = (next(runs.glob(name)) for name in ("none-s1*", "add-deprel+upos-s1*"))
    done = call("evaluate", f"run={one},{two}", "ensemble=true")
    assert done.code == 2
    assert f"no two of these runs differ in the seed alone ({one.name} and {two.name}" in done.err


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
        results, position = toy_runs.run(folder, f"gate, ensemble of {count}", 0, 0.1)
        members = [Member(int(seed), "", "") for seed in seeds.split("+")]
        settings = {"features": {"upos": {}}, "ensemble": seeds}
        pairs.append((replace(results, seed=-1, settings=settings, members=members), position))
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
