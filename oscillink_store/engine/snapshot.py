"""One generation, opened: its manifest, its Lance tables and its memory-mapped segments."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine.predicate import predicate
from oscillink_store.errors import MissingError, QueryError
from oscillink_store.lattice.graph import Csr
from oscillink_store.lattice.names import NameIndex
from oscillink_store.model import Fields, Parameters
from oscillink_store.storage.manifest import Manifest
from oscillink_store.storage.segments import open_array, open_json, open_rows
from oscillink_store.storage.tables import Table, open_table

__all__ = ["ANCHORS", "RECEIPTS", "Snapshot"]

ANCHORS = "anchors"
RECEIPTS = "receipts"
_MASKS = 64


class Snapshot:
    """A pinned generation. Immutable, so every derived value may be kept."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self._masks: OrderedDict[str, npt.NDArray[np.uint8]] = OrderedDict()
        self._masks_guard = threading.Lock()

    def __len__(self) -> int:
        return int(self.manifest.statistics.get("anchors", 0))

    @property
    def generation(self) -> int:
        """The generation's number."""
        return self.manifest.generation

    @cached_property
    def fields(self) -> Fields:
        """The fields that the store was created with."""
        return Fields(**self.manifest.fields)

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters that the lattice was built with."""
        return Parameters(**self.manifest.parameters)

    def _array(self, name: str) -> npt.NDArray[Any]:
        return open_array(self.root, self.manifest.segments[name])

    @cached_property
    def vectors(self) -> npt.NDArray[np.float32]:
        """Unit embeddings Y, (N, D) float32."""
        return self._array("vectors")

    @cached_property
    def codes(self) -> npt.NDArray[np.uint8]:
        """4-bit codes of the embeddings, two to a byte, (N, ⌈D/2⌉)."""
        return self._array("codes")

    @cached_property
    def scales(self) -> npt.NDArray[np.float32]:
        """The scale of each row's codes, (N,)."""
        return self._array("scales")

    @cached_property
    def gates(self) -> npt.NDArray[np.float32]:
        """The stored trust gate of each anchor, (N,)."""
        return self._array("gates")

    @cached_property
    def mean(self) -> npt.NDArray[np.float64]:
        """Corpus mean of the embeddings, (D,)."""
        return self._array("mean")

    @cached_property
    def covariance(self) -> npt.NDArray[np.float64]:
        """Corpus covariance of the embeddings, (D, D)."""
        return self._array("covariance")

    @cached_property
    def lattice(self) -> Csr:
        """The typed lattice over all anchors."""
        return Csr(*(self._array(name) for name in ("indptr", "indices", "weights", "relation")))

    @cached_property
    def names(self) -> NameIndex:
        """The index of titles that a question may name."""
        return NameIndex(*(self._array(f"names_{part}") for part in NameIndex._fields))

    @cached_property
    def facets(self) -> dict[str, list[str]]:
        """The distinct values of each facet column."""
        return dict(open_json(self.root, self.manifest.segments["facets"]))

    def facet_values(self, column: str, allowed: npt.NDArray[np.uint8]) -> set[str]:
        """The values of a facet column that the allowed anchors hold."""
        held = self.rows[column].filter(pa.array(allowed == 1))
        return {str(value) for value in pc.unique(held).to_pylist() if value is not None}

    @cached_property
    def rows(self) -> pa.Table:
        """Everything but the vectors, memory-mapped, in segment order."""
        return open_rows(self.root, self.manifest.segments["rows"])

    @cached_property
    def _batches(self) -> tuple[list[pa.RecordBatch], npt.NDArray[np.int64]]:
        batches = self.rows.to_batches()
        return batches, np.cumsum([0, *(batch.num_rows for batch in batches)])

    def values(self, column: str, rows: npt.NDArray[np.int64]) -> list[Any]:
        """The values of one column of :attr:`rows` at some rows, in their order."""
        if len(rows) == 0:
            return []  # a store without anchors has no rows segment
        # Table.take would copy the whole column together when it lies in several batches.
        batches, starts = self._batches
        homes = np.searchsorted(starts, rows, side="right") - 1
        found: list[Any] = [None] * len(rows)
        for home in np.unique(homes).tolist():
            places = np.flatnonzero(homes == home)
            taken = batches[home][column].take(pa.array(rows[places] - starts[home])).to_pylist()
            for place, value in zip(places.tolist(), taken, strict=True):
                found[place] = value
        return found

    @cached_property
    def anchors(self) -> Table:
        """The anchors table at this generation's version."""
        return open_table(self.root / f"{ANCHORS}.lance", self.manifest.tables[ANCHORS].version)

    @cached_property
    def receipts(self) -> Table | None:
        """The folded receipts at this generation's version, if any were folded yet."""
        entry = self.manifest.tables.get(RECEIPTS)
        if entry is None:
            return None
        return open_table(self.root / f"{RECEIPTS}.lance", entry.version)

    @cached_property
    def _row_ids(self) -> npt.NDArray[np.uint64]:
        return self._array("row_ids")

    @cached_property
    def _dense_row_ids(self) -> bool:
        return len(self._row_ids) == 0 or int(self._row_ids[-1]) == len(self._row_ids) - 1

    def row_ids(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Lance's stable row ids of segment rows."""
        return self._row_ids[rows]

    def rows_of(self, row_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Segment rows of Lance's stable row ids (which ascend in segment order)."""
        if self._dense_row_ids:
            return row_ids.astype(np.int64)
        return np.searchsorted(self._row_ids, row_ids).astype(np.int64)

    def rows_of_ids(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Segment rows of anchors by id, in the order given.

        Raises:
            MissingError: an id is not in the store.
            QueryError: an id is no text.
        """
        for wrong in (item for item in ids if not isinstance(item, str)):
            raise QueryError(f"id {wrong!r} is a {type(wrong).__name__}: pass ids as strings")
        try:
            wanted = pa.array(ids, pa.string())
        except UnicodeEncodeError as error:
            raise QueryError(f"an id holds a lone surrogate, which is no text: {error}") from error
        if len(self) == 0:
            found = pa.nulls(len(wanted), pa.int32())
        else:
            found = pc.index_in(wanted, value_set=self.rows["id"].combine_chunks())
        if found.null_count:
            missing = ids[pc.index(found.is_null(), True).as_py()]
            raise MissingError(f"id {missing!r} is not in the store: check it, or ingest it first")
        rows: npt.NDArray[np.int64] = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return rows

    def allowed(self, where: str) -> npt.NDArray[np.uint8]:
        """Which anchors satisfy the SQL predicate, as a mask (N,) of 0 and 1.

        The generation never changes, so masks of recent predicates are kept.

        Raises:
            QueryError: the predicate cannot be used.
        """
        condition = predicate(where)
        with self._masks_guard:
            mask = self._masks.get(where)
            if mask is not None:
                self._masks.move_to_end(where)
                return mask
        mask = np.zeros(len(self), np.uint8)
        if len(self):
            mask[self.rows_of(self.anchors.matching(condition))] = 1
        with self._masks_guard:
            self._masks[where] = mask
            while len(self._masks) > _MASKS:
                self._masks.popitem(last=False)
        return mask
