"""Rows of different lengths in one array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """Rows of int32 of different lengths: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def row(self, i: int) -> NDArray[np.int32]:
        """One row, not copied."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def followed_by(self, more: Ragged) -> Ragged:
        """These rows, then those of another."""
        values = np.concatenate([self.values, more.values])
        return Ragged(values, np.concatenate([self.offsets, more.offsets[1:] + self.offsets[-1]]))

    def locate_cells(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Indices into `values` of padded rows, and a mask of real cells: both (rows, longest)."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        column = np.arange(lengths.max(initial=0))
        real = column < lengths[:, None]
        return np.where(real, starts[:, None] + column, 0), real
