"""Random numbers: a separate generator for each purpose.

At one seed, all methods of a table start from the same Transformer and see the same batches. So no
purpose may take numbers from the generator of another. The seed of a generator follows from the
run's seed and the name of the purpose:

    "order"              the batches of all epochs (NumPy's PCG64)
    "dropout", rank      dropout and masked features, in each process; saved with checkpoints
    "transformer", "target", "source", "combiner", "method", "feature NAME", "encoder NAME",
    "layers NAME", "memories"
                         the first weights of that part of the model
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, *purpose: object) -> int:
    """The seed for a purpose: independent of the seeds for others, the same on every machine."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def isolated_generator(seed: int, purpose: str) -> Iterator[None]:
    """Seed PyTorch's CPU generator for `purpose`; at the end, restore its state."""
    state = torch.get_rng_state()
    torch.manual_seed(derive_seed(seed, purpose))
    try:
        yield
    finally:
        torch.set_rng_state(state)
