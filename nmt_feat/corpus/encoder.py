"""Source sentences to ids: pieces, and each feature carried from words to pieces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nmt_feat.corpus import columns
from nmt_feat.corpus.columns import END, UNK, Code, FeatureVocab, spaced
from nmt_feat.corpus.conllu import Sentence
from nmt_feat.corpus.dials import turned
from nmt_feat.corpus.sentences import Coded, Integers, Sentences
from nmt_feat.corpus.subwords import EOS, Pieces, Subwords
from nmt_feat.corpus.units import visible
from nmt_feat.errors import UserError

NOWHERE = -1  # the word of a piece of a sentence without words
INSIDE_WORD = 3  # beside UNK and END in `Described.carried`
VALUES = 4
Ids = NDArray[np.int32]
Booleans = NDArray[np.bool_]


def word_of_piece(pieces: Pieces, sentences: Sentences, where: Sequence[str]) -> Integers:
    """For each piece the number of the word whose features it takes; `NOWHERE` without words.

    The word that covers the piece's first visible character; for a piece without one (a lone word
    mark, a byte, a control character) the word covering its position, else the next word, else
    the last of its sentence. A visible character that no word covers is an annotation out of line:
    UserError, which begins with the sentence's `where`. Sentences without words must have none.
    """
    # All positions are those in the text of all sentences, one after another.
    lengths = np.fromiter(map(len, sentences.texts), np.int64, len(sentences))
    text, bases = "".join(sentences.texts), np.cumsum(lengths) - lengths
    base = np.repeat(bases, sentences.counts)
    starts, ends = sentences.starts + base, sentences.ends + base
    base = np.repeat(bases, pieces.counts)
    first, behind = pieces.starts + base, pieces.ends + base
    shown = np.append(following(visible_places(text)), len(text))[first]
    found = shown < behind  # whether there is a visible character in the piece
    at = np.where(found, shown, first)
    owner = np.searchsorted(ends, at, side="right")
    last = np.repeat(np.cumsum(sentences.counts) - 1, pieces.counts)
    gap = found & ((owner > last) | (at < np.append(starts, 0)[owner]))
    if gap.any():
        piece = int(np.argmax(gap))
        i = int(np.searchsorted(np.cumsum(pieces.counts), piece, side="right"))
        character = int((at - base)[piece])
        raise UserError(
            f"{where[i]}: the annotation does not fit the text, no word covers "
            f"{sentences.texts[i][character]!r} at character {character + 1} of "
            f"{sentences.texts[i]!r}; correct the annotation or make it again with an annotator"
        )
    known = np.repeat(sentences.counts > 0, pieces.counts)
    return np.where(known, np.minimum(owner, last), NOWHERE)


def visible_places(text: str) -> Booleans:
    """Of each character whether it has a shape."""
    table = np.zeros(0x110000, bool)
    table[list(map(ord, visible("".join(set(text)))))] = True
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    shapes: Booleans = table[codes]
    return shapes


def following(true: Booleans) -> Integers:
    """For each place the next one, itself or later, that is true; else the length."""
    places = np.where(true, np.arange(len(true)), len(true))
    following: Integers = np.minimum.accumulate(places[::-1])[::-1]
    return following


def word_begins(owner: Integers, counts: Integers) -> Booleans:
    """Whether each piece is the first one of its word."""
    begins: Booleans = np.diff(owner, prepend=NOWHERE - 1) != 0
    begins[(np.cumsum(counts) - counts)[counts > 0]] = True  # of its sentence
    return begins


def subword_tags(begins: Booleans) -> Coded:
    """Of each piece: begin, inside or end of its word, O for a whole word (Sennrich & Haddow).

    `begins` says whether each is the first of its word.
    """
    ends = np.append(begins[1:], True)
    return Coded((2 * begins + ends).astype(np.int32), ["I", "E", "B", "O"])


def carry(values: Coded, owner: Integers) -> Ids:
    """Of each piece `VALUES +` the number of its word's value; UNK where it has no word."""
    known = np.append(VALUES + values.codes, UNK)  # NOWHERE is the last place
    return known[owner].astype(np.int32)


@dataclass(frozen=True)
class Described:
    """Sentences before their vocabularies; EOS ends the pieces of each.

    Attributes:
        ids, counts: the pieces of all, and how many each sentence has.
        words: the sentences, with the words whose values these are.
        values: by feature the values of the words, or of the pieces (without EOS).
        value_counts: by feature how many values each sentence has.
        carried: by feature, of each piece, UNK, END, INSIDE_WORD or `VALUES +` its value's number.
        begins: whether each piece (without EOS) is the first of its word; empty without features.
        bare: how many sentences have no annotation where words are those of one.
    """

    texts: list[str]
    ids: Ids
    counts: Integers
    words: Sentences
    values: dict[str, Coded]
    value_counts: dict[str, Integers]
    carried: dict[str, Ids]
    begins: Booleans
    bare: int = 0


class SourceEncoder:
    """The one way from source sentences to ids, for training, validation, test, translation."""

    def __init__(self, subwords: Subwords, features: dict[str, FeatureVocab]) -> None:
        self.subwords = subwords
        self.features = features

    @property
    def valued(self) -> dict[str, FeatureVocab]:
        """The features that give words or pieces a value; vectors of an encoder are not here."""
        return {name: f for name, f in self.features.items() if not f.contextual}

    @property
    def annotated(self) -> bool:
        """Whether words are those of an annotation, not what stands between spaces."""
        flagged = any(feature.annotated for feature in self.features.values())
        return flagged or bool(columns.annotation(self.features))

    def describe(
        self, sentences: Sentences, where: Sequence[str], pieces: Pieces | None = None
    ) -> Described:
        """Pieces and values; needs no vocabulary. `where` names file and line of each in errors.

        A sentence without annotation has the words between spaces. `pieces` are those of the texts
        where they are known.
        """
        texts = sentences.texts
        if not self.annotated:
            words = self.features and [Sentence(text, spaced(text)) for text in texts]
            sentences = Sentences.of(words or map(Sentence, texts), ())
        bare = {
            i
            for i in (np.flatnonzero(sentences.counts == 0).tolist() if self.features else ())
            if visible_places(texts[i]).any()
        }
        if bare and columns.strict(self.features):
            i = min(bare)
            raise UserError(
                f"{where[i]}: no annotation of {texts[i]!r}, but features need it; "
                "set annotator=udpipe, or give CoNLL-U (a source file named .conllu)"
            )
        if bare:
            made = (
                columns.unannotated(s.text) if i in bare else s for i, s in enumerate(sentences)
            )
            sentences = Sentences.of(made, columns.annotation(self.features))
        pieces = pieces or self.subwords.pieces(texts)
        counts = pieces.counts + 1
        real = np.ones(counts.sum(), bool)
        real[np.cumsum(counts) - 1] = False
        ids = np.full(len(real), EOS, np.int32)
        ids[real] = pieces.ids
        values, value_counts, carried = {}, {}, {}
        owner = word_of_piece(pieces, sentences, where) if self.features else None
        begins = np.zeros(0, bool)
        if owner is not None:
            begins = word_begins(owner, pieces.counts) & ~self.subwords.glued(texts, pieces)
        for name, feature in self.valued.items():
            assert owner is not None
            if feature.column == "subword_tag":
                values[name] = subword_tags(begins)
            elif feature.of_pieces:
                surfaces = self.subwords.surfaces(texts, pieces)
                values[name] = columns.cased(surfaces, feature.column)
            else:
                values[name] = turned(columns.values(sentences, feature.column), sentences, feature)
            value_counts[name] = pieces.counts if feature.of_pieces else sentences.counts
            own = VALUES + values[name].codes
            row = own if feature.of_pieces else carry(values[name], owner)
            if feature.policy == "first":
                row = np.where(begins, row, INSIDE_WORD)
            carried[name] = np.full(len(real), END, np.int32)
            carried[name][real] = row
        return Described(
            texts, ids, counts, sentences, values, value_counts, carried, begins, len(bare)
        )

    def look_up(self, described: Described) -> tuple[dict[str, Ids], dict[str, list[Code]]]:
        """By feature the ids of all pieces; for those of units, of tokens, and their units."""
        ids, units = {}, {}
        for name, feature in self.valued.items():
            numbers, found = feature.numbers(described.values[name].values)
            ids[name] = np.array(numbers, np.int32)[described.carried[name]]
            if feature.has_units:
                units[name] = found
        return ids, units

    def save(self, folder: Path) -> None:
        """Write `source.model` or `source.json`, and `features.json`, into the folder."""
        self.subwords.save(folder / "source")
        kept = [field.name for field in fields(FeatureVocab)]  # millions of values: no copy
        features = {n: {k: getattr(f, k) for k in kept} for n, f in self.features.items()}
        content = json.dumps(features, ensure_ascii=False, indent=1)
        (folder / "features.json").write_text(content, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SourceEncoder:
        """What `save` wrote."""
        content = json.loads((folder / "features.json").read_bytes())
        features = {name: FeatureVocab(**feature) for name, feature in content.items()}
        return cls(Subwords.load(folder / "source"), features)
