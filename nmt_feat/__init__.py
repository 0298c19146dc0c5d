"""Neural machine translation experiments with linguistic input features."""

__version__ = "0.2.0"
