"""What figures show: counted again by hand, and found in what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt_feat.analysis import figure_data as series
from nmt_feat.analysis import figures
from nmt_feat.analysis.report import FILES, Report
from nmt_feat.evaluation.combiner_diagnostics import GateValue, Parts
from nmt_feat.evaluation.scores import score_translations
from nmt_feat.runs.stored.records import RunRecord
from tests.support.toy_runs import LINES, REFERENCES, run

pytest.importorskip("matplotlib")

SEEDS = (1, 2, 3)


def made(
    folder: Path, method: str, seed: int, wrong: float, features: str = "upos", **settings: Any
) -> tuple[RunRecord, Path]:
    """A run with a data report: `size` training pairs, `bits` of its features."""
    size, bits = settings.pop("size", 1000), settings.pop("bits", (2.0, 0.5))
    record, run_folder = run(folder / f"{size}-{bits}", method, seed, wrong, features)
    record.hash += f"-{size}-{bits}-{settings}"
    record.settings |= settings | {"data": {"limit": size}}
    record.settings["features"] = {n: {"column": n, "max": bits[0]} for n in record.features}
    information = dict(zip(("entropy", "given_word"), bits, strict=True))
    record.data_report = {
        "splits": {"train": {"sentences": size}},
        "features": dict.fromkeys(record.features, information),
    }
    return record, run_folder


def hypotheses(record: RunRecord, wrong: float) -> list[str]:
    """Those that `run` scored, made again from its random numbers."""
    features = " ".join(record.features) or "upos"
    random = np.random.default_rng([record.seed, *record.method.encode(), *features.encode()])
    return [" ".join("oh" if random.random() < wrong else w for w in line) for line in LINES]


def drawn(axes: Any, label: str) -> tuple[list[float], list[float]]:
    """The line with this label."""
    [line] = [line for line in axes.lines if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def test_bleu_by_length_is_that_of_the_sentences(tmp_path: Path) -> None:
    chances = {"none": 0.3, "gate": 0.1}
    runs = [made(tmp_path, m, seed, wrong) for m, wrong in chances.items() for seed in SEEDS]
    [evidence] = Report(runs, pairs=False).comparisons
    result = series.score_by_length(evidence)
    assert list(result) == ["none", "gate"]
    counted = 0
    for name in result["gate"]:
        span, count = name.rstrip(")").split("\n(")
        low, *high = (int(n) for n in span.split("–"))
        chosen = [i for i, line in enumerate(LINES) if low <= len(line) <= (high or [low])[0]]
        assert len(chosen) == int(count)
        counted += len(chosen)
        for method, wrong in chances.items():
            records = [r for r, _ in runs if r.method == method]
            expected = []
            for record in records:
                lines = hypotheses(record, wrong)
                references = [REFERENCES[i] for i in chosen]
                scores = score_translations([lines[i] for i in chosen], references)
                expected.append(scores.bleu)
            assert result[method][name] == pytest.approx(expected)
    assert counted == len(LINES)
    [axes] = figures.draw_lengths("test", result).axes
    means = [np.mean(bleu) for bleu in result["gate"].values()]
    assert drawn(axes, "gate (n=3)") == (list(range(len(means))), pytest.approx(means))
    assert [t.get_text() for t in axes.get_xticklabels()] == list(result["gate"])


@pytest.mark.thorough
def test_gain_against_corpus_size(tmp_path: Path) -> None:
    """At each size the difference of means; one seed has no interval; one size is no figure."""
    chances = {(500, "none"): 0.5, (500, "gate"): 0.3, (4000, "none"): 0.3, (4000, "gate"): 0.2}
    runs = [
        made(tmp_path, method, seed, wrong, size=size)
        for (size, method), wrong in chances.items()
        for seed in SEEDS
    ]
    runs.append(made(tmp_path, "add", 1, 0.2, size=4000))
    [(data, result)] = series.compute_gains(Report(runs, pairs=False)).items()
    assert (data, list(result), list(result["gate"])) == ("toy", ["gate", "add"], [500, 4000])
    for size, (value, interval, seeds) in result["gate"].items():
        bleu = {
            method: np.mean(
                [
                    r.tests["test"].bleu
                    for r, _ in runs
                    if r.method == method and r.settings["data"]["limit"] == size
                ]
            )
            for method in ("none", "gate")
        }
        assert value == pytest.approx(bleu["gate"] - bleu["none"])
        assert interval is not None
        assert interval.low < value < interval.high
        assert seeds == 3
    [(value, interval, seeds)] = result["add"].values()
    assert (interval, seeds) == (None, 1)
    [axes] = figures.draw_gains(data, result).axes
    x, y = drawn(axes, "gate (n=3)")
    assert x == pytest.approx([500, 4000], rel=0.1)
    assert y == pytest.approx([value for value, _, _ in result["gate"].values()])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["500", "4,000"]
    assert len(axes.collections) == 2  # the intervals of gate
    one_size = [(r, f) for r, f in runs if r.settings["data"]["limit"] == 500]
    assert series.compute_gains(Report(one_size, pairs=False)) == {}


@pytest.mark.thorough
def test_gains_of_each_precision_are_lines_of_their_own(tmp_path: Path) -> None:
    """Each with words only of the same precision below it."""
    chances = {("none", "bf16"): 0.5, ("gate", "bf16"): 0.3, ("none", "fp32"): 0.4}
    chances[("gate", "fp32")] = 0.1
    runs = [
        made(tmp_path / p, method, seed, wrong, size=size, trainer={"precision": p})
        for size in (500, 4000)
        for (method, p), wrong in chances.items()
        for seed in SEEDS
    ]
    [result] = series.compute_gains(Report(runs, pairs=False)).values()
    assert set(result) == {f"gate trainer.precision={p}" for p in ("bf16", "fp32")}
    for p in ("bf16", "fp32"):
        means = {
            method: np.mean([r.tests["test"].bleu for r, _ in runs if told(r) == (method, p, 500)])
            for method in ("none", "gate")
        }
        value, _, seeds = result[f"gate trainer.precision={p}"][500]
        assert (value, seeds) == (pytest.approx(means["gate"] - means["none"]), 3)


def told(record: RunRecord) -> tuple[str, str, int]:
    """Method, precision and size."""
    settings = record.settings
    return record.method, settings["trainer"]["precision"], settings["data"]["limit"]


def test_bleu_against_information(tmp_path: Path) -> None:
    """A line for each method over the bits of a feature; controls and what is not known are out."""
    dial = {(2.0, 0.5): 0.1, (1.0, 0.4): 0.2, (0.5, 0.1): 0.3}
    runs = [made(tmp_path, "none", seed, 0.4) for seed in SEEDS]
    for bits, wrong in dial.items():
        runs += [made(tmp_path, "gate", seed, wrong, bits=bits) for seed in SEEDS]
    runs.append(made(tmp_path, "gate", 1, 0.4, bits=(2.0, 0.6), control="shuffled"))
    runs.append(made(tmp_path, "gate", 1, 0.4, "jamo", bits=(2.0, None)))
    [(data, result)] = series.score_by_information(Report(runs, pairs=False).table).items()
    assert (data, list(result)) == ("toy", ["none", "gate"])
    assert list(result["none"]) == [(0, 0)]
    assert set(result["gate"]) == set(dial)
    expected = [r.tests["test"].bleu for r, _ in runs[3:6]]
    assert result["gate"][2.0, 0.5] == expected
    first_axes, right = figures.draw_information(data, result).axes
    labels = ("H(feature), bits, added up", "H(feature | word), bits, added up")
    assert (first_axes.get_xlabel(), right.get_xlabel()) == labels
    for axes, title_index in ((first_axes, 0), (right, 1)):
        x, y = drawn(axes, "gate (n=3)")
        assert x == sorted(bits[title_index] for bits in dial)
        assert y[-1] == pytest.approx(np.mean(expected))
        _, level = drawn(axes, "none (n=3)")
        assert level[0] == pytest.approx(np.mean([r.tests["test"].bleu for r, _ in runs[:3]]))


def test_lines_whose_points_have_unequal_seeds(tmp_path: Path) -> None:
    runs = [made(tmp_path, "none", seed, 0.4) for seed in SEEDS]
    runs += [made(tmp_path, "gate", seed, 0.1, bits=(2.0, 0.5)) for seed in SEEDS]
    runs += [made(tmp_path, "gate", seed, 0.2, bits=(1.0, 0.4)) for seed in SEEDS[:2]]
    [(data, result)] = series.score_by_information(Report(runs, pairs=False).table).items()
    first_axes, _ = figures.draw_information(data, result).axes
    assert len(drawn(first_axes, "gate (n=2 to 3)")[0]) == 2


def test_two_features_that_are_dialled_are_lines_of_their_own(tmp_path: Path) -> None:
    runs = [
        made(tmp_path, "gate", 1, 0.1, features, bits=bits)
        for features in ("upos", "lemma")
        for bits in ((1.0, 0.5), (2.0, 1.0))
    ]
    runs.append(made(tmp_path, "gate", 1, 0.1, "upos lemma"))
    [result] = series.score_by_information(Report(runs, pairs=False).table).values()
    assert list(result) == ["gate upos", "gate lemma"]
    for axes in figures.draw_information("toy", result).axes:
        one, second = (line for line in axes.lines if line.get_label().startswith("gate"))  # type: ignore[attr-defined]
        assert one.get_color() == second.get_color()
        assert one.get_linestyle() != second.get_linestyle()
    plural = [made(tmp_path, "gate", 1, 0.1, f, bits=(b, b)) for f, b in (("xpos", 3), ("case", 2))]
    [result] = series.score_by_information(Report(plural, pairs=False).table).values()
    assert list(result) == ["gate"]  # no dial: over the features
    assert series.score_by_information(Report(plural[:1], pairs=False).table) == {}
    sizes = [made(tmp_path, "gate", 1, 0.1, bits=(b, b), size=int(b)) for b in (1.0, 2.0)]
    assert series.score_by_information(Report(sizes, pairs=False).table) == {}
    sizes.append(made(tmp_path, "gate", 1, 0.1, bits=(3.0, 3.0), size=2))
    [name] = series.score_by_information(Report(sizes, pairs=False).table)
    assert name == "toy data.limit=2"


def test_settings_of_one_method_are_lines_that_can_be_told_apart() -> None:
    points = {(1.0, 0.5): [10.0], (2.0, 1.0): [20.0]}
    result = {f"{m} combiner.bias={bias}": points for m in ("gate", "dme") for bias in range(6)}
    for axes in figures.draw_information("toy", result).axes:
        looks = {(li.get_color(), li.get_linestyle(), li.get_marker()) for li in axes.lines}
        assert len(looks) == len(axes.lines) == 12


def with_parts(folder: Path, seed: int, noun: float, word: float) -> tuple[RunRecord, Path]:
    record, run_folder = made(folder, "gate", seed, 0.1)
    values = {"NOUN": (30, noun), "VERB": (20, 0.25)} | ({"X": (1, 0.5)} if seed == 1 else {})
    gates = [GateValue(v, n, {"word": w, "upos": 1 - w}) for v, (n, w) in values.items()]
    record.parts = Parts({"word": word, "upos": 1 - word}, {"upos": gates})
    return record, run_folder


def test_gates_and_shares(tmp_path: Path) -> None:
    runs = [with_parts(tmp_path, 1, 0.5, 0.9), with_parts(tmp_path, 2, 0.75, 0.7)]
    runs.append(made(tmp_path, "none", 1, 0.3))
    rows = Report(runs, pairs=False).table.runs_by_name()
    result = series.mean_gates(rows["gate"])
    assert result == {
        "upos": {
            "NOUN": (30, {"word": [0.5, 0.75], "upos": [0.5, 0.25]}),
            "VERB": (20, {"word": [0.25, 0.25], "upos": [0.75, 0.75]}),
        }
    }
    assert series.mean_gates(rows["none"]) == {}
    [axes] = figures.draw_gates("gate", result).axes
    for part, weights in {"word": [0.625, 0.25], "upos": [0.375, 0.75]}.items():
        x, y = drawn(axes, part)
        assert (x, [round(value) for value in y]) == (weights, [0, 1])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["NOUN (30)", "VERB (20)"]
    shared = series.mean_norm_shares(rows)
    assert shared == {"gate (n=2)": pytest.approx({"word": 0.8, "upos": 0.2})}
    [axes] = figures.draw_norm_shares(shared).axes
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert widths == {"word": pytest.approx([0.8]), "upos": pytest.approx([0.2])}
    assert [bar.get_x() for bars in axes.containers for bar in bars] == pytest.approx([0, 0.8])


@pytest.mark.thorough
def test_a_dollar_is_a_dollar(tmp_path: Path) -> None:
    """What stands between two of them is no formula."""
    record, run_folder = with_parts(tmp_path, 1, 0.5, 0.9)
    assert record.parts
    for value, odd in zip(record.parts.gates["upos"], ("$$", "$(+$,"), strict=False):
        value.value = odd
    report = Report([(record, run_folder)], pairs=False)
    figures.write_figures(report, tmp_path / "out")
    drawn, _ = figures.draw_figures(report)["gates-gate"]
    assert not any(text.get_parse_math() for text in drawn.axes[0].get_yticklabels())


@pytest.mark.thorough
def test_names_and_no_more_lines_than_can_be_told_apart(tmp_path: Path) -> None:
    names = ["none", *(f"m{i}" for i in range(9))]
    runs = [made(tmp_path, name, 1, 0.1 + i / 50) for i, name in enumerate(names)]
    runs.append(with_parts(tmp_path, 1, 0.5, 0.9))
    written = figures.write_figures(Report(runs, pairs=False), tmp_path / "out")
    expected = ["lengths-test", "lengths-test--2", "lengths-test--3", "gates-gate", "shares"]
    assert [path.name for path in written] == [f"{n}.{k}" for n in expected for k in ("png", "pdf")]
    assert all(FILES.fullmatch(path.name) for path in written)
    assert written[tmp_path / "out" / "shares.png"] == (
        "what words and features hold of the embedding's norm"
    )
    parts = figures.split_lines(dict.fromkeys(names), "none")
    assert parts == [
        dict.fromkeys(names[:5]),
        dict.fromkeys(["none", *names[5:9]]),
        dict.fromkeys(["none", "m8"]),
    ]
    assert figures.split_lines({"none": 1}, "none") == [{"none": 1}]
    assert figures.split_lines({}, None) == []
