"""Compaction: one part of present anchors, one lattice, and slots without gaps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.engine import parts as tiers
from oscillink_store.engine.draft import Draft, near_name
from oscillink_store.engine.plan import MERGED, NOT_IN_ROWS, TERMS_SCHEMA
from oscillink_store.engine.rows import full_text
from oscillink_store.engine.shards import keep_shards
from oscillink_store.engine.snapshot import (
    ANCHORS,
    CORRECTIONS,
    Snapshot,
    StoredPart,
    arrays_name,
)
from oscillink_store.lattice.graph import Csr
from oscillink_store.lattice.indexing import merge_parts, part_arrays, take_part
from oscillink_store.lattice.near import compact_near
from oscillink_store.lattice.records import merge_runs
from oscillink_store.storage.commit import Change, RowIds
from oscillink_store.storage.record_rows import is_record_run
from oscillink_store.storage.schemas import (
    anchors_schema,
    conform,
    merge_metadata,
    metadata_schema,
)
from oscillink_store.storage.tables import TableChange

__all__ = ["compact", "is_sparse", "widened"]

# The share of slots without an anchor from which a batch compacts the store along the way.
_DEAD_SHARE = 0.25
_DEAD_LEAST = 1 << 10


def is_sparse(snapshot: Snapshot) -> bool:
    """Whether so many anchors are gone that their slots are worth taking back at once."""
    return len(snapshot.dead) > max(_DEAD_LEAST, _DEAD_SHARE * snapshot.slots)


def widened(snapshot: Snapshot, fresh: pa.Table) -> pa.Schema | None:
    """The store's columns in wider types when new rows ask for that, else None.

    Raises:
        InputError: a column of the new rows has a type that the store's cannot take.
    """
    known = snapshot.schema
    rows = fresh.drop_columns([name for name in NOT_IN_ROWS if name in fresh.schema.names])
    merged = merge_metadata(known, rows.schema)
    changed = any(merged.field(column.name).type != column.type for column in known)
    return pa.schema([merged.field(name) for name in known.names]) if changed else None


def compact(snapshot: Snapshot, schema: pa.Schema | None = None) -> Change:
    """Write the present anchors as one part and the lattice as one base, slots numbered anew.

    With a ``schema`` the columns take its types, and the anchors table is written anew. The
    store's content is the same before and after.
    """
    draft = Draft()
    alive = snapshot.alive_mask()
    kept = alive == 1
    draft.dropped = {
        name
        for name in snapshot.manifest.segments
        if not is_record_run(name) and not name.startswith(_STAY)
    }
    # what lies in one fragment per part stays there, without the rows that are gone
    draft.tables[ANCHORS] = TableChange(compact=max(len(snapshot), 1 << 20))
    if kept.any():
        part = _part(snapshot, kept, schema or snapshot.schema)
        draft.put_part(part)
        draft.arrays["lattice"] = _lattice(snapshot, kept)._asdict()
        log = merge_runs([run for _, run in snapshot.runs("arrivals")])
        near = compact_near(snapshot.near, log, alive, np.cumsum(kept) - 1)
        draft.arrays[near_name(0)] = near._asdict()
        ids = snapshot.row_ids(snapshot.alive_slots)
        if schema is not None:
            draft.tables[ANCHORS] = TableChange(rows=_table(part), overwrite=True)
            ids = ids[:0]
        draft.row_ids = RowIds(segment=arrays_name(0), before=ids)
    keep_shards(draft, snapshot, kept)
    draft.manifest["statistics"] = {**snapshot.manifest.statistics, MERGED: 0}
    if CORRECTIONS in snapshot.manifest.tables:
        draft.tables[CORRECTIONS] = TableChange(rows=TERMS_SCHEMA.empty_table(), overwrite=True)
    return draft.finished()


_STAY = ("moments", "facets", "shards", "summaries/", "super/")


def _part(snapshot: Snapshot, kept: npt.NDArray[np.bool_], schema: pa.Schema) -> StoredPart:
    taken, pieces, first = [], [], 0
    for stored, part in zip(snapshot.parts, snapshot.indexed, strict=True):
        mine = kept[stored.first : stored.first + len(part)]
        taken.append(take_part(part, mine, first))
        first += int(mine.sum())
        pieces.append((stored, mine))
    whole = merge_parts(taken)
    arrays = {"vectors": whole.vectors, **part_arrays(whole)}
    for name in tiers.PLAIN:
        arrays[name] = np.concatenate([stored.arrays[name][mine] for stored, mine in pieces])
    rows = pa.concat_tables(
        [
            conform(conform(stored.rows.filter(pa.array(mine)), snapshot.schema), schema)
            for stored, mine in pieces
        ]
    )
    return StoredPart(0, arrays, rows)


def _lattice(snapshot: Snapshot, kept: npt.NDArray[np.bool_]) -> Csr:
    folded = snapshot.lattice.folded(len(kept))
    numbers = (np.cumsum(kept) - 1).astype(np.int32)
    # rows of anchors that are gone have no entries any more, nor does anything point there
    indptr = np.append(folded.indptr[:-1][kept], folded.indptr[-1])
    return Csr(indptr, numbers[folded.indices], folded.weights, folded.relation)


def _table(part: StoredPart) -> pa.Table:
    """The rows of the anchors table."""
    vectors = part.arrays["vectors"]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    rows = part.rows.append_column("vector", column)
    rows = rows.append_column("fulltext", full_text(rows["title"], rows["text"]))
    return conform(rows, anchors_schema(vectors.shape[1], metadata_schema(part.rows.schema)))
