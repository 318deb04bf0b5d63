"""From the arcs that a change replaces to the entries of the lattice that change.

Relations think in arcs: a text points at the anchor whose title it contains, an anchor at its
nearest others. The lattice joins the two ends of an arc, whichever way it points, by an edge
with the larger weight where arcs go both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.lattice.graph import TypedGraph
from oscillink_store.lattice.records import IN, OUT, RELATION_MASK, Records, sort_records

__all__ = ["Arcs", "Terms", "corrections"]

Slots = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Arcs:
    """New arcs of one relation, in place of all that left ``rows`` so far.

    ``rows`` (R,) are slots of present anchors, ascending and unique; every ``source`` (E,) is
    one of them, every ``target`` (E,) a present anchor, each pair once and no loop.
    ``incoming`` (R,) is what an arc into ``rows[i]`` weighs, where that depends on the anchor
    pointed at; without it an arc back weighs the same as the arc.
    """

    relation: int
    rows: Slots
    source: Slots
    target: Slots
    weight: Float32
    incoming: Float32 | None = None


class Terms(NamedTuple):
    """Signed rank-1 terms δ(e_i − e_j)(e_i − e_j)ᵀ of the combinatorial Laplacian.

    ``source`` < ``target`` (E,), ``relation`` (E,) its code, ``delta`` (E,) float64 the change
    of the edge's raw weight and ``weight`` (E,) float32 what it is now, 0 when it is gone.
    """

    source: Slots
    target: Slots
    relation: npt.NDArray[np.uint8]
    delta: npt.NDArray[np.float64]
    weight: Float32


def corrections(
    graph: TypedGraph, removed: Slots, replaced: Sequence[Arcs]
) -> tuple[Records, Terms]:
    """Compute the entries of ``graph`` that change when anchors go and arcs are replaced.

    ``removed`` (M,) ascending are the slots of anchors that go, with every arc from and to
    them. A relation without any change needs no :class:`Arcs`.
    """
    by_relation = {arcs.relation: arcs for arcs in replaced}
    touched = np.unique(np.concatenate([removed, *(arcs.rows for arcs in replaced)]))
    entries = graph.entries(touched)
    rows, codes = entries.sources(), entries.relation & RELATION_MASK
    parts: list[tuple[npt.NDArray[np.generic], ...]] = []
    relations = set(np.unique(codes).tolist()) | set(by_relation)
    for relation in sorted(relations):
        mine = codes == relation
        columns = entries.indices[mine].astype(np.int64)
        arcs = by_relation.get(relation) or _no_arcs(relation)
        concerned = _member(rows[mine], arcs.rows) | _member(rows[mine], removed)
        parts.append(
            _changed(
                arcs, removed, rows[mine][concerned], columns[concerned],
                entries.relation[mine][concerned], entries.weights[mine][concerned],
            )
        )  # fmt: skip
    if not parts:
        parts = [_changed(_no_arcs(0), removed, *(np.empty(0, np.int64),) * 4)]
    low, high, code, before, after, flags = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    terms = Terms(low, high, code, after.astype(np.float64) - before, after)
    records = sort_records(
        np.concatenate([low, high]), np.concatenate([high, low]),
        np.concatenate([code | flags, code | _turned(flags)]), np.concatenate([after, after]),
    )  # fmt: skip
    return records, terms


def _no_arcs(relation: int) -> Arcs:
    none = np.empty(0, np.int64)
    return Arcs(relation=relation, rows=none, source=none, target=none,
                weight=np.empty(0, np.float32))  # fmt: skip


def _member(slots: Slots, ascending: Slots) -> npt.NDArray[np.bool_]:
    if len(ascending) == 0:
        return np.zeros(len(slots), np.bool_)
    places = np.minimum(np.searchsorted(ascending, slots), len(ascending) - 1)
    return np.asarray(ascending[places] == slots)


def _turned(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The flags of the same edge as its other end sees it."""
    outward = np.where(flags & OUT, IN, 0) | np.where(flags & IN, OUT, 0)
    return outward.astype(np.uint8)


def _changed(
    arcs: Arcs,
    removed: Slots,
    rows: Slots,
    columns: Slots,
    relation: npt.NDArray[np.uint8],
    weights: Float32,
) -> tuple[Slots, Slots, npt.NDArray[np.uint8], Float32, Float32, npt.NDArray[np.uint8]]:
    """Edges of one relation that change: low, high, code, weight before and after, flags."""
    # every arc that was, as (source, target, weight), from the entries of the touched rows
    out, into = (relation & OUT) != 0, (relation & IN) != 0
    old_source = np.concatenate([rows[out], columns[into]])
    old_target = np.concatenate([columns[out], rows[into]])
    old_weight = np.concatenate([weights[out], weights[into]])
    gone = _member(old_source, removed) | _member(old_target, removed)
    stays = ~gone & ~_member(old_source, arcs.rows)
    kept_source, kept_target = old_source[stays], old_target[stays]
    kept_weight = old_weight[stays]
    if arcs.incoming is not None:
        # what stays points at one of the rows, as it would not have been looked at otherwise
        kept_weight = arcs.incoming[np.searchsorted(arcs.rows, kept_target)]
    source = np.concatenate([old_source, kept_source, arcs.source])
    target = np.concatenate([old_target, kept_target, arcs.target])
    weight = np.concatenate([old_weight, kept_weight, arcs.weight]).astype(np.float32)
    present = np.zeros(len(source), np.bool_)
    present[len(old_source) :] = True
    low, high = np.minimum(source, target), np.maximum(source, target)
    up = source < target
    # one edge after another
    order = np.lexsort((high, low))
    low, high, up, weight, present = (
        values[order] for values in (low, high, up, weight, present)
    )  # fmt: skip
    first = np.ones(len(low), np.bool_)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    starts = np.flatnonzero(first)
    if len(starts) == 0:
        empty = np.empty(0, np.float32)
        flags = np.empty(0, np.uint8)
        return low, high, flags, empty, empty, flags
    before = np.maximum.reduceat(np.where(present, np.float32(0), weight), starts)
    after = np.maximum.reduceat(np.where(present, weight, np.float32(0)), starts)
    bits = np.where(up, OUT, IN).astype(np.uint8)
    flags_before = np.bitwise_or.reduceat(np.where(present, np.uint8(0), bits), starts)
    flags = np.bitwise_or.reduceat(np.where(present, bits, np.uint8(0)), starts)
    differs = (before != after) | (flags_before != flags)
    starts = starts[differs]
    return (
        low[starts], high[starts], np.full(len(starts), arcs.relation, np.uint8),
        before[differs], after[differs], flags[differs],
    )  # fmt: skip
