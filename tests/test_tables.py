"""Tables of runs and the end of a sweep."""

from __future__ import annotations

import csv
import io
import os
import runpy
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from nmt_feat.analysis.corpora import choose_runs
from nmt_feat.analysis.render import print_table
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.result_tables import ResultTable
from nmt_feat.base.terminal import format_duration
from nmt_feat.cli.next_steps import describe_folders
from nmt_feat.cli.sweep import SweepTable
from nmt_feat.evaluation.scores import Reading, Scores
from nmt_feat.runs.stored.records import RunRecord, write_record
from tests.support.lives import python

ROOT = Path(__file__).resolve().parent.parent


def run(method: str, seed: int, bleu: float | None, **settings: Any) -> RunRecord:
    features = [] if method == "none" else ["upos"]
    name = f"{method}-{seed}-{sorted(settings.items())}"
    record = RunRecord(method, features, seed, "toy", name, {}, {})
    record.settings = {
        "seed": seed,
        "combiner": {"_target_": method, "bias": settings.pop("bias", None)},
        "features": {f: {"column": f} for f in features},
        "annotator": "udpipe" if features else None,
        "data": {"name": settings.pop("data", "toy"), "hash": f"h{len(features)}"},
        "model": {"tie": settings.pop("tie", "target"), "dim": settings.pop("dim", 128)},
    }
    record.parameters = {"total": 2_600_000}
    record.train_seconds = 90
    if bleu is not None:
        record.dev = Scores(bleu + 1, 60, "BS", "CS", 9)
        record.tests = {"test": Scores(bleu, bleu + 20, "BS", "CS", 9)}
    return record


def cells(table: ResultTable) -> list[dict[str, str]]:
    heading, rows = table.format_cells()
    return [dict(zip(heading, row, strict=True)) for row in rows]


def test_parents_have_the_digits_of_their_folders() -> None:
    records = [run("gate", seed, 30.0 + seed) for seed in range(4)]
    for number, record in enumerate(records[1:]):
        weights, parent_hash = f"{number % 2}" * 64, f"{number % 2}abcdef7" * 8
        record.settings["init"] = {"run": weights}
        record.parent = {"run": "runs/p", "hash": parent_hash, "weights": weights}
    labels = [row["init.run"] for row in cells(ResultTable(records))]
    assert labels == ["-", "0abcdef7", "1abcdef7"]
    assert "gate init.run=1abcdef7" in ResultTable(records).runs_by_name()
    by_path = {Path(str(number)): record for number, record in enumerate(records)}
    assert [*choose_runs(by_path, ["init.run=1abcdef7"])] == [Path("2")]
    for record in records[1:]:  # of the same digits
        record.parent["hash"] = "0abcdef7" * 8
    labels = [row["init.run"] for row in cells(ResultTable(records))]
    assert labels == ["-", "0" * 64, "1" * 64]


def test_a_sweep_names_the_folders_of_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the command that translates with the best row that is not a control."""
    monkeypatch.chdir(tmp_path)
    records = [run("none", 1, 30.0), run("gate", 1, 31.0), run("gate", 2, 32.0)]
    records += [run("gate", 1, 40.0, control="shuffled"), run("add", 1, None)]
    records[3].settings["control"] = "shuffled"
    records.append(run("concat", 1, 50.0))
    records[5].config = {"data": {"terminology": {"shuffled": True}}}
    runs = [(r, tmp_path / "runs" / f"{i}") for i, r in enumerate(records)]
    assert [*describe_folders({"": Report(runs)})] == [
        "5 finished runs in runs",
        "translate with gate, seed 1, of the best row by dev BLEU: "
        "python translate.py run=runs/1 input=FILE",
    ]
    assert [*describe_folders({"": Report(runs[4:5])})] == []


def test_the_time_of_no_further_run_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    launcher = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
    config = OmegaConf.create({"hydra": {"launcher": launcher}})
    table = SweepTable()
    table.total = 2
    table.say_remaining_time(config, 2, 68.0)
    assert capsys.readouterr().out == ""
    table.say_remaining_time(config, 1, 68.0)
    assert capsys.readouterr().out.startswith("The first run took 68 s; 1 more of 2 take about 68")


def test_annotators_have_the_names_that_one_chooses() -> None:
    targets = {name: f"nmt_feat.annotators.{name}" for name in ("HanTa", "SpaCy")}
    records = [run("gate", seed, 30.0 + seed) for seed in range(4)]
    for record, target in zip(records, [*targets.values(), "my.Endings", None], strict=True):
        record.settings["annotator"] = target
    both = run("gate", 5, 30.0)
    both.settings["annotator"] = [targets["HanTa"], "my.Endings"]
    both.config = {"annotator": {"parts": {"hanta": {}, "endings": {}}}}
    labels = [row["annotator"] for row in cells(ResultTable([*records, both]))]
    assert labels == ["hanta", "spacy", "Endings", "none", "hanta+endings"]
    records[2].settings["annotator"] = "your.Endings"
    records[3].settings["annotator"] = "my.Endings"
    labels = [row["annotator"] for row in cells(ResultTable(records))]
    assert labels[2:] == ["your.Endings", "my.Endings"]  # else they would be one row


def test_rows_means_and_deviations() -> None:
    records = [run("none", s, 30 + s) for s in (1, 2, 3)] + [run("gate", 1, 35.125)]
    table = ResultTable(records)
    none, gate = cells(table)
    assert list(none) == [
        *("method", "features", "n", "dev BLEU", "dev chrF", "test BLEU", "test chrF"),
        *("parameters", "minutes"),
    ]
    assert list(none.values()) == [
        *("none", "-", "3", "33.00 ± 1.00", "60.00 ± 0.00", "32.00 ± 1.00", "52.00 ± 1.00"),
        *("2,600,000", "1.5"),
    ]
    assert list(gate.values()) == [
        *("gate", "upos", "1", "36.12", "60.00", "35.12", "55.12", "2,600,000", "1.5"),
    ]
    assert table.notes == [
        "Mean ± sample standard deviation over n seeds.",
        "BLEU `BS`, chrF `CS`",
    ]
    assert ResultTable(records[3:]).notes == ["BLEU `BS`, chrF `CS`"]


def test_the_best_of_each_score() -> None:
    """Less is better of TER and perplexity; dev and costs are no contest, nor are other corpora."""
    records = [run("none", 1, 30), run("gate", 1, 35)]
    for record, ter, perplexity in zip(records, (60.0, 50.0), (4.0, 5.0), strict=True):
        record.tests["test"].ter, record.tests["test"].perplexity = ter, perplexity
    table = ResultTable(records)
    heading, _ = table.format_cells()
    best = {(i, heading[j]) for i, j in table.to_report_table().best}
    assert best == {
        *((1, "test BLEU"), (1, "test chrF"), (1, "test TER")),
        (0, "test perplexity"),
    }
    assert (
        ResultTable([run("none", 1, 30, data="x"), run("none", 1, 35, data="y")]).best_cells()
        == frozenset()
    )
    assert ResultTable(records[:1]).best_cells() == frozenset()


def test_missing_cells() -> None:
    partly = run("add", 3, 30.0)
    partly.tests = {}
    table = ResultTable([run("add", 1, 30.0), run("add", 2, 31.0), partly, run("gate", 1, None)])
    add, gate = cells(table)
    assert (add["n"], add["dev BLEU"]) == ("3", "31.33 ± 0.58")
    assert add["test BLEU"] == "30.50 ± 0.71 (n=2)"
    assert (gate["n"], gate["test BLEU"], gate["parameters"]) == ("0/1", "-", "-")


def test_an_unfinished_run_keeps_its_place_when_it_is_finished() -> None:
    [row] = cells(ResultTable([run("add", 1, None), run("add", 2, 31.0), run("add", 1, 33.0)]))
    assert (row["n"], row["test BLEU"]) == ("2", "32.00 ± 1.41")


def test_a_run_given_twice_counts_once() -> None:
    [row] = cells(ResultTable([run("add", 1, 30.0), run("add", 1, 30.0), run("add", 2, 31.0)]))
    assert (row["n"], row["test BLEU"]) == ("2", "30.50 ± 0.71")


@pytest.mark.parametrize(
    ("setting", "heading"), [("tie", "tie"), ("dim", "model.dim"), ("data", "data")]
)
def test_mixed_settings_are_never_averaged(setting: str, heading: str) -> None:
    records = [run("add", s, 30.0 + s, **{setting: v}) for v in ("x", "y") for s in (1, 2)]
    rows = cells(ResultTable([*records, run("none", 1, 20.0, **{setting: "x"})]))
    assert [(r["method"], r[heading], r["n"]) for r in rows] == [
        ("add", "x", "2"),
        ("add", "y", "2"),
        ("none", "x", "1"),
    ]
    assert len(rows[0]) == 10


def test_a_search_without_settings_that_came_later_is_the_same() -> None:
    records = [run("add", seed, 30.0 + seed) for seed in (1, 2)]
    for record, search in zip(records, ({"beam": 5}, {"beam": 5, "stop": "proven"}), strict=True):
        record.config["decoding"] = search
    [row] = cells(ResultTable(records))
    assert row["n"] == "2"
    records[1].config["decoding"]["stop"] = "likely"
    rows = cells(ResultTable(records))
    assert [row["decoding.stop"] for row in rows] == ["proven", "likely"]


def test_settings_of_a_method_label_only_where_they_split_it() -> None:
    plain = cells(ResultTable([run("gate", 1, 30.0, bias=0), run("none", 1, 30.0)]))
    assert "combiner.bias" not in plain[0]
    rows = cells(
        ResultTable([run("gate", 1, 30.0, bias=b) for b in (0, -2)] + [run("none", 1, 20.0)])
    )
    assert [r["combiner.bias"] for r in rows] == ["0", "-2", "null"]
    assert [r["n"] for r in rows] == ["1", "1", "1"]


def test_order_of_features_means_nothing() -> None:
    one, second = run("add", 1, 30.0), run("add", 2, 31.0)
    one.features, second.features = ["upos", "lemma"], ["lemma", "upos"]
    [row] = cells(ResultTable([one, second]))
    assert (row["features"], row["n"]) == ("upos, lemma", "2")


def test_readings_have_columns_where_there_are_some() -> None:
    record = run("add", 1, 30.0)
    record.tests["test"].reading = Reading(10, 0.875, 0, None)
    [row] = cells(ResultTable([record]))
    assert row["test readings %"] == "87.5"
    assert "test settled %" not in row


def test_markdown_and_csv(tmp_path: Path) -> None:
    records = [run("My|Way", s, 30 + s / 7) for s in (1, 2, 3)]
    report = Report([(record, None) for record in records], ["Failed: x"])
    assert [p.name for p in report.write_files(tmp_path / "new")][:2] == ["table.md", "table.csv"]
    markdown = (tmp_path / "new" / "table.md").read_text(encoding="utf-8")
    assert markdown.splitlines()[0].startswith("| method | features | n | dev BLEU |")
    assert markdown.splitlines()[2].startswith("| My\\|Way | upos | 3 | 31.29 ± 0.14 |")
    assert markdown.endswith("\n- Failed: x\n")
    text = (tmp_path / "new" / "table.csv").read_text(encoding="utf-8")
    [row] = csv.DictReader(io.StringIO(text))
    values = [30 + s / 7 for s in (1, 2, 3)]
    assert float(row["test BLEU mean"]) == statistics.fmean(values)
    assert float(row["test BLEU sd"]) == statistics.stdev(values)
    assert (row["test BLEU n"], row["seeds"], row["expected"]) == ("3", "1 2 3", "3")


def test_printing_cuts_nothing() -> None:
    table = ResultTable([run("a[b]" * 20, s, 30.0 + s) for s in (1, 2)])
    console = Console(file=io.StringIO(), width=40)
    print_table(table.to_report_table(), console)
    out = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a[b]" * 20 in out
    assert "31.50 ± 0.71" in out


def test_report_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in (run("add", 1, 30.0), run("add", 2, None)):
        folder = tmp_path / "runs" / f"add-s{record.seed}"
        folder.mkdir(parents=True)
        write_record(folder, record)
    monkeypatch.chdir(tmp_path)

    def report(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["report.py", *arguments])
        code = 0
        try:
            runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
        except SystemExit as end:
            code = int(str(end.code))
        return code, *capsys.readouterr()

    code, out, err = report("runs", "--out", "out")
    assert (code, err) == (0, "")
    assert "1/2" in out
    assert "Not finished: add-s2" in out
    assert (tmp_path / "out" / "table.md").exists()
    message = "error: nowhere: no such folder; give folders of runs, or folders above them\n"
    assert report("nowhere") == (2, "", message)
    (tmp_path / "file").touch()
    for option, path, message in (
        ("--out", "file", "file: cannot be written (File exists)"),
        ("--html", "runs", "runs: cannot be written (Is a directory)"),
        ("--html", "file/page.html", "file/page.html: cannot be written (File exists)"),
    ):
        code, _, err = report("runs", option, path)
        assert (code, err.splitlines()[-1]) == (2, f"error: {message}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "out", "runs"]
    code, _, err = report("runs", "--figures")
    assert (code, err.splitlines()[-1]) == (
        2,
        "report.py: error: --figures needs --out, the folder to write them into",
    )


APP = """
from pathlib import Path
import hydra
from nmt_feat.errors import UserError
from nmt_feat.evaluation.scores import Scores
from nmt_feat.cli.sweep import current
from nmt_feat.config.identity import shorten_class_name
from nmt_feat.runs.stored.records import (FINISHED, RunRecord, read_record, write_record)

@hydra.main(version_base="1.3", config_path=".", config_name="app")
def main(cfg):
    target = cfg.combiner._target_
    if target == "early.Fails":
        raise UserError("combiner: too wide; use 3")
    folder = Path("runs") / f"{target}-{cfg.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / FINISHED).exists():
        current.folder = folder
        return 1.0
    method = shorten_class_name(target)
    settings = {"seed": cfg.seed, "combiner": {"_target_": target}}
    record = RunRecord(method, ["upos"], cfg.seed, "toy", f"{target}{cfg.seed}", settings, {})
    write_record(folder, record)
    current.folder = folder
    if cfg.seed == cfg.broken:
        raise ZeroDivisionError("division\\nby zero")
    if cfg.seed == cfg.stopped:
        raise KeyboardInterrupt
    record.dev = Scores(30.0 + cfg.seed, 50.0, "BS", "CS", 10)
    write_record(folder, record)
    current.trained = True
    return record.dev.bleu

main()
"""
CONFIG = """
combiner: {_target_: nmt_feat.combiners.Add}
features: {upos: {}}
data: {name: toy}
seed: 1
broken: 0
stopped: 0
hydra: {callbacks: {table: {_target_: nmt_feat.cli.sweep.SweepTable}}, sweep: {dir: sweep}}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Any:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "app.yaml").write_text(CONFIG)

    def go(*arguments: str) -> subprocess.CompletedProcess[str]:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, "app.py", "-m", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return go


@pytest.mark.slow
def test_failed_jobs_lose_nothing_and_are_listed(tmp_path: Path, sweep: Any) -> None:
    add, early = "nmt_feat.combiners.Add", "early.Fails"
    done = sweep(f"combiner._target_={early},{add}", "seed=range(1,4)", "broken=2")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    markdown = (tmp_path / "sweep" / "table.md").read_text(encoding="utf-8").splitlines()
    assert markdown[2] == "| Fails | upos | 0/3 | - | - | - | - |"
    assert markdown[3] == "| add | upos | 2/3 | 32.00 ± 1.41 | 50.00 ± 0.00 | - | 0.0 |"
    overrides = f"combiner._target_={early} seed=2 broken=2"
    assert f"- Failed: job 2 ({overrides}): combiner: too wide; use 3" in markdown
    overrides = f"combiner._target_={add} seed=2 broken=2"
    assert f"- Failed: job 5 ({overrides}): ZeroDivisionError: division by zero" in markdown
    assert "Job 5 failed: ZeroDivisionError: division by zero" in done.stdout
    assert "The first run took 0 s; 2 more of 6 take about 0 s" in done.stdout
    assert f"Job 5 of 6: {overrides}" in done.stdout
    assert "add     upos      2/3  32.00 ± 1.41" in done.stdout
    assert (tmp_path / "sweep" / "table.csv").exists()
    assert "in main" in (tmp_path / "sweep" / "jobs" / "5.json").read_text()

    again = sweep("seed=range(1,4)")
    assert again.returncode == 0, again.stderr
    assert "| add | upos | 3 |" in (tmp_path / "sweep" / "table.md").read_text(encoding="utf-8")
    assert "Failed" not in again.stdout
    assert "The first run took 0 s; 1 more of 3 take about 0 s" in again.stdout  # seed 2's


@pytest.mark.slow
def test_stopped_sweep_shows_what_there_is(tmp_path: Path, sweep: Any) -> None:
    done = sweep("seed=1,2,3", "stopped=2")
    assert done.returncode != 0
    assert "| add | upos | 1 |" in (tmp_path / "sweep" / "table.md").read_text(encoding="utf-8")
    assert "Not run: 2 of 3 jobs" in done.stdout


@pytest.mark.thorough
def test_refused_overrides_make_no_table(tmp_path: Path, sweep: Any) -> None:
    done = python("app.py", "-m", "seed=1,2", "nothing=1", cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing" in done.stderr
    assert not (tmp_path / "sweep" / "table.md").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (3599, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
