"""What a change of the anchors makes of the shards and of the summary nodes over them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.engine.draft import Draft
from oscillink_store.engine.sharded import (
    BASE,
    CORRECTED,
    SHARDS,
    Sharded,
    posted,
    shards_name,
    summaries_name,
    summaries_schema,
)
from oscillink_store.engine.snapshot import SUMMARIES, Snapshot
from oscillink_store.errors import InputError
from oscillink_store.kernels.dense import gather
from oscillink_store.lattice.corpus import Change
from oscillink_store.lattice.graph import TypedGraph
from oscillink_store.lattice.hierarchy import Anchors, Shift, stale, updated
from oscillink_store.lattice.levels import Grouped
from oscillink_store.lattice.records import Records, merge_runs
from oscillink_store.lattice.upkeep import Terms
from oscillink_store.model import Fields, Parameters
from oscillink_store.storage.tables import TableChange

__all__ = [
    "Coming",
    "keep_shards",
    "plan_shards",
    "refreshed",
    "shard_batch",
    "shard_gates",
]

Slots = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

_SUPER = ("base", "indptr", "indices", "weights"), ("touched", "kernel")


class Coming(NamedTuple):
    """The anchors after a change: what summary nodes are settled from, and what the change was.

    ``firsts`` are the first slots of the parts; ``values`` those of the column that divides the
    store, one for each slot in ``came``, where one does.
    """

    below: Anchors
    firsts: Sequence[int]
    present: npt.NDArray[np.bool_]
    came: Slots
    gone: Slots
    shaken: Slots
    values: list[Any] | None = None
    joined: Slots = np.empty(0, np.int64)

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        *,
        came: Slots | None = None,
        shaken: Slots | None = None,
        gates: npt.NDArray[np.float32] | None = None,
    ) -> Coming:
        """The anchors of a generation, which stay, with other gates (S,) where there are any."""
        none, shard = np.empty(0, np.int64), snapshot.fields.shard
        came = none if came is None else came
        trust = snapshot.gates if gates is None else gates
        return cls(
            below=Anchors(snapshot.lattice, snapshot.vectors, lambda slots: trust[slots]),
            firsts=[part.first for part in snapshot.parts],
            present=snapshot.alive_mask() == 1,
            came=came,
            gone=none,
            shaken=none if shaken is None else shaken,
            values=None if shard is None else snapshot.values(shard, came),
        )


def _is_due(snapshot: Snapshot, anchors: int, fields: Fields, parameters: Parameters) -> bool:
    """Whether a store of so many anchors is divided into shards."""
    if snapshot.sharded is not None:
        return True
    return anchors > 0 and (fields.shard is not None or anchors >= parameters.shards_from)


def plan_shards(
    draft: Draft,
    snapshot: Snapshot,
    coming: Coming,
    fields: Fields,
    parameters: Parameters,
    *,
    thorough: bool = False,
    before: Grouped | None = None,
) -> None:
    """Divide the store, or keep its shards and summary nodes up with a change of the anchors.

    Where the store is divided anew, ``coming`` must bring all anchors. What there was is that of
    the generation unless ``before`` tells otherwise.
    """
    known = snapshot.sharded
    if known is not None and known.by != fields.shard:
        if known.held is not None:
            raise InputError(
                "fields: shard is another column than the store is divided by, and summary nodes "
                "have gates, which would be lost: set those to 1 first",
                field="shard",
            )
        known = None
    names, codes = list(known.names) if known is not None else [], None
    if coming.values is not None:
        codes = np.full(len(coming.present), -1, np.int32)
        codes[coming.came] = _coded(names, coming.values)
    found = updated(
        None if known is None else before or known.grouped(),
        coming.below,
        Shift(
            coming.present,
            coming.came,
            coming.gone,
            coming.shaken,
            codes,
            len(names),
            coming.joined,
        ),
        generation=snapshot.generation + 1,
        parameters=parameters,
        thorough=thorough,
    )
    told = {"by": fields.shard, "names": names}
    _add_shards(draft, snapshot, found, coming.firsts, told, parameters)


def _coded(names: list[str | None], values: list[Any]) -> Int32:
    # The number of each value among the names, to which new ones are added.
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.empty(len(values), np.int32)
    for place, value in enumerate(values):
        name = None if value is None else _shown(value)
        if name not in numbers:
            numbers[name] = len(names)
            names.append(name)
        codes[place] = numbers[name]
    return codes


def _shown(value: Any) -> str:
    # A column of whole numbers may take fractions one day, and its values stay what they are.
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53
    return str(int(value)) if whole else str(value)


def _add_shards(
    draft: Draft,
    snapshot: Snapshot,
    found: Grouped,
    firsts: Sequence[int],
    told: dict[str, Any],
    parameters: Parameters,
) -> None:
    """Write of shards and summary nodes what is not on the disk as it is."""
    known = snapshot.sharded
    levels = found.hierarchy.levels
    before = {} if known is None else {first: arrays["own"] for first, arrays in known.parts}
    ends = [*firsts[1:], len(found.own)]
    for first, end in zip(firsts, ends, strict=True):
        own = found.own[first:end]
        old = before.pop(first, None)
        if old is None or len(old) != len(own) or (old != own).any():
            draft.arrays[shards_name(first)] = posted(own, len(levels[0].items))
    draft.dropped |= {shards_name(first) for first in before}
    for number, level in enumerate(levels):
        draft.arrays[summaries_name(number)] = level._asdict()
    old_levels = 0 if known is None else len(known.levels)
    draft.dropped |= {summaries_name(number) for number in range(len(levels), old_levels)}
    inverse = found.hierarchy.inverse._asdict()
    if known is None or inverse["base"] is not known.hierarchy.inverse.base:
        draft.arrays[BASE] = {name: inverse[name] for name in _SUPER[0]}
    draft.arrays[CORRECTED] = {name: inverse[name] for name in _SUPER[1]}
    draft.values[SHARDS] = told
    draft.manifest["features"] = {**snapshot.manifest.features, SHARDS: True}
    rows = _rows(Sharded(told, [], found.hierarchy, parameters))
    draft.tables[SUMMARIES] = TableChange(rows=rows, overwrite=True)


def shard_batch(
    draft: Draft,
    snapshot: Snapshot,
    change: Change,
    rows: pa.Table,
    records: Records,
    terms: Terms,
    start: int,
    fields: Fields,
    parameters: Parameters,
) -> None:
    """Keep shards and summary nodes up with a batch, or divide a store that has become large.

    ``rows`` are those of the new anchors, ``records`` and ``terms`` what the batch changes in the
    lattice, and ``start`` is the first slot of the part that it is written in.
    """
    if not _is_due(snapshot, int(change.after.sum()), fields, parameters):
        return
    known, old = snapshot.sharded, snapshot.slots
    came, gone = change.added, change.removed
    none = np.empty(0, np.int64)
    joined = none
    if known is None or known.by != fields.shard:  # divided anew
        came, gone = np.flatnonzero(change.after), none
    else:
        within = (terms.source < old) & (terms.target < old)
        ends = terms.source[within], terms.target[within]
        alike = known.shards_of(ends[0]) == known.shards_of(ends[1])
        joined = np.setdiff1d(np.concatenate([end[alike] for end in ends]), gone)
    lattice = change.corpus.graph
    graph = TypedGraph(lattice.base, merge_runs([lattice.corrections, records]))
    gates = np.concatenate([snapshot.gates, rows["gate"].to_numpy()])
    values = None
    if fields.shard is not None:
        here = came[came < old]
        values = snapshot.values(fields.shard, here) if len(here) else []
        mine = came[len(here) :] - old
        if fields.shard in rows.schema.names:
            values = [*values, *rows[fields.shard].take(pa.array(mine)).to_pylist()]
        else:
            values = [*values, *[None] * len(mine)]
    parts = [(part.first, part.vectors) for part in change.corpus.parts if len(part)]
    coming = Coming(
        below=Anchors(graph, partial(gather, parts), lambda slots: gates[slots]),
        firsts=[*(part.first for part in snapshot.parts if part.first < start)]
        + ([start] if len(gates) > start else []),
        present=change.after == 1,
        came=came,
        gone=gone,
        shaken=none,
        values=values,
        joined=joined,
    )
    plan_shards(draft, snapshot, coming, fields, parameters)


def keep_shards(draft: Draft, snapshot: Snapshot, kept: npt.NDArray[np.bool_]) -> None:
    """Carry shards over to slots that are numbered anew, those ``kept`` (S,), in one part.

    Without any left there are no shards, but those that come with new anchors.
    """
    sharded = snapshot.sharded
    if sharded is None:
        return
    names = [shards_name(first) for first, _ in sharded.parts]
    if kept.any():
        own = sharded.own[kept]
        draft.arrays[shards_name(0)] = posted(own, len(sharded.levels[0].items))
        draft.dropped |= set(names) - {shards_name(0)}
        return
    levels = (summaries_name(number) for number in range(len(sharded.levels)))
    draft.dropped |= {SHARDS, BASE, CORRECTED, *names, *levels}
    rows = summaries_schema(snapshot.manifest.dimension or 0).empty_table()
    draft.tables[SUMMARIES] = TableChange(rows=rows, overwrite=True)


def shard_gates(snapshot: Snapshot, slots: Slots, gates: npt.NDArray[np.float32]) -> Draft | None:
    """What other ``gates`` (n,) at ``slots`` (n,) make of summary nodes; None without shards."""
    if snapshot.sharded is None:
        return None
    draft, every = Draft(), snapshot.gates.copy()
    every[slots] = gates
    coming = Coming.of(snapshot, shaken=slots, gates=every)
    plan_shards(draft, snapshot, coming, snapshot.fields, snapshot.parameters)
    return draft


def refreshed(snapshot: Snapshot, *, divide: bool = False) -> Draft | None:
    """Shards for a store that should have them, and summary nodes that have not been settled since.

    With ``divide`` a store should have them whatever its size. None when there is nothing to do.
    """
    fields, parameters = snapshot.fields, snapshot.parameters
    sharded = snapshot.sharded
    due = divide and len(snapshot) > 0
    if not due and not _is_due(snapshot, len(snapshot), fields, parameters):
        return None
    if sharded is not None and not stale(sharded.hierarchy):
        return None
    coming = Coming.of(snapshot, came=snapshot.alive_slots if sharded is None else None)
    draft = Draft()
    plan_shards(draft, snapshot, coming, fields, parameters, thorough=True)
    return draft


def _rows(sharded: Sharded) -> pa.Table:
    pieces = []
    for number, level in enumerate(sharded.levels):
        count, last = len(level.items), number == len(sharded.levels) - 1
        parents = [
            None if last else sharded.name(number + 1, parent) for parent in level.parents.tolist()
        ]
        dimension = level.vectors.shape[1]
        columns = {
            "id": [sharded.name(number, node) for node in range(count)],
            "level": np.full(count, number + 1, np.int32),
            "parent": parents,
            "anchors": level.anchors,
            "items": level.items,
            "weight": level.weights,
            "gate": level.gates,
            "held": level.held,
            "coherence": level.coherence,
            "edges": level.edges,
            "null_points": level.null_points,
            "anomaly": level.anomaly,
            "delta_h": level.delta_h,
            "generation": level.generation,
            "changed": level.changed,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(level.vectors.ravel()), dimension),
        }
        schema = summaries_schema(dimension)
        arrays = [pa.array(columns[column.name], column.type) for column in schema]
        pieces.append(pa.Table.from_arrays(arrays, schema=schema))
    return pa.concat_tables(pieces)
