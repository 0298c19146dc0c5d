"""Denoising: the source with spans of words masked, and the source itself as its target.

    the man who feeds the dog sleeps .          share 0.3 of 8 words: 3 are masked
    the man MASK the dog MASK .                 a span is one mask, however many words it had
    DET NOUN  ?  DET NOUN  ?  PUNCT             its features are unknown, or those of its first word

Text infilling of Lewis et al. (2020), BART: spans have lengths of a Poisson distribution, and one
of length 0 is a mask between two words. Features as Chakrabarty et al. (2022), FeatureBART. The
mask is the unknown piece, so that a vocabulary needs none of its own.
"""

from __future__ import annotations

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
from nmt_feat.text.subwords import MARK

STREAM = 28
"""Parts these random numbers from those of controls, which come from the same seed."""
DRAWS = 20
"""Spans that are drawn at most, for each word of a sentence."""


def use_as_denoising(prepared: Prepared, cfg: TrainConfig) -> None:
    """Make prepared data one of denoising: other masks in each epoch of train, one of the rest."""
    names, noise = prepared.encoder.subwords.names, cfg.data.noise
    begins = np.array([name.startswith(MARK) or noise.unit == "piece" for name in names])
    if not begins.any():  # pieces are words, without a mark
        begins[:] = True
    train = prepared.train
    redraw = prepared.redraw or (lambda epoch: train)

    def mask_train(epoch: int) -> EncodedSplit:
        whole = redraw(epoch).with_source_as_target()
        return mask_spans(whole, begins, noise, [cfg.seed, 0, epoch])

    prepared.train, prepared.redraw = train.with_source_as_target(), mask_train
    others = {"dev": prepared.dev, **prepared.tests}
    masked = {
        name: mask_spans(split.with_source_as_target(), begins, noise, [0, number, 0])
        for number, (name, split) in enumerate(others.items(), start=1)
    }
    prepared.dev, prepared.tests = masked.pop("dev"), masked


def mask_spans(
    split: EncodedSplit, begins: NDArray[np.bool_], noise: NoiseConfig, seed: list[int]
) -> EncodedSplit:
    """A split whose source has spans masked.

    Args:
        split: the whole text.
        begins: whether a piece of each id begins a word.
        noise: how much is masked.
        seed: of the random numbers.
    """
    uniforms, lengths = draw_uniforms([STREAM, *seed]), poisson_shares(noise.length)
    values, offsets = split.source.values, split.source.offsets
    places: list[int] = []  # of each new piece its place in the whole text; -1 less it for a mask
    bounds = [0]
    for first, end in pairwise(offsets.tolist()):
        starts = [i for i in range(first, end - 1) if i == first or begins[values[i]]]
        masked, before = choose_spans(len(starts), noise.share, lengths, uniforms)
        for word, (start, behind) in enumerate(pairwise([*starts, end - 1])):
            if masked[word]:
                if not word or not masked[word - 1]:
                    places.append(-1 - start)
                continue
            if word in before:
                places.append(-1 - start)
            places += range(start, behind)
        places.append(end - 1)  # the end symbol
        bounds.append(len(places))
    rows = np.array(places, np.int64)
    is_mask = rows < 0
    rows = np.where(is_mask, -1 - rows, rows)
    source = Ragged(np.where(is_mask, UNK, values[rows]).astype(np.int32), np.array(bounds))
    features = {}
    for name, ids in split.features.items():
        hidden = is_mask if noise.features == "mask" else np.zeros_like(is_mask)
        features[name] = np.where(hidden, UNK, ids[rows]).astype(np.int32)
    return split.with_source(source, features)


def choose_spans(
    words: int, share: float, lengths: NDArray[np.float64], uniforms: Iterator[float]
) -> tuple[list[bool], set[int]]:
    """Which of a sentence's words are masked, and before which others a mask is inserted."""
    masked, before, wanted = [False] * words, set(), math.ceil(words * share)
    for _ in range(DRAWS * words):
        room = wanted - sum(masked)
        if room <= 0:
            break
        length = min(int(np.searchsorted(lengths, next(uniforms), side="right")), room)
        start = int(next(uniforms) * words)
        if not length:
            before.add(start)
        for word in range(start, min(start + length, words)):
            masked[word] = True
    return masked, before


def poisson_shares(mean: float) -> NDArray[np.float64]:
    """The share of lengths up to 0, 1, 2 ..., of a Poisson distribution."""
    shares = [math.exp(-mean)]
    for k in count(1):
        if k > mean and shares[-1] < 1e-12:
            break
        shares.append(shares[-1] * mean / k)
    return np.cumsum(shares)


def draw_uniforms(seed: list[int]) -> Iterator[float]:
    """Random numbers in [0, 1): raw ones of PCG64, whose stream NumPy guarantees."""
    random = np.random.PCG64(np.random.SeedSequence(seed))
    while True:
        raw = np.asarray(random.random_raw(4096), np.uint64)
        yield from ((raw >> np.uint64(11)) * 2.0**-53).tolist()
