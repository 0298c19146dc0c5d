"""The earlier place of the annotators; it goes with release 0.3."""

import warnings

from nmt_feat.annotators import Annotator, HanTa, UDPipe

__all__ = ["Annotator", "HanTa", "UDPipe"]

warnings.warn(
    "nmt_feat.corpus.annotators is now nmt_feat.annotators", DeprecationWarning, stacklevel=2
)
