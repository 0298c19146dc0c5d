"""Scores equal sacreBLEU's command line; reading accuracy equals the count by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt_feat.config.schema import MetricConfig
from nmt_feat.errors import UserError
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.evaluation.metric import add_scores, build_metrics
from nmt_feat.evaluation.readings import measure_readings
from nmt_feat.evaluation.scores import Reading, measure_perplexity, score_translations
from nmt_feat.evaluation.test_sets import write_hypotheses
from tests.support.lives import python

LINES = [
    ("Ein Mann schläft.", "Ein Mann schläft."),
    ("Zwei Hunde spielen im Schnee, oder?", "Zwei Hunde rennen im Schnee !"),
    ("Das Mädchen  liest ein Buch.", "ein Mädchen las das Buch "),
    ("„Wer“ – fragt sie – „kommt?“", "Wer\u2028fragt\rsie: kommt?\nIch "),
    ("Die Straße ist 3,5 km lang.", ""),
]


@pytest.mark.thorough
@pytest.mark.parametrize("tokenized", [False, True])
def test_equal_to_the_command_line_to_the_last_digit(tmp_path: Path, tokenized: bool) -> None:
    random = np.random.default_rng(2)
    lines = [LINES[i] for i in random.integers(0, len(LINES), 50)]
    references = [r for r, _ in lines]
    hypotheses = [h if random.random() < 0.7 else r for r, h in lines]
    (tmp_path / "ref").write_text("".join(f"{r}\n" for r in references), encoding="utf-8")
    name = write_hypotheses(tmp_path, "test", hypotheses)
    flags = ["-tok", "none", "-lc", "--chrf-lowercase"] if tokenized else []
    command = ["-m", "sacrebleu", "ref", "-i", name, "-w", "15", "-f", "json"]

    def call(*more: str) -> Any:
        done = python(*command, *flags, *more, cwd=tmp_path)
        return json.loads(done.stdout)

    bleu, chrf, ter = call("-m", "bleu", "chrf", "ter")
    chrf_plus = call("-m", "chrf", "--chrf-word-order", "2")
    ours = score_translations(hypotheses, references, Scoring(tokenized=tokenized))
    assert round(ours.bleu, 15) == bleu["score"]
    assert round(ours.chrf, 15) == chrf["score"]
    scoring = Scoring("none" if tokenized else "13a", tokenized)
    classes = {"ter": "TER", "chrf++": "ChrFPlusPlus"}
    configs = {
        n: MetricConfig(f"nmt_feat.evaluation.sacrebleu_metrics.{c}") for n, c in classes.items()
    }
    add_scores(build_metrics(configs, scoring), ours, references, hypotheses, references)
    assert (ours.ter, ours.ter_signature) == (ter["score"], ter["signature"])
    plus = ours.metrics["chrF++"]
    assert (round(plus.score, 15), plus.signature) == (chrf_plus["score"], chrf_plus["signature"])
    assert 0 < ours.bleu < 100
    assert ours.bleu_signature == bleu["signature"]
    assert ours.chrf_signature == chrf["signature"]
    assert ours.sentences == 50
    assert f"case:{'lc' if tokenized else 'mixed'}" in ours.bleu_signature
    assert f"tok:{'none' if tokenized else '13a'}" in ours.bleu_signature


@pytest.mark.parametrize(("hypotheses", "references"), [(["a"], ["a", "b"]), ([], [])])
def test_other_counts_are_an_error(hypotheses: list[str], references: list[str]) -> None:
    with pytest.raises(UserError) as error:
        score_translations(hypotheses, references)
    assert str(error.value) == (
        f"scoring: {len(hypotheses)} hypotheses for {len(references)} references; "
        "give one hypothesis for each of at least one reference"
    )


def test_perplexity_counts_words_and_ends() -> None:
    """Two words and one, an end each; an empty reference has its end alone."""
    assert measure_perplexity([-3.0, -7.0, 0.0], ["ein  Hund", "ja ", ""]) == np.exp(10 / 6)
    assert measure_perplexity([-1e6], ["nie"]) == np.inf


DUCK = "I saw her duck."
SHEEP = "The sheep slept."
SOURCES = [DUCK, SHEEP, DUCK, "You sleep.", SHEEP, DUCK]
REFERENCES = [
    "Ich sah ihre Ente.",
    "Das Schaf schlief.",
    "Ich sah sie sich ducken.",
    "Du schläfst.",
    "Die Schafe schliefen.",
    "Ich säge ihre Ente.",
]
VALUES = [("N",), ("sg",), ("V",), ("V",), ("sg",), ("N",)]


def test_reading_accuracy_of_perfect_and_of_wrong_output() -> None:
    assert measure_readings(SOURCES, REFERENCES, REFERENCES) == Reading(5, 1.0, 0, None)
    swapped = [REFERENCES[i] for i in (2, 4, 0, 3, 1, 0)]
    assert measure_readings(SOURCES, REFERENCES, swapped).accuracy == 0


def test_the_nearer_reference_counts_and_ties_are_wrong() -> None:
    near = ["Ich sah ihre Ende.", "", "sie sich ducken", "?", "Schafe", "Ich säge ihr Ente."]
    assert measure_readings(SOURCES, REFERENCES, near).accuracy == 4 / 5


def test_settled_are_the_readings_that_features_tell_apart() -> None:
    """Of the ducks only the verb; the sheep have the same values."""
    hypotheses = [REFERENCES[i] for i in (2, 4, 2, 3, 4, 5)]
    reading = measure_readings(SOURCES, REFERENCES, hypotheses, VALUES)
    assert reading == Reading(readings=5, accuracy=3 / 5, settled=1, settled_accuracy=1.0)
    reading = measure_readings(SOURCES, REFERENCES, REFERENCES[::-1], VALUES)
    assert (reading.settled, reading.settled_accuracy) == (1, 0.0)


def test_one_output_per_source_is_right_on_one_of_k() -> None:
    """Also where a reading stands in several lines: it counts once."""
    sources = ["s"] * 4 + ["t"] * 3
    references = ["aa b", "aa b", "cc d", "ee f", "x yy", "z yy", "x yy"]
    for output in ("aa b", "cc d e", "zzz", "x yy"):
        reading = measure_readings(sources, references, [output] * 7)
        assert reading.readings == 5
        assert reading.accuracy is not None
        assert reading.accuracy <= 2 / 5
    assert measure_readings(sources, references, ["aa b"] * 7).accuracy == 1 / 5
    half = ["aa b", "cc d", *["?"] * 5]
    assert measure_readings(sources, references, half).accuracy == pytest.approx(0.5 / 5)


def test_nothing_ambiguous() -> None:
    reading = measure_readings(["a", "b", "a"], ["x", "y", "x"], ["x", "y", "z"], [("N",)] * 3)
    assert reading == Reading(0, None, 0, None)
