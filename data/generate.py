"""Write a bundled corpus: ``python data/generate.py [--corpus NAME] [--out FOLDER]``.

Test and development sentences are drawn first and stand with every reading; the training set is
a sample of derivations with other sentences. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

from grammar.derivation import Program, Reading, readings, sample
from grammar.grammar import far_program, program

HERE = Path(__file__).resolve().parent
SEED = "nmt_feat-1"
MOST_READINGS = 4


@dataclass(frozen=True)
class Corpus:
    """A grammar, and how many lines of it each split has."""

    program: Program
    train: int
    held_out: dict[str, int]


CORPORA = {
    "embedded": Corpus(program, 12_000, {"test": 1000, "dev": 500}),
    "embedded_far": Corpus(far_program, 6_000, {"test": 600, "dev": 300}),
}


def evaluation_split(
    seed: str, split: str, lines: int, used: set[str], program: Program = program
) -> list[Reading]:
    """About `lines` lines: new sentences, each with all its readings on consecutive lines.

    A sentence of k readings is found through each of them and brings k lines, so it is kept with
    probability 1/k: the share of ambiguous lines is that of the training set.
    """
    rng = random.Random(f"{seed}/{split}")
    kept: list[Reading] = []
    while len(kept) < lines:
        text = sample(program, rng).text
        found = readings(program, text)
        lucky = rng.random() * len(found) < 1
        if text not in used and lucky and len(found) <= MOST_READINGS:
            used.add(text)
            rng.shuffle(found)
            kept += found
    return kept


def training_split(
    seed: str, sentences: int, used: set[str], program: Program = program
) -> list[Reading]:
    """Different derivations at random, of sentences that are not in `used`."""
    rng = random.Random(f"{seed}/train")
    kept: list[Reading] = []
    seen: set[tuple[object, str]] = set()
    while len(kept) < sentences:
        drawn = sample(program, rng)
        key = (drawn.annotation(), drawn.german)
        if drawn.text not in used and key not in seen:
            seen.add(key)
            kept.append(drawn)
    return kept


def corpus(seed: str = SEED, name: str = "embedded") -> dict[str, list[Reading]]:
    """All splits by name."""
    used: set[str] = set()
    sizes = CORPORA[name]
    splits = {
        split: evaluation_split(seed, split, lines, used, sizes.program)
        for split, lines in sizes.held_out.items()
    }
    splits["train"] = training_split(seed, sizes.train, used, sizes.program)
    return splits


def conllu(sentence_id: str, reading: Reading) -> str:
    """A sentence as a CoNLL-U block with its closing empty line."""
    rows = [f"# sent_id = {sentence_id}", f"# text = {reading.text}"]
    following = [t.form for t in reading.tokens[1:]] + [""]
    for number, (columns, after) in enumerate(zip(reading.annotation(), following, strict=True), 1):
        form, lemma, upos, xpos, feats, head, deprel = columns
        space = "SpaceAfter=No" if after in (".", ",", "?") else "_"
        rows.append(
            "\t".join([str(number), form, lemma, upos, xpos, feats, head, deprel, "_", space])
        )
    return "\n".join(rows) + "\n\n"


def write(folder: Path, seed: str = SEED, name: str = "embedded") -> None:
    """Write `<split>.conllu` and `<split>.de` for train, dev and test into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, kept in corpus(seed, name).items():
        blocks = "".join(conllu(f"{split}-{n}", r) for n, r in enumerate(kept, 1))
        lines = "".join(r.german + "\n" for r in kept)
        # Bytes, so that no platform changes the line ends.
        (folder / f"{split}.conllu").write_bytes(blocks.encode("utf-8"))
        (folder / f"{split}.de").write_bytes(lines.encode("utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", choices=CORPORA, default="embedded", help="which one")
    parser.add_argument("--out", type=Path, help="folder to write into, if not the corpus's own")
    parser.add_argument("--seed", default=SEED, help="any string")
    arguments = parser.parse_args()
    write(arguments.out or HERE / arguments.corpus, arguments.seed, arguments.corpus)
