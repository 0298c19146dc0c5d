"""Comparisons that were planned before the first result, corrected only for their number.

A plan is a text file with a comparison in each line, `ROW - OTHER`, by the names of rows in the
table (`gate data.limit=1000` if sizes differ). Empty lines, and comments after `#`, are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nmt_feat.analysis.claims import ALPHA
from nmt_feat.analysis.comparison_tables import difference_cells
from nmt_feat.analysis.comparisons import CorrectedDifference, Evidence, correct_differences
from nmt_feat.analysis.method_runs import MethodRuns
from nmt_feat.analysis.render import ReportTable
from nmt_feat.analysis.statistics import Difference, compare_with_zero
from nmt_feat.errors import UserError, suggest
from nmt_feat.extras import import_optional

MINUS = " - "
Plan = Sequence[tuple[str, str]]
"""Pairs of rows: the second is subtracted from the first."""


def read_plan(path: Path) -> Plan:
    """The comparisons in a file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"--plan={path}: cannot be read; give a text file with lines such as 'gate - none'"
        ) from None
    plan: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        first, minus, second = (part.strip() for part in text.partition(MINUS))
        if not minus or not first or not second or first == second:
            raise UserError(
                f"--plan={path}: line {number} is not two rows with a minus between spaces, such "
                "as 'gate - none'"
            )
        if (first, second) in plan or (second, first) in plan:
            raise UserError(f"--plan={path}: line {number} compares two rows again; remove it")
        plan.append((first, second))
    if not plan:
        raise UserError(f"--plan={path}: has no comparison; write lines such as 'gate - none'")
    return plan


def compare_as_planned(
    plan: Plan, comparisons: Sequence[Evidence], metric: str
) -> dict[tuple[str, str], CorrectedDifference | None]:
    """Each planned difference, paired by seed; None if two rows share fewer than two seeds.

    A missing difference counts in the correction, too, so no p-value gains by missing runs.
    """
    import_optional("scipy", "a p-value", "analysis")
    # Several comparisons may call their methods alike, one `gate` for each size of a corpus.
    rows = {
        method.row: (evidence, method) for evidence in comparisons for method in evidence.methods
    }
    differences: dict[tuple[str, str], Difference] = {}
    for pair in plan:
        for name in pair:
            if name not in rows:
                raise UserError(f"--plan: no row {name!r} here; {suggest(name, rows)}")
        (evidence, first), (other_evidence, second) = (rows[name] for name in pair)
        if evidence is not other_evidence:
            raise UserError(
                f"--plan: {first.row} and {second.row} are not compared here: their test sets or "
                "settings are not the same"
            )
        if difference := _subtract_by_seed(evidence, first, second, metric):
            differences[pair] = difference
    missing = len(plan) - len(differences)
    return dict.fromkeys(plan) | correct_differences(differences, missing)


def _subtract_by_seed(
    evidence: Evidence, first: MethodRuns, second: MethodRuns, metric: str
) -> Difference | None:
    """The difference of two methods over the seeds that both have; None if these are too few."""
    seeds = sorted(set(first.seeds) & set(second.seeds))
    if len(seeds) < 2:
        return None
    sample = evidence.subtract_by_seed(metric, first, second, seeds)
    return compare_with_zero(sample, len(first.counts[0][metric]))


def make_plan_table(
    compared: Mapping[tuple[str, str], CorrectedDifference | None], metric: str
) -> ReportTable:
    """The planned differences, and which of them are supported."""
    rows = [
        [MINUS.join(pair), *(["-"] * 3 if result is None else difference_cells(result))]
        for pair, result in compared.items()
    ]
    supported = [
        MINUS.join(pair) for pair, result in compared.items() if result and result.is_supported
    ]
    notes = [
        f"Supported, of {len(rows)}: {', '.join(supported) or 'none'}.",
        "A difference is between two rows at the same seed, then the mean over the seeds, with its "
        "95 % interval. "
        f"p is corrected for the {len(rows)} comparisons of the plan (Holm). "
        f"A difference is supported if p < {ALPHA}. See docs/explanation/statistics.md.",
    ]
    if None in compared.values():
        notes.insert(1, "-: the two rows share fewer than two seeds; it counts in the correction.")
    heading = ["planned comparison", f"{metric} difference", "95 % interval", "p"]
    return ReportTable(
        f"Planned comparisons in {metric}", heading, rows, notes, frozenset({"planned comparison"})
    )


def plan_rows(
    compared: Mapping[tuple[str, str], CorrectedDifference | None], metric: str
) -> list[dict[str, Any]]:
    """The differences in full precision, for JSON; those without seeds are left out."""
    return [
        {"metric": metric, "method": first, "other": second} | result.to_row()
        for (first, second), result in compared.items()
        if result is not None
    ]
