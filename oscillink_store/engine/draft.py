"""A change of the store while it is put together, and the names of its segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from oscillink_store.engine import parts as tiers
from oscillink_store.engine.snapshot import Arrays, Snapshot, StoredPart, arrays_name, rows_name
from oscillink_store.lattice.records import Records, merge_runs
from oscillink_store.storage.commit import Change, RowIds
from oscillink_store.storage.segments import Segments
from oscillink_store.storage.tables import TableChange

__all__ = ["Draft", "near_name", "run_name"]


@dataclass(kw_only=True)
class Draft:
    """A change of the store while it is put together."""

    arrays: dict[str, Arrays | Callable[[], Arrays]] = field(default_factory=dict)
    rows: dict[str, pa.Table] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    tables: dict[str, TableChange] = field(default_factory=dict)
    row_ids: RowIds | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    def put_part(self, part: StoredPart) -> None:
        """Write a part."""
        self.arrays[arrays_name(part.first)] = part.arrays
        self.rows[rows_name(part.first)] = part.rows

    def put_records(self, kind: str, snapshot: Snapshot, records: Records) -> None:
        """Write a run of records in place of the last ones that it takes in."""
        taken = tiers.tail_runs(snapshot.runs(kind), len(records.rows))
        self.dropped |= {name for name, _ in taken}
        self.arrays[run_name(kind, snapshot.generation + 1)] = lambda: merge_runs(
            [*(run for _, run in taken), records]
        )._asdict()

    def finished(self) -> Change:
        """The change as the commit takes it."""
        written = {*self.arrays, *self.rows, *self.values}
        return Change(
            tables=self.tables,
            segments=Segments(arrays=self.arrays, rows=self.rows, values=self.values),
            dropped=frozenset(self.dropped - written),
            row_ids=self.row_ids,
            manifest=self.manifest,
        )


def run_name(kind: str, generation: int) -> str:
    """The segment that holds what a generation added to the runs of a kind."""
    return f"{kind}/{generation:010d}"


def near_name(first: int) -> str:
    """The segment that holds the nearest neighbours of the part from slot ``first``."""
    return f"near/{first:010d}"
