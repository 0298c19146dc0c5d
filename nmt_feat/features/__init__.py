"""The kinds of feature: each turns what is known of tokens into one embedding per token."""

from nmt_feat.features.categorical import Categorical
from nmt_feat.features.contextual import Contextual
from nmt_feat.features.sequence import CharCNN, Max, Mean
from nmt_feat.features.vectors import Vectors

__all__ = ["Categorical", "CharCNN", "Contextual", "Max", "Mean", "Vectors"]
