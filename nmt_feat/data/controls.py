"""Controls: they take the information out of a run's features, in prepared splits.

    shuffled   within each split, one permutation of the word tokens moves all their values
    resampled  the same, with another permutation of the training split in every epoch
    by_type    each word type always gets the values of one random training token
    dummy      all words have the values of the first training token, so values tell nothing

All values of a word move together, as one tuple, before they are carried to its pieces; words stay.
Values of whole sentences, such as a domain, also move together, between sentences. Features that
follow from the pieces (the subword tag, units of pieces) do not change. This follows the control
tasks of Hewitt & Liang (2019): same combiner, same parameters, nothing learned from linguistics.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nmt_feat.config.method_choice import locate_method
from nmt_feat.config.schema import FeatureConfig, TrainConfig
from nmt_feat.data.alignment import Ids
from nmt_feat.data.building import WORD
from nmt_feat.data.identity import DataHashes, hash_data
from nmt_feat.data.interleaving import find_word_begins, interleave
from nmt_feat.data.noise import use_as_denoising
from nmt_feat.data.prepare import Prepared, prepare
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import END, FIRST
from nmt_feat.errors import UserError
from nmt_feat.features.dials import splitmix64
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.text.sentences import Booleans, Integers

CONTROLS = ("shuffled", "resampled", "by_type", "dummy")


def name_control(cfg: TrainConfig) -> str:
    """The setting with which a text's features, or its terms, mean nothing to a run; or empty."""
    if cfg.control in CONTROLS and locate_method(cfg.method).reads_features:
        return f"control={cfg.control}"
    return "data.terminology.shuffled=true" if cfg.data.terminology.shuffled else ""


def features_to_prepare(cfg: TrainConfig) -> dict[str, FeatureConfig]:
    """The run's features, and a feature that marks where words begin, if it is needed."""
    needs_begins = cfg.control in CONTROLS or locate_method(cfg.method).in_source
    if not needs_begins or cfg.subword.kind == "none":
        return cfg.features
    return cfg.features | {WORD: FeatureConfig(column="subword_tag")}


def hash_run_data(cfg: TrainConfig) -> DataHashes:
    """The hashes of the data that `prepare_run` prepares."""
    return hash_data(cfg, features_to_prepare(cfg))


def prepare_run(cfg: TrainConfig, say: Callable[[str], None] = lambda message: None) -> Prepared:
    """Prepare the run's data as its model reads it.

    Control, method and objective are applied to the prepared data, in this order. So tags in the
    source have the control's values, and masks hide the control's values.
    """
    prepared = prepare(cfg, features_to_prepare(cfg), say)
    tag = prepared.encoder.features.pop(WORD, None)
    prepared.report.features.pop(WORD, None)
    begins = None if tag is None else [tag.id_of("B"), tag.id_of("O")]
    splits = {"train": prepared.train, **prepared.tested_splits}
    if cfg.control in CONTROLS:
        replace_features(cfg, prepared, splits, begins)
    if locate_method(cfg.method).in_source:
        by_split = {name: find_word_begins(split, begins) for name, split in splits.items()}
        interleave(cfg, prepared, by_split)
    if cfg.data.objective == "denoise":
        use_as_denoising(prepared, cfg)
    return prepared


def replace_features(
    cfg: TrainConfig,
    prepared: Prepared,
    splits: Mapping[str, EncodedSplit],
    begins: list[int] | None,
) -> None:
    """Replace the splits of prepared data by splits with the features of the control.

    `splits`: the present splits; `begins`: see `find_word_begins`.
    """
    vocabs, kinds = prepared.encoder.features, prepared.encoder.kinds
    moved = {name: vocab for name, vocab in vocabs.items() if not kinds[name].of_pieces}
    unmoved = [name for name in vocabs if name not in moved]
    if not moved:
        raise UserError(
            f"control={cfg.control}: only pieces determine {', '.join(unmoved)}; "
            "choose features of words, or control=none"
        )
    moves = Moves(cfg.control, cfg.seed, splits)
    carriers = {name: find_carriers(s, moved, kinds, begins) for name, s in splits.items()}
    for carrier, tokens in carriers["train"].items():
        moves.steps.append({name: carriers[name][carrier] for name in splits})
        moves.describe_last(tokens.values, carrier)
    replaced = {name: moves.apply(name) for name in splits}
    prepared.train, prepared.dev = replaced.pop("train"), replaced.pop("dev")
    prepared.tests = replaced
    if cfg.control == "resampled":
        prepared.redraw = lambda epoch: moves.apply("train", epoch)
    prepared.notes.append(
        f"control={cfg.control}: {', '.join(moves.descriptions)} of train; left alone: "
        f"{', '.join(unmoved) or 'nothing'}. The table of features shows the values before that"
    )


def find_carriers(
    split: EncodedSplit,
    moved: Mapping[str, FeatureVocab],
    kinds: Mapping[str, FeatureKind],
    begins: list[int] | None,
) -> dict[str, Tokens]:
    """What the values of the features `moved` move between: words, then whole sentences.

    `begins`: see `find_word_begins`.
    """
    of_sentences = {n: v for n, v in moved.items() if kinds[n].sentence_key is not None}
    of_words = {name: v for name, v in moved.items() if name not in of_sentences}
    carriers = {}
    if of_words:
        carriers["word tokens"] = Tokens.of(split, of_words, begins)
    if of_sentences:
        carriers["sentences"] = Tokens.of_sentences(split, of_sentences, begins)
    return carriers


@dataclass
class Moves:
    """How values move in the splits: first those of words, then those of whole sentences."""

    control: str
    seed: int
    splits: Mapping[str, EncodedSplit]
    steps: list[dict[str, Tokens]] = field(default_factory=list)
    """For each step, by split, the words or the sentences whose values move."""
    descriptions: list[str] = field(default_factory=list)
    """A phrase about each step, for the user."""

    def describe_last(self, names: Iterable[str], carriers: str) -> None:
        """Describe the last step: which values move, and between how many words or sentences."""
        count = f"{len(self.steps[-1]['train'].starts):,} {carriers}"
        self.descriptions.append(f"the values of {', '.join(names)} move together over {count}")

    def apply(self, name: str, epoch: int = 0) -> EncodedSplit:
        """A split with the values that the control gives it."""
        split = self.splits[name]
        for step in self.steps:
            tokens = replace(step[name], split=split)
            origin = step["train"] if self.control in ("by_type", "dummy") else tokens
            chosen = self._choose_tokens(tokens, len(origin.starts), name, epoch)
            values = {feature: ids[chosen] for feature, ids in origin.values.items()}
            split = tokens.with_values(values, origin.split)
        return split

    def _choose_tokens(self, tokens: Tokens, count: int, name: str, epoch: int) -> Integers:
        """For each token of the split `name`, which of `count` tokens it gets the values of."""
        if self.control == "dummy":
            return np.zeros(len(tokens.starts), np.int64)
        if self.control == "by_type":
            return (tokens.hash_types(self.seed) % np.uint64(count)).astype(np.int64)
        # The number is part of the seed, so that each split has its own permutation. NumPy
        # guarantees the stream of raw PCG64 numbers, but not that of its distributions.
        number = list(self.splits).index(name)
        random = np.random.PCG64(np.random.SeedSequence([self.seed, number, epoch]))
        return np.argsort(random.random_raw(len(tokens.starts)), kind="stable")


def find_pieces(split: EncodedSplit) -> Integers:
    """The positions of a split's pieces, without end symbols."""
    return np.flatnonzero(find_word_begins(split, None))


def list_only_first(vocabs: Mapping[str, FeatureVocab]) -> frozenset[str]:
    """The features that have values only on the first pieces of words."""
    return frozenset(name for name, vocab in vocabs.items() if vocab.policy == "first")


@dataclass(frozen=True)
class Tokens:
    """The word tokens of a split that have a piece, and their values."""

    split: EncodedSplit
    starts: Integers
    """`(words,)`: the position of each word's first piece in the split's source values."""
    pieces: Integers
    """`(pieces,)`: the positions of all pieces of words."""
    words_of_pieces: Integers
    """`(pieces,)`: the number of the word that each piece belongs to."""
    values: dict[str, Ids]
    """By feature, the id of each word: that of its first piece; with `cover=join`, of its last."""
    first_pieces: Booleans
    """`(pieces,)`: whether each piece is the first of its word."""
    only_first: frozenset[str]
    """The features that have values only on first pieces; the other pieces have `<inside>`."""

    @classmethod
    def of(
        cls, split: EncodedSplit, moved: Mapping[str, FeatureVocab], begins: list[int] | None
    ) -> Tokens:
        """The words of a split, and their values of the features `moved`.

        `begins`: the ids of the tags that begin a word; None if each piece is a word.
        """
        is_begin, pieces = find_word_begins(split, begins), find_pieces(split)
        starts = np.flatnonzero(is_begin)
        words_of_pieces = np.cumsum(is_begin)[pieces] - 1
        # A piece that ends a word may cover the next words too, and then has all their values.
        ends = np.append(np.flatnonzero(np.diff(words_of_pieces)), len(words_of_pieces) - 1)
        last_pieces = pieces[ends[: len(starts)]]  # empty if there are no words
        values = {}
        for name, vocab in moved.items():
            values[name] = split.features[name][last_pieces if vocab.ends_joined else starts]
        only_first = list_only_first(moved)
        return cls(split, starts, pieces, words_of_pieces, values, is_begin[pieces], only_first)

    @classmethod
    def of_sentences(
        cls, split: EncodedSplit, moved: Mapping[str, FeatureVocab], begins: list[int] | None
    ) -> Tokens:
        """Whole sentences as if they were words; each has one value of each of these features.

        `begins`: see `of`.
        """
        pieces = find_pieces(split)
        is_first = find_word_begins(split, begins)[pieces]
        lengths = np.diff(split.source.offsets) - 1  # without the end symbol
        starts = split.source.offsets[:-1][lengths > 0]
        sentences_of_pieces = np.repeat(np.arange(len(starts)), lengths[lengths > 0])
        values = {name: split.features[name][starts] for name in moved}
        only_first = list_only_first(moved)
        return cls(split, starts, pieces, sentences_of_pieces, values, is_first, only_first)

    def with_values(self, values: dict[str, Ids], origin: EncodedSplit) -> EncodedSplit:
        """The split with other values of its words.

        All pieces of a word get its new value, even if they had different values (vectors, or
        values of text that is already in pieces); `<inside>` stays.

        Args:
            values: by feature, the new id of each word.
            origin: the split that the values come from; ids of units and vectors are rows in it.
        """
        changed = copy.copy(self.split)
        changed.features = {n: ids for n, ids in self.split.features.items() if n != WORD}
        changed.units = dict(self.split.units)
        changed.vectors = self.split.vectors | {
            n: origin.vectors[n] for n in values if n in origin.vectors
        }
        for name, word_ids in values.items():
            ids = self.split.features[name].copy()  # the prepared split stays as it is
            places, words = self.pieces, self.words_of_pieces
            if name in self.only_first:
                places, words = places[self.first_pieces], words[self.first_pieces]
            if name in self.only_first and name in origin.units and origin is not self.split:
                # The other pieces still have the id of `<inside>`, whose row of units is in this
                # split. So the origin's rows are appended to those of this split, and their ids
                # are shifted.
                own_units = self.split.units[name]
                changed.units[name] = own_units.followed_by(origin.units[name])
                shifted = word_ids + np.int32(len(own_units.offsets) - 1)
                word_ids = np.where(word_ids < FIRST, word_ids, shifted)
            elif name in origin.units:
                changed.units[name] = origin.units[name]
            ids[places] = word_ids[words]
            assert (ids[self.split.source.offsets[1:] - 1] == END).all()
            changed.features[name] = ids
        return changed

    def hash_types(self, seed: int) -> NDArray[np.uint64]:
        """A random number for the type of each word (its pieces), the same in all splits."""
        positions = (self.pieces - self.starts[self.words_of_pieces]).astype(np.uint64)
        ids = self.split.source.values[self.pieces].astype(np.uint64)
        hashes = splitmix64(
            ids + (positions << np.uint64(32)) + splitmix64(np.uint64(seed % 2**64))
        )
        firsts = np.searchsorted(self.pieces, self.starts)
        return splitmix64(np.add.reduceat(hashes, firsts))
