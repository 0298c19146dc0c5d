"""What the numbers of a data report suggest about its features and about the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.identity import name_row_method
from nmt_feat.config.schema import TrainConfig, TrainerConfig
from nmt_feat.data.report import DataReport
from nmt_feat.data.terminology import without_marks
from nmt_feat.features.choice import choose_kinds

CONSTANT = 0.2
"""Bits below which a feature hardly varies."""
REDUNDANT = 0.02
"""A feature whose bits given the word are at most so many above those of random values by word
type says what the word says already."""
LITTLE = 2.0
"""Bits below which a feature says much less than a word does."""


OWN_FILES = "files"
"""`data.name` of a corpus that is the user's."""
VOCABULARIES = (16000, 8000, 4000, 2000, 1000, 500, 250)
"""Sizes to propose, below that which is set."""
SELDOM = 10
"""Times that a piece stands in train on average, below which many of them are hardly learnt."""
FEW_PAIRS = 10_000
"""Training pairs below which the default model and number of updates are for more text."""
MOST_PASSES = 200
"""Passes over few pairs after which more updates hardly improve the model."""


def advise_on_size(report: DataReport, subword: SubwordConfig, trainer: TrainerConfig) -> list[str]:
    """Lines on settings that do not suit the size of a user's corpus."""
    train, lines = report.splits["train"], []
    sides = [train[side]["pieces"] for side in ("source", "target")]
    pairs, size = train["sentences"], max(report.source_size, report.target_size)
    average = (sum(sides) if subword.joint else min(sides)) / size
    fit = next((v for v in VOCABULARIES if v < size and average * size / v >= SELDOM), 250)
    if average < SELDOM and fit < size:
        kind = "words" if subword.kind == "none" else "pieces"
        lines.append(
            f"subword.vocab_size={subword.vocab_size}: on average {kind} occur {average:.1f} times "
            f"in train, too seldom to learn them: try subword.vocab_size={fit}"
        )
    # A batch has about so many pieces of the larger side, each with the end symbol.
    updates = max(1, (max(sides) + pairs) // (trainer.batch_tokens * trainer.accumulate))
    passes = trainer.max_steps / updates
    if passes < 1:
        lines.append(
            f"trainer.max_steps={trainer.max_steps}: training ends after {passes:.0%} of the "
            f"pairs; one pass takes about {updates:,} updates"
        )
    elif pairs < FEW_PAIRS and passes > MOST_PASSES:
        lines.append(
            f"trainer.max_steps={trainer.max_steps}: about {passes:,.0f} passes over {pairs:,} "
            "pairs; dev BLEU is best long before the end: try "
            f"trainer.max_steps={updates * MOST_PASSES} or trainer.patience=10"
        )
    if pairs < FEW_PAIRS:
        lines.append(
            f"{pairs:,} training pairs are few: docs/how-to/sizes.md has settings for so many"
        )
    return lines


def advise_on_run(cfg: TrainConfig, report: DataReport, widths: Mapping[str, int]) -> list[str]:
    """Lines on a run's features, but for marks of terms: these are rare, and needed all the same.

    Args:
        cfg: the run's settings.
        report: on its data.
        widths: what the combiner gives each feature.
    """
    method = name_row_method(cfg.combiner._target_, cfg.method._target_, cfg.combiner.name)
    judged = without_marks(choose_kinds(cfg.features), cfg.data.terminology)
    features = {name: f for name, f in report.features.items() if name in judged}
    return advise_on_features(features, widths, method)


def advise_on_features(
    features: Mapping[str, Mapping[str, Any]], widths: Mapping[str, int], method: str
) -> list[str]:
    """A line for each feature that may disappoint.

    Args:
        features: as in `DataReport`.
        widths: what the combiner gives each.
        method: the combiner's name.
    """
    lines = []
    for name, f in features.items():
        bits, given_word, random = (f[key] for key in ("entropy", "given_word", "random_by_type"))
        width = widths.get(name, 0)
        if bits < CONSTANT:
            lines.append(f"features.{name} is nearly constant, {bits:.2f} bits: leave it out")
        elif given_word is not None and given_word < random + REDUNDANT:
            lines.append(
                f"features.{name} hardly says more than the word does. Given the word, "
                f"{given_word:.2f} of its {bits:.2f} bits remain, and {random:.2f} of those of "
                "values drawn at random for each word form. Compare it with control=by_type"
            )
        elif "gate" in method and bits < LITTLE:
            lines.append(
                f"features.{name} says little, {bits:.2f} bits: a narrow concat may suit it better "
                f"than {method}, for instance combiner=mixed"
            )
        if method.startswith("concat") and width > f["kept"] + 3:  # PAD, UNK and END
            lines.append(f"features.{name}.dim={width} is more than its {f['kept']} values can use")
    return lines
