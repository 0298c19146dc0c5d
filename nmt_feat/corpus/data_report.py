"""What a run says about its data before it trains."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from nmt_feat.corpus.columns import FIRST, FeatureVocab
from nmt_feat.corpus.store import Split
from nmt_feat.corpus.subwords import UNK
from nmt_feat.corpus.text import ranked

TOP = 5


@dataclass
class DataReport:
    """Sentences, words and pieces of each split, what was filtered and why, and the features."""

    train_read: int  # training pairs before filtering
    filtered: dict[str, int]  # training pairs left out, by reason
    source_size: int  # of the vocabulary, as the next
    target_size: int
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # see `describe_split`
    features: dict[str, dict[str, Any]] = field(default_factory=dict)  # see `describe_feature`

    def __rich__(self) -> Group:
        """Two small tables: splits and, if any, features."""
        splits = _table("data", "split", "sentences", "words", "pieces", "unknown")
        for name, s in self.splits.items():
            sides = (s["source"], s["target"])
            row = ["/".join(f"{x[c]:,}" for x in sides) for c in ("words", "pieces")]
            unknown = "/".join(f"{x['unknown']:.2%}" for x in sides)
            splits.add_row(name, f"{s['sentences']:,}", *row, unknown)
        reasons = ", ".join(f"{n:,} {why}" for why, n in self.filtered.items()) or "none"
        sizes = f"vocabulary {self.source_size:,}/{self.target_size:,}"
        read = f"filtered of {self.train_read:,} training pairs: {reasons}"
        features = _table("features", "feature", "values", "bits", "unknown in dev")
        features.add_column("most frequent")
        for name, f in self.features.items():
            count = f"{f['kept']:,} of " * (f["kept"] != f["values"]) + f"{f['values']:,}"
            top = ", ".join(f"{value} {share:.0%}" for value, share in f["top"])
            features.add_row(name, count, f"{f['entropy']:.2f}", f"{f['unknown_dev']:.2%}", top)
        return Group(splits, f"{sizes}; {read}", *([features] if self.features else []))


def describe_split(split: Split) -> dict[str, Any]:
    """Sentences; per side words (by spaces), pieces (without EOS), unknown share of pieces."""
    found: dict[str, Any] = {"sentences": len(split)}
    for side in ("source", "target"):
        ids = getattr(split, side).values
        pieces = len(ids) - len(split)
        found[side] = {
            "words": sum(len(text.split()) for text in getattr(split, f"{side}_texts")),
            "pieces": pieces,
            "unknown": int(np.count_nonzero(ids == UNK)) / max(pieces, 1),
        }
    return found


def describe_feature(train: Counter[str], dev: Counter[str], vocab: FeatureVocab) -> dict[str, Any]:
    """Values in train, those kept, entropy (bits a word), unknown share of dev's words, top 5.

    Words are pieces for `subword_tag`.
    """
    shares = {value: n / train.total() for value, n in train.items()}
    unknown = sum(n for value, n in dev.items() if vocab.id(value) < FIRST)
    return {
        "values": len(train),
        "kept": sum(vocab.id(value) >= FIRST for value in train),
        "entropy": -sum(p * math.log2(p) for p in shares.values()),
        "unknown_dev": unknown / max(dev.total(), 1),
        "top": [[value, shares[value]] for value, _ in ranked(train)[:TOP]],
    }


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
