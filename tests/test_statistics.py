"""Counts give sacreBLEU's scores again; intervals and p-values equal a calculation by loops."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from nmt_feat.analysis.statistics import (
    Sample,
    compare_samples,
    correct_by_holm,
    paired_tests,
    sentence_weights,
)
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import (
    count_sentences,
    counts_file,
    hash_references,
    read_counts,
    write_counts,
)
from nmt_feat.evaluation.forms import score_bleu, score_chrf
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.scores import score_translations

ROOT = Path(__file__).resolve().parent.parent
WORDS = [f"w{i}x" for i in range(30)]


def texts(number: int, wrong: float, seed: int) -> tuple[list[str], list[str]]:
    """Hypotheses and references; the references depend on their number alone."""
    random, luck = np.random.default_rng(0), np.random.default_rng([1, seed])
    lines = [list(random.choice(WORDS, random.integers(1, 12))) for _ in range(number)]
    changed = [["oh" if luck.random() < wrong else word for word in line] for line in lines]
    return [" ".join(line) for line in changed], [" ".join(line) for line in lines]


@pytest.mark.parametrize("tokenized", [False, True])
@pytest.mark.parametrize("wrong", [0.0, 0.3, 0.9, 1.0])
def test_sums_of_counts_give_the_scores(wrong: float, tokenized: bool) -> None:
    hypotheses, references = texts(30, wrong, 1)
    hypotheses[3], hypotheses[4] = "W1X Ä\nß", ""
    scoring = Scoring(tokenized=tokenized)
    counts = count_sentences(hypotheses, references, scoring)
    scores = score_translations(hypotheses, references, scoring)
    assert score_bleu(counts["BLEU"].sum(axis=0)) == pytest.approx(scores.bleu, rel=1e-12)
    assert score_chrf(counts["chrF"].sum(axis=0)) == pytest.approx(scores.chrf, rel=1e-12)


def test_scores_of_any_counts_are_those_of_sacrebleu() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        total = np.sort(random.integers(0, 6, 4))[::-1]
        right = random.binomial(total, 0.5)
        length, reference = total[0], random.integers(1, 7)
        ours = score_bleu(np.array([length, reference, *right, *total]))
        theirs = BLEU.compute_bleu(
            [*right.tolist()], [*total.tolist()], int(length), int(reference), "exp"
        )
        assert ours == pytest.approx(theirs.score, abs=1e-9)
        grams = np.sort(random.integers(0, 5, (6, 3)), axis=1)[:, [1, 2, 0]]
        ours = score_chrf(grams.ravel())
        assert ours == pytest.approx(CHRF()._compute_f_score(grams.ravel().tolist()), abs=1e-9)


def test_the_file_has_counts_and_no_text(tmp_path: Path) -> None:
    hypotheses, references = texts(20, 0.3, 1)
    counts = count_sentences(hypotheses, references)
    path = tmp_path / counts_file("test")
    write_counts(path, counts, references)
    read, digest = read_counts(path)
    assert all((read[metric] == counts[metric]).all() for metric in ("BLEU", "chrF"))
    assert digest == hash_references(references) != hash_references(references[1:])
    table = pq.read_table(path)
    assert {str(field.type) for field in table.schema} == {"int32"}
    assert table.column_names[:3] == ["BLEU length", "BLEU reference", "BLEU right1"]
    assert len(table.column_names) == 28
    for word in {*" ".join(references).split(), "oh"}:
        assert f" {word} ".encode() not in path.read_bytes()
    assert table["BLEU reference"].to_pylist() == [len(line.split()) for line in references]


@pytest.mark.parametrize("content", [b"", b"no such file"])
def test_no_file_of_counts(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "test.counts.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"test.counts.parquet: has no readable counts"):
        read_counts(path)


def test_resamples_of_sentences() -> None:
    weights = sentence_weights(50, 400)
    assert weights.shape == (400, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.2)
    assert weights.var() == pytest.approx(1 - 1 / 50, abs=0.05)  # binomial
    assert (sentence_weights(50, 400) == weights).all()
    counts = [count_sentences(*texts(50, 0.3, seed))["BLEU"] for seed in (1, 2)]
    sample = Sample.from_counts(counts, score_bleu, weights)
    drawn = [i for i, times in enumerate(weights[7]) for _ in range(int(times))]
    hypotheses, references = texts(50, 0.3, 2)
    again = score_translations([hypotheses[i] for i in drawn], [references[i] for i in drawn])
    assert sample.resampled[7, 1] == pytest.approx(again.bleu)
    assert sample.scores[1] == pytest.approx(score_translations(hypotheses, references).bleu)


def constant(scores: list[float], resamples: int = 10) -> Sample:
    """A sample on which the sentences have no bearing."""
    return Sample(np.array(scores), np.tile(np.array(scores), (resamples, 1)))


def test_without_sentences_it_is_welchs_test() -> None:
    one, second = [30.1, 30.5, 29.8], [29.0, 29.9, 28.8, 29.3]
    comparison = compare_samples(constant(one), constant(second), 1000)
    test = scipy.stats.ttest_ind(one, second, equal_var=False)
    interval = test.confidence_interval(0.95)
    assert comparison.p == pytest.approx(test.pvalue)
    assert (comparison.low, comparison.high) == pytest.approx((interval.low, interval.high))
    assert comparison.df == pytest.approx(test.df)
    assert comparison.sentence_variance == 0


def test_the_formula_by_loops() -> None:
    random = np.random.default_rng(3)
    samples = [random.normal(m, 0.3, (1, n)) for m, n in ((30, 3), (29, 2))]
    moves = random.normal(0, 0.4, (200, 1))
    one, second = (
        Sample(m[0], m + k * moves + random.normal(0, 0.2, (200, m.size)))
        for k, m in enumerate(samples, 1)
    )
    variance, parts, shared = 0.0, [], 0.0
    for sample in (one, second):
        n = len(sample.scores)
        mean = sum(sample.scores) / n
        seeds = sum((x - mean) ** 2 for x in sample.scores) / (n - 1) / n
        parts.append((seeds, n - 1))
        for s in range(n):
            apart = [row[s] - sum(row) / n for row in sample.resampled]
            center = sum(apart) / len(apart)
            shared += sum((a - center) ** 2 for a in apart) / (len(apart) - 1) / (n * (n - 1))
    gaps = [
        sum(a) / len(a) - sum(b) / len(b)
        for a, b in zip(one.resampled, second.resampled, strict=True)
    ]
    center = sum(gaps) / len(gaps)
    bootstrap = sum((g - center) ** 2 for g in gaps) / (len(gaps) - 1)
    assert bootstrap > shared > 0
    parts.append((bootstrap - shared, 999))
    variance = sum(v for v, _ in parts)
    df = variance**2 / sum(v * v / d for v, d in parts)
    value = sum(one.scores) / 3 - sum(second.scores) / 2
    half = scipy.stats.t.ppf(0.975, df) * math.sqrt(variance)
    comparison = compare_samples(one, second, 1000)
    assert (comparison.value, comparison.df) == pytest.approx((value, df))
    assert (comparison.low, comparison.high) == pytest.approx((value - half, value + half))
    assert comparison.p == pytest.approx(2 * scipy.stats.t.sf(value / math.sqrt(variance), df))
    assert 0.5 < comparison.share < 1
    assert compare_samples(second, one, 1000).share == pytest.approx(1 - comparison.share, abs=0.05)


def test_equal_scores_differ_by_nothing() -> None:
    comparison = compare_samples(constant([30.0, 30.0]), constant([30.0, 30.0]), 1000)
    assert (comparison.value, comparison.low, comparison.high, comparison.p, comparison.share) == (
        0,
        0,
        0,
        1,
        0.5,
    )
    comparison = compare_samples(constant([31.0, 31.0]), constant([30.0, 30.0]), 1000)
    assert (comparison.value, comparison.p, comparison.share) == (1, 0, 1)


def test_seeds_that_are_drawn_vary_as_their_mean_does() -> None:
    """Of two seeds, 0 and 2, the mean moves by sqrt(2) or not at all, so a quarter is above 2.2."""
    comparison = compare_samples(constant([0.0, 2.0], 4000), constant([2.2, 2.2], 4000), 1000)
    assert comparison.share == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("values", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm(values: list[float], corrected: list[float]) -> None:
    assert correct_by_holm(values) == pytest.approx(corrected)


@pytest.mark.thorough
def test_tests_of_pairs_are_those_of_sacrebleu() -> None:
    systems = [(str(seed), texts(40, 0.2 + seed / 10, seed)[0]) for seed in (1, 2, 3)]
    _, references = texts(40, 0, 0)
    counts = [count_sentences(lines, references) for _, lines in systems]
    for metric, kind in (("BLEU", BLEU), ("chrF", CHRF)):
        p_values = paired_tests(counts[0][metric], [c[metric] for c in counts[1:]], metric.lower())
        for name, test in (("bootstrap", "bs"), ("randomization", "ar")):
            _, scores = PairedTest(systems, {metric: kind()}, [references], test_type=test)()
            (results,) = (v for k, v in scores.items() if k != "System")
            expected = [result.p_value for result in results[1:]]  # type: ignore[union-attr]
            assert [p[name] for p in p_values] == pytest.approx(expected, abs=0.002)


def test_models_of_equal_scores_do_not_differ() -> None:
    lines, references = texts(40, 0.3, 1)
    counts = count_sentences(lines, references)["BLEU"]
    assert paired_tests(counts, [counts], "bleu") == [{"bootstrap": 1.0, "randomization": 1.0}]


@pytest.fixture(scope="module")
def checked() -> Callable[[str, int, int], Any]:
    script = runpy.run_path(str(ROOT / "tools" / "check_statistics.py"))

    def run(name: str, n: int, tables: int) -> Any:
        world = next(w for key, w in script["WORLDS"].items() if key.startswith(name))
        true = script["compute_true_scores"](world, script["QUALITIES"], 0.5)
        return script["check_world"](world, n, tables, 200, true)

    return run


@pytest.mark.thorough
def test_simulated_tables_hold_what_intervals_promise(checked: Any) -> None:
    """The full check is tools/check_statistics.py; here with few tables, so wider margins."""
    reading = checked("seeds differ by sentence", 3, 150)
    assert 0.93 <= reading.coverage <= 0.98
    assert reading.double > reading.coverage + 0.015  # what seeds and sentences share counts once
    assert 0.02 <= reading.false <= 0.07
    assert 0.01 <= reading.table <= 0.09
