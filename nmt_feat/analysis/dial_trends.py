"""Leads of one method over another as dials reduce the features; see docs/explanation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from nmt_feat.analysis.claims import explain_intervals, format_p
from nmt_feat.analysis.comparison_tables import ENOUGH_SEEDS, difference_cells
from nmt_feat.analysis.comparisons import CorrectedDifference, Evidence, correct_differences
from nmt_feat.analysis.method_runs import MethodRuns
from nmt_feat.analysis.render import ReportTable
from nmt_feat.analysis.statistics import Difference, Sample, compare_with_zero

OVER = ("mean", "per bit")
"""The two figures of a lead, see `Lead`."""


@dataclass(frozen=True)
class Lead:
    """One method less another with the same features, seed by seed, over several levels."""

    features: str
    one: str
    other: str
    seeds: int
    dials: int
    """Number of levels."""
    metric: str
    mean: CorrectedDifference
    """The mean over the levels."""
    per_bit: CorrectedDifference
    """Least-squares slope over H(feature): how much the lead grows with each bit."""


def compute_leads(evidence: Evidence, metric: str = "BLEU") -> list[Lead]:
    """The leads of all pairs of methods that share features, two levels and two seeds or more.

    The method with the higher mean comes first. p-values are corrected for the number of leads.
    """
    differences: dict[tuple[str, str, str, str], Difference] = {}
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}
    sentences = len(evidence.methods[0].counts[0][metric])
    for features, one, two, pairs in _pair_levels(evidence):
        seeds = sorted(set.intersection(*(set(m.seeds) for pair in pairs for m in pair)))
        if len(seeds) < 2:
            continue
        bits = np.array([_mean_bits(m, seeds) for m, _ in pairs])
        if len(set(bits.round(6))) < 2:
            continue
        leads = [evidence.subtract_by_seed(metric, *pair, seeds) for pair in pairs]
        mean = Sample.weighted_sum(leads, [1 / len(leads)] * len(leads))
        # The slope of least squares is a weighted sum, too: weights (x - mean) / sum of squares.
        centred = bits - bits.mean()
        slope = Sample.weighted_sum(leads, (centred / (centred @ centred)).tolist())
        if mean.mean < 0:
            one, two = two, one
            mean, slope = (Sample.weighted_sum([sample], [-1]) for sample in (mean, slope))
        for over, sample in zip(OVER, (mean, slope), strict=True):
            differences[features, one, two, over] = compare_with_zero(sample, sentences)
        sizes[features, one, two] = len(seeds), len(pairs)
    compared = correct_differences(differences)
    return [
        Lead(*key, *size, metric, *(compared[*key, over] for over in OVER))
        for key, size in sizes.items()
    ]


def _pair_levels(
    evidence: Evidence,
) -> Iterator[tuple[str, str, str, list[tuple[MethodRuns, MethodRuns]]]]:
    """Features, two kinds of method, and their rows at each level that both have."""
    families: dict[tuple[str, str], dict[str, dict[str, MethodRuns]]] = {}
    for method in evidence.methods:
        if method.features and method.bits is not None:
            family = families.setdefault((method.features, method.conditions), {})
            family.setdefault(method.kind, {})[method.information] = method
    for names, family in families.items():
        for one, two in combinations(family, 2):
            levels = [level for level in family[one] if level in family[two]]
            if levels:
                pairs = [(family[one][level], family[two][level]) for level in levels]
                yield " ".join(filter(None, names)), one, two, pairs


def make_lead_table(leads: Sequence[Lead], test_name: str) -> ReportTable:
    """A table of leads, with what it supports in words."""
    heading = ["features", "lead", "n", "levels", "mean", "95 % interval", "p"]
    rows = []
    for lead in leads:
        row = [lead.features, f"{lead.one} - {lead.other}", str(lead.seeds), str(lead.dials)]
        rows.append([*row, *difference_cells(lead.mean), *difference_cells(lead.per_bit)])
    title = f"Lead of one method over another as features say less: {leads[0].metric} on "
    notes = [
        *describe_leads(leads),
        *explain_intervals(*_name_rows(leads)),
        "A lead is the difference at the same seed. `mean` is over the levels of the features; "
        "`per bit` is its change with each bit of H(feature), added up over features. p is "
        "corrected for this table (Holm). See docs/explanation/statistics.md.",
    ]
    text_columns = frozenset({"features", "lead"})
    return ReportTable(
        *(title + test_name, [*heading, "per bit", "95 % interval", "p"], rows, notes), text_columns
    )


def describe_leads(leads: Sequence[Lead]) -> list[str]:
    """Sentences that say what is supported, and that the rest is not."""
    lines = []
    for lead in leads:
        if lead.mean.is_supported:
            lines.append(
                f"{lead.features}: {lead.one} is above {lead.other} by "
                f"{lead.mean.difference.value:.2f}, the mean over the levels "
                f"(p {format_p(lead.mean.p, '= ')})."
            )
        if lead.per_bit.is_supported:
            slope = lead.per_bit.difference.value
            lines.append(
                f"{lead.features}: the lead of {lead.one} over {lead.other} "
                f"{'grows' if slope > 0 else 'shrinks'} by {abs(slope):.2f} with each bit "
                f"(p {format_p(lead.per_bit.p, '= ')})."
            )
    if len(lines) < len(OVER) * len(leads):
        lines.append("No other lead or change is supported.")
    fewest = min(lead.seeds for lead in leads)
    if fewest < ENOUGH_SEEDS:
        lines.append(f"{fewest} seeds are a first look. A published claim needs {ENOUGH_SEEDS}.")
    return lines


def _name_rows(leads: Sequence[Lead]) -> tuple[list[dict[str, Any]], list[str]]:
    """All values of the table as rows of its JSON, and their names."""
    rows, names = [], []
    for lead, row in zip(leads, lead_rows(leads), strict=True):
        name = f"{lead.features}: {lead.one} - {lead.other}"
        rows += [row[over] for over in OVER]
        names += [name, f"{name} per bit"]
    return rows, names


def lead_rows(leads: Sequence[Lead]) -> list[dict[str, Any]]:
    """The leads in full precision, for JSON."""
    rows = []
    for lead in leads:
        row = vars(lead) | {"mean": lead.mean.to_row(), "per bit": lead.per_bit.to_row()}
        del row["per_bit"]
        rows.append(row)
    return rows


def _mean_bits(method: MethodRuns, seeds: Sequence[int]) -> float:
    """The mean over these seeds, because each seed erases other values."""
    assert method.bits is not None
    return float(np.mean([method.bits[method.seeds.index(seed)] for seed in seeds]))
