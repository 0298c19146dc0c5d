"""Random numbers: a generator of its own for each purpose.

At one seed, all methods of a table start from the same Transformer and see the same batches. So no
purpose may take numbers from another one's generator. Each gets a seed from the run's seed and the
name of the purpose:

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
    """A seed for one purpose: independent of those for others, the same on every machine."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def isolated_generator(seed: int, purpose: str) -> Iterator[None]:
    """Within, PyTorch's CPU generator is seeded for `purpose`; after it, it is as it was before."""
    state = torch.get_rng_state()
    torch.manual_seed(derive_seed(seed, purpose))
    try:
        yield
    finally:
        torch.set_rng_state(state)
