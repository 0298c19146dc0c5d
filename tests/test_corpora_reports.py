"""Runs of several corpora, runs of a sweep's folder, some of many runs; the answer comes first."""

from __future__ import annotations

import csv
import io
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nmt_feat.analysis.answer import answer_question
from nmt_feat.analysis.corpora import choose_runs, folder_names, split_by_corpus
from nmt_feat.analysis.report import Report, make_reports, write_reports
from nmt_feat.analysis.watch import read_snapshot, render_snapshot
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import counts_file, write_counts
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.records import RunRecord, write_record
from tests.support.entry import call
from tests.support.toy_runs import LINES, REFERENCES, measure

ROOT = Path(__file__).resolve().parent.parent
PAIRS = {"en to de": ("en", "de"), "de to en": ("de", "en")}


def make_run(
    folder: Path,
    method: str,
    seed: int,
    wrong: float,
    control: str = "none",
    data: tuple[str, str, str] = ("toy", "en", "de"),
    train: str = "train.en",
) -> tuple[RunRecord, Path]:
    """A finished run that has each word wrong with probability `wrong`."""
    random = np.random.default_rng([seed, *method.encode(), *control.encode()])
    hypotheses = [
        " ".join("oh" if random.random() < wrong else word for word in line) for line in LINES
    ]
    name, source, target = data
    names = [] if method == "none" else ["upos"]
    identity = "-".join((method, control, *data, train.replace("/", "_"), str(seed)))
    record = RunRecord(method, names, seed, name, identity, {}, {})
    record.settings = {
        "seed": seed,
        "features": {item: {} for item in names},
        "data": {"name": name, "source_lang": source, "target_lang": target, "hash": train},
    }
    if control != "none":
        record.settings["control"] = control
    record.config = {
        "data": {
            "name": name,
            "source_lang": source,
            "target_lang": target,
            "train": {"source": train},
        },
        "trainer": {"precision": "32-true"},
    }
    record.dev, counts = measure(hypotheses)
    record.tests = {"test": record.dev}
    record.counts = {"test": counts_file("test")}
    run_folder = folder / record.hash
    run_folder.mkdir(parents=True)
    write_counts(run_folder / record.counts["test"], counts, REFERENCES)
    write_record(run_folder, record)
    return record, run_folder


def make_table(folder: Path, seeds: int, **wrong: float) -> Report:
    """The report of methods by how much is wrong; `gate_shuffled` is a control."""
    runs = []
    for name, share in wrong.items():
        method, _, control = name.partition("_")
        runs += [
            make_run(folder, method, seed, share, control or "none") for seed in range(1, seeds + 1)
        ]
    return Report(runs, pairs=False)


# ---- several corpora


@pytest.mark.thorough
def test_language_pairs_are_not_ranked_against_each_other(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, method, seed, 0.2, data=("files", *pair))
        for pair in PAIRS.values()
        for method in ("none", "add")
        for seed in (1, 2)
    ]
    reports = make_reports(runs)
    assert list(reports) == ["files, en to de", "files, de to en"]
    for report in reports.values():
        assert list(report.table.runs_by_name()) == ["none", "add"]
        assert [e.baseline for e in report.comparisons] == ["none"]


def test_files_of_one_pair_are_told_apart_by_their_training_text(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, "none", 1, 0.2, data=("files", "en", "de"), train=train)
        for train in ("a/train.en", "b/train.en")
    ]
    assert list(split_by_corpus(runs)) == [
        "files, en to de, a/train.en",
        "files, en to de, b/train.en",
    ]
    shipped = [make_run(tmp_path / "x", "none", s, 0.2, train=f"{s}/train") for s in (1, 2)]
    assert list(split_by_corpus(shipped)) == ["toy, en to de"]  # a named corpus is one
    shipped[0][0].config["data"]["objective"] = "denoise"
    assert list(split_by_corpus(shipped)) == ["toy, en restored", "toy, en to de"]


def test_one_corpus_is_written_where_it_was(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "runs", "none", seed, 0.2) for seed in (1, 2)]
    paths = write_reports(make_reports(runs), tmp_path / "out")
    assert tmp_path / "out" / "table.csv" in paths


@pytest.mark.parametrize("name", ["a/../../b, x to y", "..", "/", ""])
def test_a_corpus_of_any_name_is_written_inside_the_folder(name: str) -> None:
    folder = folder_names([name])[name]
    assert Path(folder).name == folder not in ("", "..", ".")


def test_corpora_of_like_names_have_folders_of_their_own() -> None:
    names = folder_names(["a b", "a-b", "a/b", "a"])
    assert len(set(names.values())) == 4


def test_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two pairs: two tables, printed, written, and chosen by --where."""
    for pair in PAIRS.values():
        for seed in (1, 2):
            make_run(tmp_path / "runs", "none", seed, 0.2, data=("files", *pair))
    out = tmp_path / "out"
    script = str(ROOT / "scripts" / "report.py")
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "runs"), "--out", str(out)])
    runpy.run_path(script, run_name="__main__")
    printed = capsys.readouterr().out
    for pair in PAIRS:
        assert f"files, {pair}" in printed
        table = (out / f"files-{pair.replace(' ', '-')}" / "table.csv").read_text()  # type: ignore[attr-defined]
        assert len(list(csv.reader(io.StringIO(table)))) == 2
    only = ["--where", "data.source_lang=de", "--where", "seed=1"]
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "runs"), *only])
    runpy.run_path(script, run_name="__main__")
    printed = capsys.readouterr().out
    assert "files, en to de" not in printed
    assert "1" in printed


# ---- some runs


def test_choosing_runs(tmp_path: Path) -> None:
    for method in ("none", "add", "add_x"):
        for seed in (1, 2):
            make_run(
                tmp_path, method, seed, 0.2, control="shuffled" if method == "add_x" else "none"
            )
    runs = find_runs([tmp_path])

    def methods(*conditions: str) -> list[str]:
        return sorted(f"{r.method} {r.seed}" for r in choose_runs(runs, conditions).values())

    assert methods("method=add") == ["add 1", "add 2"]
    assert methods("method=add*", "seed=2") == ["add 2", "add_x 2"]
    assert methods("features=none") == ["none 1", "none 2"]
    assert methods("control=shuffled") == ["add_x 1", "add_x 2"]
    assert methods("trainer.precision=32-true", "data=toy", "seed=1") == [
        "add 1",
        "add_x 1",
        "none 1",
    ]
    record = next(iter(runs.values()))
    record.config = {"data": {"name": "toy", "max_pieces": 100}, "trainer": {"log_every": 7}}
    assert methods("data.max_pieces=100", "trainer.log_every=7") == ["add 1"]
    for wrong, message in {
        "method": "write NAME=VALUE",
        "methods=add": "no run has methods",
        "method=gate": "method is one of: add, add_x, none",
        "trainer.nothing=1": r"no run has trainer\.nothing",
    }.items():
        with pytest.raises(UserError, match=message):
            choose_runs(runs, [wrong])


def test_options_that_would_have_no_effect(tmp_path: Path) -> None:
    for options, message in {
        ("--watch", "--where", "seed=1"): "--watch --where: the live view shows all runs",
        ("--watch", "--metric", "TER"): "--watch --metric: ",
        ("--text", "."): "--text: is for the page; add --html FILE",
    }.items():
        done = call("report", tmp_path, *options)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"error: {message}"), done.err
    make_run(tmp_path, "none", 1, 0.2)
    done = call("report", tmp_path, "--beam", 0)
    assert done.err.startswith("error: --beam=0: no run here has its results")


def test_only_the_star_is_special_in_a_condition(tmp_path: Path) -> None:
    """A corpus may have a name with brackets, which are no pattern."""
    for name in ("a=[b]?", "ab"):
        make_run(tmp_path, "none", 1, 0.2, data=(name, "en", "de"))
    runs = find_runs([tmp_path])
    for condition in ("data=a=[b]?", "data=*[b]?", "data=a=*"):
        assert [r.data for r in choose_runs(runs, [condition]).values()] == ["a=[b]?"], condition
    with pytest.raises(UserError, match="no run meets it"):
        choose_runs(runs, ["data=a?"])


def test_a_sweeps_folder_stands_for_its_runs(tmp_path: Path) -> None:
    jobs = tmp_path / "sweeps" / "one" / "jobs"
    jobs.mkdir(parents=True)
    for seed in (1, 2):
        _, run_folder = make_run(tmp_path / "runs", "none", seed, 0.2)
        job = {"number": seed, "folder": str(run_folder)}
        (jobs / f"{seed}.json").write_text(json.dumps(job))
    make_run(tmp_path / "runs", "none", 3, 0.2)  # of another sweep
    (jobs / "3.json").write_text(json.dumps({"number": 3, "folder": None}))
    (jobs / "4.json").write_text("{")
    runs = find_runs([tmp_path / "sweeps" / "one"])
    assert sorted(record.seed for record in runs.values()) == [1, 2]


# ---- the answer


@pytest.mark.thorough
def test_the_answer_of_a_whole_table(tmp_path: Path) -> None:
    report = make_table(tmp_path, 5, none=0.3, gate=0.1, gate_shuffled=0.3, add=0.25)
    help_line, control_line, method_line = answer_question(report.comparisons[0])
    against = report.comparisons[0].against["BLEU"]["gate"]
    assert help_line.startswith("Yes: gate is above words only (")
    assert f"{against.difference.value:+.2f} BLEU" in help_line
    assert control_line.startswith("It is the linguistics: gate is also above gate shuffled (")
    assert method_line == "Which method is best? Supported: gate is above add (p < 0.001)."
    assert report.tables[0].title == "Do the features help?"  # above the table


@pytest.mark.thorough
def test_a_control_that_is_as_good(tmp_path: Path) -> None:
    report = make_table(tmp_path, 5, none=0.3, gate=0.1, gate_shuffled=0.1)
    lines = answer_question(report.comparisons[0])
    assert lines[1].startswith(
        "It may not be the linguistics: gate is not shown to be above gate s"
    )


@pytest.mark.thorough
def test_a_control_that_is_better(tmp_path: Path) -> None:
    report = make_table(tmp_path, 5, none=0.3, gate=0.2, gate_shuffled=0.1)
    lines = answer_question(report.comparisons[0])
    assert lines[0].startswith("Yes: gate is above words only (")
    assert lines[1].startswith(
        "It may not be the linguistics: gate is not shown to be above gate s"
    )


def test_no_control(tmp_path: Path) -> None:
    lines = answer_question(make_table(tmp_path, 5, none=0.3, gate=0.1).comparisons[0])
    assert "control=none,shuffled" in lines[1]
    assert len(lines) == 2


def test_nothing_is_shown(tmp_path: Path) -> None:
    lines = answer_question(make_table(tmp_path, 2, none=0.3, gate=0.295).comparisons[0])
    assert lines[0].startswith("Not shown: no method is shown to differ from words only. The ")
    assert lines[-1].startswith("2 seeds")
    assert len(lines) == 2  # whose gain it is, is no question yet


@pytest.mark.thorough
def test_features_that_harm(tmp_path: Path) -> None:
    lines = answer_question(make_table(tmp_path, 5, none=0.1, gate=0.3).comparisons[0])
    assert lines[0].startswith("No: gate is below words only (-")
    assert len(lines) == 1  # whose harm it is, is no question


def test_one_seed_answers_nothing(tmp_path: Path) -> None:
    lines = answer_question(make_table(tmp_path, 1, none=0.3, gate=0.1).comparisons[0])
    assert [line.partition(":")[0] for line in lines] == ["Unknown"]


def test_without_words_only_the_question_stays_open(tmp_path: Path) -> None:
    lines = answer_question(make_table(tmp_path, 2, add=0.3, gate=0.1).comparisons[0])
    assert lines == ["Unknown: words only is not in this table. Add combiner=none."]


def test_another_baseline_answers_another_question(tmp_path: Path) -> None:
    runs = make_table(tmp_path, 2, none=0.3, gate=0.1).runs
    [evidence] = Report(runs, pairs=False, baseline="gate").comparisons
    assert answer_question(evidence) == ["Unknown: the baseline is gate, not words only."]


# ---- the live view


@pytest.mark.parametrize("width", [40, 80, 500])
def test_the_live_view_fits(tmp_path: Path, width: int) -> None:
    for pair in PAIRS.values():
        for seed in (1, 2):
            make_run(tmp_path, "none", seed, 0.2, data=("files", *pair))
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(render_snapshot(read_snapshot([tmp_path]), width))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    for name in ("files, en to de", "files, de to en"):
        assert name in lines
    rows = [line for line in lines if line.strip().startswith("none")]
    assert len(rows) == 2  # one line each: no cell is folded
    assert all("±" in row for row in rows)
