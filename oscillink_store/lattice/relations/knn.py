"""``knn``: the nearest neighbours by cosine, in either direction.

Besides its k neighbours an anchor keeps a few spare ones, so that it rarely has to be searched
anew when a neighbour goes. One pass of the new anchors over the others finds the neighbours of
the former, and the lists of the latter that they enter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.knn import knn_exact
from oscillink_store.kernels.knn_upkeep import block_neighbors, gather, merge_lists, research
from oscillink_store.kernels.partition import knn_partitioned
from oscillink_store.lattice.corpus import Near
from oscillink_store.lattice.near import (
    Arrivals,
    Known,
    best_known,
    no_arrivals,
    present_floors,
)
from oscillink_store.lattice.records import IN, RELATION_MASK, Records, sort_records
from oscillink_store.lattice.sets import distinct
from oscillink_store.lattice.upkeep import Arcs
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from oscillink_store.lattice.corpus import Change, Progress
    from oscillink_store.model import Parameters

__all__ = ["Audit", "KnnUpdate", "update"]

Slots = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Marks = npt.NDArray[np.bool_]

_NAME = "knn"


Entries = tuple[Slots, Slots, Float32]
"""Row, column and value of entries for the log, in any order."""


class Audit(NamedTuple):
    """How many of the true neighbours the lists of ``audited`` sampled rows hold, 0 to 1.

    Of an exact search no row needs to be sampled.
    """

    recall: float
    audited: int


class KnnUpdate(NamedTuple):
    """New arcs, the lists of the slots that had none yet, and what the log is to take in.

    ``audit`` is that of an approximate search among very many new anchors, else None.
    """

    arcs: Arcs
    near: Near
    log: Records
    audit: Audit | None


def update(change: Change, parameters: Parameters, progress: Progress | None = None) -> KnnUpdate:
    """Point each anchor at its ``knn_neighbors`` nearest, weight cosine^``knn_power``.

    Only positive cosines make an arc; equal ones go to the lower slot.
    """
    if progress is not None:
        progress(_NAME, 0, len(change.added))
    covered = sum(len(near.floors) for _, near in change.corpus.near)
    floors = present_floors(change.corpus.near, change.corpus.near_log, covered)
    near, arrived, audit = _newcomers(change, floors, parameters, progress)
    rows, known, whole, log = _others(change, floors, arrived, parameters)
    if progress is not None:
        progress(_NAME, len(change.added), len(change.added))
    mine = change.added - len(floors)
    arcs = _arcs(
        np.concatenate([rows, change.added]),
        np.concatenate([known.slots, near.slots[mine]]),
        np.concatenate([known.cosine, near.cosine[mine]]),
        np.concatenate([whole, np.ones(len(mine), np.bool_)]),
        len(floors),
        parameters,
    )
    return KnnUpdate(arcs, near, log, audit)


def _width(parameters: Parameters) -> int:
    return parameters.knn_neighbors + parameters.knn_spares


def _vectors(change: Change) -> list[tuple[int, Float32]]:
    return [(part.first, part.vectors) for part in change.corpus.parts]


def _cut(cosine: Float32, others: int) -> Float32:
    """The floor of lists (n, K) that were chosen from ``others``: −inf where all are listed."""
    if others <= cosine.shape[1]:
        return np.full(len(cosine), -np.inf, np.float32)
    return cosine[:, -1]


def _newcomers(
    change: Change, floors: Float32, parameters: Parameters, progress: Progress | None
) -> tuple[Near, Arrivals, Audit | None]:
    """The lists of the slots beyond ``floors``, and who of them comes above whose floor."""
    width, old = _width(parameters), len(floors)
    parts = [(first, vectors) for first, vectors in _vectors(change) if len(vectors)]
    X = _gathered(parts, change.added)
    told = None if progress is None else _told(progress, len(X))
    slots, cosine, audit = _among(X, width, parameters.knn_exact_limit, told)
    slots = np.where(slots < 0, -1, change.added[slots]).astype(np.int32)
    arrivals = no_arrivals()
    alive = change.after[:old]
    if len(X) and alive.any():
        store = [part for part in parts if part[0] < old]
        met = block_neighbors(X, old, store, None if alive.all() else alive, floors, width)
        arrived = change.added[met.arrived - old].astype(np.int32)
        arrivals = Arrivals(met.slots.astype(np.int64), arrived, met.values)
        # what the store has comes first among equals: its slots are lower
        slots, cosine = merge_lists(met.indices, met.similarities, slots, cosine, width)
    size = change.corpus.slots - old
    near = Near(
        np.full((size, width), -1, np.int32), np.full((size, width), -np.inf, np.float32),
        np.full(size, -np.inf, np.float32),
    )  # fmt: skip
    mine = change.added - old
    near.slots[mine], near.cosine[mine] = slots, cosine
    near.floors[mine] = _cut(cosine, int(np.count_nonzero(change.after)) - 1)
    return near, arrivals, audit


def _gathered(parts: list[tuple[int, Float32]], slots: Slots) -> Float32:
    """The vectors of ``slots``, ascending; a whole part is not copied."""
    for first, vectors in parts:
        if len(slots) == len(vectors) and slots[0] == first and slots[-1] == first + len(slots) - 1:
            return np.asarray(vectors)
    return gather(slots, parts)


def _told(progress: Progress, count: int) -> Callable[[int], None]:
    return lambda done: progress(_NAME, done, count)


def _among(
    X: Float32, width: int, limit: int, progress: Callable[[int], None] | None
) -> tuple[Int32, Float32, Audit | None]:
    """The nearest of each row of ``X`` among the others; nearly so beyond ``limit`` rows."""
    if len(X) <= limit:
        return *knn_exact(X, width, progress=progress), None
    found = knn_partitioned(X, width, exact_below=limit, progress=progress)
    return found.indices, found.similarities, Audit(found.recall, found.audited)


def _others(
    change: Change, floors: Float32, arrived: Arrivals, parameters: Parameters
) -> tuple[Slots, Known, Marks, Records]:
    """Who else gets other neighbours: the rows, their best, who lost one, what the log gets."""
    corpus, k, width = change.corpus, parameters.knn_neighbors, _width(parameters)
    bereft = _pointing_at(change)
    rows = distinct(np.concatenate([arrived.places, bereft]))
    places = np.searchsorted(rows, arrived.places)
    comers = np.bincount(places, minlength=len(rows))
    # whoever has more newcomers than places gets a new floor, and the rest are not needed
    rank = np.arange(len(places)) - (np.cumsum(comers) - comers)[places]
    fit = rank < width
    arrived = Arrivals(places[fit], arrived.slots[fit], arrived.cosine[fit])
    floor = floors[rows]
    known = best_known(corpus.near, corpus.near_log, rows, floor, change.after, width, arrived)
    few = np.flatnonzero((known.counts < k) & (floor > 0))
    log = [_kept_arrivals(rows, known, floor, arrived, comers, few)]
    if len(few):
        log.append(_searched_anew(change, rows, known, few, width))
    lost = np.isin(rows, bereft)
    changed = lost | (known.slots[:, :k] >= len(floors)).any(axis=1)
    best = Known(known.slots[changed], known.cosine[changed], known.counts[changed])
    entries = [np.concatenate(column) for column in zip(*log, strict=True)]
    relation = np.zeros(len(entries[0]), np.uint8)
    records = sort_records(entries[0], entries[1], relation, entries[2])
    return rows[changed], best, lost[changed], records


def _pointing_at(change: Change) -> Slots:
    """The anchors that stay and have one of those among their neighbours that go."""
    entries = change.corpus.graph.entries(change.removed)
    codes = entries.relation & RELATION_MASK
    mine = (codes == RELATIONS.index(_NAME)) & ((entries.relation & IN) != 0)
    slots = np.unique(entries.indices[mine]).astype(np.int64)
    return slots[change.after[slots].astype(np.bool_)]


def _kept_arrivals(
    rows: Slots, known: Known, floor: Float32, arrived: Arrivals, comers: Slots, few: Slots
) -> Entries:
    """What the log takes in of the arrivals, and the new floors of lists that grow long."""
    width = known.slots.shape[1]
    raised = (known.counts > 2 * width) | (comers > width)
    raised |= (known.counts > width) & (floor == -np.inf)
    last, last_slot = known.cosine[:, -1], known.slots[:, -1]
    at = arrived.places
    listed = arrived.cosine > last[at]
    listed |= (arrived.cosine == last[at]) & (arrived.slots <= last_slot[at])
    searched = np.zeros(len(rows), np.bool_)
    searched[few] = True
    logged = (listed | ~raised[at]) & ~searched[at]
    return (
        np.concatenate([rows[at[logged]], rows[raised]]),
        np.concatenate([arrived.slots[logged], rows[raised]]),
        np.concatenate([arrived.cosine[logged], last[raised]]),
    )


def _searched_anew(change: Change, rows: Slots, known: Known, few: Slots, width: int) -> Entries:
    """Search the rows at ``few`` anew, put what is found in ``known``, and tell the log."""
    slots, cosine = research(rows[few], _vectors(change), change.after, width)
    floors = _cut(cosine, int(np.count_nonzero(change.after)) - 1)
    known.slots[few], known.cosine[few] = slots, cosine
    at, column = np.nonzero(slots >= 0)
    return (
        np.concatenate([rows[few][at], rows[few]]),
        np.concatenate([slots[at, column], rows[few]]),
        np.concatenate([cosine[at, column], floors]),
    )


def _arcs(
    rows: Slots, slots: Int32, cosine: Float32, whole: Marks, old: int, parameters: Parameters
) -> Arcs:
    """Arcs from ``rows`` (R,) to the nearest of their lists (R, K), if of positive cosine.

    Of a row that is not ``whole`` only those to newcomers, whose slots begin with ``old``, and
    in their place to nobody else: that takes a list long enough to show who made room.
    """
    k = parameters.knn_neighbors
    fresh = slots >= old
    partly = ~whole & (fresh.sum(axis=1) <= slots.shape[1] - k)
    given = slots >= 0
    given[:, :k] &= fresh[:, :k] | ~partly[:, None]
    # as many of the others as there are newcomers among the nearest have made room for them
    given[:, k:] &= ~fresh[:, k:] & partly[:, None]
    given[:, k:] &= given[:, k:].cumsum(axis=1) <= fresh[:, :k].sum(axis=1, keepdims=True)
    at, column = np.nonzero(given & (cosine > 0.0))
    similarity = cosine[at, column]
    weight = similarity
    for _ in range(parameters.knn_power - 1):
        weight = weight * similarity  # pow may differ between machines in the last bit
    weight[column >= k] = 0.0
    return Arcs(
        relation=RELATIONS.index(_NAME),
        rows=rows,
        source=rows[at],
        target=slots[at, column].astype(np.int64),
        weight=weight,
        partly=partly,
    )
