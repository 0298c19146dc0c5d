"""What is said of the size of a corpus of one's own."""

from __future__ import annotations

import pytest

from nmt_feat.cli.sweep import current
from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.config.schema import TrainerConfig
from nmt_feat.data.report import DataReport
from nmt_feat.runs.advice import advise_on_size, is_of_user
from tests.support.small import Small

FEW = "training pairs are few: docs/how-to/sizes.md has settings for so many"
CASES = {
    "too small for everything": (
        (1000, 15_000, 8000),
        {"max_steps": 100_000, "batch_tokens": 1024},
        [
            "subword.vocab_size=8000: on average pieces occur 3.8 times in train, too seldom to "
            "learn them: try subword.vocab_size=2000",
            "trainer.max_steps=100000: about 6,667 passes over 1,000 pairs; dev BLEU is best long "
            "before the end: try trainer.max_steps=3000 or trainer.patience=10",
            f"1,000 {FEW}",
        ],
    ),
    "settings that suit few pairs": (
        (1000, 15_000, 2000),
        {"max_steps": 1200, "batch_tokens": 2048},
        [f"1,000 {FEW}"],
    ),
    "not one pass": (
        (1_000_000, 25_000_000, 8000),
        {"max_steps": 1500, "batch_tokens": 1024},
        [
            "trainer.max_steps=1500: training ends after 6% of the pairs; one pass takes about "
            "25,390 updates"
        ],
    ),
    "enough": ((100_000, 2_500_000, 8000), {"max_steps": 50_000, "batch_tokens": 4096}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_size(case: str) -> None:
    (pairs, pieces, size), settings, expected = CASES[case]
    side = {"words": pieces, "pieces": pieces, "unknown": 0.0}
    report = DataReport(pairs, {}, size, size)
    report.splits["train"] = {"sentences": pairs, "source": side, "target": side}
    lines = advise_on_size(report, SubwordConfig(vocab_size=size), TrainerConfig(**settings))
    assert lines == expected


def test_a_sweep_says_it_once(
    small: Small, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "described", set())
    settings = ("combiner=none", "data.name=files", "trainer.max_steps=1")
    for seed in (1, 2):
        small.train(*settings, f"seed={seed}", sweep=True)
    assert capsys.readouterr().out.count(FEW) == 1


def test_corpora_of_users() -> None:
    """Also those with a name; the corpora of the package come with settings that suit them."""
    assert is_of_user("files")
    assert is_of_user("mine")
    assert not any(map(is_of_user, ("embedded", "multi30k", "korean")))
