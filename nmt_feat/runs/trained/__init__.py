"""A trained model to translate and score with, and the texts that it is given."""
