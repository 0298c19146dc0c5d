"""Neural machine translation experiments with linguistic input features."""

import os

__version__ = "0.1.0"

# Read when PyTorch starts. Batches come in more shapes than oneDNN keeps kernels for by default;
# threads that spin long for each other waste cores that are shared, those that do not spin at all
# wake too slowly where cores are free.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
