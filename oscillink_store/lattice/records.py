"""Changes of the lattice, entry by entry: sorted runs of which the newest wins.

A record says what an entry (row, column, relation) of the symmetric lattice is now; weight 0
says that it is gone. An edge has a record in either direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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
    if len(runs) == 1:
        return runs[0]
    if not runs:
        return empty_records()
    together = Records(*(np.concatenate(parts) for parts in zip(*runs, strict=True)))
    keys = _keys(together.rows, together.columns, together.relation)
    # stable, and quick on runs that are sorted already
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    last = np.ones(len(keys), np.bool_)
    last[:-1] = keys[1:] != keys[:-1]
    newest = order[last]
    rows, columns, relation, weights = together
    return Records(rows[newest], columns[newest], relation[newest], weights[newest])
