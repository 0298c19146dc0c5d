"""How the sums of sentences' statistics give a score, by the form that a metric's record names.

BLEU and chrF of any set of sentences follow from the sums of their n-gram counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmt_feat.errors import UserError, short_repr, suggest

Statistics = NDArray[Any]
"""Numbers of each sentence, (sentences, columns)."""
Numbers = NDArray[np.float64]
ScoreFunction = Callable[[Numbers | Statistics], Numbers]
"""From summed statistics (..., columns) to scores (...)."""


def score_bleu(counts: Numbers | Statistics) -> Numbers:
    """BLEU of summed counts (..., 10): sacreBLEU's, with its exponential smoothing.

    100 exp(mean of log p_n + min(0, 1 - reference / length)) over n = 1 to 4 (Papineni et al.
    2002). The k-th order without a match counts 1 / 2^k matches (method 3 of Chen & Cherry 2014).
    """
    length, reference, right, total = np.split(counts.astype(float), [1, 2, 6], axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        missing = np.cumsum(right == 0, axis=-1)
        log = np.log(np.where(right == 0, 0.5**missing, right)) - np.log(total)
        brevity = np.minimum(0, 1 - reference / length)[..., 0]
        smoothed = 100 * np.exp(log.mean(axis=-1) + brevity)
    return np.where((total == 0).any(axis=-1) | (right == 0).all(axis=-1), 0.0, smoothed)


def score_chrf(counts: Numbers | Statistics) -> Numbers:
    """chrF of summed counts (..., 18): sacreBLEU's, over the orders that occur (Popović 2015).

    100 (1 + b^2) P R / (b^2 P + R) with b = 2; P and R are means over at most 6 orders. For chrF++
    (..., 24) they are also over words and pairs of words.
    """
    grams = counts.reshape(*counts.shape[:-1], -1, 3).astype(float)
    hypothesis, reference, right = np.moveaxis(grams, -1, 0)
    occurs = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(occurs.sum(axis=-1), 1)
    precision = (right / np.maximum(hypothesis, 1) * occurs).sum(axis=-1) / orders
    recall = (right / np.maximum(reference, 1) * occurs).sum(axis=-1) / orders
    below = 4 * precision + recall
    return np.where(below > 0, 500 * precision * recall / np.where(below > 0, below, 1), 0.0)


def score_mean(sums: Numbers | Statistics) -> Numbers:
    """A weighted mean from sums (..., 2): the first column over the second, the weight."""
    total, weight = np.moveaxis(sums.astype(float), -1, 0)
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), 0.0)


FORMS: dict[str, ScoreFunction] = {"mean": score_mean, "bleu": score_bleu, "chrf": score_chrf}
"""By form, the function from summed statistics to the score."""
COMMON_METRICS: dict[str, ScoreFunction] = {"BLEU": score_bleu, "chrF": score_chrf}
"""Metrics that every record has, so that any two runs can be compared."""


def score_by_form(form: str) -> ScoreFunction:
    """The function from summed statistics to the score, for metrics of this form."""
    if form not in FORMS:
        raise UserError(
            f"a record has a metric of the form {short_repr(form)}; {suggest(form, FORMS)}, or "
            "update nmt_feat"
        )
    return FORMS[form]
