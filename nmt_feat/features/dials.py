"""Dials: how much a feature of words says, set between nothing and all of it.

    erase    each word loses its value with this probability: what the feature says falls linearly
    classes  each value, `_` too, becomes one of so many classes: from 1, nothing, up to themselves

Drawn from the run's seed and from what is read alone, the sentence's text and the word's place in
it or the value, so that training, test and translation agree. All features lose the same words.
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
    """The values of the sentences' words as the feature's dials leave them; `MISSING` is lost.

    Values `of_sentences` are lost by all words of a sentence at once.
    """
    if feature.classes is not None:
        count = feature.classes

        def of_class(value: str) -> str:
            return value if value == MISSING else f"class {_number(value, feature.seed) % count}"

        values = values.map(of_class)
    if feature.erase:
        texts = [_number(text, feature.seed) for text in sentences.texts]
        first = np.repeat(np.cumsum(sentences.counts) - sentences.counts, sentences.counts)
        position = (np.arange(len(first)) - first).astype(np.uint64)
        if of_sentences:
            position = np.zeros_like(position)
        drawn = splitmix64(
            np.repeat(np.array(texts, np.uint64), sentences.counts) + splitmix64(position)
        )
        lost = (drawn >> np.uint64(11)) * 2.0**-53 < feature.erase
        used, codes = np.unique(
            np.where(lost, len(values.values), values.codes), return_inverse=True
        )
        names = [*values.values, MISSING]
        remaining = DictionaryColumn(codes.astype(np.int32), [names[i] for i in used.tolist()])
        values = remaining.map(str)  # each once, also where some were missing before
    return values


def _number(text: str, seed: int) -> int:
    """64 random bits for a text."""
    key = blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, salt=(seed % 2**64).to_bytes(8)
    )
    return int.from_bytes(key.digest(), "little")


def splitmix64(x: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Numbers whose bits all depend on all bits of x (the finalizer of splitmix64)."""
    z = np.atleast_1d(np.asarray(x, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
