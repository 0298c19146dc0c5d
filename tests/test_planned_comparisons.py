"""Comparisons that were planned: these alone, paired by seed, corrected for their number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nmt_feat.analysis.planned_comparisons import compare_as_planned, read_plan
from nmt_feat.analysis.report import Report, make_reports
from nmt_feat.errors import UserError
from nmt_feat.runs.stored.records import RunRecord
from tests.support.entry import call
from tests.support.toy_runs import run

WRONG = {"none": 0.5, "add": 0.4, "gate": 0.35}
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[RunRecord, Path]]:
    """Three rows of three seeds, and one of a single seed."""
    folder = tmp_path_factory.mktemp("runs")
    rows = [(method, seed, wrong) for method, wrong in WRONG.items() for seed in SEEDS]
    return [run(folder, *row) for row in [*rows, ("concat", 1, 0.3)]]


def write_plan(folder: Path, text: str) -> Path:
    path = folder / "plan.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_differences_are_paired_by_seed(runs: list[tuple[RunRecord, Path]]) -> None:
    bleu = {(record.method, record.seed): record.tests["test"].bleu for record, _ in runs}
    comparisons = Report(runs, pairs=False).comparisons
    compared = compare_as_planned([("gate", "none"), ("add", "gate")], comparisons, "BLEU")
    for (first, second), result in compared.items():
        differences = [bleu[first, seed] - bleu[second, seed] for seed in SEEDS]
        assert result is not None
        assert result.difference.value == pytest.approx(np.mean(differences))
        variance = np.var(differences, ddof=1) / len(SEEDS)
        assert result.difference.seed_variance == pytest.approx(variance)


def test_p_is_corrected_for_the_whole_plan(runs: list[tuple[RunRecord, Path]]) -> None:
    """Also for a comparison whose runs are missing yet, and for no other."""
    comparisons = Report(runs, pairs=False).comparisons
    plan = [("gate", "none"), ("add", "none"), ("concat", "none")]
    compared = compare_as_planned(plan, comparisons, "BLEU")
    assert compared["concat", "none"] is None
    results = [result for result in compared.values() if result is not None]
    small, large = sorted(results, key=lambda result: result.difference.p)
    assert small.p == pytest.approx(3 * small.difference.p)
    assert large.p == pytest.approx(max(small.p, 2 * large.difference.p))
    (alone,) = compare_as_planned(plan[:1], comparisons, "BLEU").values()
    assert alone is not None
    assert alone.p == alone.difference.p


def test_rows_of_several_sizes_have_their_whole_names(tmp_path: Path) -> None:
    """Two comparisons call a method `gate`; a plan says which."""
    sized_runs = []
    for limit, wrong in ((100, 0.1), (200, 0.3)):
        for method, chance in (("none", 0.5), ("gate", wrong)):
            for seed in SEEDS:
                record, run_folder = run(tmp_path / str(limit), method, seed, chance)
                record.hash += str(limit)
                record.settings["data"] = {"limit": limit}
                sized_runs.append((record, run_folder))
    comparisons = Report(sized_runs, pairs=False).comparisons
    plan = [(f"gate data.limit={n}", f"none data.limit={n}") for n in (100, 200)]
    small, large = compare_as_planned(plan, comparisons, "BLEU").values()
    assert small is not None
    assert large is not None
    assert small.difference.value > large.difference.value
    with pytest.raises(UserError, match="no row 'gate' here; known: gate data"):
        compare_as_planned([("gate", "none")], comparisons, "BLEU")
    with pytest.raises(UserError, match="are not compared here"):
        compare_as_planned([(plan[0][0], plan[1][0])], comparisons, "BLEU")


def test_a_plan_in_a_report(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    text = "# before the first run\ngate - none\n\nadd - none  # as well\n"
    plan = read_plan(write_plan(tmp_path, text))
    assert plan == [("gate", "none"), ("add", "none")]
    out = tmp_path / "out"
    Report(runs, pairs=False, plan=plan).write_files(out)
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    assert [(row["method"], row["other"]) for row in table["planned"]] == plan
    markdown = (out / "table.md").read_text(encoding="utf-8")
    assert "## Planned comparisons in BLEU" in markdown
    assert "| gate - none | +" in markdown
    Report(runs, pairs=False).write_files(out)
    assert "planned" not in json.loads((out / "table.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no comparison"),
        ("gate none\n", "line 1 is not two rows"),
        ("gate - none\ngate - gate\n", "line 2 is not two rows"),
        ("gate - none\nnone - gate\n", "line 2 compares two rows again"),
        ("gate - nine\n", "no row 'nine' here"),
    ],
)
def test_plans_that_are_refused(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path, text: str, words: str
) -> None:
    folder = runs[0][1].parent
    done = call("report", folder, f"--plan={write_plan(tmp_path, text)}")
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_plan_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_plan(tmp_path)


def test_a_plan_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert read_plan(write_plan(tmp_path, "\ufeffgate - none\n")) == [("gate", "none")]


def test_a_plan_is_for_one_corpus(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    record, run_folder = run(tmp_path, "none", 1, 0.5)
    record.data = "other"
    with pytest.raises(UserError, match="several corpora"):
        make_reports([*runs, (record, run_folder)], plan=[("gate", "none")])
