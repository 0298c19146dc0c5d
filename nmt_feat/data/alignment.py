"""From source sentences to ids: texts are cut into pieces, and features carried to the pieces."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from nmt_feat.base.files import write_atomically
from nmt_feat.data.covers import (
    NOWHERE,
    Covers,
    count_words_without_piece,
    find_following,
    find_last_word_of_piece,
    join_texts,
    mark_visible_characters,
)
from nmt_feat.embedders.ids import END, EOS, UNK
from nmt_feat.errors import UserError, short_repr
from nmt_feat.features.choice import list_annotation_columns, list_sentence_keys, restore_kinds
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.vocabulary import Code, FeatureVocab
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.merging import source_key
from nmt_feat.text.normalization import RULES_FILE, write_rules
from nmt_feat.text.sentences import HEAD, Booleans, DictionaryColumn, Integers, Sentences
from nmt_feat.text.subwords import Pieces, Subwords
from nmt_feat.text.units import visible_characters
from nmt_feat.text.word_values import (
    MISSING,
    MISSING_HEAD,
    read_column,
    whitespace_words,
    without_annotation,
)

INSIDE_WORD = 3  # beside UNK and END in `AlignedSentences.carried`
VALUES = 4
Ids = NDArray[np.int32]


def find_word_of_piece(pieces: Pieces, sentences: Sentences, where: Sequence[str]) -> Integers:
    """For each piece, find the word whose features it takes; `NOWHERE` if there are no words.

    It is the word that covers the piece's first visible character. For a piece without one (a lone
    word mark, a byte, a control character), it is the word that covers the piece's position, else
    the next word, else the last word of the sentence.

    Args:
        pieces: the pieces of all sentences.
        sentences: their words; a sentence without words must have no visible character.
        where: by sentence, its file and line for messages.

    Raises:
        UserError: if no word covers a visible character, so the annotation does not fit the text.
    """
    text, bases = join_texts(sentences.texts)
    word_base = np.repeat(bases, sentences.counts)
    word_starts, word_ends = sentences.starts + word_base, sentences.ends + word_base
    piece_base = np.repeat(bases, pieces.counts)
    piece_starts, piece_ends = pieces.starts + piece_base, pieces.ends + piece_base

    next_visible = np.append(find_following(mark_visible_characters(text)), len(text))
    first_visible = next_visible[piece_starts]
    has_visible = first_visible < piece_ends
    positions = np.where(has_visible, first_visible, piece_starts)
    owner = np.searchsorted(word_ends, positions, side="right")  # the first that ends behind it
    last_words = np.repeat(np.cumsum(sentences.counts) - 1, pieces.counts)  # of its sentence
    is_uncovered = (owner > last_words) | (positions < np.append(word_starts, 0)[owner])
    gaps = has_visible & is_uncovered
    if gaps.any():
        piece = int(np.argmax(gaps))
        i = int(np.searchsorted(np.cumsum(pieces.counts), piece, side="right"))
        character = int((positions - piece_base)[piece])
        raise UserError(
            f"{where[i]}: the annotation does not fit the text, no word covers "
            f"{sentences.texts[i][character]!r} at character {character + 1} of "
            f"{sentences.texts[i]!r}; correct the annotation or make it again with an annotator"
        )
    has_words = np.repeat(sentences.counts > 0, pieces.counts)
    return np.where(has_words, np.minimum(owner, last_words), NOWHERE)


def find_first_pieces(owner: Integers, counts: Integers) -> Booleans:
    """Whether each piece is the first one of its word; `counts`: the pieces of each sentence."""
    begins: Booleans = np.diff(owner, prepend=NOWHERE - 1) != 0
    begins[(np.cumsum(counts) - counts)[counts > 0]] = True  # the first pieces of sentences
    return begins


def spread_to_pieces(values: DictionaryColumn, owner: Integers) -> Ids:
    """For each piece, `VALUES +` the number of its word's value; UNK if it has no word."""
    codes_with_unknown = np.append(VALUES + values.codes, UNK)  # NOWHERE is the last index
    return codes_with_unknown[owner].astype(np.int32)


@dataclass(frozen=True)
class AlignedSentences:
    """Sentences whose pieces have values of features, but no ids of values yet.

    Attributes:
        words: the sentences with the words that have the values.
        pieces: the pieces with their positions in the texts.
        ids, counts: the pieces of all sentences, and the number of each; EOS ends each sentence.
        bare: how many sentences have no annotation, although an annotation says what words are.
        begins: whether each piece (without EOS) is the first of its word; empty without features.
        values: by feature, the values of the words, or of the pieces (without EOS).
        value_counts: by feature, how many values each sentence has.
        carried: by feature, for each piece UNK, END, INSIDE_WORD or `VALUES +` the number of its
            value.
        covers: by feature with `cover=join`, the runs of words whose values are joined; such a
            feature has a value for each run in place of each word.
        lost: by feature of words, how many words have a value that no piece gets.
    """

    words: Sentences
    pieces: Pieces
    ids: Ids
    counts: Integers
    bare: int
    begins: Booleans
    values: dict[str, DictionaryColumn] = field(default_factory=dict)
    value_counts: dict[str, Integers] = field(default_factory=dict)
    carried: dict[str, Ids] = field(default_factory=dict)
    covers: dict[str, Covers] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    def forms(self, feature: str) -> DictionaryColumn:
        """The texts that have the values of a feature of words: those of words, or of covers."""
        covers = self.covers.get(feature)
        return DictionaryColumn.of(covers.forms(self.words) if covers else self.words.forms())


class SourceEncoder:
    """Encodes source sentences as ids, for training, validation, test and translation alike.

    Attributes:
        split_at_words: whether the text is cut at its words before it is cut into pieces.
        longest: the number of pieces of the longest sentence of train, if it is known.
        normal: whether text is brought into normal form (normalization.py), as in all but old runs.
        sources: by column of the annotation, where it comes from, if there are several sources.
    """

    def __init__(
        self,
        subwords: Subwords,
        features: dict[str, FeatureVocab],
        split_at_words: bool = False,
        longest: int | None = None,
        normal: bool = True,
        user_kinds: Mapping[str, str] | None = None,
        sources: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.subwords = subwords
        self.features = features
        self.user_kinds = user_kinds or {}
        self.kinds = restore_kinds(features, self.user_kinds)
        self.split_at_words = split_at_words
        self.longest = longest
        self.normal = normal
        self.sources = dict(sources or {})

    @property
    def valued_kinds(self) -> dict[str, FeatureKind]:
        """The features whose words or pieces have values, not only vectors."""
        return {name: self.kinds[name] for name in self.features if self.kinds[name].has_values}

    @property
    def annotation_columns(self) -> tuple[str, ...]:
        """The columns of the annotation that the features read."""
        return list_annotation_columns(self.kinds[name] for name in self.features)

    @property
    def sentence_keys(self) -> dict[str, bool]:
        """The keys of sentence values that features read; true if every sentence must have one."""
        return list_sentence_keys(self.kinds[name] for name in self.features)

    @property
    def tags(self) -> list[str]:
        """The features whose value is a token before the sentence."""
        return [name for name, feature in self.features.items() if feature.policy == "tag"]

    def read_columns(self, sentences: Iterable[Sentence]) -> Sentences:
        """The sentences with all columns and labels that features may read."""
        return Sentences.of(sentences, keys=self.sentence_keys)

    @property
    def id_counts(self) -> dict[str, int]:
        """By feature, the number of ids, special ones included."""
        return {name: self.kinds[name].count_ids(f) for name, f in self.features.items()}

    def name_values(self, with_words: bool = True) -> dict[str, list[str]]:
        """By feature, the values of its ids from FIRST on; without features whose ids have none.

        `with_words`: include features that have as many values as words.
        """
        kinds = {n: k for n, k in self.valued_kinds.items() if with_words or not k.values_are_words}
        names = {name: kind.name_ids(self.features[name]) for name, kind in kinds.items()}
        return {name: values for name, values in names.items() if values is not None}

    def find_source(self, kind: FeatureKind) -> str | None:
        """Where a feature's column comes from, if annotations of several sources are merged."""
        sources = self.sources.get(source_key(kind.annotation_column or ""), ())
        return " else ".join(sources) or None

    @property
    def annotated(self) -> bool:
        """Whether an annotation says what the words are; if not, words stand between spaces."""
        has_flag = any(feature.annotated for feature in self.features.values())
        return self.split_at_words or has_flag or bool(self.annotation_columns)

    @property
    def required(self) -> list[str]:
        """The features, and the setting, that need an annotation of each sentence."""
        names = [name for name in self.features if self.kinds[name].requires_annotation]
        return [*names, "subword.split_at_words"] if self.split_at_words else names

    def pieces(self, sentences: Sentences) -> Pieces:
        """Cut the texts into pieces."""
        if self.split_at_words:
            return self.subwords.pieces_of_words(sentences.texts, sentences.counts, sentences.ends)
        return self.subwords.pieces(sentences.texts)

    def align(
        self, sentences: Sentences, where: Sequence[str], pieces: Pieces | None = None
    ) -> AlignedSentences:
        """Cut sentences into pieces, and align the values of features to them.

        Args:
            sentences: a sentence without annotation gets the words between spaces.
            where: by sentence, its file and line for messages.
            pieces: the pieces of the texts, if they are known.
        """
        self._check_labels(sentences, where)
        if not self.annotated:
            sentences = self._divide_at_spaces(sentences)
        sentences, bare = self._with_words(sentences, where)
        pieces = pieces or self.pieces(sentences)
        counts = pieces.counts + 1  # with end symbols
        is_piece = np.ones(counts.sum(), bool)
        is_piece[np.cumsum(counts) - 1] = False
        ids = np.full(len(is_piece), EOS, np.int32)
        ids[is_piece] = pieces.ids
        if not self.features:
            return AlignedSentences(sentences, pieces, ids, counts, bare, np.zeros(0, bool))
        owner = find_word_of_piece(pieces, sentences, where)
        begins = find_first_pieces(owner, pieces.counts)
        begins &= ~self.subwords.find_glued(sentences.texts, pieces)
        aligned = AlignedSentences(sentences, pieces, ids, counts, bare, begins)
        for name in self.valued_kinds:
            row = self._align_feature(name, aligned, owner)
            if self.features[name].policy == "first":
                row = np.where(begins, row, INSIDE_WORD)
            aligned.carried[name] = np.full(len(is_piece), END, np.int32)
            aligned.carried[name][is_piece] = row
        return aligned

    def _divide_at_spaces(self, sentences: Sentences) -> Sentences:
        """Drop the annotation; if there are features, they get the words between spaces."""
        rows = [
            Sentence(text, whitespace_words(text) if self.features else ())
            for text in sentences.texts
        ]
        return replace(Sentences.of(rows, ()), labels=sentences.labels)

    def _with_words(self, sentences: Sentences, where: Sequence[str]) -> tuple[Sentences, int]:
        """Give sentences without annotation the words between spaces; also returns their number."""
        texts = sentences.texts
        bare: set[int] = set()
        if self.features or self.split_at_words:
            without_words = np.flatnonzero(sentences.counts == 0).tolist()
            bare = {i for i in without_words if mark_visible_characters(texts[i]).any()}
        refused = self._find_incomplete(sentences) | (bare if self.required else set())
        if refused:
            i = min(refused)
            raise UserError(
                f"{where[i]}: no annotation of {texts[i]!r}, but "
                f"{'features need' if self.features else 'subword.split_at_words=true needs'} it; "
                "set annotator=udpipe, or give CoNLL-U (a source file named .conllu)"
            )
        if bare:
            rows = (without_annotation(s.text) if i in bare else s for i, s in enumerate(sentences))
            labels = sentences.labels
            sentences = replace(Sentences.of(rows, self.annotation_columns), labels=labels)
        return sentences, len(bare)

    def _find_incomplete(self, sentences: Sentences) -> set[int]:
        """For each column that features must have, the first sentence with a word that lacks it.

        Sentences without visible characters need no annotation.
        """
        kinds = [kind for name in self.features if (kind := self.kinds[name]).requires_annotation]
        behind, incomplete = np.cumsum(sentences.counts), set[int]()
        for column in {kind.annotation_column or "" for kind in kinds}:
            name = column.partition(".")[0]
            missing = str(MISSING_HEAD) if name == HEAD else MISSING
            if name not in sentences.annotation:
                continue
            begins = pc.starts_with(sentences.annotation[name], missing)
            is_missing = np.array(begins, bool)
            if is_missing.any():
                # Marks of terms may follow in the cell: then the word has a value of `term`.
                values = read_column(sentences, column)
                is_missing &= np.array(values.values)[values.codes] == missing
            rows = np.unique(np.searchsorted(behind, np.flatnonzero(is_missing), side="right"))
            visible = (i for i in rows.tolist() if visible_characters(sentences.texts[i]))
            incomplete |= set(islice(visible, 1))
        return incomplete

    def _check_labels(self, sentences: Sentences, where: Sequence[str]) -> None:
        """Refuse a sentence without a sentence value that a feature needs."""
        for key, is_required in self.sentence_keys.items():
            values = sentences.labels[key].to_pylist() if is_required else []
            for i, value in enumerate(values):
                if value is None and mark_visible_characters(sentences.texts[i]).any():
                    raise UserError(
                        f"{where[i]}: nothing says the {key} of {short_repr(sentences.texts[i])}; "
                        f"give it a comment (# {key} = ...), a line in a file of labels or, when "
                        f"translating, +labels.{key}=VALUE; or set missing=unknown of the feature"
                    )

    def _align_feature(self, name: str, aligned: AlignedSentences, owner: Integers) -> Ids:
        """Read the values of the feature `name` into `aligned`, and align them to pieces.

        `owner`: the word of each piece.

        Returns:
            For each piece, UNK or `VALUES +` the number of its value.
        """
        sentences, pieces = aligned.words, aligned.pieces
        vocabulary, kind = self.features[name], self.kinds[name]
        if kind.of_pieces:
            values = kind.read_piece_values(
                aligned.begins, lambda: self.subwords.surfaces(sentences.texts, pieces)
            )
            aligned.values[name], aligned.value_counts[name] = values, pieces.counts
            return VALUES + values.codes
        values = kind.read_values(sentences, vocabulary)
        # A piece takes one value: that of its word, or the joined values of all words it covers.
        last, counts, value_of_piece = owner, sentences.counts, owner
        if vocabulary.cover == "join":
            last = find_last_word_of_piece(pieces, sentences, owner)
            covers = Covers.of(owner, last, pieces.counts, vocabulary.policy)
            aligned.covers[name] = covers
            values, counts, value_of_piece = covers.join(values), covers.counts, covers.of_piece
        aligned.values[name], aligned.value_counts[name] = values, counts
        aligned.lost[name] = count_words_without_piece(owner, last, len(sentences.starts))
        return spread_to_pieces(values, value_of_piece)

    def look_up(self, aligned: AlignedSentences) -> tuple[dict[str, Ids], dict[str, list[Code]]]:
        """By feature, the ids of all pieces; and by feature with units, the units of its ids."""
        ids, units = {}, {}
        for name, kind in self.valued_kinds.items():
            values = aligned.values[name].values
            numbers, codes = kind.encode_values(values, self.features[name])
            ids[name] = np.array(numbers, np.int32)[aligned.carried[name]]
            if kind.reads == "units":
                units[name] = codes
        return ids, units

    def save(self, folder: Path) -> None:
        """Write the subwords, `features.json`, `text.json` and the rules of normal form."""
        self.subwords.save(folder / "source")
        write_rules(folder)
        # Not `asdict`, which would copy values, of which there may be millions.
        names = [field.name for field in fields(FeatureVocab)]
        features = {n: {k: getattr(f, k) for k in names} for n, f in self.features.items()}
        text: dict[str, Any] = {"split_at_words": self.split_at_words, "longest": self.longest}
        if self.sources:
            text["sources"] = self.sources
        for file, content in (("text", text), ("features", features)):
            lines = json.dumps(content, ensure_ascii=False, indent=1)
            write_atomically(folder / f"{file}.json", lines.encode())

    @classmethod
    def load(cls, folder: Path, user_kinds: Mapping[str, str] | None = None) -> SourceEncoder:
        """Load what `save` wrote; earlier versions wrote no `text.json`.

        `user_kinds`: by feature of a user-defined kind, the name of its class. It is imported, so
        it must come from settings that were checked, and not from these files.
        """
        content = json.loads((folder / "features.json").read_bytes())
        features = {name: FeatureVocab(**feature) for name, feature in content.items()}
        file = folder / "text.json"
        text = json.loads(file.read_bytes()) if file.exists() else {}
        normal = (folder / RULES_FILE).exists()
        subwords = Subwords.load(folder / "source")
        return cls(subwords, features, **text, normal=normal, user_kinds=user_kinds)

    def with_features(self, features: dict[str, FeatureVocab]) -> SourceEncoder:
        """The same encoder with other features."""
        encoder = copy.copy(self)
        encoder.features = features
        encoder.kinds = restore_kinds(features, self.user_kinds)
        return encoder
