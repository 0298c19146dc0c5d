"""Ids with a special meaning, the same in the data, the model and the search."""

PAD, UNK = 0, 1
"""Of pieces and of features: padding, and whatever is not in the vocabulary."""
BOS, EOS = 2, 3
"""Of pieces: the first input of the decoder, and the end of a sentence."""
END = 2
"""Of features: the value of the end symbol."""
FIRST = 3
"""Of features: the first value of the vocabulary."""
UNITS = ":units"
"""`batch.features[NAME + UNITS]` has the units of the distinct tokens of the feature NAME."""
TEXTS = ":texts"
"""`batch.features[NAME + TEXTS]` has the ids that an encoder in the model reads."""
