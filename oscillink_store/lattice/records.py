"""Changes of the lattice, entry by entry: sorted runs of which the newest wins.

A record says what an entry (row, column, relation) of the symmetric lattice is now; weight 0
says that it is gone. An edge has a record in either direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.merge import merge
from oscillink_store.model import IN, OUT, RELATION_MASK

__all__ = ["IN", "OUT", "RELATION_MASK", "Records", "empty_records", "merge_runs", "sort_records"]

RELATION_BITS = 3
MAX_SLOTS = 1 << 30


class Records(NamedTuple):
    """Entries sorted by (row, column, relation), each once; all arrays (R,).

    ``relation`` holds the relation's code in its low three bits, :data:`OUT` when the row's
    anchor points at the column's and :data:`IN` when it is pointed at.
    """

    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    relation: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.float32]


def empty_records() -> Records:
    """No change at all."""
    return Records(
        np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.uint8),
        np.empty(0, np.float32),
    )  # fmt: skip


def _keys(rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer],
          relation: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:  # fmt: skip
    key = rows.astype(np.uint64) << np.uint64(30 + RELATION_BITS)
    key |= columns.astype(np.uint64) << np.uint64(RELATION_BITS)
    return key | (relation & np.uint8(RELATION_MASK))


def sort_records(
    rows: npt.NDArray[np.integer],
    columns: npt.NDArray[np.integer],
    relation: npt.NDArray[np.uint8],
    weights: npt.NDArray[np.float32],
) -> Records:
    """Sort records that are given in any order, each entry once."""
    order = np.argsort(_keys(rows, columns, relation))
    return Records(
        rows[order].astype(np.int32), columns[order].astype(np.int32), relation[order],
        weights[order].astype(np.float32),
    )  # fmt: skip


def merge_runs(runs: Sequence[Records]) -> Records:
    """One run that says what ``runs``, the oldest first, say together."""
    if not runs:
        return empty_records()
    merged = runs[-1]
    for older in reversed(runs[:-1]):  # runs become shorter, the newer they are
        merged = _merged(older, merged)
    return merged


def _merged(older: Records, newer: Records) -> Records:
    room = len(older.rows) + len(newer.rows)
    rows, columns = np.empty(room, np.int32), np.empty(room, np.int32)
    relation, weights = np.empty(room, np.uint8), np.empty(room, np.float32)
    count = merge(*older, *newer, rows, columns, relation, weights)
    return Records(rows[:count], columns[:count], relation[:count], weights[:count])
