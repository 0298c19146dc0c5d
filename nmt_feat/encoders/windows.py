"""What an encoder reads to make vectors of a split while the model runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmt_feat.base.ragged import Ragged


@dataclass(frozen=True)
class EncoderWindows:
    """The texts that an encoder reads, cut to what it reads at once."""

    texts: Ragged
    """Ids of its own pieces, special ones included, a row for each text or part of a long one."""
    places: NDArray[np.int64]
    """Where in `texts.values` each of its pieces stands of which there is a vector."""
