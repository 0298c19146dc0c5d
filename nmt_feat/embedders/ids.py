"""Ids with a meaning of their own, the same in the data, the model and the search."""

PAD, UNK = 0, 1
"""Of pieces and of features: what fills rows, and what the vocabulary lacks."""
BOS, EOS = 2, 3
"""Of pieces: the first input of the decoder, and the end of a sentence."""
END = 2
"""Of features: the value of the end symbol."""
FIRST = 3
"""Of features: the first value of the vocabulary."""
UNITS = ":units"
"""Ends the name under which a batch has the units of a feature's distinct tokens."""
TEXTS = ":texts"
"""Ends the name under which it has what an encoder in the model reads."""
