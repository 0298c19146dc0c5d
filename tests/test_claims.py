"""What is supported, by metric, from a report's JSON: differences, orders, and their words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.analysis.claims import describe_orders, explain_intervals, list_claims
from nmt_feat.analysis.report import Report
from tests.support.entry import call
from tests.support.toy_runs import run


def row(one: str, other: str, metric: str, value: float, p: float, half: float) -> dict[str, Any]:
    names = {"method": one, "other": other, "metric": metric}
    return names | {"value": value, "low": value - half, "high": value + half, "corrected p": p}


ROWS = [
    row("add", "none", "BLEU", 2.0, 0.02, 1.0),
    row("gate", "none", "BLEU", 1.0, 0.08, 0.5),
    row("add", "gate", "BLEU", 1.0, 0.3, 2.0),
    row("add", "none", "chrF", 1.5, 0.0004, 1.0),
    row("gate", "none", "chrF", 0.1, 0.9, 0.5),
    row("add", "gate", "chrF", 1.4, 0.03, 1.0),
]
EVIDENCE = {"test": "test", "conditions": "", "baseline": "none", "comparisons": ROWS, "leads": []}


def test_each_metric_has_its_claims() -> None:
    assert list_claims({"evidence": [EVIDENCE]}) == [
        "BLEU on test",
        "  against none:",
        "    supported: add: +2.00 (+1.00 to +3.00), p = 0.020",
        "    not supported: gate: +1.00 (+0.50 to +1.50), p = 0.080",
        "    The interval of gate does not contain 0, but p is not below 0.05. An interval is for "
        "one comparison alone; p is corrected for all 2. The p-value decides.",
        "  Supported orders of two methods in BLEU, of one pair: none.",
        "    not supported: add above gate: +1.00 (-1.00 to +3.00), p = 0.300",
        "chrF on test",
        "  against none:",
        "    supported: add: +1.50 (+0.50 to +2.50), p < 0.001",
        "    not supported: gate: +0.10 (-0.40 to +0.60), p = 0.900",
        "  Supported orders of two methods in chrF, of one pair: add above gate (p = 0.030).",
        "    supported: add above gate: +1.40 (+0.40 to +2.40), p = 0.030; twice this p, 0.060, is "
        "not below 0.05",
    ]


@pytest.mark.parametrize(
    ("value", "half", "p", "contradicts"),
    [
        (1.0, 0.9, 0.05, True),
        (-1.0, 0.9, 0.2, True),
        (1.0, 0.9, 0.0499, False),
        (1.0, 1.1, 0.2, False),
        (-1.0, 1.1, 0.2, False),
    ],
)
def test_only_an_interval_that_contradicts_is_explained(
    value: float, half: float, p: float, contradicts: bool
) -> None:
    assert bool(explain_intervals([row("a", "b", "BLEU", value, p, half)], ["a"])) == contradicts


def test_several_intervals_are_in_the_plural() -> None:
    rows = [row(name, "none", "BLEU", 1.0, 0.2, 0.5) for name in ("a", "b")]
    [text] = explain_intervals(rows, ["a", "b"])
    assert text.startswith("The intervals of a, b do not contain 0")


def test_orders_of_several() -> None:
    rows = [row("a", "b", "chrF", 1, 0.01, 0.5), row("a", "c", "chrF", 1, 0.0499, 0.5)]
    assert describe_orders([*rows, row("b", "c", "chrF", 1, 0.06, 0.5)], "chrF") == (
        "Supported orders of two methods in chrF, of 3 pairs: "
        "a above b (p = 0.010), a above c (p = 0.0499)."
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("claims")
    wrong = {"none": 0.30, "add": 0.15, "concat": 0.05}
    runs = [run(folder, m, seed, chance) for m, chance in wrong.items() for seed in (1, 2, 3)]
    Report(runs, pairs=False).write_files(folder / "report")
    return folder / "report"


def test_the_report_says_it_for_both_metrics(table: Path) -> None:
    text = (table / "table.md").read_text(encoding="utf-8")
    [content] = json.loads((table / "table.json").read_text(encoding="utf-8"))["evidence"]
    for metric in ("BLEU", "chrF"):
        [order] = [
            c for c in content["comparisons"] if c["metric"] == metric and c["other"] != "none"
        ]
        assert order["corrected p"] < 0.05
        assert f"- Above none in {metric}: add, concat.\n" in text
        assert f"- Supported orders of two methods in {metric}, of one pair: concat above" in text


def test_script(table: Path) -> None:
    done = call("claims", table / "table.json")
    expected = list_claims(json.loads((table / "table.json").read_text(encoding="utf-8")))
    assert done.out.splitlines() == [str(table / "table.json"), *expected, ""]
    assert sum(line.startswith("    supported:") for line in expected) == 6


@pytest.mark.parametrize("content", ["", "[]", "{}", None])
def test_no_table(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "table.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = call("claims", path)
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert str(path) in line
