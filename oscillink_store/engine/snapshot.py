"""One generation, opened: its manifest, its Lance tables and its memory-mapped segments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine.coded import PartValues
from oscillink_store.engine.gate_overlay import GATES, GateOverlay, overlaid
from oscillink_store.engine.json_text import stored_value
from oscillink_store.engine.masks import Mask, Masks
from oscillink_store.engine.record_runs import RecordRun
from oscillink_store.engine.record_view import RecordView
from oscillink_store.engine.sharded import SHARDS, Sharded
from oscillink_store.engine.slot_rows import Rows
from oscillink_store.errors import MissingError
from oscillink_store.filters import Filter
from oscillink_store.kernels.dense import gather
from oscillink_store.kernels.hashing import keys_of
from oscillink_store.kernels.moments import Sums, moments
from oscillink_store.lattice.corpus import Corpus, Near, Part
from oscillink_store.lattice.graph import Csr, TypedGraph, empty_graph
from oscillink_store.lattice.indexing import part_from_arrays
from oscillink_store.lattice.keyindex import find
from oscillink_store.lattice.postings import TextStatistics
from oscillink_store.lattice.records import Records, merge_runs
from oscillink_store.model import Fields, Parameters
from oscillink_store.receipts.canonical import digest
from oscillink_store.storage.manifest import FileEntry, Manifest
from oscillink_store.storage.record_rows import is_record_run
from oscillink_store.storage.schemas import RESERVED_COLUMNS, conform
from oscillink_store.storage.segments import open_arrays, open_json, open_rows
from oscillink_store.storage.tables import Table, open_table
from oscillink_store.storage.trust import require_trusted

__all__ = [
    "ANCHORS", "CORRECTIONS", "RECEIPTS", "SUMMARIES", "Snapshot", "StoredPart", "arrays_name",
    "rows_name",
]  # fmt: skip

ANCHORS, CORRECTIONS, RECEIPTS = "anchors", "corrections", "receipts"
SUMMARIES = "summaries"

_TOGETHER = 0.125  # the least share of the lattice's edges

Slots = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]


def arrays_name(first: int) -> str:
    """The segment that holds the arrays of the part from slot ``first``."""
    return f"parts/{first:010d}/arrays"


def rows_name(first: int) -> str:
    """The segment that holds the rows of the part from slot ``first``."""
    return f"parts/{first:010d}/rows"


class StoredPart(NamedTuple):
    """Consecutive anchors: slots from ``first``, their arrays and their rows."""

    first: int
    arrays: Arrays
    rows: pa.Table


class Snapshot:
    """A pinned generation. Immutable, so every derived value may be kept.

    An anchor's row in all arrays is its slot. Slots of anchors that are gone stay until the
    store is compacted; :attr:`alive` says which ones hold an anchor.

    Raises:
        IntegrityError: a file of the generation is missing or is not what was written.
    """

    def __init__(self, root: Path, manifest: Manifest, before: Snapshot | None = None) -> None:
        """Open a generation; what ``before`` has open already is shared with it."""
        self.root = root
        self.manifest = manifest
        require_trusted(root, manifest.files())
        # opened at once: a writer may take files away, but not what is mapped already
        shared = {} if before is None else before.opened
        self._segments: dict[str, Arrays] = {}
        self._tables: dict[str, pa.Table] = {}
        self.opened: dict[FileEntry, Any] = {}
        """What is mapped by now: arrays, a table or a run of records by its file."""
        runs: dict[str, RecordRun] = {}
        for name, entry in manifest.segments.items():
            if entry.path.endswith(".arrays"):
                arrays = self._segments[name] = shared.get(entry) or open_arrays(root, entry)
                self.opened[entry] = arrays
            elif is_record_run(name):
                run = shared.get(entry) or RecordRun(open_rows(root, entry), root / entry.path)
                runs[name] = self.opened[entry] = run
            elif entry.path.endswith(".arrow"):
                rows = shared.get(entry)
                rows = _with_payloads(open_rows(root, entry)) if rows is None else rows
                self._tables[name] = rows
                self.opened[entry] = rows
        self.record_runs = sorted(runs)
        """The names of the runs of records, oldest first."""
        count = int(manifest.records.get("count", 0))
        self.records = RecordView([runs[name] for name in self.record_runs], count)
        gates = self._segments.get(GATES)
        self.gate_overlay = None if gates is None else GateOverlay(**gates)
        """Gates that were set since the parts were written, which show them all the same."""
        self.parts: tuple[StoredPart, ...] = tuple(self._part(first) for first in self._firsts())
        known = {} if before is None else before.coded
        self.coded: dict[FileEntry, PartValues] = {}
        """What filters have looked at, by the file of a part's rows."""
        for part in self.parts:
            entry = manifest.segments[rows_name(part.first)]
            self.coded[entry] = known.get(entry) or PartValues(part.rows)
        self.facets: dict[str, dict[str, int]] = (
            open_json(root, manifest.segments["facets"]) if "facets" in manifest.segments else {}
        )
        """How many anchors have each value, by facet column."""
        told = open_json(root, manifest.segments[SHARDS]) if SHARDS in manifest.segments else None
        self.sharded = (
            None if told is None else Sharded.opened(told, self._segments, self.parameters)
        )
        """The shards and the summary nodes over them; None in a store without."""

    def _firsts(self) -> list[int]:
        names = (name.split("/") for name in self.manifest.segments)
        return sorted(int(name[1]) for name in names if name[0] == "parts" and name[2] == "rows")

    def _part(self, first: int) -> StoredPart:
        arrays, rows = self._segments[arrays_name(first)], self._tables[rows_name(first)]
        if self.gate_overlay is not None:
            arrays, rows = overlaid(self.gate_overlay, first, arrays, rows)
        return StoredPart(first, arrays, rows)

    def __len__(self) -> int:
        return int(self.manifest.statistics["anchors"])

    @property
    def generation(self) -> int:
        """The generation's number."""
        return self.manifest.generation

    @cached_property
    def digest(self) -> str:
        """What the segments hold, from which every answer comes: equal in equal generations."""
        return digest({name: entry.sha256 for name, entry in self.manifest.segments.items()})

    @cached_property
    def fields(self) -> Fields:
        """The fields that the store was created with."""
        return Fields(**self.manifest.fields)

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters that the lattice was built with."""
        return Parameters(**self.manifest.parameters)

    @property
    def knn_recall(self) -> float | None:
        """The audited recall of the lattice's nearest neighbours; None without anchors."""
        audit = self.manifest.statistics.get("knn")
        return None if audit is None else float(audit["recall"])

    # slots

    @cached_property
    def slots(self) -> int:
        """How many slots there are."""
        return sum(part.rows.num_rows for part in self.parts)

    @cached_property
    def dead(self) -> npt.NDArray[np.int64]:
        """The slots that hold no anchor any more, ascending."""
        if "dead" not in self._segments:
            return np.empty(0, np.int64)
        return self._segments["dead"]["slots"].astype(np.int64)

    @cached_property
    def alive(self) -> npt.NDArray[np.uint8] | None:
        """Which slots hold an anchor, (S,) of 0 and 1; None when all do."""
        return None if len(self.dead) == 0 else self.alive_mask()

    def alive_mask(self) -> npt.NDArray[np.uint8]:
        """Which slots hold an anchor, (S,) of 0 and 1."""
        mask = np.ones(self.slots, np.uint8)
        mask[self.dead] = 0
        return mask

    @cached_property
    def alive_slots(self) -> Slots:
        """The slots that hold an anchor, ascending."""
        return np.flatnonzero(self.alive_mask())

    # arrays

    def arrays(self, *names: str) -> list[tuple[Any, ...]]:
        """Of every part its first slot and the arrays of these names."""
        return [(part.first, *(part.arrays[name] for name in names)) for part in self.parts]

    @cached_property
    def _vector_parts(self) -> list[tuple[int, npt.NDArray[np.float32]]]:
        return [(part.first, part.arrays["vectors"]) for part in self.parts]

    def vectors(self, slots: Slots) -> npt.NDArray[np.float32]:
        """The unit embeddings at some slots, (n, D) float32."""
        return gather(self._vector_parts, slots)

    @cached_property
    def scanned(self) -> list[tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
        """First slot, codes (n, ⌈D/2⌉) and scales (n,) of every part."""
        return [(part.first, part.arrays["codes"], part.arrays["scales"]) for part in self.parts]

    @cached_property
    def gates(self) -> npt.NDArray[np.float32]:
        """The trust gate of each slot, (S,)."""
        return _joined([part.arrays["gates"] for part in self.parts] or [np.empty(0, np.float32)])

    @cached_property
    def routable(self) -> bool:
        """Whether there are shards and these hold together what the lattice connects.

        Embeddings without clusters are not: hardly any edge stays within a shard then, and
        questions would be led astray.
        """
        if self.sharded is None:
            return False
        within = int(self.sharded.levels[0].edges.sum())
        return bool(within >= _TOGETHER * sum(self.manifest.statistics["edges"].values()))

    def trust(self, slots: Slots) -> npt.NDArray[np.float32]:
        """How far anchors count, (n,): their own gates, and those of the nodes above them."""
        gates: npt.NDArray[np.float32] = self.gates[slots]
        held = None if self.sharded is None else self.sharded.held
        if held is None or self.sharded is None:
            return gates
        return gates * held[self.sharded.shards_of(slots)]

    @cached_property
    def moments(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Corpus mean (D,) and covariance (D, D) of the embeddings."""
        return moments(self.sums, len(self))

    @property
    def sums(self) -> Sums:
        """The sums that the moments follow from."""
        segment = self._segments["moments"]
        return Sums(segment["total"], segment["products"])

    @cached_property
    def text_statistics(self) -> TextStatistics:
        """What BM25 needs to know of the whole corpus."""
        return TextStatistics(anchors=len(self), length=int(self.manifest.statistics["words"]))

    @cached_property
    def word_parts(self) -> list[tuple[int, Any]]:
        """The full-text index of every part."""
        return [(part.first, part.words) for part in self.indexed]

    @cached_property
    def name_parts(self) -> list[tuple[int, Any]]:
        """The index of titles of every part."""
        return [(part.first, part.titles) for part in self.indexed]

    @cached_property
    def indexed(self) -> tuple[Part, ...]:
        """Every part with its indices."""
        return tuple(
            part_from_arrays(part.first, part.arrays["vectors"], part.arrays) for part in self.parts
        )

    # the lattice

    @cached_property
    def base(self) -> Csr:
        """The lattice at the last fold."""
        if "lattice" not in self._segments:
            return empty_graph().base
        return Csr(**self._segments["lattice"])

    def runs(self, kind: str) -> list[tuple[str, Records]]:
        """Names and contents of the runs of ``"corrections"`` or ``"arrivals"``, oldest first."""
        names = sorted(name for name in self._segments if name.startswith(f"{kind}/"))
        return [(name, Records(**self._segments[name])) for name in names]

    @cached_property
    def lattice(self) -> TypedGraph:
        """The typed lattice over all slots, with everything that came since the last fold."""
        return TypedGraph(self.base, merge_runs([run for _, run in self.runs("corrections")]))

    @cached_property
    def near(self) -> list[tuple[int, Near]]:
        """The nearest neighbours of every part, with the part's first slot."""
        names = sorted(name for name in self._segments if name.startswith("near/"))
        return [(int(name.split("/")[1]), Near(**self._segments[name])) for name in names]

    def corpus(self, part: Part, rows: pa.Table) -> Corpus:
        """All parts and the lattice, as the relations take them, with one more part to come."""
        held = Rows([*self._rows.tables, rows])
        return Corpus(
            parts=(*self.indexed, part) if len(part) else self.indexed,
            values=held.values,
            graph=self.lattice,
            near=self.near,
            near_log=merge_runs([run for _, run in self.runs("arrivals")]),
        )

    # rows

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the rows: that of the newest part, which knows those of all before."""
        return self.parts[-1].rows.schema if self.parts else pa.schema([])

    @cached_property
    def rows(self) -> pa.Table:
        """Everything but the vectors, memory-mapped, slot by slot."""
        if not self.parts:
            return self.schema.empty_table()
        # as large as they come: only columns that a part lacks take memory
        return pa.concat_tables([conform(part.rows, self.schema) for part in self.parts])

    def present(
        self, allowed: npt.NDArray[np.uint8] | None = None, names: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows that hold an anchor, or of them those allowed, (S,) of 0 and 1.

        In the columns ``names``, or all, embeddings included, but for internal ones.
        """
        columns = [
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            for _, vectors in self._vector_parts
        ]
        rows = self.rows.drop_columns([n for n in RESERVED_COLUMNS if n in self.schema.names])
        place = rows.schema.get_field_index("gate") + 1
        rows = rows.add_column(place, "vector", pa.chunked_array(columns))
        rows = rows if names is None else rows.select(names)
        chosen = self.alive if allowed is None else allowed
        return rows if chosen is None else rows.filter(pa.array(chosen == 1))

    @cached_property
    def _rows(self) -> Rows:
        return Rows([part.rows for part in self.parts])

    def values(self, column: str, slots: Slots) -> list[Any]:
        """The values of one column of :attr:`rows` at some slots, in their order."""
        return self._rows.values(column, slots)

    def anchor_rows(self, slots: Slots) -> list[dict[str, Any]]:
        """The anchors at some slots as dicts: payloads parsed, embeddings included."""
        columns = {name: self.values(name, slots) for name in self.schema.names if name != "digest"}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        vectors = self.vectors(slots) if len(slots) else ()
        for row, vector in zip(rows, vectors, strict=True):
            row["payload"] = stored_value(row["payload"])
            row["vector"] = vector
        return rows

    def facet_values(self, column: str, allowed: npt.NDArray[np.uint8]) -> set[str]:
        """The values of a facet column that the allowed anchors hold."""
        held = self.rows[column].filter(pa.array(allowed == 1))
        return {str(value) for value in pc.unique(held).to_pylist() if value is not None}

    @cached_property
    def anchors(self) -> Table:
        """The anchors table at this generation's version."""
        return open_table(self.root, ANCHORS, self.manifest.tables[ANCHORS])

    def table(self, name: str) -> Table | None:
        """Another table at this generation's version, if there is any yet."""
        entry = self.manifest.tables.get(name)
        return None if entry is None else open_table(self.root, name, entry)

    @cached_property
    def _row_ids(self) -> npt.NDArray[np.uint64]:
        return _joined([part.arrays["row_ids"] for part in self.parts])

    def row_ids(self, slots: Slots) -> npt.NDArray[np.uint64]:
        """Lance's stable row ids of slots."""
        return self._row_ids[slots]

    def slots_of(self, row_ids: npt.NDArray[np.uint64]) -> Slots:
        """Slots of Lance's stable row ids (which ascend with the slots)."""
        return np.searchsorted(self._row_ids, row_ids).astype(np.int64)

    def find_ids(self, ids: Sequence[str]) -> Slots:
        """The slot of each id, in the order given; −1 where no anchor has it."""
        found = np.full(len(ids), -1, np.int64)
        which, slots = find([(part.first, part.ids) for part in self.indexed], keys_of(ids))
        if self.alive is not None:
            present = self.alive[slots] == 1
            which, slots = which[present], slots[present]
        held = self.values("id", slots)
        for place, slot, value in zip(which.tolist(), slots.tolist(), held, strict=True):
            if value == ids[place]:
                found[place] = slot
        return found

    def slots_of_ids(self, ids: Sequence[str]) -> Slots:
        """Slots of anchors by id, in the order given.

        Raises:
            MissingError: an id is not in the store.
        """
        slots = self.find_ids(ids)
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            raise MissingError(
                f"id {ids[missing[0]]!r} is not in the store: check it, or ingest it first"
            )
        return slots

    @cached_property
    def _masks(self) -> Masks:
        return Masks(
            alive=self.alive_mask(),
            values=list(self.coded.values()),
            slots_of=self.find_ids,
            matching=self._matching,
        )

    def _matching(self, condition: str) -> Slots:
        return self.slots_of(self.anchors.matching(condition)) if len(self) else self.alive_slots

    def allowed(self, where: str | Filter) -> Mask:
        """Which slots hold an anchor that satisfies a filter or SQL predicate, (S,) of 0 and 1.

        Raises:
            QueryError: the predicate cannot be used.
        """
        return self._masks.allowed(where)


def _with_payloads(rows: pa.Table) -> pa.Table:
    """Rows of a part; one that was written before there were payloads has none."""
    if "payload" in rows.schema.names:
        return rows
    place = rows.schema.get_field_index("gate") + 1
    return rows.add_column(place, "payload", pa.nulls(rows.num_rows, pa.string()))


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
