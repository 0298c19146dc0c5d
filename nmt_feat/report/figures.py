"""Figures of a report: differences with their intervals, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmt_feat.extras import optional
from nmt_feat.report.evidence import Evidence
from nmt_feat.report.records import RunRecord
from nmt_feat.report.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe & Ito (2008): told apart also by the colour-blind."""
STYLES = ("-", "--", ":", "-.")
FORMATS = ("png", "pdf")


def write_figures(report: Report, folder: Path) -> list[Path]:
    """Write what there is to see: `differences-<test>` and `curves`, as PNG and PDF; the paths."""
    drawn = {f"differences-{e.test}": forest(e) for e in report.evidence if e.against["BLEU"]}
    rows = report.table.named()
    if any(len(run.curve) > 1 for runs in rows.values() for run in runs):
        drawn["curves"] = curves(rows)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{kind}" for name in drawn for kind in FORMATS]
    for path in paths:
        undated = {"CreationDate": None} if path.suffix == ".pdf" else {}
        drawn[path.stem].savefig(path, dpi=150, metadata=undated)
    return paths


def forest(evidence: Evidence) -> Figure:
    """Each method's difference to the baseline in BLEU, with its 95 % interval."""
    against = evidence.against["BLEU"]
    figure, axes = _axes(1.2 + 0.35 * len(against))
    for place, (name, compared) in enumerate(against.items()):
        d, sure = compared.difference, compared.supported
        error = [[d.value - d.low], [d.high - d.value]]
        face = COLORS[0] if sure else "white"
        axes.errorbar(
            d.value, place, xerr=error, fmt="o", color=COLORS[0], mfc=face, capsize=3, label=name
        )
    axes.axvline(0, color="0.5", linewidth=1)
    axes.set_yticks(range(len(against)), list(against))
    axes.set_ylim(len(against) - 0.5, -0.5)
    axes.set_xlabel(
        f"BLEU on {evidence.test} less that of {evidence.baseline}: mean, 95 % interval\n"
        "(filled: p < 0.05, Holm)"
    )
    return figure


def curves(rows: Mapping[str, Sequence[RunRecord]]) -> Figure:
    """Greedy BLEU on dev over the updates: the mean over seeds, the band from least to most."""
    figure, axes = _axes(4)
    for number, (name, runs) in enumerate(rows.items()):
        points = [{p.step: p.bleu for p in run.curve if p.bleu is not None} for run in runs]
        steps = sorted(set.intersection(*map(set, points))) if points else []
        if not steps:
            continue
        values = np.array([[run[step] for step in steps] for run in points])
        color = COLORS[number % len(COLORS)]
        style = STYLES[number // len(COLORS) % len(STYLES)]
        label = f"{name} (n={len(points)})"
        axes.plot(steps, values.mean(axis=0), style, color=color, label=label)
        band = values.min(axis=0), values.max(axis=0)
        axes.fill_between(steps, *band, color=color, alpha=0.2, linewidth=0)
    axes.set_xlabel("updates (line: mean over seeds; band: from the least to the most)")
    axes.set_ylabel("BLEU on dev, greedy")
    axes.legend(frameon=False)
    return figure


def _axes(height: float) -> tuple[Figure, Axes]:
    """A figure that needs no display."""
    optional("matplotlib", "a figure", "figures")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
