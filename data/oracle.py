"""The best that any system can do on the embedded test set, given words or words and features.

``python data/oracle.py [--json] [--folder FOLDER]`` recomputes the exact figures of data/README.md
by enumerating the grammar: for each English sentence all its readings with their probabilities.
``--ties N`` also breaks the ties between equally probable outputs in N other ways. With
``--corpus embedded_far`` they are those of the second corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import sacrebleu
from grammar.derivation import FAR_SETS, FEATURE_SETS, Program, Reading, readings
from grammar.grammar import far_program, program

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "embedded"
FAR_FOLDER = HERE / "embedded_far"


def read_split(folder: Path, split: str) -> tuple[list[str], list[str], list[list[list[str]]]]:
    """(English texts, German lines, token rows) of a split."""
    blocks = (folder / f"{split}.conllu").read_text(encoding="utf-8").strip("\n").split("\n\n")
    texts = [re.findall(r"# text = (.*)", block)[0] for block in blocks]
    rows = [[r.split("\t") for r in b.split("\n") if not r.startswith("#")] for b in blocks]
    german = (folder / f"{split}.de").read_text(encoding="utf-8").splitlines()
    return texts, german, rows


@cache
def analyses(text: str, program: Program = program) -> list[Reading]:
    """The readings of a sentence, enumerated once."""
    return readings(program, text)


def hash_order(source: str, german: str, salt: str = "") -> str:
    """An order between equally probable outputs that favours no reading; another for each salt."""
    return hashlib.sha256(f"{salt}{source}\t{german}".encode()).hexdigest()


def best(
    reading: Reading, features: str, order: Callable[[str, str], Any] = hash_order
) -> tuple[str, int]:
    """(most probable German given words and features, number of readings that they leave open).

    Of equally probable ones it is the first in `order`.
    """
    shares: dict[str, float] = {}
    for other in analyses(reading.text):
        if other.seen(features) == reading.seen(features):
            shares[other.german] = shares.get(other.german, 0.0) + other.probability
    # Rounded: probabilities that differ by rounding errors are ties.
    top = max(shares.values()) * (1 - 1e-9)
    winners = [g for g, p in shares.items() if p >= top]
    return min(winners, key=lambda g: order(reading.text, g)), len(shares)


def _reading_of(text: str, german: str) -> Reading:
    return next(r for r in analyses(text) if r.german == german)


def figures(folder: Path = FOLDER) -> dict[str, Any]:
    """Counts, maximal reading accuracy and oracle BLEU of the test set."""
    texts, german, _ = read_split(folder, "test")
    found = [_reading_of(t, g) for t, g in zip(texts, german, strict=True)]
    ambiguous = [r for r in found if len(analyses(r.text)) > 1]
    accuracy, bleu, settled = {}, {}, {}
    before = 0
    for features in FEATURE_SETS:
        left = [best(r, features)[1] for r in ambiguous]
        accuracy[features] = round(100 * sum(1 / k for k in left) / len(left), 2)
        outputs = [best(r, features)[0] for r in found]
        bleu[features] = round(sacrebleu.corpus_bleu(outputs, [german]).score, 2)
        done = sum(k == 1 for k in left)
        settled[features] = round(100 * (done - before) / len(left), 1)
        before = done
    kinds = Counter(len(analyses(r.text)) for r in found)
    return {
        "test_lines": len(found),
        "test_sentences": len(set(texts)),
        "ambiguous_lines": len(ambiguous),
        "ambiguous_share": round(100 * len(ambiguous) / len(found), 1),
        "lines_by_readings": {str(k): kinds[k] for k in sorted(kinds)},
        "settled_share": settled,
        "reading_accuracy": accuracy,
        "oracle_bleu": bleu,
    }


def far_accuracy(folder: Path = FAR_FOLDER) -> dict[str, float]:
    """Maximal reading accuracy of the second corpus's test set, by features."""
    texts, german, _ = read_split(folder, "test")
    accuracy = {}
    for features in FAR_SETS:
        shares = []
        for text, line in zip(texts, german, strict=True):
            all_readings = analyses(text, far_program)
            if len(all_readings) > 1:
                (right,) = (r for r in all_readings if r.german == line)
                alike = [r for r in all_readings if r.seen(features) == right.seen(features)]
                shares.append(1 / len(alike))
        accuracy[features] = round(100 * sum(shares) / len(shares), 2)
    return accuracy


def bleu_range(features: str, ties: int, folder: Path = FOLDER) -> tuple[float, float]:
    """Lowest and highest oracle BLEU over other ways to break ties.

    They are the first and the last output of the alphabet, and `ties` other hashes.
    """
    texts, german, _ = read_split(folder, "test")
    readings_of_lines = [_reading_of(t, g) for t, g in zip(texts, german, strict=True)]
    orders: list[Callable[[str, str], Any]] = [
        lambda source, german: german,
        lambda source, german: [-ord(character) for character in german],
        *(partial(hash_order, salt=f"{salt}\t") for salt in range(ties)),
    ]
    scores = []
    for order in orders:
        outputs = [best(reading, features, order)[0] for reading in readings_of_lines]
        scores.append(sacrebleu.corpus_bleu(outputs, [german]).score)
    return round(min(scores), 2), round(max(scores), 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where test.conllu lies")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--ties", type=int, default=0, help="break ties in so many other ways")
    parser.add_argument("--corpus", choices=("embedded", "embedded_far"), default="embedded")
    arguments = parser.parse_args()
    if arguments.corpus == "embedded_far":
        print("| given | reading accuracy (%) |\n|---|---|")
        for name, share in far_accuracy().items():
            print(f"| `{name}` | {share} |")
        raise SystemExit
    result = figures(arguments.folder)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{result['test_lines']} lines, {result['ambiguous_share']} % ambiguous")
        print("| given | settles (% of ambiguous lines) | reading accuracy (%) | oracle BLEU |")
        print("|---|---|---|---|")
        for name in FEATURE_SETS:
            cells = [result[k][name] for k in ("settled_share", "reading_accuracy", "oracle_bleu")]
            print(f"| {name} | {cells[0]} | {cells[1]} | {cells[2]} |")
    if arguments.ties:
        for name in FEATURE_SETS:
            low, high = bleu_range(name, arguments.ties, arguments.folder)
            print(
                f"{name}: {low} to {high} BLEU with ties broken in {arguments.ties + 2} other ways"
            )
