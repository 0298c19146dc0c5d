"""Source sentences to ids: pieces, and each feature carried from words to pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from nmt_feat.base.files import write_part
from nmt_feat.data.covers import (
    NOWHERE,
    Booleans,
    Covers,
    count_words_without_piece,
    find_following,
    find_last_word_of_piece,
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
from nmt_feat.text.sentences import HEAD, DictionaryColumn, Integers, Sentences
from nmt_feat.text.subwords import Pieces, Subwords
from nmt_feat.text.word_values import (
    MISSING,
    MISSING_HEAD,
    whitespace_words,
    without_annotation,
)

INSIDE_WORD = 3  # beside UNK and END in `AlignedSentences.carried`
VALUES = 4
Ids = NDArray[np.int32]


def find_word_of_piece(pieces: Pieces, sentences: Sentences, where: Sequence[str]) -> Integers:
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
    first_visible = np.append(find_following(mark_visible_characters(text)), len(text))[first]
    is_visible = first_visible < behind  # whether there is a visible character in the piece
    at = np.where(is_visible, first_visible, first)
    owner = np.searchsorted(ends, at, side="right")
    last = np.repeat(np.cumsum(sentences.counts) - 1, pieces.counts)
    gap = is_visible & ((owner > last) | (at < np.append(starts, 0)[owner]))
    if gap.any():
        piece = int(np.argmax(gap))
        i = int(np.searchsorted(np.cumsum(pieces.counts), piece, side="right"))
        character = int((at - base)[piece])
        raise UserError(
            f"{where[i]}: the annotation does not fit the text, no word covers "
            f"{sentences.texts[i][character]!r} at character {character + 1} of "
            f"{sentences.texts[i]!r}; correct the annotation or make it again with an annotator"
        )
    has_words = np.repeat(sentences.counts > 0, pieces.counts)
    return np.where(has_words, np.minimum(owner, last), NOWHERE)


def find_first_pieces(owner: Integers, counts: Integers) -> Booleans:
    """Whether each piece is the first one of its word."""
    begins: Booleans = np.diff(owner, prepend=NOWHERE - 1) != 0
    begins[(np.cumsum(counts) - counts)[counts > 0]] = True  # of its sentence
    return begins


def spread_to_pieces(values: DictionaryColumn, owner: Integers) -> Ids:
    """Of each piece `VALUES +` the number of its word's value; UNK where it has no word."""
    codes_with_unknown = np.append(VALUES + values.codes, UNK)  # NOWHERE is the last place
    return codes_with_unknown[owner].astype(np.int32)


@dataclass(frozen=True)
class AlignedSentences:
    """Sentences before their vocabularies; EOS ends the pieces of each.

    Attributes:
        ids, counts: the pieces of all, and how many each sentence has.
        words: the sentences, with the words whose values these are.
        values: by feature the values of the words, or of the pieces (without EOS).
        value_counts: by feature how many values each sentence has.
        carried: by feature, of each piece, UNK, END, INSIDE_WORD or `VALUES +` its value's number.
        begins: whether each piece (without EOS) is the first of its word; empty without features.
        bare: how many sentences have no annotation where words are those of one.
        covers: by feature that joins the values of several words, which ones; it has a value of
            each cover in the place of each word.
        lost: by feature of words, of how many words no piece has the value.
        pieces: with their places in the texts.
    """

    texts: list[str]
    ids: Ids
    counts: Integers
    words: Sentences
    values: dict[str, DictionaryColumn]
    value_counts: dict[str, Integers]
    carried: dict[str, Ids]
    begins: Booleans
    bare: int = 0
    covers: dict[str, Covers] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    pieces: Pieces | None = None

    def forms(self, feature: str) -> DictionaryColumn:
        """What has the values of a feature of words: the words, or the covers of one that joins."""
        covers = self.covers.get(feature)
        return DictionaryColumn.of(covers.forms(self.words) if covers else self.words.forms())


class SourceEncoder:
    """The one way from source sentences to ids, for training, validation, test, translation.

    Attributes:
        split_at_words: whether the text is cut at its words before it is cut into pieces.
        longest: pieces of the longest sentence of train, if that is known.
        normal: whether it reads text in normal form (normal.py), as all but old runs do.
        sources: by column of an annotation where it comes from, if from several sources.
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
        """Those of features that give words or pieces a value, not vectors of an encoder alone."""
        return {name: self.kinds[name] for name in self.features if self.kinds[name].has_values}

    @property
    def annotation_columns(self) -> tuple[str, ...]:
        """The columns of an annotation that the features are made of."""
        return list_annotation_columns(self.kinds[name] for name in self.features)

    @property
    def sentence_keys(self) -> dict[str, bool]:
        """The keys of values of whole sentences; whether each sentence must have one."""
        return list_sentence_keys(self.kinds[name] for name in self.features)

    @property
    def tags(self) -> list[str]:
        """Features that stand on tokens of their own before the sentence."""
        return [name for name, feature in self.features.items() if feature.policy == "tag"]

    def read_columns(self, sentences: Iterable[Sentence]) -> Sentences:
        """Sentences with all that features may read of them."""
        return Sentences.of(sentences, keys=self.sentence_keys)

    @property
    def id_counts(self) -> dict[str, int]:
        """By feature the number of ids, special ones included."""
        return {name: self.kinds[name].count_ids(f) for name, f in self.features.items()}

    def name_values(self, with_words: bool = True) -> dict[str, list[str]]:
        """By feature whose ids stand for values, these, from the id FIRST on.

        `with_words`: also of features with as many values as words.
        """
        kinds = {n: k for n, k in self.valued_kinds.items() if with_words or not k.values_are_words}
        names = {name: kind.name_ids(self.features[name]) for name, kind in kinds.items()}
        return {name: values for name, values in names.items() if values is not None}

    def find_source(self, kind: FeatureKind) -> str | None:
        """Where a feature's column comes from, if annotations of several sources are merged."""
        return " else ".join(self.sources.get(source_key(kind.annotation_column or ""), ())) or None

    @property
    def annotated(self) -> bool:
        """Whether words are those of an annotation, not what stands between spaces."""
        flagged = any(feature.annotated for feature in self.features.values())
        return self.split_at_words or flagged or bool(self.annotation_columns)

    @property
    def required(self) -> list[str]:
        """What needs an annotation of each sentence: features, or the pieces."""
        names = [name for name in self.features if self.kinds[name].requires_annotation]
        return [*names, "subword.split_at_words"] if self.split_at_words else names

    def pieces(self, sentences: Sentences) -> Pieces:
        """The pieces of the texts."""
        if self.split_at_words:
            return self.subwords.pieces_of_words(sentences.texts, sentences.counts, sentences.ends)
        return self.subwords.pieces(sentences.texts)

    def describe(
        self, sentences: Sentences, where: Sequence[str], pieces: Pieces | None = None
    ) -> AlignedSentences:
        """Pieces and values; needs no vocabulary. `where` names file and line of each in errors.

        A sentence without annotation has the words between spaces. `pieces` are those of the texts
        where they are known.
        """
        self._check_labels(sentences, where)
        if not self.annotated:
            texts, labels = sentences.texts, sentences.labels
            words = self.features and [Sentence(text, whitespace_words(text)) for text in texts]
            sentences = replace(Sentences.of(words or map(Sentence, texts), ()), labels=labels)
        sentences, bare = self._with_words(sentences, where)
        texts, pieces = sentences.texts, pieces or self.pieces(sentences)
        counts = pieces.counts + 1
        real = np.ones(counts.sum(), bool)
        real[np.cumsum(counts) - 1] = False
        ids = np.full(len(real), EOS, np.int32)
        ids[real] = pieces.ids
        empty = np.zeros(0, bool)
        described = AlignedSentences(
            texts, ids, counts, sentences, {}, {}, {}, empty, bare, pieces=pieces
        )
        if not self.features:
            return described
        owner = find_word_of_piece(pieces, sentences, where)
        begins = find_first_pieces(owner, pieces.counts) & ~self.subwords.glued(texts, pieces)
        for name in self.valued_kinds:
            row = self._align_feature(name, described, pieces, owner, begins)
            if self.features[name].policy == "first":
                row = np.where(begins, row, INSIDE_WORD)
            described.carried[name] = np.full(len(real), END, np.int32)
            described.carried[name][real] = row
        return replace(described, begins=begins)

    def _with_words(self, sentences: Sentences, where: Sequence[str]) -> tuple[Sentences, int]:
        """The sentences, those without annotation with the words between spaces; their number."""
        texts = sentences.texts
        without = np.flatnonzero(sentences.counts == 0).tolist()
        needed = self.features or self.split_at_words
        bare = {i for i in without if mark_visible_characters(texts[i]).any()} if needed else set()
        if lacking := (bare if self.required else set()) | self._find_lacking(sentences):
            i = min(lacking)
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

    def _find_lacking(self, sentences: Sentences) -> set[int]:
        """Sentences that have words, of which the annotation that features must have is missing."""
        kinds = [self.kinds[name] for name in self.features]
        columns = list_annotation_columns(kind for kind in kinds if kind.requires_annotation)
        missing = {HEAD: str(MISSING_HEAD)}
        words = [
            pc.index(sentences.annotation[column], missing.get(column, MISSING)).as_py()
            for column in columns
            if column in sentences.annotation
        ]
        behind = np.cumsum(sentences.counts)
        return {int(np.searchsorted(behind, word, side="right")) for word in words if word >= 0}

    def _check_labels(self, sentences: Sentences, where: Sequence[str]) -> None:
        """Refuse a sentence that lacks a value of its own where features must have one."""
        for key in (key for key, must_be in self.sentence_keys.items() if must_be):
            for i, value in enumerate(sentences.labels[key].to_pylist()):
                if value is None and mark_visible_characters(sentences.texts[i]).any():
                    raise UserError(
                        f"{where[i]}: nothing says the {key} of {short_repr(sentences.texts[i])}; "
                        f"give it a comment (# {key} = ...), a line in a file of labels or, when "
                        f"translating, +labels.{key}=VALUE; or set missing=unknown of the feature"
                    )

    def _align_feature(
        self,
        name: str,
        described: AlignedSentences,
        pieces: Pieces,
        owner: Integers,
        begins: Booleans,
    ) -> Ids:
        """Read a feature's values; of each piece UNK or `VALUES +` the number of its value.

        Args:
            described: gets the values.
            pieces, owner: the pieces, and the word of each.
            begins: whether each piece is the first of its word.
        """
        sentences, vocabulary, kind = described.words, self.features[name], self.kinds[name]
        if kind.of_pieces:
            texts = sentences.texts
            values = kind.read_piece_values(begins, lambda: self.subwords.surfaces(texts, pieces))
            described.values[name], described.value_counts[name] = values, pieces.counts
            return VALUES + values.codes
        values = kind.read_values(sentences, vocabulary)
        # A piece takes one value: that of its word, or of all words that it covers, as one.
        last, counts, value_of_piece = owner, sentences.counts, owner
        if vocabulary.cover == "join":
            last = find_last_word_of_piece(pieces, sentences, owner)
            covers = Covers.of(owner, last, pieces.counts, vocabulary.policy)
            described.covers[name] = covers
            values, counts, value_of_piece = covers.join(values), covers.counts, covers.of_piece
        described.values[name], described.value_counts[name] = values, counts
        described.lost[name] = count_words_without_piece(owner, last, len(sentences.starts))
        return spread_to_pieces(values, value_of_piece)

    def look_up(self, described: AlignedSentences) -> tuple[dict[str, Ids], dict[str, list[Code]]]:
        """By feature the ids of all pieces; for those of units, of tokens, and their units."""
        ids, units = {}, {}
        for name, kind in self.valued_kinds.items():
            values = described.values[name].values
            numbers, codes = kind.encode_values(values, self.features[name])
            ids[name] = np.array(numbers, np.int32)[described.carried[name]]
            if kind.reads == "units":
                units[name] = codes
        return ids, units

    def save(self, folder: Path) -> None:
        """Write the subwords, `features.json`, `text.json` and the rules of normal form."""
        self.subwords.save(folder / "source")
        write_rules(folder)
        names = [field.name for field in fields(FeatureVocab)]  # millions of values: no copy
        features = {n: {k: getattr(f, k) for k in names} for n, f in self.features.items()}
        text: dict[str, Any] = {"split_at_words": self.split_at_words, "longest": self.longest}
        if self.sources:
            text["sources"] = self.sources
        for file, content in (("text", text), ("features", features)):
            lines = json.dumps(content, ensure_ascii=False, indent=1)
            write_part(folder / f"{file}.json", lines.encode())

    @classmethod
    def load(cls, folder: Path, user_kinds: Mapping[str, str] | None = None) -> SourceEncoder:
        """What `save` wrote, now or in an earlier version, which had no `text.json`.

        `user_kinds`: by feature of a user-defined kind its class, which no file here names: it is
        imported, so it comes from settings that have been checked.
        """
        content = json.loads((folder / "features.json").read_bytes())
        features = {name: FeatureVocab(**feature) for name, feature in content.items()}
        file = folder / "text.json"
        text = json.loads(file.read_bytes()) if file.exists() else {}
        normal = (folder / RULES_FILE).exists()
        subwords = Subwords.load(folder / "source")
        return cls(subwords, features, **text, normal=normal, user_kinds=user_kinds)

    def with_features(self, features: dict[str, FeatureVocab]) -> SourceEncoder:
        """The same with other features."""
        return SourceEncoder(
            self.subwords,
            features,
            self.split_at_words,
            self.longest,
            self.normal,
            self.user_kinds,
            self.sources,
        )
