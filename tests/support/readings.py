"""Ambiguous sentences of the bundled corpus, both readings of each, as a corpus of its own."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from nmt_feat.base.resources import find_resource

UPOS, DEPREL = 3, 7
SENTENCES = 32
Block = list[str]
"""The lines of a sentence in CoNLL-U."""


def text(block: Block) -> str:
    return next(line for line in block if line.startswith("# text = "))


def tags(block: Block) -> list[tuple[str, str]]:
    rows = [line.split("\t") for line in block if not line.startswith("#")]
    return [(row[UPOS], row[DEPREL]) for row in rows]


def pairs() -> list[tuple[tuple[Block, str], tuple[Block, str]]]:
    """The first sentences with two readings that UPOS and deprel tell apart, with their German."""
    folder = find_resource("data/embedded")
    source = (folder / "test.conllu").read_text(encoding="utf-8").strip("\n").split("\n\n")
    target = (folder / "test.de").read_text(encoding="utf-8").splitlines()
    lines = zip([block.split("\n") for block in source], target, strict=True)
    results = []
    for _, group in groupby(lines, lambda line: text(line[0])):
        readings = list(group)
        if len(readings) == 2 and tags(readings[0][0]) != tags(readings[1][0]):
            results.append((readings[0], readings[1]))
    assert len(results) >= SENTENCES
    return results[:SENTENCES]


def swapped(block: Block, other: Block) -> Block:
    """The sentence with the other reading's features, its words as they are."""
    out = []
    for line, theirs in zip(block, other, strict=True):
        row = line.split("\t")
        if not line.startswith("#"):
            row[2:8] = theirs.split("\t")[2:8]
        out.append("\t".join(row))
    return out


def write(folder: Path) -> Path:
    """Both readings of each sentence as train, dev and test; and as `swapped.conllu`."""
    folder.mkdir(parents=True)
    blocks, german, other = [], [], []
    for (one, first), (two, second) in pairs():
        blocks += [one, two]
        german += [first, second]
        other += [swapped(one, two), swapped(two, one)]
    for name in ("train", "dev", "test", "swapped"):
        source = other if name == "swapped" else blocks
        joined = "".join("\n".join(block) + "\n\n" for block in source)
        (folder / f"{name}.conllu").write_text(joined, encoding="utf-8")
        (folder / f"{name}.de").write_text("\n".join([*german, ""]), encoding="utf-8")
    return folder
