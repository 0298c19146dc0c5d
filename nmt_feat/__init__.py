"""Neural machine translation experiments with linguistic input features."""

import os

__version__ = "0.1.0"

# Read when PyTorch starts. Batches come in more shapes than oneDNN keeps kernels for by default,
# and spinning threads starve whatever else runs on a shared machine.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16384")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
