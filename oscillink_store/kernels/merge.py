"""Merging two sorted runs of lattice entries, of which the newer wins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["merge"]

Int32 = npt.NDArray[np.int32]
Uint8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@kernel(
    "int64(const int32[::1], const int32[::1], const uint8[::1], const float32[::1],"
    " const int32[::1], const int32[::1], const uint8[::1], const float32[::1],"
    " int32[::1], int32[::1], uint8[::1], float32[::1])"
)
def merge(
    rows: Int32,
    columns: Int32,
    relation: Uint8,
    weights: Float32,
    new_rows: Int32,
    new_columns: Int32,
    new_relation: Uint8,
    new_weights: Float32,
    out_rows: Int32,
    out_columns: Int32,
    out_relation: Uint8,
    out_weights: Float32,
) -> int:
    """Merge an older run and a newer one, both sorted by (row, column, relation & 7).

    Of an entry in both the newer one is written. The outputs have room for all entries of
    both. Returns the entries written.
    """
    old, end = 0, rows.shape[0]
    written = 0
    for new in range(new_rows.shape[0]):
        row, column, code = new_rows[new], new_columns[new], new_relation[new] & 7
        while old < end and (
            rows[old] < row
            or (
                rows[old] == row
                and (
                    columns[old] < column or (columns[old] == column and (relation[old] & 7) < code)
                )
            )
        ):
            out_rows[written] = rows[old]
            out_columns[written] = columns[old]
            out_relation[written] = relation[old]
            out_weights[written] = weights[old]
            written += 1
            old += 1
        if (
            old < end
            and rows[old] == row
            and columns[old] == column
            and (relation[old] & 7) == code
        ):
            old += 1
        out_rows[written] = row
        out_columns[written] = column
        out_relation[written] = new_relation[new]
        out_weights[written] = new_weights[new]
        written += 1
    while old < end:
        out_rows[written] = rows[old]
        out_columns[written] = columns[old]
        out_relation[written] = relation[old]
        out_weights[written] = weights[old]
        written += 1
        old += 1
    return written
