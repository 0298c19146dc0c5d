"""A source sentence to ids: pieces, and each feature carried from words to pieces."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from nmt_feat.corpus.columns import END, INSIDE, TEXT_COLUMNS, UNK, FeatureVocab, spaced, values
from nmt_feat.corpus.conllu import Sentence, Word
from nmt_feat.corpus.subwords import EOS, MARK, Piece, Subwords
from nmt_feat.errors import UserError


def word_of_piece(
    pieces: Sequence[Piece], words: Sequence[Word], text: str, where: str = "input"
) -> list[int]:
    """For each piece the index of the word whose features it takes; -1 where there is no word.

    The word that covers the piece's first visible character; for a piece without one (a lone word
    mark, a byte, a control character) the word covering its position, else the next word, else
    the last. A visible character that no word covers is an annotation out of line: UserError.
    """
    starts = [word.start for word in words]
    owner = []
    for piece in pieces:
        visible = (i for i in range(piece.start, piece.end) if _visible(text[i]))
        at = next(visible, -1)
        position = piece.start if at < 0 else at
        found = bisect_right(starts, position) - 1
        if found < 0 or words[found].end <= position:
            if at >= 0:
                raise UserError(
                    f"{where}: the annotation does not fit the text, no word covers {text[at]!r} "
                    f"at character {at + 1} of {text!r}; correct the annotation or make it again "
                    "with an annotator"
                )
            found = min(found + 1, len(words) - 1)
        owner.append(found)
    return owner


def _visible(char: str) -> bool:
    return char.isprintable() and char not in (" ", MARK)


def subword_tags(owner: Sequence[int]) -> list[str]:
    """Of each piece: begin, inside or end of its word, O for a whole word (Sennrich & Haddow)."""
    begins = _begins(owner)
    tags = {(True, True): "O", (True, False): "B", (False, False): "I", (False, True): "E"}
    return [tags[pair] for pair in pairwise([*begins, True])]


def _begins(owner: Sequence[int]) -> list[bool]:
    """Whether each piece is the first one of its word."""
    return [i == 0 or owner[i - 1] != word for i, word in enumerate(owner)]


def describe(
    sentence: Sentence, subwords: Subwords, columns: dict[str, str], where: str
) -> tuple[list[Piece], list[int], dict[str, list[str]]]:
    """Pieces, the word of each piece, and the features' values; `columns` are by feature.

    A feature has a value per word or, for `subword_tag`, per piece. Where no column needs
    annotation, words are what stands between spaces.
    """
    text, words = sentence.text, sentence.words
    if all(column in TEXT_COLUMNS for column in columns.values()):
        words = spaced(text)
    elif not words and any(map(_visible, text)):
        raise UserError(
            f"{where}: no annotation of {text!r}, but features need it; "
            "set annotator=udpipe, or give CoNLL-U (a source file named .conllu)"
        )
    pieces = subwords.encode(text)
    owner = word_of_piece(pieces, words, text, where)
    found = {
        name: subword_tags(owner) if column == "subword_tag" else values(words, column)
        for name, column in columns.items()
    }
    return pieces, owner, found


@dataclass(frozen=True)
class FeatureSpec:
    """A feature as training fixed it."""

    column: str
    policy: str
    """`copy`: all pieces of a word carry its value; `first`: later ones are `<inside>`."""
    vocab: FeatureVocab


class Encoded(NamedTuple):
    """Ids of a source sentence, EOS included; each feature has the same length, END at EOS."""

    ids: list[int]
    features: dict[str, list[int]]


class SourceEncoder:
    """The one way from a source sentence to ids, for training, validation, test, translation."""

    def __init__(self, subwords: Subwords, features: dict[str, FeatureSpec]) -> None:
        self.subwords = subwords
        self.features = features

    def encode(self, sentence: Sentence, where: str = "input") -> Encoded:
        """Ids with EOS. `where` names file and line in errors."""
        columns = {name: spec.column for name, spec in self.features.items()}
        pieces, owner, found = describe(sentence, self.subwords, columns, where)
        begins = _begins(owner)
        rows = {}
        for name, spec in self.features.items():
            row = [spec.vocab.id(value) for value in found[name]]
            if spec.column != "subword_tag":
                row = [row[word] if word >= 0 else UNK for word in owner]
            if spec.policy == "first":
                inside = spec.vocab.id(INSIDE)
                row = [i if begin else inside for i, begin in zip(row, begins, strict=True)]
            rows[name] = [*row, END]
        return Encoded([*(piece.id for piece in pieces), EOS], rows)

    def save(self, folder: Path) -> None:
        """Write `source.model` or `source.json`, and `features.json`, into the folder."""
        self.subwords.save(folder / "source")
        specs = {
            name: {"column": spec.column, "policy": spec.policy, **asdict(spec.vocab)}
            for name, spec in self.features.items()
        }
        content = json.dumps(specs, ensure_ascii=False, indent=1)
        (folder / "features.json").write_text(content, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SourceEncoder:
        """What `save` wrote."""
        specs = json.loads((folder / "features.json").read_text(encoding="utf-8"))
        features = {
            name: FeatureSpec(s["column"], s["policy"], FeatureVocab(s["values"], s["counts"]))
            for name, s in specs.items()
        }
        return cls(Subwords.load(folder / "source"), features)
