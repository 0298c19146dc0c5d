"""What the comparisons of a table support, in words, by metric; from the rows of its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

ALPHA = 0.05
Comparison = Mapping[str, Any]
"""A row of `comparisons` in a report's `table.json`."""


def p_value(p: float, equal: str = "") -> str:
    """In three decimals; in more where these would round it to the other side of 0.05."""
    digits = next(n for n in count(3) if (round(p, n) < ALPHA) == (p < ALPHA))
    return "< 0.001" if p < 0.001 else f"{equal}{p:.{digits}f}"


def split_comparisons(
    comparisons: Sequence[Comparison], metric: str, baseline: str | None
) -> tuple[list[Comparison], list[Comparison]]:
    """Those of one metric: with the baseline, and of the other methods among themselves."""
    of_metric = [row for row in comparisons if row["metric"] == metric]
    against = [row for row in of_metric if row["other"] == baseline]
    return against, [row for row in of_metric if row["other"] != baseline]


def supported_orders(orders: Sequence[Comparison], metric: str) -> str:
    """One sentence: which orders among the methods are supported in this metric."""
    pairs = ", ".join(
        f"{row['method']} above {row['other']} (p {p_value(row['corrected p'], '= ')})"
        for row in orders
        if row["corrected p"] < ALPHA
    )
    number = f"of {len(orders)}" if len(orders) > 1 else "of one"
    return f"Orders among the methods that are supported in {metric}, {number}: {pairs or 'none'}."


def explain_intervals(comparisons: Sequence[Comparison], names: Sequence[str]) -> list[str]:
    """A sentence where an interval excludes 0 and the corrected p is not below 0.05.

    `names` has the comparisons' names, in their order. The opposite cannot be: a corrected p-value
    is never below the one that belongs to the interval.
    """
    apart = [
        name
        for name, row in zip(names, comparisons, strict=True)
        if (row["low"] > 0 or row["high"] < 0) and row["corrected p"] >= ALPHA
    ]
    if not apart:
        return []
    which = f"The intervals of {', '.join(apart)} exclude 0"
    if len(apart) == 1:
        which = f"The interval of {apart[0]} excludes 0"
    return [
        f"{which}, but p is not below {ALPHA}: an interval is for one comparison alone, p is "
        f"corrected for all {len(comparisons)}. The p-value decides what is supported."
    ]


def explain_pairs(smoothed: Sequence[str], apart: Sequence[str]) -> list[str]:
    """Why pairs have no p-values, and what it means that the two tests of a pair disagree."""
    lines = []
    if smoothed:
        lines.append(
            f"No p for {', '.join(smoothed)}: one of the two models has no matching 4-gram in the "
            "whole test set. Its BLEU is smoothing alone, a single matching word makes all of it, "
            "and the two tests contradict each other. Train longer."
        )
    if apart:
        lines.append(
            f"The two tests disagree about {', '.join(apart)}: one p is below {ALPHA}, the other "
            "is not. They ask for different things, resampled sentences and exchanged "
            "translations; that these two models differ is not sure then."
        )
    return lines


def describe_difference(row: Comparison) -> str:
    """Value, interval and p of one comparison, and whether twice that p is still below 0.05."""
    p = row["corrected p"]
    low, high = (f"{row[end]:+.2f}" for end in ("low", "high"))
    doubled = ""
    if p < ALPHA <= 2 * p:
        doubled = f", doubled {2 * p:.3f}: no longer below {ALPHA}"
    return f"{row['value']:+.2f} ({low} to {high}), p {p_value(p, '= ')}{doubled}"


def list_claims(table: Mapping[str, Any]) -> list[str]:
    """Every difference and order of a report's `table.json`, by comparison and by metric."""
    lines: list[str] = []
    for evidence in table["evidence"]:
        where = f"{evidence['test']} {evidence['conditions']}".strip()
        baseline, comparisons = evidence["baseline"], evidence["comparisons"]
        for metric in dict.fromkeys(row["metric"] for row in comparisons):
            against, orders = split_comparisons(comparisons, metric, baseline)
            lines += [f"{metric} on {where}", f"  against {baseline}:"]
            lines += _group(against, lambda row: str(row["method"]))
            names = [row["method"] for row in against]
            lines += [f"    {text}" for text in explain_intervals(against, names)]
            lines.append(f"  {supported_orders(orders, metric)}")
            lines += _group(orders, _pair)
            lines += [f"    {t}" for t in explain_intervals(orders, list(map(_pair, orders)))]
        lines += _list_leads([*evidence["leads"], *evidence.get("leads in chrF", [])], where)
    return lines or ["  One seed each, or no counts per sentence: nothing can be supported."]


def _pair(row: Comparison) -> str:
    return f"{row['method']} above {row['other']}"


def _group(rows: Sequence[Comparison], name: Callable[[Comparison], str]) -> list[str]:
    lines = []
    for verdict, below in (("supported", True), ("not supported", False)):
        chosen = [row for row in rows if (row["corrected p"] < ALPHA) == below]
        lines += [f"    {verdict}: {name(row)}: {describe_difference(row)}" for row in chosen]
    return lines


def _list_leads(leads: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """Leads over a dial, the mean and the slope of each pair of methods."""
    lines: dict[str, list[str]] = {}
    for lead in leads:
        name = f"{lead['features']}: {lead['one']} over {lead['other']}"
        title = f"leads over the dials in {lead.get('metric', 'BLEU')} on {where}"
        for over in ("mean", "per bit"):
            row = lead[over]
            verdict = "supported" if row["corrected p"] < ALPHA else "not supported"
            line = f"    {verdict}: {name}, {over}: {describe_difference(row)}"
            lines.setdefault(title, []).append(line)
    # Supported ones first.
    return [
        line
        for title, some in lines.items()
        for line in (title, *sorted(some, key=lambda text: text.startswith("    not ")))
    ]
