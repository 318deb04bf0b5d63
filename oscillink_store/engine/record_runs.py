"""Runs of records, opened: found by key, taken row by row, and merged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.errors import IntegrityError, QueryError
from oscillink_store.filters import Filter, matches
from oscillink_store.kernels.hashing import keys_of
from oscillink_store.lattice.keyindex import KeyIndex, find
from oscillink_store.records import Record
from oscillink_store.storage.record_rows import RECORD_SCHEMA, RecordRow, record_of, record_table

__all__ = ["NEVER", "Places", "RecordRun", "StoredName", "hashes_of", "merged_runs", "run_of"]

Places = npt.NDArray[np.int64]
StoredName = tuple[str, str]
"""A record's namespace as it is stored, and its key."""

NEVER = np.iinfo(np.int64).max
"""Stands for the time at which a record without a ttl expires."""


def hashes_of(names: Sequence[StoredName]) -> npt.NDArray[np.uint64]:
    """The hash of each name, (n,)."""
    return keys_of([namespace + key for namespace, key in names])


class RecordRun:
    """A run of records in a file that never changes, so every derived value may be kept.

    ``checked`` tells whether this process has compared the file with its checksum.
    """

    def __init__(self, table: pa.Table, path: Path) -> None:
        self.table = table
        self.path = path
        self.checked = False
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    @property
    def size(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)

    @cached_property
    def index(self) -> KeyIndex:
        """The rows of each hash."""
        hashes = self.numbers("hash")
        return KeyIndex(keys=hashes, rows=np.arange(len(hashes), dtype=np.int32))

    def numbers(self, column: str) -> npt.NDArray[Any]:
        """A column without nulls as an array, (n,)."""
        return np.asarray(self.table[column].to_numpy())

    @cached_property
    def gone(self) -> npt.NDArray[np.bool_]:
        """Which rows say that a record is there no more."""
        return self.numbers("gone").astype(np.bool_)

    @cached_property
    def updated(self) -> npt.NDArray[np.int64]:
        """When each record was last written."""
        return self.numbers("updated").astype(np.int64)

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """The order of the records of each commit."""
        return self.numbers("place").astype(np.int64)

    @cached_property
    def expires(self) -> npt.NDArray[np.int64]:
        """When each record expires, or :data:`NEVER`."""
        return np.asarray(pc.fill_null(self.table["expires"], NEVER).to_numpy(), np.int64)

    @cached_property
    def namespaces(self) -> tuple[pa.Array, npt.NDArray[np.int32]]:
        """The distinct namespaces, and which of them each row is in."""
        coded = self.table["namespace"].dictionary_encode().combine_chunks()
        return coded.dictionary, coded.indices.to_numpy()

    def find(self, names: Sequence[StoredName], hashes: npt.NDArray[np.uint64]) -> Places:
        """The row of each name, −1 where there is none."""
        found = np.full(len(names), -1, np.int64)
        which, rows = find([(0, self.index)], hashes)
        held = self.take(rows, ["namespace", "key"])
        texts = zip(held["namespace"].to_pylist(), held["key"].to_pylist(), strict=True)
        for place, row, name in zip(which.tolist(), rows.tolist(), texts, strict=True):
            if name == names[place]:
                found[place] = row
        return found

    def take(self, rows: Places, columns: Sequence[str]) -> pa.Table:
        """Some rows, in the order given."""
        # Table.take would copy whole columns together when they lie in several batches
        homes = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(homes, kind="stable")
        pieces = []
        for home in np.unique(homes).tolist():
            mine = rows[order[homes[order] == home]] - self._starts[home]
            pieces.append(self._batches[home].select(columns).take(pa.array(mine)))
        schema = pa.schema([RECORD_SCHEMA.field(name) for name in columns])
        table = pa.Table.from_batches(pieces, schema)
        if len(pieces) < 2:
            return table
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return table.combine_chunks().take(pa.array(back))

    def rows(self, rows: Places) -> list[RecordRow]:
        """Some rows as they are stored.

        Raises:
            IntegrityError: they are not what was written.
        """
        try:
            table = self.take(rows, RecordRow._fields)
            columns = [column.to_pylist() for column in table.columns]
        except (ValueError, pa.ArrowInvalid) as error:
            raise self._damaged() from error
        return [RecordRow(*row) for row in zip(*columns, strict=True)]

    def records(self, rows: Places) -> list[Record]:
        """Some rows as records.

        Raises:
            IntegrityError: they are not what was written.
        """
        try:
            return [record_of(row) for row in self.rows(rows)]
        except (ValueError, TypeError, OverflowError) as error:
            raise self._damaged() from error

    def satisfying(self, rows: Places, where: Filter) -> npt.NDArray[np.bool_]:
        """Which of some rows have a value that satisfies a filter, (n,).

        Raises:
            IntegrityError: they are not what was written.
        """
        held = self.take(rows, ["key", "value", "json"])
        answers = []
        try:
            for key, text, is_json in zip(*(c.to_pylist() for c in held.columns), strict=True):
                value = json.loads(text) if is_json else None
                # in a value that is no object every path leads nowhere
                answers.append(matches(where, value if isinstance(value, dict) else {}, key))
        except QueryError:
            raise
        except ValueError as error:
            raise self._damaged() from error
        return np.array(answers, np.bool_)

    def _damaged(self) -> IntegrityError:
        return IntegrityError(
            f"{self.path} is not what was written: restore the folder from a backup"
        )


def run_of(rows: Sequence[RecordRow]) -> pa.Table:
    """A run of rows in any order, each record once."""
    hashes = hashes_of([(row.namespace, row.key) for row in rows])
    order = np.argsort(hashes, kind="stable")
    return record_table(pa.array(hashes[order]), (rows[place] for place in order.tolist()))


def merged_runs(runs: Sequence[pa.Table], *, whole: bool) -> pa.Table:
    """What consecutive runs, the oldest first, say together: the newest row of each record.

    ``whole`` says that no older run is left, so what is gone needs no row any more.
    """
    rows = pa.concat_tables(runs).combine_chunks()
    hashes = rows["hash"].to_numpy()
    order = np.argsort(hashes, kind="stable")  # at equal hashes the newest is last
    kept = np.ones(len(order), np.bool_)
    again = hashes[order[1:]] == hashes[order[:-1]]
    shared = np.flatnonzero(np.append(again, False) | np.append(False, again))
    texts = rows.select(["namespace", "key"]).take(pa.array(order[shared]))
    names = zip(texts["namespace"].to_pylist(), texts["key"].to_pylist(), strict=True)
    seen = set()
    for place, name in reversed(list(zip(shared.tolist(), names, strict=True))):
        kept[place] = name not in seen
        seen.add(name)
    order = order[kept]
    if whole:
        order = order[~rows["gone"].to_numpy()[order]]
    return rows.take(pa.array(order))
