"""Records of runs that nobody trained, with counts of made-up translations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nmt_feat.evaluation.counts import counts_file, sentence_counts, write_counts
from nmt_feat.evaluation.metrics import Scores, score
from nmt_feat.runs.records import RunRecord, write_record

LINES = [[f"w{i}" for i in np.random.default_rng(i).integers(0, 50, 3 + i % 9)] for i in range(120)]


REFERENCES = [" ".join(line) for line in LINES]


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
    record.tests = {"test": score(hypotheses, REFERENCES[:lines])}
    record.counts = {"test": counts_file("test")}
    place = folder / record.hash
    place.mkdir(parents=True)
    counts = sentence_counts(hypotheses, REFERENCES[:lines])
    write_counts(place / record.counts["test"], counts, REFERENCES[:lines])
    write_record(place, record)
    return record, place
