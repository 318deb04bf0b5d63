"""Degrees in the whole lattice of a few of its anchors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["degrees"]


@kernel(
    "void(const int64[::1], const int32[::1], const float32[::1], const uint8[::1],"
    " const float64[::1], const uint8[::1], float64[::1])"
)
def degrees(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    relation: npt.NDArray[np.uint8],
    relation_weights: npt.NDArray[np.float64],
    allowed: npt.NDArray[np.uint8],
    out: npt.NDArray[np.float64],
) -> None:
    """Sum d_i = Σ_j Σ_r ω_r A_r[i, j] over the allowed neighbours j of each row.

    The first four arguments are the entries of n rows; ``allowed`` (N,) is 0 for the anchors
    to leave out, or empty when all count. Writes ``out`` (n,).
    """
    for place in range(out.shape[0]):
        total = 0.0
        for entry in range(indptr[place], indptr[place + 1]):
            if allowed.shape[0] == 0 or allowed[indices[entry]] != 0:
                total += relation_weights[relation[entry] & 7] * np.float64(weights[entry])
        out[place] = total
