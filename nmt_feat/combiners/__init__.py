"""Ways to merge a word's embedding with those of its features, side by side.

A combiner gets the names of the parts (the word first), their preferred widths and the width of
the model. It chooses `widths`, one for each part, and maps the parts, tensors
`(batch, time, widths[i])`, to one `(batch, time, model_dim)`. It is position-wise and sees
neither ids nor masks, so it works on any tensors:

    from nmt_feat.combiners import Gate

    gate = Gate({"word": 512, "pos": 512}, model_dim=512)
    merged = gate([words, tags])
"""

from nmt_feat.combiners.base import Combiner, CombinerError, NoFeatures
from nmt_feat.combiners.concats import MLP, Concat, ConcatProject
from nmt_feat.combiners.gates import AdditiveGate, DynamicSwitch, Gate, WordGate
from nmt_feat.combiners.mixed import Mixed
from nmt_feat.combiners.relevance import SelfRelevance, WordRelevance
from nmt_feat.combiners.sums import DME, Add, Average, DMESigmoid, WeightedSum

__all__ = [
    "DME",
    "MLP",
    "Add",
    "AdditiveGate",
    "Average",
    "Combiner",
    "CombinerError",
    "Concat",
    "ConcatProject",
    "DMESigmoid",
    "DynamicSwitch",
    "Gate",
    "Mixed",
    "NoFeatures",
    "SelfRelevance",
    "WeightedSum",
    "WordGate",
    "WordRelevance",
]
