"""Translates and scores a split with a model, in batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch

from nmt_feat.config.schema import DecodingConfig
from nmt_feat.data.batches import collate, order_batches
from nmt_feat.data.store import EncodedSplit
from nmt_feat.decoding.search import (
    Hypothesis,
    SearchOptions,
    Seq2Seq,
    SomeCache,
    Stop,
    score_batch,
    search,
)
from nmt_feat.training.objective import Objective

ALL_BATCHES = slice(None)
"""The share of a single process."""


def format_nbest_line(number: int, text: str, hypothesis: Hypothesis) -> str:
    """A line of an n-best list."""
    return f"{number} ||| {text} ||| {hypothesis.score:.4f}"


def translate_split(
    model: Seq2Seq[SomeCache],
    split: EncodedSplit,
    features: Sequence[str],
    cfg: DecodingConfig,
    device: torch.device,
    share: slice = ALL_BATCHES,
) -> list[list[Hypothesis]]:
    """The n best translations of each sentence, in the split's order.

    Sentences of other shares have no translation. A blank line has an empty translation.
    """
    options = SearchOptions(
        beam=cfg.beam,
        length_penalty=cfg.length_penalty,
        max_ratio=cfg.max_ratio,
        max_extra=cfg.max_extra,
        nbest=cfg.nbest,
        stop=cast(Stop, cfg.stop),
        refill=cfg.refill,
    )
    results: list[list[Hypothesis]] = [[] for _ in range(len(split))]
    for indices in order_batches(split, max(1, cfg.batch_tokens // cfg.beam))[share]:
        batch = collate(split, indices, features).to(device)
        nbest = search(model, batch.source, batch.features, batch.source_mask, options)
        is_blank = (split.source_lengths[indices] == 1).tolist()  # only the end symbol
        for index, hypotheses, empty in zip(batch.indices, nbest, is_blank, strict=True):
            results[index] = [Hypothesis([], 0.0, 0.0)] if empty else hypotheses
    return results


def score_split(
    model: Seq2Seq[SomeCache],
    split: EncodedSplit,
    features: Sequence[str],
    batch_tokens: int,
    device: torch.device,
    share: slice = ALL_BATCHES,
) -> list[tuple[float, int]]:
    """The result of `score_batch` for each sentence, in the split's order.

    Sentences of other shares have the score 0 of 0 pieces.
    """
    results: list[tuple[float, int]] = [(0.0, 0)] * len(split)
    for indices in order_batches(split, batch_tokens)[share]:
        batch = collate(split, indices, features).to(device)
        for index, score in zip(batch.indices, score_batch(model, batch), strict=True):
            results[index] = score
    return results


def compute_dev_loss(
    objective: Objective,
    split: EncodedSplit,
    features: Sequence[str],
    batch_tokens: int,
    device: torch.device,
    share: slice = ALL_BATCHES,
) -> tuple[float, int]:
    """Summed negative log-likelihood of the target pieces, in nats, and their number, with EOS."""
    total, count = 0.0, 0
    for indices in order_batches(split, batch_tokens)[share]:
        batch = collate(split, indices, features).to(device)
        total += float(objective(*batch.objective_inputs)[1])
        count += batch.tokens
    return total, count
