"""Leads of one method over another where a table dials what features say.

`docs/explanation/statistics.md` has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from nmt_feat.analysis.claims import explain_intervals, p_value
from nmt_feat.analysis.comparisons import ENOUGH, Compared, Evidence, Method, cells, corrected
from nmt_feat.analysis.render import Block
from nmt_feat.analysis.statistics import Difference, Sample, compare_with_zero

OVER = ("mean", "per bit")


@dataclass(frozen=True)
class Lead:
    """One method less another with the same features, seed by seed, over several dials."""

    features: str
    one: str
    other: str
    seeds: int
    dials: int
    metric: str
    mean: Compared
    """Of the dials."""
    per_bit: Compared
    """Least-squares slope over H(feature): how much more the lead is with each bit that is said."""


def leads(evidence: Evidence, metric: str = "BLEU") -> list[Lead]:
    """Of every two methods with the same features at two dials or more and two seeds or more.

    The one with the higher mean is first. p-values are corrected for all that are returned.
    """
    families: dict[tuple[str, str], dict[str, dict[str, Method]]] = {}
    for method in evidence.methods:
        if method.features and method.bits is not None:
            family = families.setdefault((method.features, method.conditions), {})
            family.setdefault(method.kind, {})[method.said] = method
    found: dict[tuple[str, str, str, str], Difference] = {}
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}
    for (features, conditions), at_dials in families.items():
        said = " ".join(filter(None, (features, conditions)))
        for one, other in combinations(at_dials, 2):
            pairs = [
                (m, at_dials[other][d]) for d, m in at_dials[one].items() if d in at_dials[other]
            ]
            if not pairs:
                continue
            seeds = sorted(set.intersection(*(set(m.seeds) for pair in pairs for m in pair)))
            if len(seeds) < 2:
                continue
            x = np.array([_bits(m, seeds) for m, _ in pairs])
            if len(set(x.round(6))) < 2:
                continue
            samples = evidence.samples[metric]
            each = [
                Sample.weighted_sum([_at(samples, m, seeds) for m in pair], [1, -1])
                for pair in pairs
            ]
            means = Sample.weighted_sum(each, [1 / len(each)] * len(each))
            apart = x - x.mean()
            slopes = Sample.weighted_sum(each, (apart / (apart @ apart)).tolist())
            if means.mean < 0:
                one, other = other, one
                means, slopes = (
                    Sample.weighted_sum([means], [-1]),
                    Sample.weighted_sum([slopes], [-1]),
                )
            sentences = len(evidence.methods[0].counts[0][metric])
            for over, sample in zip(OVER, (means, slopes), strict=True):
                found[said, one, other, over] = compare_with_zero(sample, sentences)
            sizes[said, one, other] = len(seeds), len(pairs)
    sure = corrected(found)
    return [
        Lead(*key, *size, metric, *(sure[*key, over] for over in OVER))
        for key, size in sizes.items()
    ]


def block(found: Sequence[Lead], test: str) -> Block:
    """A table of leads and what it supports in words."""
    heading = ["features", "less", "n", "dials", "mean", "95 % interval", "p"]
    rows = []
    for lead in found:
        row = [lead.features, f"{lead.one} - {lead.other}", str(lead.seeds), str(lead.dials)]
        rows.append([*row, *cells(lead.mean), *cells(lead.per_bit)])
    title = f"Leads over the dials of what the features say: {found[0].metric} on {test}"
    notes = [
        "Paired by seed: the mean over the dials, and the change with each bit of H(feature), "
        "added up over features; p by Holm for all of this table (docs/explanation/statistics.md).",
        *sentences(found),
        *explain_intervals(*_named_rows(found)),
    ]
    left = frozenset({"features", "less"})
    return Block(title, [*heading, "per bit", "95 % interval", "p"], rows, notes, left)


def sentences(found: Sequence[Lead]) -> list[str]:
    """What is supported, in plain words, and that the rest is not."""
    lines = []
    for lead in found:
        if lead.mean.supported:
            lines.append(
                f"{lead.features}: {lead.one} above {lead.other} over all dials, by "
                f"{lead.mean.difference.value:.2f} (p {p_value(lead.mean.p, '= ')})."
            )
        if lead.per_bit.supported:
            slope = lead.per_bit.difference.value
            lines.append(
                f"{lead.features}: the lead of {lead.one} over {lead.other} "
                f"{'grows' if slope > 0 else 'shrinks'} by {abs(slope):.2f} with each bit "
                f"(p {p_value(lead.per_bit.p, '= ')})."
            )
    all_of_them = len(lines) == len(OVER) * len(found)
    lines += ["No other lead or change is supported by these data."] * (not all_of_them)
    fewest = min(lead.seeds for lead in found)
    few = f"{fewest} seeds: a claim that is published needs {ENOUGH}."
    return lines + [few] * (fewest < ENOUGH)


def _named_rows(found: Sequence[Lead]) -> tuple[list[dict[str, Any]], list[str]]:
    """All values of the table as rows of its JSON, and their names."""
    values = [
        (lead, over, row) for lead, row in zip(found, rows(found), strict=True) for over in OVER
    ]
    names = [
        f"{lead.features}: {lead.one} - {lead.other}{' per bit' * (over == OVER[1])}"
        for lead, over, _ in values
    ]
    return [row[over] for _, over, row in values], names


def rows(found: Sequence[Lead]) -> list[dict[str, Any]]:
    """All in full precision."""
    return [
        {
            **{k: v for k, v in vars(lead).items() if not isinstance(v, Compared)},
            **{
                over: vars(compared.difference) | {"corrected p": compared.p}
                for over, compared in zip(OVER, (lead.mean, lead.per_bit), strict=True)
            },
        }
        for lead in found
    ]


def _at(samples: Mapping[str, Sample], method: Method, seeds: Sequence[int]) -> Sample:
    return samples[method.name].select_runs([method.seeds.index(seed) for seed in seeds])


def _bits(method: Method, seeds: Sequence[int]) -> float:
    """Mean over these seeds, for what is erased is drawn anew with each."""
    assert method.bits is not None
    return float(np.mean([method.bits[method.seeds.index(seed)] for seed in seeds]))
