"""Figures of a report, each drawn where the runs have what it shows."""

from __future__ import annotations

import functools
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nmt_feat.analysis.comparisons import Evidence
from nmt_feat.analysis.figure_data import (
    Gain,
    Gates,
    Points,
    gains,
    gates,
    informative,
    lengths,
    shares,
)
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.statistics import Difference
from nmt_feat.extras import optional
from nmt_feat.runs.records import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe & Ito (2008): told apart also by the colour-blind."""
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx", "\\\\", "++")
FORMATS = ("png", "pdf")
BANDS = "line: mean over seeds; band: min to max"
LINES = 5
"""In one figure at most: more bands hide each other."""
WRAP = 32
"""Characters of a name in one line."""
CJK_FONTS = (
    "Noto Sans CJK",
    "Source Han Sans",
    "WenQuanYi",
    "IPAGothic",
    "NanumGothic",
    "Droid Sans Fallback",
    "Hiragino Sans",
    "PingFang",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Yu Gothic",
    "Unifont",
)
"""Beginnings of the names of fonts that have Chinese, Japanese or Korean characters."""
SHOWN = 12
"""Values of a feature whose gates are shown, the most frequent ones."""

Row = TypeVar("Row")


def write_figures(report: Report, folder: Path) -> dict[Path, str]:
    """Write each figure that the runs have data for, as PNG and PDF; by path, what it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, (figure, shows) in draw(report).items():
        for kind in FORMATS:
            written[folder / f"{name}.{kind}"] = shows
            undated = {"CreationDate": None} if kind == "pdf" else {}
            figure.savefig(folder / f"{name}.{kind}", dpi=150, metadata=undated)
    return written


def draw(report: Report) -> dict[str, tuple[Figure, str]]:
    """Each figure that the runs have data for, by a name for its files, and what it shows."""
    drawn: dict[str, tuple[Figure, str]] = {}

    def add(name: str, figure: Figure, shows: str) -> None:
        from matplotlib.text import Text

        for text in figure.findobj(Text):
            text.set_parse_math(False)  # a dollar is a dollar
            text.set_fontfamily(["DejaVu Sans", *cjk_fonts()])
        name = re.sub(r"[^\w.=+-]+", "-", name)
        same = sum(other == name or other.startswith(f"{name}--") for other in drawn)
        drawn[f"{name}--{same + 1}" if same else name] = figure, shows

    for evidence in report.evidence:
        name, test = f"{evidence.test}-{evidence.conditions}".rstrip("-"), evidence.where
        if evidence.against["BLEU"]:
            add(f"differences-{name}", forest(evidence), "differences to the baseline, intervals")
        for some in _few(lengths(evidence), evidence.baseline):
            add(f"lengths-{name}", by_length(test, some), "BLEU by length of the reference")
    rows = report.table.named()
    trained = {n: runs for n, runs in rows.items() if any(len(run.curve) > 1 for run in runs)}
    baselines = (e.baseline_row for e in report.evidence if e.baseline_row in trained)
    for several in _few(trained, next(baselines, next(iter(trained), None))):
        add("curves", curves(several), "BLEU on dev in training")
    for data, found in gains(report).items():
        add(f"gain-{data}", against_size(data, found), "gain against corpus size")
    for data, known in informative(report.table).items():
        shows = "BLEU against the bits of the features"
        add(f"information-{data}", against_information(data, known), shows)
    for name, runs in rows.items():
        if values := gates(runs):
            add(f"gates-{name}", by_value(name, values), "mean gate by feature value")
    if shared := shares(rows):
        add("shares", of_the_norm(shared), "what words and features hold of the embedding's norm")
    return drawn


@functools.cache
def cjk_fonts() -> list[str]:
    """The fonts of this system for Chinese, Japanese and Korean; a character takes the first."""
    from matplotlib.font_manager import fontManager

    names = sorted({font.name for font in fontManager.ttflist})
    return [name for name in names if name.startswith(CJK_FONTS)]


def forest(evidence: Evidence) -> Figure:
    """Each method's difference to the baseline in BLEU, with its 95 % interval."""
    against = evidence.against["BLEU"]
    figure, axes = _axes(1.2 + 0.35 * len(against))
    for place, (name, compared) in enumerate(against.items()):
        d, sure = compared.difference, compared.supported
        look: dict[str, Any] = {"color": COLORS[0], "mfc": COLORS[0] if sure else "white"}
        axes.errorbar(d.value, place, xerr=_ends(d), fmt="o", capsize=3, label=name, **look)
    axes.axvline(0, color="0.5", linewidth=1)
    axes.set_yticks(range(len(against)), _wrapped(against))
    axes.set_ylim(len(against) - 0.5, -0.5)
    seeds = _n(len(m.seeds) for m in evidence.methods if m.name in {*against, evidence.baseline})
    figure.supxlabel(  # below names of any length
        f"ΔBLEU on {evidence.where}, against {evidence.baseline}\n"
        f"mean ({seeds}), 95 % interval (filled: p < 0.05, Holm)",
        fontsize="medium",
    )
    return figure


def curves(rows: Mapping[str, Sequence[RunRecord]]) -> Figure:
    """Greedy BLEU on dev over the updates."""
    figure, axes = _axes(4)
    for number, (name, runs) in enumerate(rows.items()):
        known = (run.curve for run in runs if run.curve)  # an unfinished run has none
        points = [{p.step: p.bleu for p in curve if p.bleu is not None} for curve in known]
        steps = sorted(set.intersection(*map(set, points))) if points else []
        if steps:
            values = {float(step): [run[step] for run in points] for step in steps}
            _band(axes, number, f"{name} (n={len(points)})", values, marker="")
    axes.set_xlabel(f"updates ({BANDS})")
    axes.set_ylabel("BLEU on dev, greedy")
    _legend(figure, axes)
    return figure


def by_length(test: str, methods: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """BLEU by the length of the reference."""
    figure, axes = _axes(4)
    names: list[str] = []
    for number, (method, found) in enumerate(methods.items()):
        names = list(found)
        values = {float(i): bleu for i, bleu in enumerate(found.values())}
        _band(axes, number, f"{method} (n={len(values[0])})", values)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel(f"tokens of the reference (sentences)\n{BANDS}")
    axes.set_ylabel(f"BLEU on {test}")
    _legend(figure, axes)
    return figure


def against_size(data: str, found: Mapping[str, Mapping[int, Gain]]) -> Figure:
    """What features add to words only, over the size of the training corpus."""
    figure, axes = _axes(4)
    sizes = sorted({size for points in found.values() for size in points})
    for number, (name, points) in enumerate(found.items()):
        aside = 1.03 ** (number - (len(found) - 1) / 2)  # so that intervals do not hide each other
        x = [size * aside for size in points]
        label = f"{name} ({_n(n for _, _, n in points.values())})"
        axes.plot(x, [value for value, _, _ in points.values()], label=label, **_look(number))
        for place, (value, interval, _) in zip(x, points.values(), strict=True):
            if interval is not None:
                bar: dict[str, Any] = {"color": _look(number)["color"], "capsize": 3, "fmt": "none"}
                axes.errorbar(place, value, yerr=_ends(interval), **bar)
    axes.axhline(0, color="0.5", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    bars = "bars: 95 % intervals, where there are several seeds"
    axes.set_xlabel(f"training pairs of {data}\n{bars}")
    axes.set_ylabel("BLEU above words only")
    _legend(figure, axes)
    return figure


def against_information(data: str, series: Mapping[str, Points]) -> Figure:
    """BLEU against what the features say, and against what they say that the word does not.

    A method has a colour; where several features are dialled, each of these has a kind of line.
    """
    figure, panels = _panels(2, 4, share=True)
    names = [name.split(" ", 1) for name in series if name != "none"]
    methods, dialled = (
        list(dict.fromkeys(name[i] for name in names if i < len(name))) for i in (0, 1)
    )
    for axes, place, label in zip(
        panels,
        (0, 1),
        ("H(feature), bits, added up", "H(feature | word), bits, added up"),
        strict=True,
    ):
        for name, points in series.items():
            if name == "none":
                (bleu,) = points.values()
                axes.axhline(float(np.mean(bleu)), color="0.4", label=f"none (n={len(bleu)})")
                axes.axhspan(min(bleu), max(bleu), color="0.4", alpha=0.2, linewidth=0)
                continue
            values: dict[float, list[float]] = defaultdict(list)
            for bits, bleu in sorted(points.items()):
                values[bits[place]] += bleu
            method, *features = name.split(" ", 1)
            number, look = methods.index(method), {}
            if features:
                again, style = divmod(dialled.index(features[0]), len(STYLES))
                marker = MARKERS[(number + again) % len(MARKERS)]
                look = {"linestyle": STYLES[style], "marker": marker}
            title = f"{name} ({_n(map(len, values.values()))})"
            _band(axes, number, title, dict(sorted(values.items())), **look)
        axes.set_xlabel(label)
    panels[0].set_ylabel(f"BLEU on the test set of {data}")
    _legend(figure, panels[0], BANDS)
    return figure


def by_value(name: str, found: Gates) -> Figure:
    """The mean gate of each part by the value of each feature."""
    most = max(min(len(values), SHOWN) for values in found.values())
    every = [w for values in found.values() for _, by in values.values() for w in by.values()]
    figure, panels = _panels(len(found), 1.6 + 0.3 * most)
    for axes, (feature, values) in zip(panels, found.items(), strict=True):
        shown = dict(list(values.items())[:SHOWN])
        parts = list(next(iter(shown.values()))[1])
        for number, part in enumerate(parts):
            weights = [w[part] for _, w in shown.values()]
            means = [float(np.mean(w)) for w in weights]
            places = np.arange(len(shown)) + 0.18 * (number - (len(parts) - 1) / 2)
            axes.hlines(places, [min(w) for w in weights], [max(w) for w in weights], color="0.6")
            axes.plot(means, places, label=part, **(_look(number) | {"linestyle": ""}))
        labels = [f"{value} ({pieces:,})" for value, (pieces, _) in shown.items()]
        axes.set_yticks(range(len(shown)), _wrapped(labels))
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(min(0, *map(min, every)) - 0.03, max(1, *map(max, every)) + 0.03)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.set_xlabel("mean weight")
        axes.set_title(f"{feature} (pieces of dev)", fontsize="medium")
    _legend(figure, panels[0], f"{name} (n={len(every[0])}; line: min to max)")
    return figure


def of_the_norm(shared: Mapping[str, Mapping[str, float]]) -> Figure:
    """What words and features hold of the source embedding's squared norm."""
    figure, axes = _axes(1.3 + 0.4 * len(shared))
    parts = list(dict.fromkeys(part for row in shared.values() for part in row))
    left = np.zeros(len(shared))
    for number, part in enumerate(parts):
        widths = np.array([row.get(part, 0.0) for row in shared.values()])
        bars = axes.barh(
            *(range(len(shared)), widths, 0.7, left),
            color=COLORS[number % len(COLORS)],
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            label=part,
        )
        texts = [f"{width:.0%}" if width >= 0.07 else "" for width in widths]
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        for text in axes.bar_label(bars, texts, label_type="center", fontsize="small"):
            text.set_bbox(box if text.get_text() else None)
        left += widths
    axes.set_yticks(range(len(shared)), _wrapped(shared))
    axes.set_ylim(len(shared) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 5), [f"{x:.0%}" for x in np.linspace(0, 1, 5)])
    axes.set_xlabel("share of the squared norm of what\nthe parts add to the embedding, on dev")
    _legend(figure, axes)
    return figure


def _few(rows: Mapping[str, Row], first: str | None) -> list[dict[str, Row]]:
    """The rows in as many parts as lines can be told apart in, the first row in each of them."""
    others = [name for name in rows if name != first]
    leading = {name: rows[name] for name in rows if name == first}
    step = LINES - len(leading)
    found = [others[i : i + step] for i in range(0, len(others), step)] or [[]]
    return [leading | {name: rows[name] for name in part} for part in found if leading or part]


def _ends(d: Difference) -> list[list[float]]:
    """The interval as Matplotlib's errors."""
    return [[d.value - d.low], [d.high - d.value]]


def _wrapped(names: Iterable[str]) -> list[str]:
    """Long names in several lines, so that none is cut."""
    return ["\n".join(textwrap.wrap(name, WRAP) or [name]) for name in names]


def _look(number: int) -> dict[str, Any]:
    """Colour, line and marker of a series: each is told apart without colour too."""
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": STYLES[number % len(STYLES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def _n(seeds: Iterable[int]) -> str:
    """How many seeds the points of a line have."""
    found = set(seeds)
    least, most = min(found), max(found)
    return f"n={least}" if least == most else f"n={least} to {most}"


def _band(
    axes: Axes,
    number: int,
    label: str,
    values: Mapping[float, Sequence[float]],
    **changed: str,
) -> None:
    """A line through the means, and a band from the least to the most."""
    look = _look(number) | changed
    axes.plot(list(values), [float(np.mean(v)) for v in values.values()], label=label, **look)
    low, high = ([extreme(v) for v in values.values()] for extreme in (min, max))
    axes.fill_between(list(values), low, high, color=look["color"], alpha=0.2, linewidth=0)


def _legend(figure: Figure, axes: Axes, title: str | None = None) -> None:
    """Below the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    room = int(11 * figure.get_figwidth())  # characters beside each other
    labels = ["\n".join(textwrap.wrap(label, room - 6) or [label]) for label in labels]
    columns = max(1, min(len(labels), room // (max(map(len, labels), default=0) + 6)))
    lines = textwrap.wrap(title or "", room)
    highest = max((label.count("\n") + 1 for label in labels), default=1)
    rows = highest * math.ceil(len(labels) / columns) + max(0, len(lines) - 1)
    figure.set_figheight(figure.get_figheight() + 0.2 * rows)
    figure.legend(
        *(handles, labels),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title="\n".join(lines) or None,
    )


def _axes(height: float) -> tuple[Figure, Axes]:
    figure, [axes] = _panels(1, height, width=6)
    return figure, axes


def _panels(
    count: int, height: float, share: bool = False, width: float = 4
) -> tuple[Figure, list[Axes]]:
    """A figure that needs no display."""
    optional("matplotlib", "a figure", "analysis")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count, height), layout="constrained")
    panels = list(figure.subplots(1, count, sharey=share, squeeze=False)[0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels
