"""From a batch of rows to everything a commit writes, as pure data; nothing touches disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.engine import parts as tiers
from oscillink_store.engine.delta import delta, edges_changed
from oscillink_store.engine.draft import Draft, near_name
from oscillink_store.engine.gate_overlay import GATES
from oscillink_store.engine.shards import shard_batch
from oscillink_store.engine.snapshot import (
    ANCHORS,
    CORRECTIONS,
    Arrays,
    Snapshot,
    StoredPart,
    arrays_name,
    rows_name,
)
from oscillink_store.kernels.moments import sums
from oscillink_store.lattice import relations
from oscillink_store.lattice.corpus import Change as AnchorChange
from oscillink_store.lattice.corpus import Near, Part
from oscillink_store.lattice.graph import TypedGraph
from oscillink_store.lattice.near import compact_near
from oscillink_store.lattice.records import Records, merge_runs
from oscillink_store.lattice.relations.link import dangling_change
from oscillink_store.lattice.upkeep import Terms, corrections
from oscillink_store.model import RELATIONS, Fields, Parameters
from oscillink_store.storage.commit import Change, RowIds
from oscillink_store.storage.schemas import anchors_schema, conform, merge_metadata, metadata_schema
from oscillink_store.storage.tables import TableChange

__all__ = ["MERGED", "NOT_IN_ROWS", "TERMS_SCHEMA", "plan"]

Progress = Callable[[str, int, int | None], None]
Slots = npt.NDArray[np.int64]

MERGED = "records_merged"
"""In the manifest's statistics: the records that commits have merged since the last fold."""

# Columns of the anchors table that the rows segment leaves out: the vectors have a segment
# of their own, and the full-text column repeats title and text.
NOT_IN_ROWS = ("vector", "fulltext")

# The lattice is folded when as many entries have changed as this share of its own, or when the
# records merged by all commits since the last fold are so many times its entries, which is
# about what a fold costs; and no sooner than at this number.
_FOLD_SHARE, _FOLD_EFFORT = 0.25, 4
_FOLD_LEAST = 1 << 16

TERMS_SCHEMA = pa.schema(
    [
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("source", pa.int64(), nullable=False),
        pa.field("target", pa.int64(), nullable=False),
        pa.field("relation", pa.string(), nullable=False),
        pa.field("delta", pa.float64(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
    ]
)
"""A row of corrections.lance: the signed rank-1 term δ(e_i − e_j)(e_i − e_j)ᵀ of an edge
between two slots, and the edge's weight since, 0 when it is gone."""


def plan(
    snapshot: Snapshot,
    fresh: pa.Table,
    removed: Slots,
    *,
    fields: Fields,
    parameters: Parameters,
    embedder: Mapping[str, Any] | None,
    progress: Progress,
    told: dict[str, Any],
) -> Iterator[Change]:
    """Plan what new rows, their vectors included, and anchors that go make of a generation.

    ``removed`` (M,) are slots, ascending, replaced anchors among them. First comes what takes
    no time to plan, the rows themselves, then what depends on the new rows alone, the lattice, and
    last the rest, so that a commit can write each of these while the next one is planned.
    By the end ``told`` holds what a receipt says of the change.
    """
    first, count = snapshot.slots, fresh.num_rows
    rows = fresh.drop_columns([name for name in NOT_IN_ROWS if name in fresh.schema.names])
    rows = conform(rows, merge_metadata(snapshot.schema, rows.schema))
    vectors = vectors_of(fresh, snapshot.manifest.dimension or 0)
    if count or len(removed):
        yield _anchors(snapshot, fresh, rows.schema, removed)
    draft = Draft()
    part = tiers.index_rows(first, rows, vectors, parameters)
    start = _add_part(draft, snapshot, part, rows) if count else first
    _add_gates(draft, snapshot, removed, start)
    if len(removed):
        dead = np.sort(np.concatenate([snapshot.dead, removed])).astype(np.int32)
        draft.arrays["dead"] = {"slots": dead}
    _add_sums(draft, snapshot, vectors, removed)
    draft.values["facets"] = _facets(snapshot, fields, rows, removed)
    yield draft.finished()

    draft = Draft()
    corpus = snapshot.corpus(part, rows)
    before, after = np.zeros(first + count, np.uint8), np.ones(first + count, np.uint8)
    before[:first] = snapshot.alive_mask()
    after[:first] = before[:first]
    after[removed] = 0
    change = AnchorChange(corpus=corpus, before=before, after=after)
    updated = relations.update(change, parameters, progress)
    records, terms = corrections(corpus.graph, removed, updated.arcs)
    merged = _add_records(draft, snapshot, records, terms, first + count)
    yield draft.finished()

    draft = Draft()
    shard_batch(draft, snapshot, change, rows, records, terms, start, fields, parameters)
    yield draft.finished()

    draft = Draft()
    near = _add_near(draft, snapshot, updated.near) if count else []
    _add_arrivals(draft, snapshot, updated.near_log, near, after)
    draft.manifest.update(
        statistics=_statistics(snapshot, change, part, terms, removed)
        | {"knn": _audited(snapshot, updated.audit, parameters), MERGED: merged},
        dimension=vectors.shape[1] if count else snapshot.manifest.dimension,
        embedder=embedder,
        fields=asdict(fields),
    )
    told.update(delta(snapshot, change, records, terms, vectors, parameters))
    yield draft.finished()


def _anchors(snapshot: Snapshot, fresh: pa.Table, schema: pa.Schema, removed: Slots) -> Change:
    """What becomes of the anchors table; ``schema`` is that of the rows segment."""
    rows = None
    if fresh.num_rows:
        dimension = fresh.schema.field("vector").type.list_size
        rows = conform(fresh, anchors_schema(dimension, metadata_schema(schema)))
    table = TableChange(
        rows=rows,
        removed=snapshot.row_ids(removed) if len(removed) else None,
        overwrite=not snapshot.parts,  # no column of anchors that are gone is left
    )
    return Change(tables={ANCHORS: table})


def _taken(snapshot: Snapshot, count: int) -> list[StoredPart]:
    """The last parts, which become one with a new part of ``count`` rows."""
    sizes = [part.rows.num_rows for part in snapshot.parts]
    return list(snapshot.parts[len(sizes) - tiers.tail(sizes, count) :])


def _add_part(draft: Draft, snapshot: Snapshot, part: Part, rows: pa.Table) -> int:
    """Write a part, with the last ones that it takes in; its first slot."""
    taken = _taken(snapshot, len(part))
    first = taken[0].first if taken else part.first
    draft.arrays[arrays_name(first)] = lambda: tiers.merged_arrays(
        [*taken, tiers.stored(part, rows)]
    )
    draft.rows[rows_name(first)] = tiers.merged_rows([*(piece.rows for piece in taken), rows])
    draft.row_ids = RowIds(
        segment=arrays_name(first),
        before=np.concatenate(
            [np.empty(0, np.uint64), *(piece.arrays["row_ids"] for piece in taken)]
        ),
    )
    for piece in taken:
        draft.dropped |= {arrays_name(piece.first), rows_name(piece.first)}
    return first


def _add_gates(draft: Draft, snapshot: Snapshot, removed: Slots, below: int) -> None:
    """Keep the gates that were set but for anchors that go and parts, from a slot on, written."""
    overlay = snapshot.gate_overlay
    if overlay is None:
        return
    kept = overlay.only((overlay.slots < below) & ~np.isin(overlay.slots, removed))
    if len(kept.slots) == 0:
        draft.dropped.add(GATES)
    elif len(kept.slots) < len(overlay.slots):
        draft.arrays[GATES] = kept._asdict()


def _add_near(draft: Draft, snapshot: Snapshot, near: Near) -> list[tuple[int, Near]]:
    """Keep the lists of nearest neighbours in the same steps as the parts; those written."""
    taken = _taken(snapshot, len(near.floors))
    first = taken[0].first if taken else snapshot.slots
    last = [(start, lists) for start, lists in snapshot.near if start >= first]
    draft.dropped |= {near_name(start) for start, _ in last}
    start = last[0][0] if last else snapshot.slots
    joined = tiers.joined_near([*last, (snapshot.slots, near)])
    draft.arrays[near_name(start)] = joined._asdict()
    return [(start, joined)]


def _add_records(
    draft: Draft, snapshot: Snapshot, records: Records, terms: Terms, slots: int
) -> int:
    """Add corrections to the lattice, or fold them all into a new base.

    Returns how many records all commits since the last fold have merged.
    """
    runs = snapshot.runs(CORRECTIONS)
    changed = sum(len(run.rows) for _, run in runs) + len(records.rows)
    merged = int(snapshot.manifest.statistics.get(MERGED, 0)) + changed
    generation, entries = snapshot.generation + 1, len(snapshot.base.indices)
    if changed > max(_FOLD_LEAST, _FOLD_SHARE * entries) or (
        merged > _FOLD_EFFORT * max(_FOLD_LEAST, entries)
    ):
        graph = TypedGraph(snapshot.base, merge_runs([*(run for _, run in runs), records]))
        draft.arrays["lattice"] = graph.folded(slots)._asdict()
        draft.dropped |= {name for name, _ in runs}
        if CORRECTIONS in snapshot.manifest.tables:
            draft.tables[CORRECTIONS] = TableChange(rows=TERMS_SCHEMA.empty_table(), overwrite=True)
        return 0
    if len(records.rows):
        draft.put_records(CORRECTIONS, snapshot, records)
        draft.tables[CORRECTIONS] = TableChange(rows=_term_rows(terms, generation))
    return merged


def _term_rows(terms: Terms, generation: int) -> pa.Table:
    names = pa.array(RELATIONS, pa.string())
    columns = [
        pa.array(np.full(len(terms.source), generation)),
        pa.array(terms.source),
        pa.array(terms.target),
        names.take(pa.array(terms.relation)),
        pa.array(terms.delta),
        pa.array(terms.weight),
    ]
    return pa.Table.from_arrays(columns, schema=TERMS_SCHEMA)


def _add_arrivals(
    draft: Draft,
    snapshot: Snapshot,
    log: Records,
    fresh: list[tuple[int, Near]],
    alive: npt.NDArray[np.uint8],
) -> None:
    """Add to the log of the nearest neighbours, or write their lists anew."""
    runs = snapshot.runs("arrivals")
    logged = sum(len(run.rows) for _, run in runs) + len(log.rows)
    listed = sum(near.slots.size for _, near in snapshot.near)
    if logged > max(_FOLD_LEAST, _FOLD_SHARE * listed):
        lists = [part for part in snapshot.near if near_name(part[0]) not in draft.dropped] + fresh
        whole = compact_near(lists, merge_runs([*(run for _, run in runs), log]), alive)
        draft.dropped |= {near_name(start) for start, _ in lists} | {name for name, _ in runs}
        for start, _ in fresh:
            del draft.arrays[near_name(start)]
        draft.arrays[near_name(0)] = whole._asdict()
    elif len(log.rows):
        draft.put_records("arrivals", snapshot, log)


def _add_sums(
    draft: Draft, snapshot: Snapshot, vectors: npt.NDArray[np.float32], removed: Slots
) -> None:
    def present() -> Arrays:
        total = sums(vectors)
        if snapshot.parts:
            total = snapshot.sums.plus(total).minus(sums(snapshot.vectors(removed)))
        return total._asdict()

    draft.arrays["moments"] = present


def _facets(
    snapshot: Snapshot, fields: Fields, rows: pa.Table, removed: Slots
) -> dict[str, dict[str, int]]:
    """How many anchors have each value, by facet column."""
    counted = {}
    for column in fields.facets:
        counts = Counter(snapshot.facets.get(column, {}))
        if column not in snapshot.facets and column in snapshot.schema.names:
            counts.update(_shown(snapshot.values(column, snapshot.alive_slots)))
        counts.update(_shown(rows[column].to_pylist()))
        if column in snapshot.schema.names:
            counts.subtract(_shown(snapshot.values(column, removed)))
        counted[column] = {value: count for value, count in sorted(counts.items()) if count > 0}
    return counted


def _shown(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in values if value is not None and str(value).strip()]


def _statistics(
    snapshot: Snapshot, change: AnchorChange, part: Part, terms: Terms, removed: Slots
) -> dict[str, Any]:
    known = snapshot.manifest.statistics
    edges = dict(known["edges"]) or dict.fromkeys(RELATIONS, 0)
    came, went = edges_changed(terms)
    for name in RELATIONS:
        edges[name] += came[name] - went[name]
    return {
        "anchors": int(change.after.sum()),
        "words": int(known["words"]) + int(part.words.lengths.sum()) - _words(change, removed),
        "edges": edges,
        "dangling_links": int(known["dangling_links"]) + dangling_change(change),
    }


def _audited(
    snapshot: Snapshot, audit: relations.knn.Audit | None, parameters: Parameters
) -> dict[str, Any]:
    """How near the ``knn`` relation is to the true neighbours: by the last approximate build."""
    known = snapshot.manifest.statistics.get("knn", {"exact": True, "recall": 1.0, "audited": 0})
    if audit is not None:
        known = {"exact": audit.audited == 0, "recall": audit.recall, "audited": audit.audited}
    return {**known, "neighbors": parameters.knn_neighbors}


def _words(change: AnchorChange, slots: Slots) -> int:
    """How many words, as the full-text index counts them, the anchors at some slots have."""
    total = 0
    for part in change.corpus.parts:
        mine = slots[(slots >= part.first) & (slots < part.first + len(part))]
        total += int(part.words.lengths[mine - part.first].sum())
    return total


def vectors_of(table: pa.Table, dimension: int) -> npt.NDArray[np.float32]:
    """The column of unit embeddings as (n, D) float32."""
    if table.num_rows == 0:
        return np.empty((0, dimension), np.float32)
    column = table["vector"]
    size = column.type.list_size
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    whole = flat[0] if len(flat) == 1 else np.concatenate(flat)
    return np.ascontiguousarray(whole.reshape(-1, size), dtype=np.float32)
