"""How much a feature says, and how much of it the word says already, in bits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

from nmt_feat.text.word_values import MISSING

Joint = Mapping[tuple[Any, ...], int]
"""How often each word form has each value, which may be a combination of several features'."""
OTHER = "<other>"
"""Any value that a vocabulary does not have, as beyond `max_values`: one for the model."""
Old = TypeVar("Old", bound=Hashable)
New = TypeVar("New", bound=Hashable)
Key = TypeVar("Key", str, tuple[Any, ...])


def without_missing(counts: Mapping[Key, int]) -> tuple[Mapping[Key, int], float]:
    """The counts of values that are known, alone or with forms, and their share of all words."""
    missing = {k for k in counts if (k if isinstance(k, str) else k[1]) == MISSING}
    present = counts
    if missing:  # else no copy: there may be millions
        present = {k: n for k, n in counts.items() if k not in missing}
    return present, sum(present.values()) / max(sum(counts.values()), 1)


def regroup(counts: Mapping[Old, int], change: Callable[[Old], New]) -> Counter[New]:
    """The counts of what `change` makes of each key."""
    merged_counts = Counter[New]()
    for key, n in counts.items():
        merged_counts[change(key)] += n
    return merged_counts


def entropy(counts: Mapping[str, int]) -> float:
    """H(feature): bits of a value drawn from these counts."""
    total = sum(counts.values())
    return sum(n / total * math.log2(total / n) for n in counts.values() if n)


def given_word(train: Joint, dev: Joint) -> float:
    """H(feature | word form): bits a word of dev takes for its value, by a model of train.

    The model is that of Witten & Bell (1991), p(v | w) = (c(w, v) + t(w) p(v)) / (c(w) + t(w)) with
    t(w) the number of different values of w; p(v) counts half a value more of each that train has,
    and of one that stands for all others.
    """
    values, forms, kinds = Counter[str](), Counter[str](), Counter[str]()
    for (form, value), n in train.items():
        values[value] += n
        forms[form] += n
        kinds[form] += 1
    total, bits, words = values.total() + (len(values) + 1) / 2, 0.0, 0
    for (form, value), n in dev.items():
        p = (values[value] + 0.5) / total
        if forms[form]:
            p = (train.get((form, value), 0) + kinds[form] * p) / (forms[form] + kinds[form])
        bits -= n * math.log2(p)
        words += n
    return bits / max(words, 1)


def random_by_type(train: Joint, dev: Joint) -> float:
    """`given_word` where each form has one value, drawn from train's tokens, wherever it stands.

    What is left then is the price of words that train does not have.
    """
    values = Counter[str]()
    for (_, value), n in train.items():
        values[value] += n
    if not values:
        return 0.0
    names = sorted(values)
    share = np.array([values[name] for name in names]) / values.total()
    forms = sorted({form for form, _ in (*train, *dev)})
    drawn = np.random.default_rng(0).choice(len(names), size=len(forms), p=share)
    value_of = {form: names[i] for form, i in zip(forms, drawn.tolist(), strict=True)}

    moved = (regroup(joint, lambda key: (key[0], value_of[key[0]])) for joint in (train, dev))
    return given_word(*moved)
