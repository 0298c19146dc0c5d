"""The kinds of feature: each turns what is known of tokens into one embedding per token."""

from nmt_feat.features.categorical import Categorical

__all__ = ["Categorical"]
