"""The earlier place of words and sentences; it goes with release 0.3."""

import warnings

from nmt_feat.text.conllu import Sentence, Word

__all__ = ["Sentence", "Word"]

warnings.warn(
    "nmt_feat.corpus.conllu is now nmt_feat.text.conllu", DeprecationWarning, stacklevel=2
)
