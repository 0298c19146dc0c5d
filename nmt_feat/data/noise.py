"""Denoising: the source with spans of words masked, and the source itself as its target.

    the man who feeds the dog sleeps .          share 0.3 of 8 words: 3 are masked
    the man MASK the dog MASK .                 a span is one mask, however many words it had
    DET NOUN  ?  DET NOUN  ?  PUNCT             its features are unknown, or those of its first word

This is the text infilling of Lewis et al. (2020), BART: the lengths of spans have a Poisson
distribution, and a span of length 0 is a mask between two words. Features are masked as in
Chakrabarty et al. (2022), FeatureBART. The mask is the unknown piece, so that the vocabulary stays
the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray

from nmt_feat.base.ragged import Ragged
from nmt_feat.config.data_schema import NoiseConfig
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.prepare import Prepared
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import UNK
from nmt_feat.text.sentences import Booleans
from nmt_feat.text.subwords import MARK, Subwords

STREAM = 28
"""The first number of each seed here, so that the random numbers differ from those of controls."""
DEV = 1
"""The number of dev in its seed."""
DRAWS = 20
"""At most so many spans are drawn for each word of a sentence; spans of length 0 mask no word."""


def use_as_denoising(prepared: Prepared, cfg: TrainConfig) -> None:
    """Turn prepared data into data for denoising.

    In train, each epoch has new masks, by the run's seed. In dev and the test sets, all runs have
    the same masks, so that scores can be compared. Those of a test set follow from its name: they
    are the same if it is added to a finished run.
    """
    noise, train = cfg.data.noise, prepared.train
    begins = find_begins(prepared.encoder.subwords, noise, cfg.subword.kind)
    redraw = prepared.redraw or (lambda epoch: train)

    def mask_train(epoch: int) -> EncodedSplit:
        whole = redraw(epoch).with_source_as_target()
        return mask_spans(whole, begins, noise, [cfg.seed, 0, epoch])

    prepared.train, prepared.redraw = train.with_source_as_target(), mask_train
    whole_dev = prepared.dev.with_source_as_target()
    prepared.dev = mask_spans(whole_dev, begins, noise, [0, DEV, 0])
    prepared.tests = {
        name: mask_spans(split.with_source_as_target(), begins, noise, [0, number_name(name), 0])
        for name, split in prepared.tests.items()
    }


def number_name(name: str) -> int:
    """A number of 64 bits for the name of a test set, as a part of its seed."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def find_begins(subwords: Subwords, noise: NoiseConfig, kind: str) -> Booleans:
    """Whether a piece begins a word, by id; `kind` is that of the subwords."""
    begins = np.array([name.startswith(MARK) or noise.unit == "piece" for name in subwords.names])
    # Pieces that are words have no mark, but some words of a text may begin with it.
    if kind == "none" or not begins.any():
        begins[:] = True
    return begins


def mask_spans(
    split: EncodedSplit, begins: Booleans, noise: NoiseConfig, seed: list[int]
) -> EncodedSplit:
    """A split whose source has spans masked.

    Args:
        split: the whole text.
        begins: for each id, whether this piece begins a word.
        noise: how much is masked.
        seed: of the random numbers, which the sentences take one after another.
    """
    uniforms, lengths = draw_uniforms([STREAM, *seed]), sum_poisson(noise.length)
    values, offsets = split.source.values, split.source.offsets
    indices: list[int] = []
    masks: list[bool] = []
    bounds = [0]
    for first, end in pairwise(offsets.tolist()):
        last = end - 1  # the end symbol, which is no word
        starts = [i for i in range(first, last) if i == first or begins[values[i]]]
        masked, before = choose_spans(len(starts), noise.share, lengths, uniforms)
        for index, masks_word in [*_mask_words([*starts, last], masked, before), (last, False)]:
            indices.append(index)
            masks.append(masks_word)
        bounds.append(len(indices))
    rows, is_mask = np.array(indices, np.int64), np.array(masks, bool)
    source = Ragged(np.where(is_mask, UNK, values[rows]).astype(np.int32), np.array(bounds))
    features = {name: ids[rows] for name, ids in split.features.items()}
    if noise.features == "mask":
        for name in features.keys() - set(split.tags):  # tags describe the whole sentence
            features[name] = np.where(is_mask, UNK, features[name]).astype(np.int32)
    return split.with_source(source, features)


def _mask_words(
    bounds: list[int], masked: list[bool], before: set[int]
) -> Iterator[tuple[int, bool]]:
    """The pieces of a masked sentence: an index in the whole sentence, and whether it is a mask.

        pieces    a0 a1 b2 c3 c4     bounds   0 2 3 5        three words, a, b and c
        masked    b                  before   c
        ->        (0, no) (1, no) (2, MASK) (3, MASK) (3, no) (4, no)

    A mask has the index of the first piece that it covers, or of the piece that it stands before.

    Args:
        bounds: where words begin, and where the last one ends.
        masked: whether each word is masked.
        before: the words before which a mask is inserted, unless they are masked themselves.
    """
    for word, (start, end) in enumerate(pairwise(bounds)):
        if masked[word]:
            if not word or not masked[word - 1]:  # neighbouring spans are one mask
                yield start, True
            continue
        if word in before:
            yield start, True
        yield from ((piece, False) for piece in range(start, end))


def choose_spans(
    words: int, share: float, lengths: NDArray[np.float64], uniforms: Iterator[float]
) -> tuple[list[bool], set[int]]:
    """Which words of a sentence are masked, and before which words a mask is inserted.

    Args:
        words: how many words the sentence has.
        share: of the words that are masked.
        lengths: the cumulative distribution of a span's length, from 0 on.
        uniforms: random numbers; each span takes one for its length, then one for its start.
    """
    masked, before, goal = [False] * words, set(), math.ceil(words * share)
    for _ in range(DRAWS * words):
        missing = goal - sum(masked)
        if missing <= 0:
            break
        # Not longer than what is missing, so that the share is never exceeded.
        length = min(int(np.searchsorted(lengths, next(uniforms), side="right")), missing)
        start = int(next(uniforms) * words)
        if not length:
            before.add(start)
        for word in range(start, min(start + length, words)):
            masked[word] = True
    return masked, before


def sum_poisson(mean: float) -> NDArray[np.float64]:
    """The cumulative Poisson distribution: the probability of at most 0, 1, 2 ..."""
    shares = [math.exp(-mean)]
    for k in count(1):
        if k > mean and shares[-1] < 1e-12:  # behind the peak, with nothing left to add
            break
        shares.append(shares[-1] * mean / k)
    return np.cumsum(shares)


def draw_uniforms(seed: list[int]) -> Iterator[float]:
    """Endless random numbers in [0, 1).

    They come from raw numbers of PCG64, because NumPy guarantees their stream, but not that of its
    distributions.
    """
    random = np.random.PCG64(np.random.SeedSequence(seed))
    while True:
        raw = np.asarray(random.random_raw(4096), np.uint64)
        yield from ((raw >> np.uint64(11)) * 2.0**-53).tolist()  # 53 bits, as a float has
