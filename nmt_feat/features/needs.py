"""Messages about settings that a kind of feature does not take, or needs."""

from __future__ import annotations

from nmt_feat.embedders.contextual import Contextual
from nmt_feat.embedders.vectors import Vectors
from nmt_feat.text.units import FORMS, KINDS

NEEDED = {
    "file": "needs column=form or column=lower, policy=copy",
    "encoder": "goes with column=context, not {column}",
    "of": f"is for {', '.join((*KINDS, *FORMS))}; leave it out",
    "n": "is for column=ngram; leave it out",
    "bins": "is for numbers; leave it out",
    "layer": "is for an encoder; leave it out",
    "precision": "is for an encoder; leave it out",
    "erase": "is for values of an annotation, not for {column}; leave it out",
    "classes": "is for values of an annotation, not for {column}; leave it out",
    "live": "is for vectors of an encoder; leave it out",
    "trained": "stored vectors are not trained; set {where}.live=true, or leave it out",
    "learning_rate": "is for an encoder that is trained; set {where}.trained=true, or leave it out",
}
"""Settings that only some kinds take, and the message if another kind has one."""
SOURCES = {
    "file": (Vectors, "word vectors; set features.{}.file=FILE"),
    "encoder": (Contextual, "an encoder; set features.{}.encoder=FOLDER"),
}
"""Settings that name a source of vectors: the embedder that reads them, and what it needs."""
