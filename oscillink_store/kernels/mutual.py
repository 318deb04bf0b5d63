"""The mutual nearest-neighbour graph from lists of neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["mutual"]


@kernel(
    "int64(const int32[:,::1], const float32[:,::1], int64[::1], int32[::1], float64[::1],"
    " float64[::1])"
)
def mutual(
    neighbors: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float64],
    caps: npt.NDArray[np.float64],
) -> int:
    """Keep the pairs that are in each other's lists, with weight max(similarity, 0).

    ``neighbors`` and ``similarity`` (n, k): −1 fills short lists. Every weight is scaled by
    the geometric mean of its two rows' min(1, 1/row sum). Writes ``indptr`` (n+1,),
    ``indices`` and ``weights`` (room for n·k) with ascending columns, uses ``caps`` (n,) as
    scratch and returns the number of entries.
    """
    n, k = neighbors.shape
    written = 0
    indptr[0] = 0
    for i in range(n):
        total = 0.0
        first = written
        for c in range(k):
            j = neighbors[i, c]
            weight = np.float64(similarity[i, c])
            if j < 0 or not weight > 0.0:
                continue
            found = False
            for d in range(k):
                found = found or neighbors[j, d] == i
            if not found:
                continue
            at = written
            while at > first and indices[at - 1] > j:
                indices[at] = indices[at - 1]
                weights[at] = weights[at - 1]
                at -= 1
            indices[at] = j
            weights[at] = weight
            written += 1
        for at in range(first, written):
            total += weights[at]
        caps[i] = min(1.0, 1.0 / total) if total > 0.0 else 1.0
        indptr[i + 1] = written
    for i in range(n):
        for at in range(indptr[i], indptr[i + 1]):
            weights[at] *= np.sqrt(caps[i] * caps[indices[at]])
    return written
