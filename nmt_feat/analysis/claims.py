"""What the comparisons of a table support, in words, from the rows of its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

ALPHA = 0.05
Comparison = Mapping[str, Any]
"""A row of `comparisons` in a report's `table.json`."""


def format_p(p: float, equal: str = "") -> str:
    """p in three decimals, or in more if three would round it to the other side of 0.05."""
    digits = next(n for n in count(3) if (round(p, n) < ALPHA) == (p < ALPHA))
    return "< 0.001" if p < 0.001 else f"{equal}{p:.{digits}f}"


def split_comparisons(
    comparisons: Sequence[Comparison], metric: str, baseline: str | None
) -> tuple[list[Comparison], list[Comparison]]:
    """The comparisons in one metric: with the baseline, and of other methods with each other."""
    of_metric = [row for row in comparisons if row["metric"] == metric]
    against = [row for row in of_metric if row["other"] == baseline]
    return against, [row for row in of_metric if row["other"] != baseline]


def describe_orders(orders: Sequence[Comparison], metric: str) -> str:
    """One sentence: which orders of two methods are supported in this metric."""
    pairs = ", ".join(
        f"{row['method']} above {row['other']} (p {format_p(row['corrected p'], '= ')})"
        for row in orders
        if row["corrected p"] < ALPHA
    )
    number = f"{len(orders)} pairs" if len(orders) > 1 else "one pair"
    return f"Supported orders of two methods in {metric}, of {number}: {pairs or 'none'}."


def explain_intervals(comparisons: Sequence[Comparison], names: Sequence[str]) -> list[str]:
    """Explain intervals that exclude 0 although the corrected p is not below 0.05.

    `names` has the comparisons' names, in their order. The opposite cannot occur: a corrected
    p-value is never below the one that belongs to the interval.
    """
    contrary = [
        name
        for name, row in zip(names, comparisons, strict=True)
        if (row["low"] > 0 or row["high"] < 0) and row["corrected p"] >= ALPHA
    ]
    if not contrary:
        return []
    intervals = f"The intervals of {', '.join(contrary)} do"
    if len(contrary) == 1:
        intervals = f"The interval of {contrary[0]} does"
    return [
        f"{intervals} not contain 0, but p is not below {ALPHA}. An interval is for one comparison "
        f"alone; p is corrected for all {len(comparisons)}. The p-value decides."
    ]


def explain_pairs(smoothed: Sequence[str], disputed: Sequence[str]) -> list[str]:
    """Explain why pairs have no p-values, and what it means if the two tests of a pair disagree."""
    lines = []
    if smoothed:
        lines.append(
            f"No p for {', '.join(smoothed)}: one of the two models has no matching 4-gram in the "
            "whole test set. Its BLEU is smoothing alone, and the two tests contradict each other. "
            "Train longer."
        )
    if disputed:
        lines.append(
            f"The two tests disagree about {', '.join(disputed)}: only one p is below {ALPHA}. "
            "One test resamples sentences, the other exchanges translations. So it is not sure "
            "that these two models differ."
        )
    return lines


def describe_difference(row: Comparison) -> str:
    """Value, interval and p of one comparison, and whether twice that p is still below 0.05."""
    p = row["corrected p"]
    low, high = (f"{row[end]:+.2f}" for end in ("low", "high"))
    doubled = ""
    if p < ALPHA <= 2 * p:
        doubled = f"; twice this p, {2 * p:.3f}, is not below {ALPHA}"
    return f"{row['value']:+.2f} ({low} to {high}), p {format_p(p, '= ')}{doubled}"


def list_claims(table: Mapping[str, Any]) -> list[str]:
    """Every difference and order of a report's `table.json`, by comparison and by metric."""
    lines: list[str] = []
    for evidence in table["evidence"]:
        where = f"{evidence['test']} {evidence['conditions']}".strip()
        baseline, comparisons = evidence["baseline"], evidence["comparisons"]
        for metric in dict.fromkeys(row["metric"] for row in comparisons):
            against, orders = split_comparisons(comparisons, metric, baseline)
            lines += [f"{metric} on {where}", f"  against {baseline}:"]
            lines += _list_by_verdict(against, lambda row: str(row["method"]))
            names = [row["method"] for row in against]
            lines += [f"    {text}" for text in explain_intervals(against, names)]
            lines.append(f"  {describe_orders(orders, metric)}")
            lines += _list_by_verdict(orders, _name_order)
            names = list(map(_name_order, orders))
            lines += [f"    {text}" for text in explain_intervals(orders, names)]
        lines += _list_leads([*evidence["leads"], *evidence.get("leads in chrF", [])], where)
    return lines or ["  Nothing can be supported: one seed each, or no counts per sentence."]


def _name_order(row: Comparison) -> str:
    return f"{row['method']} above {row['other']}"


def _list_by_verdict(rows: Sequence[Comparison], name: Callable[[Comparison], str]) -> list[str]:
    lines = []
    for verdict, is_supported in (("supported", True), ("not supported", False)):
        chosen = [row for row in rows if (row["corrected p"] < ALPHA) == is_supported]
        lines += [f"    {verdict}: {name(row)}: {describe_difference(row)}" for row in chosen]
    return lines


def _list_leads(leads: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """Leads of one method over another with reduced features: the mean and the slope."""
    lines: dict[str, list[str]] = {}
    for lead in leads:
        name = f"{lead['features']}: {lead['one']} over {lead['other']}"
        title = f"leads with reduced features in {lead.get('metric', 'BLEU')} on {where}"
        for over in ("mean", "per bit"):
            row = lead[over]
            verdict = "supported" if row["corrected p"] < ALPHA else "not supported"
            line = f"    {verdict}: {name}, {over}: {describe_difference(row)}"
            lines.setdefault(title, []).append(line)
    # Supported ones first.
    return [
        line
        for title, verdicts in lines.items()
        for line in (title, *sorted(verdicts, key=lambda text: text.startswith("    not ")))
    ]
