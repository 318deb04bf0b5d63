"""The memory layout that the compiled kernels like best."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["LANES", "TILE_COLUMNS", "TILE_ROWS", "aligned"]

LANES = 16
"""How many float32 columns the kernels handle as one value."""
TILE_ROWS = 12
TILE_COLUMNS = 2 * LANES
"""Products are taken in tiles of 12×32: as many sums as the vector registers hold."""


def aligned(*shape: int) -> npt.NDArray[np.float32]:
    """Allocate an uninitialised float32 array whose first value starts a cache line.

    Sixteen lanes fill a line of 64 bytes; loads that straddle two take twice as long.
    """
    size = math.prod(shape)
    buffer = np.empty(size + LANES - 1, np.float32)
    start = -buffer.ctypes.data % 64 // buffer.itemsize
    return buffer[start : start + size].reshape(shape)
