"""Records of runs that nobody trained, with counts of made-up translations."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np

from nmt_feat.evaluation.counts import Counts, count_sentences, counts_file, write_counts
from nmt_feat.evaluation.scores import Scores, score_translations
from nmt_feat.runs.stored.records import RunRecord, write_record

LINES = [[f"w{i}" for i in np.random.default_rng(i).integers(0, 50, 3 + i % 9)] for i in range(120)]
REFERENCES = [" ".join(line) for line in LINES]


@cache
def _measure(hypotheses: tuple[str, ...]) -> tuple[Scores, dict[str, Counts]]:
    references = REFERENCES[: len(hypotheses)]
    return score_translations([*hypotheses], references), count_sentences([*hypotheses], references)


def measure(hypotheses: list[str]) -> tuple[Scores, dict[str, Counts]]:
    """Scores and counts of translations of the first lines; many tests make the same runs."""
    scores, counts = _measure(tuple(hypotheses))
    return deepcopy(scores), counts


def run(
    folder: Path, method: str, seed: int, wrong: float, features: str = "upos", lines: int = 120
) -> tuple[RunRecord, Path]:
    """A run that has each word wrong with probability `wrong`, in a folder with its counts."""
    random = np.random.default_rng([seed, *method.encode(), *features.encode()])
    hypotheses = [
        " ".join("oh" if random.random() < wrong else word for word in line)
        for line in LINES[:lines]
    ]
    names = [] if method == "none" else features.split()
    record = RunRecord(method, names, seed, "toy", f"{method}-{features}-{seed}", {}, {})
    record.settings = {"seed": seed, "features": {n: {} for n in names}}
    record.dev = Scores(50, 60, "BS", "CS", 9)
    scores, counts = measure(hypotheses)
    record.tests = {"test": scores}
    record.counts = {"test": counts_file("test")}
    run_folder = folder / record.hash
    run_folder.mkdir(parents=True)
    write_counts(run_folder / record.counts["test"], counts, REFERENCES[:lines])
    write_record(run_folder, record)
    return record, run_folder
