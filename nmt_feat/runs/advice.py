"""Advice on features and settings that follows from the numbers of a data report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nmt_feat.base.resources import find_resource
from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.identity import name_run_method
from nmt_feat.config.schema import TrainConfig, TrainerConfig
from nmt_feat.data.report import DataReport
from nmt_feat.data.terminology import without_marks
from nmt_feat.features.choice import choose_kinds

CONSTANT_BITS = 0.2
"""Bits below which a feature hardly varies."""
REDUNDANT_BITS = 0.02
"""If the bits of a feature given the word exceed those of random values for each word type by less
than this, the feature says hardly more than the word."""
FEW_BITS = 2.0
"""Bits below which a feature says much less than a word does."""
USER_FILES = "files"
"""The option of `data` for a user's own files, and their name unless the user gives another."""
VOCABULARY_SIZES = (16000, 8000, 4000, 2000, 1000, 500, 250)
"""Sizes of vocabularies to propose."""
RARE_COUNT = 10
"""Mean occurrences of a piece in train below which many pieces are hardly learnt."""
FEW_PAIRS = 10_000
"""Training pairs below which the default settings are too large."""
MOST_PASSES = 200
"""Passes over few pairs after which more updates hardly improve the model."""


def is_of_user(corpus: str) -> bool:
    """Whether a corpus (`data.name`) is the user's: no option of the package has its name."""
    options = find_resource("conf") / "data"
    return corpus == USER_FILES or all(path.stem != corpus for path in options.glob("*.yaml"))


def advise_on_size(report: DataReport, subword: SubwordConfig, trainer: TrainerConfig) -> list[str]:
    """Lines on settings that do not suit the size of a user's corpus."""
    train, lines = report.splits["train"], []
    sides = [train[side]["pieces"] for side in ("source", "target")]
    pairs, size = train["sentences"], max(report.source_size, report.target_size)
    average = (sum(sides) if subword.joint else min(sides)) / size
    fit = next((v for v in VOCABULARY_SIZES if v < size and average * size / v >= RARE_COUNT), 250)
    if average < RARE_COUNT and fit < size:
        kind = "words" if subword.kind == "none" else "pieces"
        lines.append(
            f"subword.vocab_size={subword.vocab_size}: on average {kind} occur {average:.1f} times "
            f"in train, too seldom to learn them: try subword.vocab_size={fit}"
        )
    # Pieces of the larger side, with an end symbol for each pair, by the pieces of an update.
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


def advise_on_corpus(cfg: TrainConfig, report: DataReport) -> list[str]:
    """Lines on the size of a run's corpus, if it is the user's."""
    if not is_of_user(cfg.data.name):
        return []
    return advise_on_size(report, cfg.subword, cfg.trainer)


def advise_on_run(cfg: TrainConfig, report: DataReport, widths: Mapping[str, int]) -> list[str]:
    """Lines on a run's features, without marks of terms, which are rare but needed.

    Args:
        cfg: the run's settings.
        report: on its data.
        widths: the width that the combiner gives each feature.
    """
    method = name_run_method(cfg)
    judged = without_marks(choose_kinds(cfg.features), cfg.data.terminology)
    features = {name: f for name, f in report.features.items() if name in judged}
    return advise_on_features(features, widths, method)


def advise_on_features(
    features: Mapping[str, Mapping[str, Any]], widths: Mapping[str, int], method: str
) -> list[str]:
    """A line for each feature that may disappoint.

    Args:
        features: as in `DataReport`.
        widths: the width that the combiner gives each.
        method: the combiner's name.
    """
    lines = []
    for name, numbers in features.items():
        bits, given_word = numbers["entropy"], numbers["given_word"]
        random = numbers["random_by_type"]
        width = widths.get(name, 0)
        if bits < CONSTANT_BITS:
            lines.append(f"features.{name} is nearly constant, {bits:.2f} bits: leave it out")
        elif given_word is not None and given_word < random + REDUNDANT_BITS:
            lines.append(
                f"features.{name} hardly says more than the word does. Given the word, "
                f"{given_word:.2f} of its {bits:.2f} bits remain, and {random:.2f} of those of "
                "values drawn at random for each word form. Compare it with control=by_type, whose "
                "values only say which word it is"
            )
        elif "gate" in method and bits < FEW_BITS:
            lines.append(
                f"features.{name} says little, {bits:.2f} bits: a narrow concat may suit it better "
                f"than {method}, for instance combiner=mixed"
            )
        if method.startswith("concat") and width > numbers["kept"] + 3:  # PAD, UNK and END
            lines.append(
                f"features.{name}.dim={width} is more than its {numbers['kept']} values can use"
            )
    return lines
