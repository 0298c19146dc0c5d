"""A source sentence to ids: pieces, and each feature carried from words to pieces."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
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
                what = "it has no words" if not words else f"no word covers {text[at]!r}"
                raise UserError(
                    f"{where}: the annotation does not fit the text, {what} at character {at + 1} "
                    f"of {text!r}; correct the annotation or make it again with an annotator"
                )
            found = min(found + 1, len(words) - 1)
        owner.append(found)
    return owner


def _visible(char: str) -> bool:
    return char.isprintable() and char not in (" ", MARK)


def subword_tags(owner: Sequence[int]) -> list[str]:
    """Of each piece: begin, inside or end of its word, O for a whole word (Sennrich & Haddow)."""
    begins = [True, *(a != b for a, b in pairwise(owner))][: len(owner)]
    ends = [*begins[1:], True]
    return [("O" if e else "B") if b else ("E" if e else "I") for b, e in zip(begins, ends)]  # noqa: B905


def described(words: Sequence[Word], owner: Sequence[int], column: str) -> list[str]:
    """The column's values: of each word or, for `subword_tag`, of each piece."""
    return subword_tags(owner) if column == "subword_tag" else values(words, column)


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
        self.annotated = any(f.column not in TEXT_COLUMNS for f in features.values())
        """Whether sentences need annotation (else words are what stands between spaces)."""

    def encode(self, sentence: Sentence, where: str = "input") -> Encoded:
        """Ids with EOS. `where` names file and line in errors."""
        if not self.features:
            return Encoded([*self.subwords.encode_ids([sentence.text])[0], EOS], {})
        pieces = self.subwords.encode(sentence.text)
        words = words_of(sentence, self.annotated, where)
        owner = word_of_piece(pieces, words, sentence.text, where)
        rows = {}
        for name, spec in self.features.items():
            row = [spec.vocab.id(value) for value in described(words, owner, spec.column)]
            if spec.column != "subword_tag":
                row = [row[w] if words else UNK for w in owner]
            if spec.policy == "first":
                inside = spec.vocab.id(INSIDE)
                later = [False, *(a == b for a, b in pairwise(owner))]
                row = [inside if i else v for v, i in zip(row, later, strict=False)]
            rows[name] = [*row, END]
        return Encoded([*(piece.id for piece in pieces), EOS], rows)

    def save(self, folder: Path) -> None:
        """Write `source.model` or `source.json`, and `features.json`, into the folder."""
        self.subwords.save(folder / "source")
        specs = {
            name: {"column": f.column, "policy": f.policy, **f.vocab.to_json()}
            for name, f in self.features.items()
        }
        content = json.dumps(specs, ensure_ascii=False, indent=1)
        (folder / "features.json").write_text(content, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SourceEncoder:
        """What `save` wrote."""
        specs = json.loads((folder / "features.json").read_text(encoding="utf-8"))
        features = {
            name: FeatureSpec(s["column"], s["policy"], FeatureVocab.from_json(s))
            for name, s in specs.items()
        }
        return cls(Subwords.load(folder / "source"), features)


def words_of(sentence: Sentence, annotated: bool, where: str) -> tuple[Word, ...]:
    """The sentence's annotated words or, where no annotation is needed, those between spaces."""
    if not annotated:
        return spaced(sentence.text)
    if not sentence.words and any(map(_visible, sentence.text)):
        raise UserError(
            f"{where}: no annotation of {sentence.text!r}, but features need it; "
            "set annotator=udpipe, or give CoNLL-U (a source file named .conllu)"
        )
    return sentence.words
