"""A source sentence to ids: pieces, and each feature carried from words to pieces."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from nmt_feat.corpus.columns import (
    END,
    INSIDE,
    TEXT_COLUMNS,
    UNK,
    Code,
    FeatureVocab,
    spaced,
    values,
)
from nmt_feat.corpus.conllu import Sentence, Word
from nmt_feat.corpus.subwords import EOS, Piece, Subwords
from nmt_feat.corpus.units import visible
from nmt_feat.errors import UserError


def word_of_piece(
    pieces: Sequence[Piece], words: Sequence[Word], text: str, where: str = "input"
) -> list[int]:
    """For each piece the index of the word whose features it takes; -1 where there is no word.

    The word that covers the piece's first visible character; for a piece without one (a lone word
    mark, a byte, a control character) the word covering its position, else the next word, else
    the last. A visible character that no word covers is an annotation out of line: UserError.
    """
    ends = [word.end for word in words]
    owner = []
    for piece in pieces:
        at = next((i for i in range(piece.start, piece.end) if visible(text[i])), None)
        found = bisect_right(ends, piece.start if at is None else at)
        if at is not None and (found == len(words) or at < words[found].start):
            raise UserError(
                f"{where}: the annotation does not fit the text, no word covers {text[at]!r} "
                f"at character {at + 1} of {text!r}; correct the annotation or make it again "
                "with an annotator"
            )
        owner.append(min(found, len(words) - 1))
    return owner


def subword_tags(owner: Sequence[int]) -> list[str]:
    """Of each piece: begin, inside or end of its word, O for a whole word (Sennrich & Haddow)."""
    tags = {(True, True): "O", (True, False): "B", (False, False): "I", (False, True): "E"}
    return [tags[pair] for pair in pairwise([*_begins(owner), True])]


def _begins(owner: Sequence[int]) -> list[bool]:
    """Whether each piece is the first one of its word."""
    return [before != word for before, word in pairwise([None, *owner])]


class Described(NamedTuple):
    """A sentence before its vocabularies: id and word of each piece, values by feature."""

    text: str
    ids: list[int]
    owner: list[int]
    values: dict[str, list[str]]  # of the words, or of the pieces (`subword_tag`, their units)


class Encoded(NamedTuple):
    """Ids of a source sentence, EOS included; each feature has the same length, END at EOS."""

    ids: list[int]
    features: dict[str, list[Code]]


class SourceEncoder:
    """The one way from a source sentence to ids, for training, validation, test, translation."""

    def __init__(self, subwords: Subwords, features: dict[str, FeatureVocab]) -> None:
        self.subwords = subwords
        self.features = features

    def describe(self, sentence: Sentence, where: str = "input") -> Described:
        """Pieces and values; needs no vocabulary. `where` names file and line in errors.

        Where no feature needs annotation, words are what stands between spaces.
        """
        text, words = sentence.text, sentence.words
        if all(feature.column in TEXT_COLUMNS for feature in self.features.values()):
            words = spaced(text)
        elif not words and visible(text):
            raise UserError(
                f"{where}: no annotation of {text!r}, but features need it; "
                "set annotator=udpipe, or give CoNLL-U (a source file named .conllu)"
            )
        pieces = self.subwords.encode(text)
        owner = word_of_piece(pieces, words, text, where)
        found = {}
        for name, feature in self.features.items():
            if feature.column == "subword_tag":
                found[name] = subword_tags(owner)
            elif feature.of_pieces:
                found[name] = [self.subwords.surface(text, piece) for piece in pieces]
            else:
                found[name] = values(words, feature.column)
        return Described(text, [piece.id for piece in pieces], owner, found)

    def look_up(self, described: Described) -> Encoded:
        """Ids, with EOS."""
        features = {}
        for name, feature in self.features.items():
            row = [feature.code(value) for value in described.values[name]]
            if not feature.of_pieces:
                unknown = feature.special(UNK)
                row = [row[word] if word >= 0 else unknown for word in described.owner]
            if feature.policy == "first":
                begins = _begins(described.owner)
                inside = feature.special(feature.id(INSIDE))
                row = [i if begin else inside for i, begin in zip(row, begins, strict=True)]
            features[name] = [*row, feature.special(END)]
        return Encoded([*described.ids, EOS], features)

    def encode(self, sentence: Sentence, where: str = "input") -> Encoded:
        """Ids, with EOS; `where` as in `describe`."""
        return self.look_up(self.describe(sentence, where))

    def save(self, folder: Path) -> None:
        """Write `source.model` or `source.json`, and `features.json`, into the folder."""
        self.subwords.save(folder / "source")
        features = {name: asdict(feature) for name, feature in self.features.items()}
        content = json.dumps(features, ensure_ascii=False, indent=1)
        (folder / "features.json").write_text(content, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SourceEncoder:
        """What `save` wrote."""
        content = json.loads((folder / "features.json").read_bytes())
        features = {name: FeatureVocab(**feature) for name, feature in content.items()}
        return cls(Subwords.load(folder / "source"), features)
