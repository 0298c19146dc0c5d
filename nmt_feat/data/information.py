"""How much a feature tells, and how much of that the word tells already, in bits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

from nmt_feat.text.word_values import MISSING

Joint = Mapping[tuple[Any, ...], int]
"""How often each word form has each value, or each combination of values of several features."""
OTHER = "<other>"
"""All values that the vocabulary lacks, such as beyond `max_values`: one value for the model."""
Old = TypeVar("Old", bound=Hashable)
New = TypeVar("New", bound=Hashable)
Key = TypeVar("Key", str, tuple[Any, ...])


def without_missing(counts: Mapping[Key, int]) -> tuple[Mapping[Key, int], float]:
    """The counts without missing values, and their share of all words.

    Keys are values, or forms with values.
    """
    missing = {k for k in counts if (k if isinstance(k, str) else k[1]) == MISSING}
    present = counts
    if missing:  # only then a copy, since there may be millions
        present = {k: n for k, n in counts.items() if k not in missing}
    return present, sum(present.values()) / max(sum(counts.values()), 1)


def regroup(counts: Mapping[Old, int], change: Callable[[Old], New]) -> Counter[New]:
    """Change each key by `change`, and add up the counts of equal ones."""
    merged_counts = Counter[New]()
    for key, n in counts.items():
        merged_counts[change(key)] += n
    return merged_counts


def entropy(counts: Mapping[str, int]) -> float:
    """H(feature): bits of a value drawn from these counts."""
    total = sum(counts.values())
    return sum(n / total * math.log2(total / n) for n in counts.values() if n)


def given_word(train: Joint, dev: Joint) -> float:
    """H(feature | word form): the bits that the value of a word of dev takes, by a model of train.

    The model of Witten & Bell (1991) is p(v | w) = (c(w, v) + t(w) p(v)) / (c(w) + t(w)), where
    t(w) is the number of distinct values of w. p(v) is smoothed: 0.5 is added to the count of each
    value of train, and to that of one value that stands for all others.
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
    """`given_word`, if each form always had the same value, drawn from train's tokens.

    The bits that remain then are the cost of words that train does not have.
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
