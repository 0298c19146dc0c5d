"""Checks intervals and p-values on simulated tables, whose true differences are known.

    python tools/check_statistics.py [--tables 1000] [--sentences 400]

A table has four methods with n seeds each. The n-gram counts of a run's sentences are drawn with a
quality that is a sum of five parts: of the method, of the sentence, of the seed, of the method on
this sentence, and of the seed on this sentence. Three worlds differ in the size of these parts. The
page on statistics (docs/explanation) has the printed figures.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmt_feat.analysis.statistics import (
    Difference,
    Sample,
    compare_samples,
    correct_by_holm,
    sentence_weights,
)
from nmt_feat.evaluation.counts import Counts
from nmt_feat.evaluation.forms import score_bleu

SEEDS = (2, 3, 5, 10)
QUALITIES = (0.0, 0.02, 0.04, 0.08)
"""The methods' qualities, in logits of the chance that a word is right; 0.02 is about 0.6 BLEU."""
RESAMPLES = 500
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Standard deviations of the quality's parts, in logits."""

    seed: tuple[float, ...]
    """By method."""
    method_sentence: float
    """Of a method on a sentence, the same for all seeds."""
    seed_sentence: float
    """Of a seed on a sentence: its luck."""
    sentence: float = 1.0
    """Of a sentence: how hard it is, for all methods."""


WORLDS = {
    "seeds differ by sentence (as on real text)": World((0.005,) * 4, 0.15, 0.9),
    "seeds differ as a whole": World((0.03,) * 4, 0.15, 0.3),
    "methods differ by sentence, seeds unequally": World((0.01, 0.02, 0.03, 0.01), 0.6, 0.3),
}


def draw_counts(quality: Numbers, random: np.random.Generator, lengths: Counts) -> Counts:
    """BLEU's counts, (..., sentences, 10), of sentences of these `lengths` and of this quality."""
    right_word = 1 / (1 + np.exp(-0.8 - quality))
    produced = np.maximum(1, lengths + random.integers(-1, 2, quality.shape))
    right, total = [], []
    matches = produced
    for n in range(1, 5):
        total.append(np.maximum(produced - n + 1, 0))
        chance = right_word if n == 1 else 0.35 + 0.6 * right_word  # one more right word in a row
        matches = random.binomial(np.minimum(matches, total[-1]), chance)
        right.append(matches)
    reference = np.broadcast_to(lengths, quality.shape)
    return np.stack([produced, reference, *right, *total], axis=-1)


def draw_sentences(
    number: int, random: np.random.Generator, world: World
) -> tuple[Counts, Numbers]:
    """Lengths and difficulties of the sentences of a test set."""
    return random.integers(4, 24, number), random.normal(0, world.sentence, number)


def draw_runs(
    world: World,
    qualities: tuple[float, ...],
    n: int,
    test: tuple[Counts, Numbers],
    random: np.random.Generator,
) -> Counts:
    """BLEU's counts of a table's runs: (methods, n, sentences, 10)."""
    lengths, hard = test
    shape = (len(qualities), n, len(lengths))
    quality = (
        np.array(qualities)[:, None, None]
        + hard
        + random.normal(0, np.array(world.seed)[:, None, None], (*shape[:2], 1))
        + random.normal(0, world.method_sentence, (shape[0], 1, shape[2]))
        + random.normal(0, world.seed_sentence, shape)
    )
    return draw_counts(quality, random, lengths)


def compute_true_scores(world: World, qualities: tuple[float, ...], million: float = 4) -> Numbers:
    """The BLEU of each method's expected counts, over seeds and sentences."""
    sums = np.zeros((len(qualities), 10))
    for block in range(round(million * 20)):  # with the same random numbers for all methods
        test = draw_sentences(1000, np.random.default_rng([1, block]), world)
        for k, quality in enumerate(qualities):
            one = World((world.seed[k],), world.method_sentence, world.seed_sentence)
            random = np.random.default_rng([2, block])
            sums[k] += draw_runs(one, (quality,), 50, test, random).sum(axis=(0, 1, 2))
    return score_bleu(sums)


@dataclass
class Outcome:
    """Shares of the comparisons with the baseline, or of the tables, and mean widths in BLEU."""

    coverage: float
    """True differences inside their 95 % intervals."""
    double: float
    """The same if the variance that seeds and sentences share counts twice."""
    false: float
    """Equal methods with p < 0.05, not corrected."""
    table: float
    """Tables of equal methods with any corrected p < 0.05."""
    power: float
    """True differences from the best method to the baseline with a corrected p < 0.05."""
    width: float
    """Width of the intervals."""
    share: float
    """Equal methods of which one is above in more than 97.5 % or less than 2.5 % of resamples."""


def compare_methods(table: Counts, weights: Numbers) -> tuple[list[Difference], list[Difference]]:
    """Differences to the first method of a table; the same with sentences counted twice."""
    first, *others = [Sample.from_counts(list(method), score_bleu, weights) for method in table]
    number = weights.shape[1]
    differences = [compare_samples(sample, first, number) for sample in others]
    return differences, [
        compare_samples(sample, first, number, corrected=False) for sample in others
    ]


def check_world(world: World, n: int, tables: int, number: int, true: Numbers) -> Outcome:
    """Simulate `tables` tables with known differences and as many without any."""
    weights = sentence_weights(number, RESAMPLES)
    covered, double, widths, shares, detected = [], [], [], [], []
    false, any_false = [], []
    gaps = true[1:] - true[0]
    for i in range(tables):
        random = np.random.default_rng([3, n, i])
        table = draw_runs(world, QUALITIES, n, draw_sentences(number, random, world), random)
        differences, twice = compare_methods(table, weights)
        covered += [d.low <= gap <= d.high for d, gap in zip(differences, gaps, strict=True)]
        widths += [d.high - d.low for d in differences]
        detected.append(correct_by_holm([d.p for d in differences])[-1] < 0.05)
        double += [d.low <= gap <= d.high for d, gap in zip(twice, gaps, strict=True)]
        equal = draw_runs(world, (0.0,) * 4, n, draw_sentences(number, random, world), random)
        differences, _ = compare_methods(equal, weights)
        false += [d.p < 0.05 for d in differences]
        any_false.append(min(correct_by_holm([d.p for d in differences])) < 0.05)
        shares += [not 0.025 <= d.share <= 0.975 for d in differences]
    columns = (covered, double, false, any_false, detected, widths, shares)
    return Outcome(*(float(np.mean(values)) for values in columns))


def main() -> None:
    """Print a table for each world."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--tables", type=int, default=1000, help="for each number of seeds")
    parser.add_argument("--sentences", type=int, default=400, help="of the test set")
    arguments = parser.parse_args()
    for name, world in WORLDS.items():
        true = compute_true_scores(world, QUALITIES)
        print(f"\n{name}; BLEU {', '.join(f'{score:.2f}' for score in true)}\n")
        print(
            "| n | coverage | counted twice | false positives | in a table (Holm) | found |", end=""
        )
        print(" width | resamples |\n" + "|---" * 8 + "|")
        for n in SEEDS:
            outcome = check_world(world, n, arguments.tables, arguments.sentences, true)
            shares = [outcome.coverage, outcome.double, outcome.false, outcome.table, outcome.power]
            cells = [str(n), *(f"{100 * share:.1f} %" for share in shares)]
            cells += [f"{outcome.width:.2f}", f"{100 * outcome.share:.1f} %"]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
