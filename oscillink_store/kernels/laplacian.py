"""Induced subgraphs and normalised Laplacians on CSR arrays.

Notation of the design: A = Σ_r ω_r A_r, d_i = Σ_j A_ij, L = I − D^(−1/2) A D^(−1/2), where
an anchor without edges has a zero row in L.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["induce", "normalize"]


@kernel(
    "int64(const int64[::1], const int32[::1], const float32[::1], const uint8[::1],"
    " const int64[::1], const float64[::1], int64[::1], int64[::1], int32[::1], float64[::1])"
)
def induce(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    relation: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    relation_weights: npt.NDArray[np.float64],
    table: npt.NDArray[np.int64],
    out_indptr: npt.NDArray[np.int64],
    out_indices: npt.NDArray[np.int32],
    out_weights: npt.NDArray[np.float64],
) -> int:
    """Cut out the subgraph of ``rows`` with Σ_r ω_r applied and parallel edges merged.

    ``indptr`` (N+1,), ``indices``, ``weights`` and ``relation`` (nnz,): a symmetric CSR
    whose rows are sorted by (column, relation). ``rows`` (n,): sorted unique anchors.
    ``table``: scratch of a power-of-two length of at least 2n, an open-addressing hash from
    an anchor to its place in ``rows``. ``out_indptr`` (n+1,); ``out_indices`` and
    ``out_weights`` have room for every entry of the rows. Returns the entries written.
    An edge whose weighted sum is zero is left out.
    """
    mask = table.shape[0] - 1
    for slot in range(table.shape[0]):
        table[slot] = -1
    n = rows.shape[0]
    for place in range(n):
        slot = (rows[place] * 0x9E3779B1) & mask
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = place
    written = 0
    out_indptr[0] = 0
    for place in range(n):
        row = rows[place]
        entry, end = indptr[row], indptr[row + 1]
        while entry < end:
            column = indices[entry]
            slot = (np.int64(column) * 0x9E3779B1) & mask
            found = table[slot]
            while found >= 0 and rows[found] != column:
                slot = (slot + 1) & mask
                found = table[slot]
            if found < 0:
                entry += 1
                continue
            total = 0.0
            while entry < end and indices[entry] == column:
                total += relation_weights[relation[entry]] * weights[entry]
                entry += 1
            if total > 0.0:
                out_indices[written] = found
                out_weights[written] = total
                written += 1
        out_indptr[place + 1] = written
    return written


@kernel("void(const int64[::1], const int32[::1], const float64[::1], float64[::1], float64[::1])")
def normalize(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    coupling: npt.NDArray[np.float64],
) -> None:
    """Compute d^(−1/2) per anchor and D^(−1/2) A D^(−1/2) per entry.

    ``indptr`` (n+1,), ``indices`` and ``weights`` (nnz,): a symmetric CSR. Writes ``scale``
    (n,), zero where an anchor has no edges, and ``coupling`` (nnz,), so that
    (Lx)_i = [scale_i > 0]·x_i − Σ_j coupling_ij x_j.
    """
    n = indptr.shape[0] - 1
    for i in range(n):
        degree = 0.0
        for entry in range(indptr[i], indptr[i + 1]):
            degree += weights[entry]
        scale[i] = 1.0 / np.sqrt(degree) if degree > 0.0 else 0.0
    for i in range(n):
        for entry in range(indptr[i], indptr[i + 1]):
            # the product of the two scales first: the same bits from either direction
            coupling[entry] = weights[entry] * (scale[i] * scale[indices[entry]])
