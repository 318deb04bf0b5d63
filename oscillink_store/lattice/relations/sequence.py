"""``next``: neighbours in a sequence, as chunks of a document or turns of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.hashing import keys_of
from oscillink_store.lattice.keyindex import find
from oscillink_store.lattice.upkeep import Arcs
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from oscillink_store.lattice.corpus import Change, Progress
    from oscillink_store.model import Parameters

__all__ = ["update"]

Slots = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NAME = "next"


def update(
    change: Change,
    parameters: Parameters,  # noqa: ARG001 - the relations share one signature
    progress: Progress | None = None,
) -> Arcs:
    """Point each anchor at the one that follows it in its sequence, weight 1.

    Anchors are ordered by position; those without one come behind the others, and equal
    positions stay in order of arrival. Anchors without a sequence have no neighbours.
    """
    if progress is not None:
        progress(_NAME, 0, len(change.added))
    group, slots = _members(change)
    rows, source, target = _arcs(change, group, slots) if len(slots) else (slots, slots, slots)
    if progress is not None:
        progress(_NAME, len(change.added), len(change.added))
    return Arcs(
        relation=RELATIONS.index(_NAME),
        rows=rows,
        source=source,
        target=target,
        weight=np.ones(len(source), np.float32),
    )


def _arcs(change: Change, group: Slots, slots: Slots) -> tuple[Slots, Slots, Slots]:
    """Who has another successor than before, and the arcs (source, target) to that."""
    positions = change.corpus.per_slot("positions", slots)
    before, after = change.before[slots] != 0, change.after[slots] != 0
    moved, successors = _moved(group, positions, before, after)
    # Two sequences may share a key. Whoever stands between an anchor and its true neighbour
    # is among these, so when they are all of one name, so is each anchor's successor.
    doubtful = moved | (before != after)
    doubtful[successors[moved & (successors >= 0)]] = True
    names = _numbered(change.corpus.values("sequence", slots[doubtful]))
    if len(np.unique(group[doubtful] << 32 | names)) > len(np.unique(group[doubtful])):
        group = _numbered(change.corpus.values("sequence", slots))
        moved, successors = _moved(group, positions, before, after)
    order = np.argsort(slots[moved])
    rows, places = slots[moved][order], successors[moved][order]
    followed = places >= 0
    return rows, rows[followed], slots[places[followed]]


def _members(change: Change) -> tuple[Slots, Slots]:
    """All members, before or after, of the sequences that gain or lose any.

    Returns (group, slots), sorted by both: a group for each key of a sequence.
    """
    indices = change.corpus.indices("sequences")
    names: set[str] = set()
    if any(len(index.keys) for _, index in indices):
        changed = np.concatenate([change.added, change.removed])
        names.update(name for name in change.corpus.values("sequence", changed) if name is not None)
    if not names:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    group, slots = find(indices, np.unique(keys_of(list(names))))
    there = (change.before[slots] | change.after[slots]) != 0
    return group[there], slots[there]


def _numbered(names: list[str]) -> Slots:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))


def _moved(
    group: Slots, positions: npt.NDArray[np.float64], before: Bools, after: Bools
) -> tuple[Bools, Slots]:
    """Which members have another successor than before, and the place of each one's, or −1.

    Members come by slot within their group.
    """
    # stable, and NaN sorts last
    order = np.lexsort((positions, group))
    successors = _successors(order, group, after)
    return after & (_successors(order, group, before) != successors), successors


def _successors(order: Slots, group: Slots, there: Bools) -> Slots:
    line = order[there[order]]
    follows = group[line[1:]] == group[line[:-1]]
    successors = np.full(len(group), -1, np.int64)
    successors[line[:-1][follows]] = line[1:][follows]
    return successors
