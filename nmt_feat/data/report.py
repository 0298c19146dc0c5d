"""The data report: sizes of a prepared corpus, and how much its features tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
from rich.console import Group

from nmt_feat.base.terminal import TextTable, literal
from nmt_feat.data import information
from nmt_feat.data.information import Joint
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.ids import FIRST, UNK
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.vocabulary import FeatureVocab
from nmt_feat.text.conllu import NONE
from nmt_feat.text.files import rank_by_count
from nmt_feat.text.word_values import MISSING

BITS = ("entropy", "given_word", "random_by_type")
"""Measures of features of words, see information.py."""
TOP = 5
"""How many values of a feature the report shows."""


@dataclass
class DataReport:
    """Sentences, words and pieces of each split, what was filtered and why, and the features."""

    train_read: int  # training pairs before filtering
    filtered: dict[str, int]  # training pairs left out, by reason
    source_size: int  # of the vocabulary, as the next
    target_size: int
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # see `describe_split`
    features: dict[str, dict[str, Any]] = field(default_factory=dict)  # see `describe_feature`
    together: dict[str, Any] = field(default_factory=dict)  # see `describe_together`

    def __rich__(self) -> Group:
        """Small tables: splits and, if any, features."""
        splits = _table("data", "split", "sentences", "words", "pieces", "unknown")
        for name, s in self.splits.items():
            sides = (s["source"], s["target"])
            row = ["/".join(f"{x[c]:,}" for x in sides) for c in ("words", "pieces")]
            unknown = "/".join(f"{x['unknown']:.2%}" for x in sides)
            splits.add_row(name, f"{s['sentences']:,}", *row, unknown)
        reasons = ", ".join(f"{n:,} {why}" for why, n in self.filtered.items()) or "none"
        sizes = f"vocabulary {self.source_size:,}/{self.target_size:,}"
        read = f"filtered of {self.train_read:,} training pairs: {reasons}"
        bits = ("bits", "given word", "random")
        features = _table("features", "feature", "values", *bits, "unknown in dev")
        features.add_column("most frequent")
        words = _table("features on words", "feature", "coverage", "pieces agree", "lost")
        for name, f in self.features.items():
            count = f"{f['values']:,}"
            if f["kept"] != f["values"]:
                count = f"{f['kept']:,} of {count}"
            top = ", ".join(f"{value} {share:.0%}" for value, share in f["top"])
            features.add_row(name, count, *_format_bits(f), f"{f['unknown_dev']:.2%}", top)
            agree = "-" if f["agreement"] is None else f"{f['agreement']:.1%}"
            # Reports of earlier versions lack it.
            lost = "-" if f.get("lost") is None else f"{f['lost']:.1%}"
            words.add_row(name, f"{f['coverage']:.1%}", agree, lost)
        if t := self.together:
            names = ", ".join(t["features"])
            features.add_row("together", f"{t['values']:,}", *_format_bits(t), "-", f"of {names}")
        line = literal(f"{sizes}; {read}")
        return Group(splits, line, *([features, words] if self.features else []))


def describe_split(split: EncodedSplit) -> dict[str, Any]:
    """Count sentences; for each side, words and pieces (without EOS), and the unknown share."""
    description: dict[str, Any] = {"sentences": len(split)}
    for side in ("source", "target"):
        ids = getattr(split, side).values
        pieces = len(ids) - len(split)
        description[side] = {
            "words": sum(len(text.split()) for text in split.texts(side)),
            "pieces": pieces,
            "unknown": int(np.count_nonzero(ids == UNK)) / max(pieces, 1),
        }
    return description


def measure_coverage(values: Counter[str]) -> float:
    """The share of words, or of pieces, that have a value: neither missing nor `_`."""
    without = values[MISSING] + values[NONE]
    return 1 - without / max(values.total(), 1)


def describe_feature(
    kind: FeatureKind,
    vocab: FeatureVocab,
    train: Counter[str],
    dev: Counter[str],
    train_joint: Joint | None = None,
    dev_joint: Joint | None = None,
) -> dict[str, Any]:
    """Describe a feature: values in train and in the vocabulary, bits, unknown values, top values.

    Words here are whatever has values: pieces for `subword_tag`, and units for a column of units.
    All values that the vocabulary lacks count as one, as for the model. A word whose value is
    missing or erased counts with 0 bits.

    Args:
        kind, vocab: the feature.
        train, dev: how often the splits have each value.
        train_joint, dev_joint: how often they have each value with each form; without these, only
            the entropy is measured.
    """
    words = train.total()
    unknown = sum(n for value, n in dev.items() if kind.find_id(value, vocab) < FIRST)
    values = len(train.keys() - {MISSING})
    in_vocabulary = sum(kind.find_id(value, vocab) >= FIRST for value in train)
    labels: Counter[str] = train
    if in_vocabulary < values or kind.groups_values:

        def label(value: str) -> str:
            return kind.label_value(value, vocab) or information.OTHER

        labels = information.regroup(train, label)
        train_joint, dev_joint = (
            joint and information.regroup(joint, lambda key: (key[0], label(key[1])))
            for joint in (train_joint, dev_joint)
        )
    if kind.groups_values:
        train, values = labels, len(labels.keys() - {MISSING})
        in_vocabulary = len(labels.keys() - {MISSING, information.OTHER})
    return {
        "values": values,
        "kept": in_vocabulary,
        **_bits(labels, train_joint, dev_joint),
        "unknown_dev": unknown / max(dev.total(), 1),
        "top": [[value, train[value] / words] for value in rank_by_count(train)[:TOP]],
    }


def describe_together(
    kinds: Mapping[str, FeatureKind],
    vocabs: Mapping[str, FeatureVocab],
    train: Joint,
    dev: Joint,
) -> dict[str, Any]:
    """The bits of several features of words together: their combinations are the values.

    `train` and `dev` count forms with a value of each feature, in the first sentences. The result
    is empty if a word has only some of the values, since a missing value has no bits.
    """
    if any(MISSING in key[1:] and {*key[1:]} != {MISSING} for key in (*train, *dev)):
        return {}

    def combined(key: tuple[str, ...]) -> tuple[str, str | tuple[str, ...]]:
        form, *values = key
        if MISSING in values:
            return form, MISSING
        return form, tuple(
            kind.label_value(value, vocabs[name]) or information.OTHER
            for (name, kind), value in zip(kinds.items(), values, strict=True)
        )

    joint, dev_joint = (information.regroup(counts, combined) for counts in (train, dev))
    values = information.regroup(joint, itemgetter(1))
    bits = _bits(values, joint, dev_joint)
    return {"features": list(kinds), "values": len(values.keys() - {MISSING}), **bits}


def _bits(
    values: Mapping[Any, int], train: Joint | None, dev: Joint | None
) -> dict[str, float | None]:
    known_values, share = information.without_missing(values)
    bits = dict.fromkeys(BITS, None) | {"entropy": share * information.entropy(known_values)}
    if train and dev:
        (known_train, _), (known_dev, share) = map(information.without_missing, (train, dev))
        bits["given_word"] = share * information.given_word(known_train, known_dev)
        bits["random_by_type"] = share * information.random_by_type(known_train, known_dev)
    return bits


def _format_bits(bits: Mapping[str, Any]) -> list[str]:
    return ["-" if bits[b] is None else f"{bits[b]:.2f}" for b in BITS]


def _table(title: str, first: str, *others: str) -> TextTable:
    table = TextTable(title=literal(title), title_justify="left", box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
