"""What an encoder in the model reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmt_feat.base.ragged import Ragged


@dataclass(frozen=True)
class EncoderWindows:
    """Texts, divided into parts that an encoder can read."""

    texts: Ragged
    """Ids of the encoder's pieces, special ones included; a row for each text, or part of one."""
    places: NDArray[np.int64]
    """The index in `texts.values` of each piece whose vector is used."""
