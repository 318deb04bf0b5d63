"""The levels of summary nodes over the anchors, and their upkeep.

Anchors are grouped into shards, each with a summary node; while these are more than
``max_nodes``, they are grouped likewise into nodes of a further level. A batch of changes
touches the groups that its anchors come to or leave, or whose inner edges or gates it changes.
Their counts and gates are brought up to date at once. Settling a group anew is dearer, so of
the touched groups those that changed most are, and the others when it is their turn: by
``changed`` each node tells how many of its items came or went since it was settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.knn import helper
from oscillink_store.lattice.graph import TypedGraph
from oscillink_store.lattice.grouping import (
    Grouping,
    Take,
    by_value,
    centre_of,
    grouped,
    most,
    nearest,
)
from oscillink_store.lattice.levels import Grouped, Hierarchy, Level, node_graph
from oscillink_store.lattice.summary import Items, Summary, sampled, summarize
from oscillink_store.lattice.superlattice import corrected, inverted, near_nodes
from oscillink_store.model import Parameters

__all__ = ["CHILDREN", "Anchors", "Below", "Shift", "stale", "updated"]

CHILDREN = 64
"""How many nodes a node of a further level has on average."""

_AT_ONCE = 8  # touched groups that are settled anew with any batch
_MUCH = 16  # and those of whose items more than this part came or went

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Below(Protocol):
    """The items that a level's nodes are over."""

    def among(self, rows: Rows) -> TypedGraph:
        """The lattice that some items stand in; edges to others may be left out."""

    def take(self, rows: Rows) -> Float32:
        """Unit embeddings (n, D) of some items."""

    def gates(self, rows: Rows) -> Float32:
        """Their gates (n,)."""

    def anchors(self, rows: Rows) -> Rows:
        """How many anchors each of them is or has, (n,)."""

    def weights(self, rows: Rows) -> Float64:
        """The sum of these anchors' gates, (n,)."""


@dataclass(frozen=True, eq=False)
class Anchors:
    """The anchors of a store as the items of the first level."""

    graph: TypedGraph
    take: Take
    gates: Callable[[Rows], Float32]

    def among(self, rows: Rows) -> TypedGraph:  # noqa: ARG002 - one for all
        """The lattice of the store."""
        return self.graph

    def anchors(self, rows: Rows) -> Rows:
        """One each."""
        return np.ones(len(rows), np.int64)

    def weights(self, rows: Rows) -> Float64:
        """Their gates."""
        return self.gates(rows).astype(np.float64)


class _Nodes:
    """The nodes of a level as the items of the next."""

    def __init__(self, level: Level, parameters: Parameters) -> None:
        self._level, self._parameters = level, parameters

    def among(self, rows: Rows) -> TypedGraph:
        # of very many nodes the graph of all takes long to put together
        return node_graph(self._level.lists(), self._parameters, rows)

    def take(self, rows: Rows) -> Float32:
        return self._level.vectors[rows]

    def gates(self, rows: Rows) -> Float32:
        return self._level.gates[rows].astype(np.float32)

    def anchors(self, rows: Rows) -> Rows:
        return self._level.anchors[rows]

    def weights(self, rows: Rows) -> Float64:
        return self._level.weights[rows] * self._level.held[rows]


class Shift(NamedTuple):
    """What a batch does to n items: which are ``present`` (n,), which came, went or were shaken.

    Items are shaken when their gate or their vector is not what it was. Where that is only an
    edge to another one of their group, they are among ``joined``: these shake a group as much as
    one item does, however many they are. ``codes`` (n,) group the items by value into ``values``
    groups, if they do.
    """

    present: Mask
    came: Rows
    gone: Rows
    shaken: Rows
    codes: Int32 | None = None
    values: int = 0
    joined: Rows = np.empty(0, np.int64)


def updated(
    before: Grouped | None,
    below: Below,
    shift: Shift,
    *,
    generation: int,
    parameters: Parameters,
    thorough: bool = False,
) -> Grouped:
    """Bring all levels up to date with a change of the anchors, or build them.

    ``thorough`` settles every node anew that has changed since it was settled, however many.
    """
    old = before.hierarchy.levels if before is not None else ()
    own = before.own if before is not None else np.empty(0, np.int32)
    found, moved = _level(
        old[0] if old else None, own, below, shift, parameters.shard_anchors, generation,
        parameters, thorough,
    )  # fmt: skip
    shards, levels = found.own, [found.level]
    while len(levels[-1].vectors) > parameters.max_nodes:
        top, place = levels[-1], len(levels)
        count, known = len(top.vectors), old[place] if place < len(old) else None
        parents = np.empty(0, np.int32)
        came = np.arange(count)
        if known is not None:
            parents, came = old[place - 1].parents, came[len(old[place - 1].parents) :]
            # pieces stay where the whole was: what is set there holds for them
            parents = np.append(parents, np.where(found.whole < 0, -1, parents[found.whole]))
        found, moved = _level(
            known, parents, _Nodes(top, parameters),
            Shift(np.ones(count, np.bool_), came, came[:0], np.setdiff1d(moved, came)),
            CHILDREN, generation, parameters, thorough,
        )  # fmt: skip
        levels[-1] = top._replace(parents=found.own)
        levels.append(found.level)
    graph = node_graph(levels[-1].lists(), parameters).base
    if before is not None and len(levels) == len(old):
        inverse = corrected(before.hierarchy.inverse, graph, parameters.screening)
    else:
        inverse = inverted(graph, parameters.screening)
    return Grouped(shards, Hierarchy(tuple(levels), inverse))


def stale(hierarchy: Hierarchy) -> bool:
    """Whether a node has changed since it was settled."""
    return any(bool(level.changed.any()) for level in hierarchy.levels)


class _Found(NamedTuple):
    """A level, the node of each item, and which node each new one is a piece of, −1 for none."""

    own: Int32
    level: Level
    whole: Int32


def _level(
    level: Level | None,
    own: Int32,
    below: Below,
    shift: Shift,
    size: int,
    generation: int,
    parameters: Parameters,
    thorough: bool,
) -> tuple[_Found, Rows]:
    """One level after a change, and the nodes whose vector, gate or edges are others now."""
    count = len(shift.present)
    own = np.concatenate([own, np.full(count - len(own), -1, np.int32)])
    if level is None:
        rows = np.flatnonzero(shift.present)
        first = (
            grouped(rows, below.take, size)
            if shift.codes is None
            else by_value(shift.codes[rows], shift.values, rows, below.take)
        )
        own[rows] = first.own
        level = _blank(first.centres, generation)
        fresh = np.arange(len(first.centres))
        touched, whole = fresh, np.full(len(fresh), -1, np.int32)
    else:
        known = len(level.items)
        level, own = _placed(level, own, below, shift, generation)
        touched = own[np.concatenate([shift.came, shift.gone, shift.shaken, shift.joined])]
        whole = np.full(len(level.items) - known, -1, np.int32)
        if shift.codes is None:
            level, whole = _split(level, own, below, shift, size, generation)
        fresh = np.union1d(whole[whole >= 0], np.arange(known, len(level.items)))
        touched = np.union1d(touched, fresh).astype(np.int64)
    changed = level.changed.copy()
    np.add.at(changed, own[np.concatenate([shift.came, shift.gone, shift.shaken])], 1)
    changed[np.unique(own[shift.joined])] += 1
    level = level._replace(changed=changed)
    settled, pieces = _chosen(level, own, shift.present, touched, fresh, thorough)
    level = _counted(level, below, pieces, touched)
    before, listed = level.vectors, level.lists()
    level = _settled(level, below, pieces, settled, generation, parameters)
    if shift.codes is not None:
        level = _centred(level, below, pieces, settled)
    unlike = (level.vectors != before).any(axis=1)
    unlike[fresh] = True
    lists = near_nodes(level.vectors, parameters, listed, np.flatnonzero(unlike))
    unlike[touched] = True
    if listed.nodes.shape[1] == lists.nodes.shape[1]:  # else all of them are fresh
        old = len(listed.nodes)
        unlike[:old] |= (lists.nodes[:old] != listed.nodes).any(axis=1)
    moved = np.flatnonzero(unlike)
    return _Found(own, level._replace(near=lists.nodes, cosine=lists.cosine), whole), moved


def _blank(centres: Float32, generation: int) -> Level:
    """Nodes of which nothing is known yet but their centres."""
    count = len(centres)
    none, zero = np.zeros(count, np.int64), np.zeros(count)
    return Level(
        centres=centres,
        vectors=np.zeros_like(centres),
        items=none,
        anchors=none.copy(),
        weights=zero,
        held=np.ones(count, np.float32),
        coherence=zero.copy(),
        edges=none.copy(),
        null_points=none.copy(),
        delta_h=zero.copy(),
        generation=np.full(count, generation),
        changed=none.copy(),
        parents=np.full(count, -1, np.int32),
        near=np.empty((0, 0), np.int32),
        cosine=np.empty((0, 0), np.float32),
    )


_LISTS = ("near", "cosine")


def _joined(level: Level, more: Level) -> Level:
    """The nodes of both; the nearest others are those of the first, as far as it knows."""
    columns = {
        name: getattr(level, name)
        if name in _LISTS
        else np.concatenate([getattr(level, name), getattr(more, name)])
        for name in Level._fields
    }
    return Level(**columns)


def _placed(
    level: Level, own: Int32, below: Below, shift: Shift, generation: int
) -> tuple[Level, Int32]:
    """Assign what came to groups, unless ``own`` tells of one already."""
    own = own.copy()
    if shift.codes is None:
        homeless = shift.came[own[shift.came] < 0]
        own[homeless] = nearest(homeless, below.take, level.centres)
        return level, own
    own[shift.came] = shift.codes[shift.came]
    known = len(level.items)
    if shift.values > known:
        rows = shift.came[shift.codes[shift.came] >= known]
        new = by_value(shift.codes[rows] - known, shift.values - known, rows, below.take)
        level = _joined(level, _blank(new.centres, generation))
    return level, own


def _split(
    level: Level, own: Int32, below: Below, shift: Shift, size: int, generation: int
) -> tuple[Level, Int32]:
    """Divide the groups that have become too large, changing ``own``.

    Returns the group of which each new one is a piece; a piece keeps the number of the whole.
    """
    present = np.flatnonzero(shift.present)
    sizes = np.bincount(own[present], minlength=len(level.items))
    whole: list[int] = []
    for group in np.flatnonzero(sizes > most(size)).tolist():
        rows = present[own[present] == group]
        within: Grouping = grouped(rows, below.take, size)
        first = len(level.items)
        numbers = np.arange(first - 1, first - 1 + len(within.centres), dtype=np.int32)
        numbers[0] = group
        own[rows] = numbers[within.own]
        centres = level.centres.copy()
        centres[group] = within.centres[0]
        new = _blank(within.centres[1:], generation)
        # what was set on the whole holds for its pieces
        held = np.full(len(new.items), level.held[group], np.float32)
        level = _joined(level._replace(centres=centres), new._replace(held=held))
        whole += [group] * len(new.items)
    return level, np.array(whole, np.int32)


def _chosen(
    level: Level, own: Int32, present: Mask, touched: Rows, fresh: Rows, thorough: bool
) -> tuple[Rows, dict[int, Rows]]:
    """The nodes to settle anew, and the rows of all that are touched or settled."""
    changed = level.changed.copy()
    if thorough:
        settled = np.union1d(np.flatnonzero(changed), fresh)
    else:
        # most changed first, at equal numbers the older; what was left before has its turn
        order = np.lexsort((np.arange(len(changed)), -changed))
        due = order[changed[order] > 0]
        much = np.flatnonzero(changed * _MUCH > np.maximum(level.items, 1))
        settled = np.union1d(np.union1d(due[:_AT_ONCE], much), fresh)
    wanted = np.zeros(len(changed), np.bool_)
    wanted[touched] = True
    wanted[settled] = True
    rows = np.flatnonzero(present & (own >= 0))
    rows = rows[wanted[own[rows]]]
    ascending = rows[np.argsort(own[rows], kind="stable")]
    ends = np.cumsum(np.bincount(own[ascending], minlength=len(changed)))
    starts = np.append(0, ends[:-1])
    pieces = {
        int(group): ascending[starts[group] : ends[group]] for group in np.flatnonzero(wanted)
    }
    return settled.astype(np.int64), pieces


def _counted(level: Level, below: Below, pieces: dict[int, Rows], touched: Rows) -> Level:
    items, anchors, weights = level.items.copy(), level.anchors.copy(), level.weights.copy()
    for group in touched.tolist():
        rows = pieces[group]
        items[group] = len(rows)
        anchors[group] = int(below.anchors(rows).sum())
        weights[group] = float(below.weights(rows).sum())
    return level._replace(items=items, anchors=anchors, weights=weights)


def _settled(
    level: Level,
    below: Below,
    pieces: dict[int, Rows],
    nodes: Rows,
    generation: int,
    parameters: Parameters,
) -> Level:
    def work(some: Sequence[int]) -> list[Summary]:
        found = []
        for group in some:
            rows = sampled(pieces[group])
            items = Items(rows, below.take(rows), below.gates(rows), below.among(rows))
            found.append(summarize(items, parameters))
        return found

    if len(nodes) == 0:
        return level
    every = nodes.tolist()
    half = (len(every) + 1) // 2
    other = helper().submit(work, every[half:])
    summaries = [*work(every[:half]), *other.result()]
    new: dict[str, Any] = {
        name: getattr(level, name).copy()
        for name in (*Summary._fields[1:], "generation", "changed", "vectors")
    }
    for group, summary in zip(every, summaries, strict=True):
        new["vectors"][group] = summary.vector
        for name in Summary._fields[1:]:
            new[name][group] = getattr(summary, name)
        new["generation"][group] = generation
        new["changed"][group] = 0
    return level._replace(**new)


def _centred(level: Level, below: Below, pieces: dict[int, Rows], nodes: Rows) -> Level:
    """Put the centres of groups by value, by which nothing is assigned, where their items are."""
    centres = level.centres.copy()
    for group in nodes.tolist():
        centres[group] = centre_of(below.take(sampled(pieces[group])))
    return level._replace(centres=centres)
