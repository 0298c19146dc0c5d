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

from nmt_feat.analysis.claims import explain_pairs
from nmt_feat.analysis.comparisons import Evidence, p_value
from nmt_feat.analysis.figures import curves, forest, write_figures
from nmt_feat.analysis.render import Block, latex, markdown
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.statistics import paired_tests
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import sentence_counts, write_counts
from nmt_feat.evaluation.metrics import score
from nmt_feat.runs.records import CurvePoint, RunRecord
from tests.support.toy_runs import LINES, REFERENCES, run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[RunRecord, Path]]:
    folder = tmp_path_factory.mktemp("runs")
    chances = {"none": 0.30, "add": 0.15, "gate": 0.15, "concat": 0.05}
    return [run(folder, m, seed, wrong) for m, wrong in chances.items() for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def evidence(runs: list[tuple[RunRecord, Path]]) -> Evidence:
    [found] = Report(runs, pairs=False).evidence
    return found


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
    assert evidence.against["chrF"]["concat"].supported
    assert len(evidence.shares["BLEU"]) == 6
    assert all(pair[0] == "concat" for pair in list(evidence.orders["BLEU"])[:2])
    assert set(list(evidence.orders["BLEU"])[2]) == {"add", "gate"}


def test_words(evidence: Evidence) -> None:
    above, first, second, open_, few = evidence.sentences()
    assert above == "add, gate, concat: above none in BLEU."
    one, other = list(evidence.orders["BLEU"])[2]
    assert "concat above" in first
    assert " in 100 % of resamples; the order concat, " in second
    assert " is supported (p = 0.00" in second
    assert open_.startswith(f"{one} above {other} in ")
    assert f"the order {one}, {other} is not supported by these data (p = 0." in open_
    assert few == "3 seeds: a claim that is published needs 5."


def test_which_methods_have_few_seeds(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    more = [
        run(tmp_path, m, seed, gain)
        for m, gain in (("none", 0.1), ("concat", 0.3))
        for seed in (4, 5)
    ]
    [found] = Report([*runs, *more], pairs=False).evidence
    assert found.sentences()[-1] == "3 seeds (add, gate): a claim that is published needs 5."


def test_the_report_has_it_all(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    runs = [(r, f) for r, f in runs if r.method != "add" and r.seed < 3]
    report = Report(runs)
    report.write(tmp_path)
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert text == "\n".join(map(markdown, report.blocks))
    assert "## BLEU on test, against none\n\n| method | n | BLEU | difference |" in text
    assert "- 2 seeds: a claim that is published needs 5.\n" in text
    assert "| concat | - | 100 % |" in text
    assert "## Single pairs of models: a run and the run of none with the same seed\n" in text
    pairs = text[text.index("## Single") :].splitlines()
    assert [line.split(" | ")[:2] for line in pairs if line.startswith("| gate")] == [
        [f"| {'gate'}", str(seed)] for seed in (1, 2)
    ]
    assert "each about these two models, not about the methods" in text


def counted(folder: Path, method: str, seed: int, hypotheses: list[str]) -> tuple[RunRecord, Path]:
    """A run with these translations."""
    record, place = run(folder, method, seed, 0)
    record.tests = {"test": score(hypotheses, REFERENCES)}
    counts = sentence_counts(hypotheses, REFERENCES)
    write_counts(place / record.counts["test"], counts, REFERENCES)
    return record, place


def test_pairs_of_hardly_trained_models_have_no_p(tmp_path: Path) -> None:
    """One has a single matching word, the other none: sacreBLEU's two tests contradict."""
    nothing = ["oh " * 5] * 120
    one_word = [f"{LINES[0][0]} {'oh ' * 8}", *["oh " * 8] * 119]
    runs = [counted(tmp_path, "none", 1, nothing), counted(tmp_path, "add", 1, one_word)]
    counts = [sentence_counts(lines, REFERENCES)["BLEU"] for lines in (nothing, one_word)]
    [p] = paired_tests(counts[0], [counts[1]], "BLEU")
    assert p["bootstrap"] < 0.001
    assert p["randomization"] > 0.9
    runs += [run(tmp_path, m, 2, wrong) for m, wrong in (("none", 0.4), ("add", 0.1))]
    *_, block = Report(runs).evidence[0].blocks(pairs=True)
    change = runs[1][0].tests["test"].bleu - runs[0][0].tests["test"].bleu
    assert block.rows[0] == ["add", "1", f"{change:+.2f}", "-", "-"]
    assert block.rows[1][3:] == ["< 0.001", "< 0.001"]
    assert block.notes[1:] == [
        "No p for add 1: one of the two models has no matching 4-gram in the whole test set. Its "
        "BLEU is smoothing alone, a single matching word makes all of it, and the two tests "
        "contradict each other. Train longer."
    ]


def test_tests_of_a_pair_that_disagree_are_named() -> None:
    [text] = explain_pairs([], ["add 1", "gate 2"])
    assert text.startswith("The two tests disagree about add 1, gate 2: one p is below 0.05, the ")
    assert explain_pairs([], []) == []


def test_one_seed_supports_no_ranking(tmp_path: Path) -> None:
    runs = [run(tmp_path, m, 1, 0.1 * i) for i, m in enumerate(("none", "add"), 1)]
    [found] = Report(runs, pairs=False).evidence
    assert found.against == {"BLEU": {}, "chrF": {}}
    assert found.sentences() == [
        "One seed supports no ranking: none, add. Run more seeds, for instance seed=1,2,3,4,5."
    ]
    assert len(found.blocks(pairs=True)) == 3  # no shares
    assert "One seed supports no ranking: add." in Report(runs[1:]).table.notes


def test_a_baseline_of_choice(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    more = [run(tmp_path, "add", seed, 0.05, features="upos lemma") for seed in (1, 2)]
    [found] = Report([*runs, *more], baseline="add upos", pairs=False).evidence
    assert found.baseline == "add upos"
    assert list(found.against["BLEU"]) == ["none", "gate", "concat", "add lemma+upos"]
    assert "none: below add upos in BLEU." in found.sentences()
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
    assert [m.name for m in report.evidence[0].methods] == ["none", "add", "gate"]
    assert len(report.evidence) == 1
    assert "Without counts per sentence, so not compared: concat" in report.table.notes


def test_script(
    runs: list[tuple[RunRecord, Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    two = [str(place) for record, place in runs if record.hash in ("none-upos-1", "gate-upos-1")]
    monkeypatch.setattr(sys, "argv", ["report.py", *two, "--baseline", "gate"])
    runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
    assert "BLEU on test, against gate" in capsys.readouterr().out


def test_files_for_machines(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    report = Report(runs, pairs=False)
    names = ["table.md", "table.csv", "table.json", "table.tex", "comparisons.csv"]
    assert [path.name for path in report.write(tmp_path)] == names
    [evidence] = report.evidence
    found = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in found["rows"]] == ["none", "add", "gate", "concat"]
    none = found["rows"][0]
    assert [r["test BLEU"] for r in none["runs"]] == [r.tests["test"].bleu for r, _ in runs[:3]]
    assert none["statistics"]["test BLEU"]["n"] == 3
    [saved] = found["evidence"]
    assert saved["sentences"]["BLEU"] == evidence.sentences()
    with (tmp_path / "comparisons.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(saved["comparisons"]) == 2 * (3 + 3)
    assert rows[0]["method"] == "add"
    assert float(rows[0]["low"]) == evidence.against["BLEU"]["add"].difference.low
    assert float(rows[0]["corrected p"]) == evidence.against["BLEU"]["add"].p


def test_json_has_no_infinity(tmp_path: Path) -> None:
    """Nothing varies where all is wrong: there are no degrees of freedom to speak of."""
    runs = [run(tmp_path, m, seed, 1.0) for m in ("none", "add") for seed in (1, 2)]
    [found] = json.loads(Report(runs, pairs=False).json(), parse_constant=pytest.fail)["evidence"]
    assert [(c["p"], c["df"]) for c in found["comparisons"]] == [(1.0, None)] * 2


def test_latex(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    report = Report(runs, pairs=False)
    report.write(tmp_path)
    text = (tmp_path / "table.tex").read_text(encoding="utf-8")
    assert text.startswith("% \\usepackage{booktabs}\n\\begin{table}\n")
    best = next(row for row in report.blocks[2].rows if row[0] == "concat")[2].replace(
        "±", r"$\pm$"
    )
    assert rf"concat & 3 & \textbf{{{best}}}$^\dagger$ & " in text
    assert text.count(r"\textbf") == 4  # BLEU and chrF, of the first table too
    assert r"nrefs:1\textbar{}case:mixed" in text
    assert r"differs from the baseline, $p < 0.05$" in text
    odd = latex(Block("50 % & more", ["a_b", "c"], [["x\\y", "#1 ~ {2}^$"], ["[0]", ""]], ["< 3"]))
    assert r"a\_b & c \\" in odd
    assert r"x\textbackslash{}y & \#1 \textasciitilde{} \{2\}\textasciicircum{}\$ \\" in odd
    assert r"\caption{50 \% \& more. $<$ 3.}" in odd


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    Report(runs, pairs=False).write(tmp_path)
    odd = latex(Block("50 % & more", ["a_b", "c"], [["x\\y", "#1 ~ {2}^$"], ["[0]", ""]], ["< 3"]))
    tables = (tmp_path / "table.tex").read_text(encoding="utf-8")
    whole = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{whole}\n{tables}\n{odd}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_figures_show_the_numbers(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = Report(runs, pairs=False)
    [evidence] = report.evidence
    [axes] = forest(evidence).axes
    assert [t.get_text() for t in axes.get_yticklabels()] == list(evidence.against["BLEU"])
    assert axes.figure.get_supxlabel() == (
        "ΔBLEU on test, against none\nmean (n=3), 95 % interval (filled: p < 0.05, Holm)"
    )
    for drawn, compared in zip(axes.containers, evidence.against["BLEU"].values(), strict=True):
        point, _, [bar] = drawn.lines
        d = compared.difference
        assert point.get_xdata() == pytest.approx([d.value])
        assert bar.get_segments()[0][:, 0] == pytest.approx([d.low, d.high])
        assert (point.get_markerfacecolor() == "white") != compared.supported
    for record, _ in runs:
        bleu = {100: 10.0, 200: 20.0 + record.seed, 300: 30.0}
        record.curve = [CurvePoint(step, 1.0, b) for step, b in bleu.items()][: 1 + record.seed]
    [axes] = curves(report.table.named()).axes
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


def test_without_matplotlib(
    runs: list[tuple[RunRecord, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    [evidence] = Report(runs, pairs=False).evidence
    with pytest.raises(UserError) as error:
        forest(evidence)
    assert str(error.value) == (
        "a figure needs the package matplotlib: pip install 'nmt_feat[analysis]'"
    )


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
                record, place = run(folder, method, seed, 0.1 + 0.05 * number, "upos lemma")
                record.hash += str(number)
                record.settings = {"features": features, "data": {"hash": str(number) * 64}}
                runs.append((record, place))
    report = Report(runs)
    names = ["", " erase=0.5", " classes=lemma=4 erase=upos=0.5"]
    assert list(report.table.named()) == ["none"] + [
        f"{m}{n}" for n in names for m in ("add", "gate")
    ]
    (found,) = report.evidence
    assert {frozenset(pair) for pair in found.orders["BLEU"]} == {
        frozenset({f"add{n}", f"gate{n}"}) for n in names
    }
    assert len(found.against["BLEU"]) == 6
    titles = [b.title.rpartition(": ")[2] for b in report.blocks if b.title.startswith("Share")]
    assert titles == ["lemma+upos" + n for n in names]


def test_p_values_stay_on_their_side_of_the_limit() -> None:
    shown = {p: p_value(p) for p in (0.0494, 0.0496, 0.04996, 0.05, 0.0504, 0.0009, 1.0)}
    assert shown == {
        **{0.0494: "0.049", 0.0496: "0.0496", 0.04996: "0.04996", 0.05: "0.050"},
        **{0.0504: "0.050", 0.0009: "< 0.001", 1.0: "1.000"},
    }
    assert p_value(0.0496, "= ") == "= 0.0496"
