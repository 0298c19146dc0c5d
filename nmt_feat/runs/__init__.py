"""A run from its settings to its record, and a trained model to work with."""
