"""From the arcs that a change replaces to the entries of the lattice that change.

Relations think in arcs: a text points at the anchor whose title it contains, an anchor at its
nearest others. The lattice joins the two ends of an arc, whichever way it points, by an edge
with the larger weight where arcs go both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.arcs import GONE, SAME, changed_edges
from oscillink_store.kernels.knn import helper
from oscillink_store.lattice.graph import Entries, TypedGraph
from oscillink_store.lattice.records import IN, OUT, Records, sort_records
from oscillink_store.lattice.sets import distinct
from oscillink_store.model import RELATIONS

__all__ = ["Arcs", "Terms", "corrections"]

Slots = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Part = TypeVar("Part")
Result = TypeVar("Result")

_TOGETHER = 1 << 11
"""Fewer rows than that are not worth a second thread."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arcs:
    """New arcs of one relation, in place of those that left ``rows`` so far.

    ``rows`` (R,) are slots of present anchors, ascending and unique; every ``source`` (E,) is
    one of them, every ``target`` (E,) a present anchor, each pair once and no loop.
    ``incoming`` (R,) is what an arc into ``rows[i]`` weighs, where that depends on the anchor
    pointed at; without it an arc back weighs the same as the arc. Of rows marked ``partly``
    (R,) the arcs that are not given stay, and those given with weight 0 go; that takes a
    relation without ``incoming``.
    """

    relation: int
    rows: Slots
    source: Slots
    target: Slots
    weight: Float32
    incoming: Float32 | None = None
    partly: npt.NDArray[np.bool_] | None = None


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
    them. A relation without any change needs no :class:`Arcs`. Where only the direction of an
    edge changes there is a record but no term.
    """
    by_relation = {arcs.relation: arcs for arcs in replaced}
    touched = distinct(np.concatenate([removed, *(arcs.rows for arcs in replaced)]))
    parts = np.array_split(touched, 1 if len(touched) < _TOGETHER else 2)
    entries = _beside(graph.entries, parts)
    ends = [touched, *(part.indices for part in entries), *(arcs.target for arcs in replaced)]
    places = np.full(1 + max(int(end.max(initial=-1)) for end in ends), SAME, np.int32)
    places[removed] = GONE
    changed = []
    for relation in range(len(RELATIONS)):
        arcs = by_relation.get(relation) or _no_arcs(relation)
        places[arcs.rows] = np.arange(len(arcs.rows), dtype=np.int32)
        changed += [(relation, edges) for edges in _changed(entries, places, arcs)]
        places[arcs.rows] = SAME
    low, high, before, after, flags = (
        np.concatenate(columns)
        for columns in zip(_edges(0), *(edges for _, edges in changed), strict=True)
    )
    code = np.repeat(
        np.array([relation for relation, _ in changed], np.uint8),
        [len(edges[0]) for _, edges in changed],
    )
    records = sort_records(
        np.concatenate([low, high]), np.concatenate([high, low]),
        np.concatenate([code | flags, code | _turned(flags)]), np.concatenate([after, after]),
    )  # fmt: skip
    moved = before != after
    delta = after[moved].astype(np.float64) - before[moved]
    return records, Terms(low[moved], high[moved], code[moved], delta, after[moved])


Edges = tuple[Slots, Slots, Float32, Float32, npt.NDArray[np.uint8]]
"""Low, high, weight before and after, and the flags of low: one of each per edge."""


def _edges(count: int) -> Edges:
    return (
        np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.float32),
        np.empty(count, np.float32), np.empty(count, np.uint8),
    )  # fmt: skip


def _no_arcs(relation: int) -> Arcs:
    none = np.empty(0, np.int64)
    return Arcs(
        relation=relation, rows=none, source=none, target=none, weight=np.empty(0, np.float32)
    )


def _changed(parts: Sequence[Entries], places: npt.NDArray[np.int32], arcs: Arcs) -> list[Edges]:
    """The edges of one relation that change, part by part; ``places`` are those of its rows."""
    place = places[arcs.source]
    order = np.argsort(place.astype(np.int64) << 32 | arcs.target)
    targets, weights = arcs.target[order], arcs.weight[order]
    starts = np.zeros(len(arcs.rows) + 1, np.int64)
    np.cumsum(np.bincount(place, minlength=len(arcs.rows)), out=starts[1:])
    incoming = np.empty(0, np.float32) if arcs.incoming is None else arcs.incoming
    partly = np.zeros(len(arcs.rows), np.bool_) if arcs.partly is None else arcs.partly

    def of_part(entries: Entries) -> Edges:
        edges = _edges(len(entries.indices) + len(targets))
        count = changed_edges(
            entries.indptr, entries.indices, entries.weights, entries.relation, entries.rows,
            arcs.relation, places, partly.view(np.uint8), starts, targets, weights, incoming,
            *edges,
        )  # fmt: skip
        low, high, before, after, flags = edges
        return low[:count], high[:count], before[:count], after[:count], flags[:count]

    return _beside(of_part, parts)


def _beside(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Do some work on one or two parts, each in a thread of its own."""
    others = [helper().submit(work, part) for part in parts[1:]]
    return [work(parts[0]), *(other.result() for other in others)]


def _turned(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The flags of the same edge as its other end sees it."""
    swapped = np.where(flags & OUT, IN, 0) | np.where(flags & IN, OUT, 0)
    return swapped.astype(np.uint8)
