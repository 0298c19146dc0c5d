"""Linguistic features: the embedders that configs name, and base classes for kinds of features."""

from nmt_feat.embedders.categorical import Categorical
from nmt_feat.embedders.contextual import Contextual
from nmt_feat.embedders.linear import Linear
from nmt_feat.embedders.sequence import CharCNN, Max, Mean, Sum
from nmt_feat.embedders.vectors import Vectors
from nmt_feat.features.kind import FeatureKind
from nmt_feat.features.numbers import Numbers
from nmt_feat.features.unit_sequences import ValueCharacters, ValueParts
from nmt_feat.features.vocabulary import FeatureVocab

__all__ = [
    "Categorical",
    "CharCNN",
    "Contextual",
    "FeatureKind",
    "FeatureVocab",
    "Linear",
    "Max",
    "Mean",
    "Numbers",
    "Sum",
    "ValueCharacters",
    "ValueParts",
    "Vectors",
]
