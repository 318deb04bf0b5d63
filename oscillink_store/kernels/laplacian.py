"""Induced subgraphs and normalised Laplacians on CSR arrays.

Notation of the design: A = Σ_r ω_r A_r, d_i = Σ_j A_ij, L = I − D^(−1/2) A D^(−1/2), where
an anchor without edges has a zero row in L.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["gather", "induce", "normalize"]


@kernel(
    "int64(const int64[::1], const int32[::1], const float32[::1], const uint8[::1],"
    " const int64[::1], const int64[::1], const int32[::1], const float32[::1], const uint8[::1],"
    " const int64[::1], int64[::1], int32[::1], float32[::1], uint8[::1])"
)
def gather(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    relation: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    new_indices: npt.NDArray[np.int32],
    new_weights: npt.NDArray[np.float32],
    new_relation: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    out_indptr: npt.NDArray[np.int64],
    out_indices: npt.NDArray[np.int32],
    out_weights: npt.NDArray[np.float32],
    out_relation: npt.NDArray[np.uint8],
) -> int:
    """Copy the entries of ``rows`` (n,) from a base, corrected by newer entries.

    The base is a CSR over its first rows, sorted by (column, relation); the newer entries of
    ``rows[i]`` stand at ``starts[i]`` to ``ends[i]``, sorted alike. Of an entry in both the
    newer one counts, and one of weight 0 is gone. ``out_indptr`` (n+1,); the other outputs
    have room for the entries of both. Returns the entries written.
    """
    written = 0
    out_indptr[0] = 0
    for place in range(rows.shape[0]):
        old, old_end = np.int64(0), np.int64(0)
        if rows[place] < indptr.shape[0] - 1:
            old, old_end = indptr[rows[place]], indptr[rows[place] + 1]
        for new in range(starts[place], ends[place]):
            column = new_indices[new]
            code = new_relation[new] & 7
            while old < old_end and (
                indices[old] < column or (indices[old] == column and (relation[old] & 7) < code)
            ):
                out_indices[written] = indices[old]
                out_weights[written] = weights[old]
                out_relation[written] = relation[old]
                written += 1
                old += 1
            if old < old_end and indices[old] == column and (relation[old] & 7) == code:
                old += 1
            if new_weights[new] != 0.0:
                out_indices[written] = column
                out_weights[written] = new_weights[new]
                out_relation[written] = new_relation[new]
                written += 1
        while old < old_end:
            out_indices[written] = indices[old]
            out_weights[written] = weights[old]
            out_relation[written] = relation[old]
            written += 1
            old += 1
        out_indptr[place + 1] = written
    return written


@kernel(
    "int64(const int64[::1], const int32[::1], const float32[::1], const uint8[::1],"
    " const int64[::1], const float64[::1], int64[::1], int64[::1], int32[::1], float64[::1],"
    " int32[:,::1], uint8[::1], float64[::1], int64[::1])"
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
    edges: npt.NDArray[np.int32],
    edge_relation: npt.NDArray[np.uint8],
    edge_weight: npt.NDArray[np.float64],
    edge_count: npt.NDArray[np.int64],
) -> int:
    """Cut out the subgraph of ``rows`` with Σ_r ω_r applied and parallel edges merged.

    ``indptr`` (n+1,), ``indices``, ``weights`` and ``relation`` (nnz,): the entries of
    ``rows`` (n,), which are sorted unique anchors, each row's sorted by (column, relation).
    ``table``: scratch of a power-of-two length of at least 2n, an open-addressing hash from
    an anchor to its place in ``rows``. ``out_indptr`` (n+1,); ``out_indices`` and
    ``out_weights`` have room for every entry. Returns the entries written.
    An edge whose weighted sum is zero is left out.

    The edges before merging, those of weight zero left out: the places i < j of their ends go
    to ``edges`` (E, 2), their relation's code and ω_r·w to ``edge_relation`` and
    ``edge_weight`` (E,), which have room for every entry, and E to ``edge_count`` (1,).
    They are sorted by (i, j, code).
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
    written, typed = 0, 0
    out_indptr[0] = 0
    for place in range(n):
        entry, end = indptr[place], indptr[place + 1]
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
                code = relation[entry] & 7
                weight = relation_weights[code] * weights[entry]
                total += weight
                if found > place and weight > 0.0:
                    edges[typed, 0] = place
                    edges[typed, 1] = found
                    edge_relation[typed] = code
                    edge_weight[typed] = weight
                    typed += 1
                entry += 1
            if total > 0.0:
                out_indices[written] = found
                out_weights[written] = total
                written += 1
        out_indptr[place + 1] = written
    edge_count[0] = typed
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
