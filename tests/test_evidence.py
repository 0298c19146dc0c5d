"""What a table supports: numbers from counts in the runs' folders, and the words for them."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from nmt_feat.analysis.claims import explain_pairs, format_p
from nmt_feat.analysis.comparison_tables import describe_evidence, make_comparison_tables
from nmt_feat.analysis.comparisons import Evidence
from nmt_feat.analysis.figures import draw_curves, draw_differences, write_figures
from nmt_feat.analysis.render import ReportTable, render_latex, render_markdown
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.statistics import paired_tests
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import count_sentences, write_counts
from nmt_feat.evaluation.scores import score_translations
from nmt_feat.runs.stored.records import CurvePoint, RunRecord
from tests.support.toy_runs import LINES, REFERENCES, run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[RunRecord, Path]]:
    folder = tmp_path_factory.mktemp("runs")
    chances = {"none": 0.30, "add": 0.15, "gate": 0.15, "concat": 0.05}
    return [run(folder, m, seed, wrong) for m, wrong in chances.items() for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def evidence(runs: list[tuple[RunRecord, Path]]) -> Evidence:
    [comparison] = Report(runs, pairs=False).comparisons
    return comparison


def test_numbers(runs: list[tuple[RunRecord, Path]], evidence: Evidence) -> None:
    bleu = {m: [r.tests["test"].bleu for r, _ in runs if r.method == m] for m in ("none", "add")}
    assert evidence.baseline == "none"
    assert list(evidence.against["BLEU"]) == ["add", "gate", "concat"]
    compared = evidence.against["BLEU"]["add"]
    means = {m: statistics.fmean(values) for m, values in bleu.items()}
    assert compared.difference.value == pytest.approx(means["add"] - means["none"])
    parts = sum(statistics.variance(values) / 3 for values in bleu.values())
    assert compared.difference.seed_variance == pytest.approx(parts)
    assert compared.difference.p <= compared.p <= 3 * compared.difference.p
    assert evidence.against["chrF"]["concat"].is_supported
    assert len(evidence.shares["BLEU"]) == 6
    assert all(pair[0] == "concat" for pair in list(evidence.orders["BLEU"])[:2])
    assert set(list(evidence.orders["BLEU"])[2]) == {"add", "gate"}


def test_words(evidence: Evidence) -> None:
    above, orders = describe_evidence(evidence)
    assert above == "Above none in BLEU: add, gate, concat."
    assert "of 3 pairs: concat above " in orders
    one, second = list(evidence.orders["BLEU"])[2]
    assert f"{one} above {second}" not in orders


@pytest.mark.thorough
def test_the_report_has_it_all(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    runs = [(r, f) for r, f in runs if r.method != "add" and r.seed < 3]
    report = Report(runs)
    report.write_files(tmp_path)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text == "\n".join(map(render_markdown, report.tables))
    assert "## BLEU on test, against none\n\n| method | n | BLEU | difference |" in text
    assert text.startswith("## Do the features help?\n\n- Yes: concat is above words only (")
    assert "- 2 seeds are a first look." in text
    assert "| concat | - | 100 % |" in text
    assert "## Single models in pairs: each run and the run of none with the same seed\n" in text
    pairs = text[text.index("## Single") :].splitlines()
    assert [line.split(" | ")[:2] for line in pairs if line.startswith("| gate")] == [
        [f"| {'gate'}", str(seed)] for seed in (1, 2)
    ]


def counted(folder: Path, method: str, seed: int, hypotheses: list[str]) -> tuple[RunRecord, Path]:
    """A run with these translations."""
    record, run_folder = run(folder, method, seed, 0)
    record.tests = {"test": score_translations(hypotheses, REFERENCES)}
    counts = count_sentences(hypotheses, REFERENCES)
    write_counts(run_folder / record.counts["test"], counts, REFERENCES)
    return record, run_folder


@pytest.mark.thorough
def test_pairs_of_hardly_trained_models_have_no_p(tmp_path: Path) -> None:
    """One has a single matching word, the other none: sacreBLEU's two tests contradict."""
    nothing = ["oh " * 5] * 120
    one_word = [f"{LINES[0][0]} {'oh ' * 8}", *["oh " * 8] * 119]
    runs = [counted(tmp_path, "none", 1, nothing), counted(tmp_path, "add", 1, one_word)]
    counts = [count_sentences(lines, REFERENCES)["BLEU"] for lines in (nothing, one_word)]
    [p] = paired_tests(counts[0], [counts[1]], "bleu")
    assert p["bootstrap"] < 0.001
    assert p["randomization"] > 0.9
    runs += [run(tmp_path, m, 2, wrong) for m, wrong in (("none", 0.4), ("add", 0.1))]
    *_, block = make_comparison_tables(Report(runs).comparisons[0], pairs=True)
    change = runs[1][0].tests["test"].bleu - runs[0][0].tests["test"].bleu
    assert block.rows[0] == ["add", "1", f"{change:+.2f}", "-", "-"]
    assert block.rows[1][3:] == ["< 0.001", "< 0.001"]
    assert "No p for add 1: " in block.notes[1]


def test_tests_of_a_pair_that_disagree_are_named() -> None:
    [text] = explain_pairs([], ["add 1", "gate 2"])
    assert text.startswith("The two tests disagree about add 1, gate 2: ")
    assert explain_pairs([], []) == []


def test_one_seed_supports_no_ranking(tmp_path: Path) -> None:
    runs = [run(tmp_path, m, 1, 0.1 * i) for i, m in enumerate(("none", "add"), 1)]
    [comparison] = Report(runs, pairs=False).comparisons
    assert comparison.against == {"BLEU": {}, "chrF": {}}
    assert describe_evidence(comparison) == [
        "One seed supports no ranking: none, add. Run more seeds, for instance seed=1,2,3,4,5."
    ]
    assert len(make_comparison_tables(comparison, pairs=True)) == 3  # no shares
    assert "One seed supports no ranking: add." in Report(runs[1:]).table.notes


def test_a_baseline_of_choice(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    more = [run(tmp_path, "add", seed, 0.05, features="upos lemma") for seed in (1, 2)]
    [comparison] = Report([*runs, *more], baseline="add upos", pairs=False).comparisons
    assert comparison.baseline == "add upos"
    assert list(comparison.against["BLEU"]) == ["none", "gate", "concat", "add lemma+upos"]
    assert "Below add upos in BLEU: none." in describe_evidence(comparison)
    with pytest.raises(UserError) as error:
        Report(runs, baseline="gat")
    assert str(error.value) == "baseline=gat: no such row; did you mean 'gate'?"


def test_what_cannot_be_compared_is_said(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    shorter = [run(tmp_path, "average", seed, 0.1, lines=100) for seed in (1, 2)]
    bare = [(record, None) for record, _ in runs if record.method == "concat"]
    others = [(r, f) for r, f in runs if r.method != "concat"]
    report = Report([*others, *bare, *shorter], pairs=False)
    assert [m.name for m in report.comparisons[0].methods] == ["none", "add", "gate"]
    assert len(report.comparisons) == 1
    assert "Not compared, for lack of counts per sentence: concat." in report.table.notes


def test_script(
    runs: list[tuple[RunRecord, Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    two = [
        str(run_folder)
        for record, run_folder in runs
        if record.hash in ("none-upos-1", "gate-upos-1")
    ]
    monkeypatch.setattr(sys, "argv", ["report.py", *two, "--baseline", "gate"])
    runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
    assert "BLEU on test, against gate" in capsys.readouterr().out


def test_files_for_machines(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    report = Report(runs, pairs=False)
    names = ["table.md", "table.csv", "table.json", "table.tex", "comparisons.csv"]
    assert [path.name for path in report.write_files(tmp_path)] == names
    [evidence] = report.comparisons
    content = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in content["rows"]] == ["none", "add", "gate", "concat"]
    none = content["rows"][0]
    assert [r["test BLEU"] for r in none["runs"]] == [r.tests["test"].bleu for r, _ in runs[:3]]
    assert none["statistics"]["test BLEU"]["n"] == 3
    [saved] = content["evidence"]
    assert saved["sentences"]["BLEU"] == describe_evidence(evidence)
    with (tmp_path / "comparisons.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(saved["comparisons"]) == 2 * (3 + 3)
    assert rows[0]["method"] == "add"
    assert float(rows[0]["low"]) == evidence.against["BLEU"]["add"].difference.low
    assert float(rows[0]["corrected p"]) == evidence.against["BLEU"]["add"].p


def test_json_has_no_infinity(tmp_path: Path) -> None:
    """Nothing varies where all is wrong: there are no degrees of freedom to speak of."""
    runs = [run(tmp_path, m, seed, 1.0) for m in ("none", "add") for seed in (1, 2)]
    [content] = json.loads(Report(runs, pairs=False).to_json(), parse_constant=pytest.fail)[
        "evidence"
    ]
    assert [(c["p"], c["df"]) for c in content["comparisons"]] == [(1.0, None)] * 2


def test_latex(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    report = Report(runs, pairs=False)
    report.write_files(tmp_path)
    text = (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert text.startswith("% \\usepackage{booktabs}\n\\begin{table}\n")
    best = next(row for row in report.tables[2].rows if row[0] == "concat")[2].replace(
        "±", r"$\pm$"
    )
    assert rf"concat & 3 & \textbf{{{best}}}$^\dagger$ & " in text
    assert text.count(r"\textbf") == 4  # BLEU and chrF, of the first table too
    assert r"nrefs:1\textbar{}case:mixed" in text
    assert r"differs from the baseline, $p < 0.05$" in text
    odd = render_latex(
        ReportTable("50 % & more", ["a_b", "c"], [["x\\y", "#1 ~ {2}^$"], ["[0]", ""]], ["< 3"])
    )
    assert r"a\_b & c \\" in odd
    assert r"x\textbackslash{}y & \#1 \textasciitilde{} \{2\}\textasciicircum{}\$ \\" in odd
    assert r"\caption{50 \% \& more. $<$ 3.}" in odd


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    Report(runs, pairs=False).write_files(tmp_path)
    odd = render_latex(
        ReportTable("50 % & more", ["a_b", "c"], [["x\\y", "#1 ~ {2}^$"], ["[0]", ""]], ["< 3"])
    )
    tables = (tmp_path / "table.tex").read_text(encoding="utf-8")
    whole = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{whole}\n{tables}\n{odd}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


@pytest.mark.thorough
def test_figures_show_the_numbers(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = Report(runs, pairs=False)
    [evidence] = report.comparisons
    [axes] = draw_differences(evidence).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == list(evidence.against["BLEU"])
    assert axes.figure.get_supxlabel() == (
        "ΔBLEU on test, against none\nmean (n=3), 95 % interval (filled: p < 0.05, Holm)"
    )
    for drawn, compared in zip(axes.containers, evidence.against["BLEU"].values(), strict=True):
        point, _, [bar] = drawn.lines  # type: ignore[attr-defined]
        d = compared.difference
        assert point.get_xdata() == pytest.approx([d.value])
        assert bar.get_segments()[0][:, 0] == pytest.approx([d.low, d.high])
        assert (point.get_markerfacecolor() == "white") != compared.is_supported
    for record, _ in runs:
        bleu = {100: 10.0, 200: 20.0 + record.seed, 300: 30.0}
        record.curve = [CurvePoint(step, 1.0, b) for step, b in bleu.items()][: 1 + record.seed]
    [axes] = draw_curves(report.table.runs_by_name()).axes
    line = axes.lines[0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([100, 200], [10.0, 22.0])
    assert line.get_label() == "none (n=3)"
    names = [path.name for path in write_figures(report, tmp_path)]
    assert names == [
        f"{name}.{kind}"
        for name in ("differences-test", "lengths-test", "curves")
        for kind in ("png", "pdf")
    ]
    again = tmp_path / "again"
    write_figures(report, again)
    assert all((again / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_without_scipy_the_table_stands_without_statistics(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    report = Report(runs)
    assert [path.name for path in report.write_files(tmp_path)][:2] == ["table.md", "table.csv"]
    assert report.comparisons == []
    assert "'nmt_feat[analysis]'" in report.table.notes[-1]


def test_without_matplotlib(
    runs: list[tuple[RunRecord, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    [evidence] = Report(runs, pairs=False).comparisons
    with pytest.raises(UserError) as error:
        draw_differences(evidence)
    assert str(error.value) == (
        "a figure needs the package matplotlib: pip install 'nmt_feat[analysis]'"
    )


@pytest.mark.thorough
def test_orders_are_of_methods_at_the_same_dial(tmp_path: Path) -> None:
    """Rows are named by the dial, and so are the tables of shares, each with the baseline."""
    runs = [run(tmp_path, "none", seed, 0.3) for seed in (1, 2)]
    dialled: list[dict[str, dict[str, object]]] = [
        {"upos": {}, "lemma": {}},
        {"upos": {"erase": 0.5}, "lemma": {"erase": 0.5}},
        {"upos": {"erase": 0.5}, "lemma": {"classes": 4}},
    ]
    for number, features in enumerate(dialled):
        for method in ("add", "gate"):
            for seed in (1, 2):
                folder = tmp_path / str(number)
                record, run_folder = run(folder, method, seed, 0.1 + 0.05 * number, "upos lemma")
                record.hash += str(number)
                record.settings = {"features": features, "data": {"hash": str(number) * 64}}
                runs.append((record, run_folder))
    report = Report(runs)
    names = ["", " erase=0.5", " classes=lemma=4 erase=upos=0.5"]
    assert list(report.table.runs_by_name()) == ["none"] + [
        f"{m}{n}" for n in names for m in ("add", "gate")
    ]
    (comparison,) = report.comparisons
    assert {frozenset(pair) for pair in comparison.orders["BLEU"]} == {
        frozenset({f"add{n}", f"gate{n}"}) for n in names
    }
    assert len(comparison.against["BLEU"]) == 6
    titles = [b.title.rpartition(": ")[2] for b in report.tables if b.title.startswith("How often")]
    assert titles == ["lemma+upos" + n for n in names]


def test_p_values_stay_on_their_side_of_the_limit() -> None:
    texts_of_p = {p: format_p(p) for p in (0.0494, 0.0496, 0.04996, 0.05, 0.0504, 0.0009, 1.0)}
    assert texts_of_p == {
        **{0.0494: "0.049", 0.0496: "0.0496", 0.04996: "0.04996", 0.05: "0.050"},
        **{0.0504: "0.050", 0.0009: "< 0.001", 1.0: "1.000"},
    }
    assert format_p(0.0496, "= ") == "= 0.0496"
