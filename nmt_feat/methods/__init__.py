"""Where features enter a model, one class for each way. (Combiners: how vectors become one.)"""

from nmt_feat.methods.base import Embedding, Method
from nmt_feat.methods.encoders import (
    EncodersConcat,
    EncodersParallel,
    EncodersSerial,
    EncodersSum,
)
from nmt_feat.methods.interleave import Interleave
from nmt_feat.methods.multitask import Multitask
from nmt_feat.methods.output_gate import OutputGate
from nmt_feat.methods.tree_attention import TreeAttention, TreeDistance

__all__ = [
    "Embedding",
    "EncodersConcat",
    "EncodersParallel",
    "EncodersSerial",
    "EncodersSum",
    "Interleave",
    "Method",
    "Multitask",
    "OutputGate",
    "TreeAttention",
    "TreeDistance",
]
