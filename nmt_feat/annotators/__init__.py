"""Programs that annotate words; a user's own derives from `Annotator`."""

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.hanta import HanTa
from nmt_feat.annotators.kiwi import Kiwi
from nmt_feat.annotators.spacy import SpaCy
from nmt_feat.annotators.udpipe import UDPipe

__all__ = ["Annotator", "HanTa", "Kiwi", "SpaCy", "UDPipe"]
