"""Vocabularies of features, by what the program builds its own by."""

from __future__ import annotations

from collections import Counter

from nmt_feat.config.schema import FeatureConfig
from nmt_feat.features.choice import choose_kind
from nmt_feat.features.vocabulary import FeatureVocab, VocabularyBasis


def build_vocabulary(cfg: FeatureConfig, counts: Counter[str]) -> FeatureVocab:
    """The vocabulary of a feature whose values train has so often."""
    return choose_kind("f", cfg).build_vocabulary(counts, VocabularyBasis())
