"""Dials: they reduce how much a feature of words tells, down to nothing.

    erase    each word loses its value with this probability: the information falls linearly
    classes  each value, `_` too, becomes one of so many classes at random; one class tells nothing

The random numbers depend only on the run's seed and on what is read: for `erase` the sentence's
text and the word's position, for `classes` the value. So training, test and translation agree, and
all features lose the values of the same words.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.text.sentences import DictionaryColumn, Sentences
from nmt_feat.text.word_values import MISSING


def apply_dials(
    values: DictionaryColumn,
    sentences: Sentences,
    feature: FeatureVocab,
    of_sentences: bool = False,
) -> DictionaryColumn:
    """Apply the feature's dials to the values of the sentences' words.

    With `of_sentences`, all words of a sentence lose their values together.
    """
    if feature.classes is not None:
        values = group_values(values, feature.classes, feature.seed)
    if feature.erase:
        values = erase_values(values, sentences, feature.erase, feature.seed, of_sentences)
    return values


def group_values(values: DictionaryColumn, count: int, seed: int) -> DictionaryColumn:
    """Replace each value by one of `count` classes: `_`, too, but not `MISSING`."""

    def name_class(value: str) -> str:
        return value if value == MISSING else f"class {hash_text(value, seed) % count}"

    return values.map(name_class)


def erase_values(
    values: DictionaryColumn, sentences: Sentences, share: float, seed: int, of_sentences: bool
) -> DictionaryColumn:
    """Make the values of a random share of words, or of sentences, `MISSING`."""
    counts = sentences.counts
    text_hashes = np.array([hash_text(text, seed) for text in sentences.texts], np.uint64)
    first_words = np.repeat(np.cumsum(counts) - counts, counts)  # of each word's sentence
    positions = (np.arange(len(first_words)) - first_words).astype(np.uint64)
    if of_sentences:
        positions = np.zeros_like(positions)
    bits = splitmix64(np.repeat(text_hashes, counts) + splitmix64(positions))
    is_erased = (bits >> np.uint64(11)) * 2.0**-53 < share  # 53 bits as a number below 1
    names = [*values.values, MISSING]
    used, codes = np.unique(
        np.where(is_erased, len(values.values), values.codes), return_inverse=True
    )
    remaining = DictionaryColumn(codes.astype(np.int32), [names[i] for i in used.tolist()])
    return remaining.map(str)  # merges MISSING with itself, if some values were missing before


def hash_text(text: str, seed: int) -> int:
    """64 bits that depend on a text and a seed, and look random."""
    key = blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, salt=(seed % 2**64).to_bytes(8)
    )
    return int.from_bytes(key.digest(), "little")


def splitmix64(x: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Mix bits: each bit of the result depends on all bits of x (the finalizer of splitmix64)."""
    z = np.atleast_1d(np.asarray(x, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
