"""Figures of a report, drawn if the runs have data for them."""

from __future__ import annotations

import functools
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nmt_feat.analysis.comparisons import Evidence
from nmt_feat.analysis.figure_data import (
    Gain,
    Gates,
    Points,
    compute_gains,
    mean_gates,
    mean_norm_shares,
    score_by_information,
    score_by_length,
)
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.statistics import Difference
from nmt_feat.extras import import_optional
from nmt_feat.runs.stored.records import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe & Ito (2008): colours that colour-blind readers can distinguish."""
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx", "\\\\", "++")
FORMATS = ("png", "pdf")
BANDS = "line: mean over seeds; band: min to max"
MOST_LINES = 5
"""The most lines in one figure: more bands hide each other."""
NAME_WIDTH = 32
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
MOST_VALUES = 12
"""The most values of a feature whose gates are shown; the most frequent ones are."""

Row = TypeVar("Row")


def write_figures(report: Report, folder: Path) -> dict[Path, str]:
    """Write each figure that the runs have data for, as PNG and PDF; a description of each file."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptions = {}
    for name, (figure, description) in draw_figures(report).items():
        for kind in FORMATS:
            path = folder / f"{name}.{kind}"
            descriptions[path] = description
            undated = {"CreationDate": None} if kind == "pdf" else {}
            figure.savefig(path, dpi=150, metadata=undated)
    return descriptions


def draw_figures(report: Report) -> dict[str, tuple[Figure, str]]:
    """Each figure that the runs have data for, with a description, by a name for its files."""
    from matplotlib.text import Text

    figures: dict[str, tuple[Figure, str]] = {}
    for name, figure, description in _draw_all(report):
        for text in figure.findobj(Text):
            text.set_parse_math(False)  # a dollar is a dollar
            text.set_fontfamily(["DejaVu Sans", *cjk_fonts()])
        name = re.sub(r"[^\w.=+-]+", "-", name)
        count = sum(earlier == name or earlier.startswith(f"{name}--") for earlier in figures)
        figures[f"{name}--{count + 1}" if count else name] = figure, description
    return figures


def _draw_all(report: Report) -> Iterator[tuple[str, Figure, str]]:
    """Names, which may repeat, figures, and descriptions."""
    for evidence in report.comparisons:
        name, test = f"{evidence.test}-{evidence.conditions}".rstrip("-"), evidence.test_name
        if evidence.against[evidence.metric]:
            description = "differences to the baseline, intervals"
            yield f"differences-{name}", draw_differences(evidence), description
        for lines in split_lines(score_by_length(evidence), evidence.baseline):
            description = f"{evidence.metric} by length of the reference"
            yield f"lengths-{name}", draw_lengths(test, lines, evidence.metric), description
    rows = report.table.runs_by_name()
    trained = {n: runs for n, runs in rows.items() if any(len(run.curve) > 1 for run in runs)}
    baselines = (e.baseline_row for e in report.comparisons if e.baseline_row in trained)
    for group in split_lines(trained, next(baselines, next(iter(trained), None))):
        yield "curves", draw_curves(group), "BLEU on dev in training"
    for data, gains in compute_gains(report).items():
        yield f"gain-{data}", draw_gains(data, gains, report.metric), "gain against corpus size"
    for data, series in score_by_information(report.table, report.metric).items():
        description = f"{report.metric} against the bits of the features"
        yield f"information-{data}", draw_information(data, series, report.metric), description
    for name, runs in rows.items():
        if values := mean_gates(runs):
            yield f"gates-{name}", draw_gates(name, values), "mean gate by feature value"
    if shares := mean_norm_shares(rows):
        description = "what words and features hold of the embedding's norm"
        yield "shares", draw_norm_shares(shares), description


@functools.cache
def cjk_fonts() -> list[str]:
    """The fonts of this system for Chinese, Japanese and Korean."""
    from matplotlib.font_manager import fontManager

    names = sorted({font.name for font in fontManager.ttflist})
    return [name for name in names if name.startswith(CJK_FONTS)]


def draw_differences(evidence: Evidence) -> Figure:
    """Each method's difference to the baseline, with its 95 % interval."""
    against = evidence.against[evidence.metric]
    lines = len(against) + sum(m.is_ensemble for m in evidence.methods)
    figure, axes = make_axes(1.2 + 0.35 * lines)
    for y, (name, compared) in enumerate(against.items()):
        difference = compared.difference
        bars = error_lengths(difference)
        fill = COLORS[0] if compared.is_supported else "white"
        style: dict[str, Any] = {"color": COLORS[0], "mfc": fill, "fmt": "o", "capsize": 3}
        axes.errorbar(difference.value, y, xerr=bars, label=name, **style)
    samples, names = evidence.samples[evidence.metric], list(against)
    ensembles = [m.name for m in evidence.methods if m.is_ensemble]
    for y, name in enumerate(ensembles, len(names)):
        value = samples[name].mean - samples[str(evidence.baseline)].mean
        axes.plot(value, y, "D", color=COLORS[0], mfc="white", label=name)
    names += ensembles
    axes.axvline(0, color="0.5", linewidth=1)
    axes.set_yticks(range(len(names)), wrap_names(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    seeds = format_seeds(
        len(m.seeds) for m in evidence.methods if m.name in {*against, evidence.baseline}
    )
    figure.supxlabel(  # below names of any length
        f"Δ{evidence.metric} on {evidence.test_name}, against {evidence.baseline}\n"
        f"mean ({seeds}), 95 % interval (filled: p < 0.05, Holm)"
        + ("; diamond: an ensemble, one measurement" if ensembles else ""),
        fontsize="medium",
    )
    return figure


def draw_curves(rows: Mapping[str, Sequence[RunRecord]]) -> Figure:
    """Greedy BLEU on dev over the updates."""
    figure, axes = make_axes(4)
    for number, (name, runs) in enumerate(rows.items()):
        points = [
            {p.step: p.bleu for p in run.curve if p.bleu is not None}
            for run in runs
            if run.curve  # an unfinished run has none
        ]
        steps = sorted(set.intersection(*map(set, points))) if points else []
        if steps:
            values = {float(step): [run[step] for run in points] for step in steps}
            draw_band(axes, number, f"{name} (n={len(points)})", values, marker="")
    axes.set_xlabel(f"updates ({BANDS})")
    axes.set_ylabel("BLEU on dev, greedy")
    draw_legend(figure, axes)
    return figure


def draw_lengths(
    test: str, methods: Mapping[str, Mapping[str, Sequence[float]]], metric: str = "BLEU"
) -> Figure:
    """A metric by the length of the reference."""
    figure, axes = make_axes(4)
    names: list[str] = []
    for number, (method, by_length) in enumerate(methods.items()):
        names = list(by_length)
        values = {float(i): bleu for i, bleu in enumerate(by_length.values())}
        draw_band(axes, number, f"{method} (n={len(values[0])})", values)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel(f"tokens of the reference (sentences)\n{BANDS}")
    axes.set_ylabel(f"{metric} on {test}")
    draw_legend(figure, axes)
    return figure


def draw_gains(data: str, gains: Mapping[str, Mapping[int, Gain]], metric: str = "BLEU") -> Figure:
    """The gain over words only, by the size of the training corpus."""
    figure, axes = make_axes(4)
    sizes = sorted({size for points in gains.values() for size in points})
    for number, (name, points) in enumerate(gains.items()):
        shift = 1.03 ** (number - (len(gains) - 1) / 2)  # so that intervals do not hide each other
        x = [size * shift for size in points]
        label = f"{name} ({format_seeds(n for _, _, n in points.values())})"
        axes.plot(
            x, [value for value, _, _ in points.values()], label=label, **series_style(number)
        )
        color = series_style(number)["color"]
        for position, (value, interval, _) in zip(x, points.values(), strict=True):
            if interval is not None:
                bar: dict[str, Any] = {"color": color, "capsize": 3, "fmt": "none"}
                axes.errorbar(position, value, yerr=error_lengths(interval), **bar)
    axes.axhline(0, color="0.5", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    bars = "bars: 95 % intervals, where there are several seeds"
    axes.set_xlabel(f"training pairs of {data}\n{bars}")
    axes.set_ylabel(f"{metric} above words only")
    draw_legend(figure, axes)
    return figure


def draw_information(data: str, series: Mapping[str, Points], metric: str = "BLEU") -> Figure:
    """A metric against the bits of the features, and against their bits given the word.

    Each method has a colour. If dials reduce several features, each of these has a kind of line.
    """
    figure, panels = make_panels(2, 4, share=True)
    names = [name.split(" ", 1) for name in series if name != "none"]
    methods = list(dict.fromkeys(method for method, *_ in names))
    reduced_features = list(dict.fromkeys(name[1] for name in names if len(name) > 1))
    axis_labels = "H(feature), bits, added up", "H(feature | word), bits, added up"
    for panel, (axes, label) in enumerate(zip(panels, axis_labels, strict=True)):
        for name, points in series.items():
            if name == "none":
                (bleu,) = points.values()
                axes.axhline(float(np.mean(bleu)), color="0.4", label=f"none (n={len(bleu)})")
                axes.axhspan(min(bleu), max(bleu), color="0.4", alpha=0.2, linewidth=0)
                continue
            values: dict[float, list[float]] = defaultdict(list)
            for bits, bleu in sorted(points.items()):
                values[bits[panel]] += bleu
            method, *features = name.split(" ", 1)
            number, style_changes = methods.index(method), {}
            if features:
                # After all kinds of line, the same ones with the next marker.
                cycle, style = divmod(reduced_features.index(features[0]), len(STYLES))
                marker = MARKERS[(number + cycle) % len(MARKERS)]
                style_changes = {"linestyle": STYLES[style], "marker": marker}
            title = f"{name} ({format_seeds(map(len, values.values()))})"
            draw_band(axes, number, title, dict(sorted(values.items())), **style_changes)
        axes.set_xlabel(label)
    panels[0].set_ylabel(f"{metric} on the test set of {data}")
    draw_legend(figure, panels[0], BANDS)
    return figure


def draw_gates(name: str, gates: Gates) -> Figure:
    """The mean gate of each part by the value of each feature."""
    value_count = max(min(len(values), MOST_VALUES) for values in gates.values())
    all_weights = [
        weights
        for values in gates.values()
        for _, by_part in values.values()
        for weights in by_part.values()
    ]
    low, high = min(map(min, all_weights)), max(map(max, all_weights))
    figure, panels = make_panels(len(gates), 1.6 + 0.3 * value_count)
    for axes, (feature, all_values) in zip(panels, gates.items(), strict=True):
        values = dict(list(all_values.items())[:MOST_VALUES])
        parts = list(next(iter(values.values()))[1])
        for number, part in enumerate(parts):
            weights = [w[part] for _, w in values.values()]
            means = [float(np.mean(w)) for w in weights]
            heights = np.arange(len(values)) + 0.18 * (number - (len(parts) - 1) / 2)
            axes.hlines(heights, [min(w) for w in weights], [max(w) for w in weights], color="0.6")
            axes.plot(means, heights, label=part, **(series_style(number) | {"linestyle": ""}))
        labels = [f"{value} ({pieces:,})" for value, (pieces, _) in values.items()]
        axes.set_yticks(range(len(values)), wrap_names(labels))
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(min(0, low) - 0.03, max(1, high) + 0.03)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.set_xlabel("mean weight")
        axes.set_title(f"{feature} (pieces of dev)", fontsize="medium")
    draw_legend(figure, panels[0], f"{name} (n={len(all_weights[0])}; line: min to max)")
    return figure


def draw_norm_shares(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """The shares of words and features in the source embedding's squared norm."""
    figure, axes = make_axes(1.3 + 0.4 * len(rows))
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    starts = np.zeros(len(rows))
    for number, part in enumerate(parts):
        widths = np.array([row.get(part, 0.0) for row in rows.values()])
        bars = axes.barh(
            *(range(len(rows)), widths, 0.7, starts),
            color=COLORS[number % len(COLORS)],
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            label=part,
        )
        texts = [f"{width:.0%}" if width >= 0.07 else "" for width in widths]
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        for text in axes.bar_label(bars, texts, label_type="center", fontsize="small"):
            text.set_bbox(box if text.get_text() else None)
        starts += widths
    axes.set_yticks(range(len(rows)), wrap_names(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks(np.linspace(0, 1, 5), [f"{x:.0%}" for x in np.linspace(0, 1, 5)])
    axes.set_xlabel("share of the squared norm of what\nthe parts add to the embedding, on dev")
    draw_legend(figure, axes)
    return figure


def split_lines(rows: Mapping[str, Row], first: str | None) -> list[dict[str, Row]]:
    """The rows in groups of at most `MOST_LINES`; the row `first` is in each group."""
    names = [name for name in rows if name != first]
    leading = {name: rows[name] for name in rows if name == first}
    size = MOST_LINES - len(leading)
    groups = [names[i : i + size] for i in range(0, len(names), size)] or [[]]
    return [leading | {name: rows[name] for name in group} for group in groups if leading or group]


def error_lengths(d: Difference) -> list[list[float]]:
    """The interval as Matplotlib's errors."""
    return [[d.value - d.low], [d.high - d.value]]


def wrap_names(names: Iterable[str]) -> list[str]:
    """Long names in several lines, so that none is cut."""
    return ["\n".join(textwrap.wrap(name, NAME_WIDTH) or [name]) for name in names]


def series_style(number: int) -> dict[str, Any]:
    """Colour, line and marker of a series, which differ also without colour."""
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": STYLES[number % len(STYLES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def format_seeds(seeds: Iterable[int]) -> str:
    """How many seeds the points of a line have."""
    counts = set(seeds)
    low, high = min(counts), max(counts)
    return f"n={low}" if low == high else f"n={low} to {high}"


def draw_band(
    axes: Axes,
    number: int,
    label: str,
    values: Mapping[float, Sequence[float]],
    **changed: str,
) -> None:
    """A line through the means, and a band from the smallest to the largest value."""
    style = series_style(number) | changed
    axes.plot(list(values), [float(np.mean(v)) for v in values.values()], label=label, **style)
    low, high = ([limit(v) for v in values.values()] for limit in (min, max))
    axes.fill_between(list(values), low, high, color=style["color"], alpha=0.2, linewidth=0)


def draw_legend(figure: Figure, axes: Axes, title: str | None = None) -> None:
    """Draw the legend below the axes, where it hides nothing."""
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


def make_axes(height: float) -> tuple[Figure, Axes]:
    """A figure of one panel."""
    figure, [axes] = make_panels(1, height, width=6)
    return figure, axes


def make_panels(
    count: int, height: float, share: bool = False, width: float = 4
) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side, which needs no display."""
    import_optional("matplotlib", "a figure", "analysis")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * count, height), layout="constrained")
    panels = list(figure.subplots(1, count, sharey=share, squeeze=False)[0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels
