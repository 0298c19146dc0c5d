"""The kinds of feature: each turns what is known of tokens into one embedding per token."""

from nmt_feat.embedders.categorical import Categorical
from nmt_feat.embedders.contextual import Contextual
from nmt_feat.embedders.sequence import CharCNN, Max, Mean
from nmt_feat.embedders.vectors import Vectors

__all__ = ["Categorical", "CharCNN", "Contextual", "Max", "Mean", "Vectors"]
