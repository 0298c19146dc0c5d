"""Programs that annotate words. User-defined annotators derive from `Annotator`."""

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.fugashi import Fugashi
from nmt_feat.annotators.hanta import HanTa
from nmt_feat.annotators.jieba import Jieba
from nmt_feat.annotators.kiwi import Kiwi
from nmt_feat.annotators.simplemma import Simplemma
from nmt_feat.annotators.spacy import SpaCy
from nmt_feat.annotators.stanza import Stanza
from nmt_feat.annotators.udpipe import UDPipe

__all__ = [
    "Annotator",
    "Fugashi",
    "HanTa",
    "Jieba",
    "Kiwi",
    "Simplemma",
    "SpaCy",
    "Stanza",
    "UDPipe",
]
