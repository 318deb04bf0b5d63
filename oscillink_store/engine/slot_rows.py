"""The rows of consecutive parts, found by their slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["Rows"]

Slots = npt.NDArray[np.int64]


class Rows:
    """The rows of consecutive parts, found by their slots."""

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        self.tables = tables
        self._batches = [batch for table in tables for batch in table.to_batches()]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    def values(self, column: str, slots: Slots) -> list[Any]:
        """The values of a column at some slots, None where a part lacks it."""
        if len(slots) == 0:
            return []
        # Table.take would copy the whole column together when it lies in several batches.
        homes = np.searchsorted(self._starts, slots, side="right") - 1
        if (homes == homes[0]).all():
            return self._taken(int(homes[0]), column, slots)
        found: list[Any] = [None] * len(slots)
        for home in np.unique(homes).tolist():
            places = np.flatnonzero(homes == home)
            taken = self._taken(home, column, slots[places])
            for place, value in zip(places.tolist(), taken, strict=True):
                found[place] = value
        return found

    def _taken(self, home: int, column: str, slots: Slots) -> list[Any]:
        batch = self._batches[home]
        if column not in batch.schema.names:
            return [None] * len(slots)
        taken: list[Any] = batch[column].take(pa.array(slots - self._starts[home])).to_pylist()
        return taken
