"""Neural machine translation experiments with linguistic input features."""

__version__ = "0.1.0"
