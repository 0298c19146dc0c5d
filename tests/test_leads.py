"""Leads of one method over another, over the dials of what the features say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from nmt_feat.analysis.dial_trends import Lead, compute_leads, describe_leads, make_lead_table
from nmt_feat.analysis.report import Report
from nmt_feat.analysis.statistics import Sample, compare_with_zero
from nmt_feat.runs.stored.records import RunRecord
from tests.support.toy_runs import run

BITS = {0.0: 3.0, 0.5: 1.6, 0.75: 0.7}
SEEDS = (1, 2, 3, 4)


def dialled(
    folder: Path, method: str, seed: int, wrong: float, erase: float, control: str = ""
) -> tuple[RunRecord, Path]:
    """A run whose feature says `BITS[erase]`."""
    record, run_folder = run(folder / f"{erase}{control}", method, seed, wrong)
    record.hash += f"{erase}{control}"
    record.settings = {"features": {"upos": {"erase": erase} if erase else {}}}
    record.settings |= {"control": control} if control else {}
    record.data_report = {"features": {"upos": {"entropy": BITS[erase], "given_word": 0.1}}}
    return record, run_folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[RunRecord, Path]]:
    """concat is far above add where the feature says much, and less so where it says less."""
    folder = tmp_path_factory.mktemp("runs")
    result = [run(folder, "none", seed, 0.5) for seed in SEEDS]
    for erase, bits in BITS.items():
        for seed in SEEDS:
            result.append(dialled(folder, "add", seed, 0.3, erase))
            result.append(dialled(folder, "concat", seed, 0.25 - 0.05 * bits, erase))
    return result


def of(runs: list[tuple[RunRecord, Path]]) -> list[Lead]:
    [evidence] = Report(runs, pairs=False).comparisons
    return compute_leads(evidence)


def test_without_sentences_it_is_students_test() -> None:
    values = [0.3, 0.9, 0.1, 0.6]
    sample = Sample(np.array(values), np.tile(np.array(values), (10, 1)))
    result = compare_with_zero(sample, 1000)
    test = scipy.stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(0.95)
    assert result.p == pytest.approx(test.pvalue)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))
    assert result.df == pytest.approx(3)


@pytest.mark.thorough
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("deviations", [(1, 0, 1), (0.3, 0.3, 1), (0, 0.5, 1), (0.5, 0.5, 0.5)])
def test_simulated_intervals_hold_what_they_promise(
    n: int, deviations: tuple[float, float, float]
) -> None:
    """Scores that vary with the seed, with each seed's luck with sentences, and with sentences."""
    random, (seed, luck, sentences) = np.random.default_rng(1), deviations
    covered, rare, tables, resamples = 0, 0, 1000, 200
    for _ in range(tables):
        scores = sentences * random.normal() + np.hypot(seed, luck) * random.normal(size=n)
        resampled = scores + sentences * random.normal(size=(resamples, 1))
        resampled += luck * random.normal(size=(resamples, n))
        result = compare_with_zero(Sample(scores, resampled), 1000)
        covered += result.low <= 0 <= result.high
        rare += result.p < 0.002
    assert rare / tables <= {3: 0.01, 5: 0.004}[n]
    assert 0.93 <= covered / tables <= 0.97


def test_what_the_seeds_of_a_pair_share_cancels() -> None:
    luck = np.array([5.0, -3.0, 1.0])
    one, second = (Sample(luck + k, np.tile(luck + k, (10, 1))) for k in (2.0, 1.5))
    result = compare_with_zero(Sample.weighted_sum([one, second], [1, -1]), 1000)
    assert (result.value, result.low, result.p) == pytest.approx((0.5, 0.5, 0))
    assert one.select_runs([2, 0]).scores.tolist() == [3.0, 7.0]


def test_means_and_slopes_by_seed(runs: list[tuple[RunRecord, Path]]) -> None:
    bleu = {
        (r.method, r.seed, r.data_report["features"]["upos"]["entropy"]): r.tests["test"].bleu
        for r, _ in runs
        if r.method != "none"
    }
    gaps = {
        seed: [bleu["concat", seed, b] - bleu["add", seed, b] for b in BITS.values()]
        for seed in SEEDS
    }
    slopes = [scipy.stats.linregress(list(BITS.values()), gap).slope for gap in gaps.values()]
    [lead] = of(runs)
    assert (lead.features, lead.one, lead.other) == ("upos", "concat", "add")
    assert (lead.seeds, lead.dials) == (4, 3)
    assert lead.mean.difference.value == pytest.approx(np.mean(list(gaps.values())))
    assert lead.per_bit.difference.value == pytest.approx(np.mean(slopes))
    assert lead.per_bit.difference.seed_variance == pytest.approx(np.var(slopes, ddof=1) / 4)
    # Holm: of the two values the smaller counts twice.
    plain = [c.difference.p for c in (lead.mean, lead.per_bit)]
    assert min(lead.mean.p, lead.per_bit.p) == pytest.approx(min(1, 2 * min(plain)))


def test_words(runs: list[tuple[RunRecord, Path]]) -> None:
    [lead] = of(runs)
    gap, slope = lead.mean.difference.value, lead.per_bit.difference.value
    assert describe_leads([lead]) == [
        f"upos: concat is above add by {gap:.2f}, the mean over the levels (p < 0.001).",
        f"upos: the lead of concat over add grows by {slope:.2f} with each bit (p < 0.001).",
        "4 seeds are a first look. A published claim needs 5.",
    ]
    assert make_lead_table([lead], "test").rows[0][:5] == [
        "upos",
        "concat - add",
        "4",
        "3",
        f"{gap:+.2f}",
    ]


@pytest.mark.thorough
def test_the_lead_that_shrinks_and_the_one_that_is_none(tmp_path: Path) -> None:
    """concat is made worse with each bit, and none of the others differ."""
    results = [run(tmp_path, "none", seed, 0.5) for seed in SEEDS]
    for erase, bits in BITS.items():
        for seed in SEEDS:
            results.append(dialled(tmp_path, "concat", seed, 0.1 + 0.06 * bits, erase))
            results += [dialled(tmp_path, m, seed, 0.3, erase) for m in ("gate", "add")]
    text = "\n".join(describe_leads(of(results)))
    assert "upos: the lead of concat over gate shrinks by " in text
    assert "gate over add" not in text
    assert "add over gate" not in text
    assert "\nNo other lead or change is supported.\n" in text


@pytest.mark.thorough
def test_only_seeds_and_dials_of_both(runs: list[tuple[RunRecord, Path]]) -> None:
    """A run less: its seed is out, at all dials; controls and rows without a series are out."""
    fewer = [
        (r, f)
        for r, f in runs
        if not (r.method == "add" and r.seed == 2 and r.settings["features"]["upos"])
    ]
    [lead] = of(fewer)
    assert (lead.seeds, lead.dials) == (3, 3)
    whole = [(r, f) for r, f in runs if not r.features or not r.settings["features"]["upos"]]
    assert of(whole) == []
    apart = [
        (r, f)
        for r, f in runs
        if not r.features or (r.method == "add") == bool(r.settings["features"]["upos"])
    ]
    assert of(apart) == []  # no dial of both
    one_seed = [(r, f) for r, f in runs if r.seed == 1 or r.method == "concat"]
    assert of(one_seed) == []


@pytest.mark.thorough
def test_controls_are_left_out(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    shuffled = [
        dialled(tmp_path, "gate", seed, 0.5, erase, "shuffled") for erase in BITS for seed in SEEDS
    ]
    assert [(lead.one, lead.other) for lead in of(runs + shuffled)] == [("concat", "add")]


def test_the_report_has_them(runs: list[tuple[RunRecord, Path]], tmp_path: Path) -> None:
    report = Report(runs, pairs=False)
    report.write_files(tmp_path)
    [lead] = report.leads[0]["BLEU"]
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "## Lead of one method over another as features say less: BLEU on test\n" in text
    [content] = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["evidence"]
    [row] = content["leads"]
    assert row["one"] == "concat"
    assert row["per bit"]["value"] == lead.per_bit.difference.value
    assert row["mean"]["corrected p"] == lead.mean.p
    plain = Report([(r, f) for r, f in runs if not r.settings["features"].get("upos")], pairs=False)
    assert not any(b.title.startswith("Lead ") for b in plain.tables)


def test_leads_in_chrf_stand_beside_those_in_bleu(
    runs: list[tuple[RunRecord, Path]], tmp_path: Path
) -> None:
    report = Report(runs, pairs=False)
    [lead] = report.leads[0]["chrF"]
    scores: dict[str, list[float]] = {"concat": [], "add": []}
    for record, _ in runs:
        if record.features and record.seed in SEEDS:
            scores[record.method].append(record.tests["test"].chrf)
    means = {method: float(np.mean(values)) for method, values in scores.items()}
    assert lead.metric == "chrF"
    assert lead.mean.difference.value == pytest.approx(means[lead.one] - means[lead.other])
    assert lead.mean.difference.value != report.leads[0]["BLEU"][0].mean.difference.value
    [content] = json.loads(report.to_json())["evidence"]
    [row] = content["leads in chrF"]
    assert row["mean"]["value"] == lead.mean.difference.value
    titles = [block.title for block in report.tables]
    assert "Lead of one method over another as features say less: chrF on test" in titles
