"""What the relations are kept up from: parts of anchors with their indices, and a change.

Anchors have slots, numbered as they arrive and never used twice. Slots are covered by parts,
each with indices of its own, so that a batch adds a part and touches no other. A mask says
which anchors exist; building a store from nothing is the change that adds every anchor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.lattice.graph import TypedGraph
from oscillink_store.lattice.keyindex import KeyIndex
from oscillink_store.lattice.names import NameIndex
from oscillink_store.lattice.postings import Postings
from oscillink_store.lattice.records import Records

__all__ = ["Change", "Corpus", "Near", "Part", "PhraseLists", "Progress"]

Slots = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]

Progress = Callable[[str, int, int | None], None]
"""Told the relation's name, how many anchors are done, and how many there are."""


class PhraseLists(NamedTuple):
    """The phrases of each row: ``keys`` from ``starts[i]`` to ``starts[i + 1]``, ascending.

    ``starts`` (n+1,) int64, ``keys`` uint64.
    """

    starts: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]


class Near(NamedTuple):
    """The nearest others of each row, as they were when its part was written.

    ``slots`` (n, K) int32 and ``cosine`` (n, K) float32, best first, ties to the lower slot,
    −1 and −inf where there are fewer. ``floors`` (n,) float32: every anchor more similar than
    that is in the list, or in the log of those that arrived later.
    """

    slots: npt.NDArray[np.int32]
    cosine: npt.NDArray[np.float32]
    floors: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Consecutive anchors, from slot ``first``, with what is found through them.

    Rows of all indices count from 0 within the part. ``vectors`` (n, D) float32 are unit
    rows; ``positions`` (n,) float64 are NaN where missing. Every array may be a memory map.
    """

    first: int
    vectors: npt.NDArray[np.float32]
    positions: npt.NDArray[np.float64]
    ids: KeyIndex
    titles: NameIndex
    sequences: KeyIndex
    links: KeyIndex
    phrases: KeyIndex
    phrase_lists: PhraseLists
    words: Postings

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """All slots of a store with its present lattice.

    ``values(column, slots)`` gives the values of ``"id"``, ``"title"``, ``"text"``,
    ``"sequence"`` or ``"links"`` in the order of the slots. ``near`` and ``near_log`` are the
    state of the ``knn`` relation: for the parts there were, and what came since. In the log
    (row, column) has the cosine of an arrival as its weight, and (row, row) a new floor.
    """

    parts: Sequence[Part]
    values: Callable[[str, Slots], list[Any]]
    graph: TypedGraph
    near: Sequence[tuple[int, Near]]
    near_log: Records

    @cached_property
    def slots(self) -> int:
        """How many slots there are."""
        return sum(map(len, self.parts))

    def indices(self, name: str) -> list[tuple[int, Any]]:
        """One index of every part, with the part's first slot."""
        return [(part.first, getattr(part, name)) for part in self.parts]

    def per_slot(self, name: str, slots: Slots) -> npt.NDArray[Any]:
        """The rows of an array that every part has, such as ``positions``, at some slots.

        There must be a part.
        """
        firsts = np.array([part.first for part in self.parts])
        homes = np.searchsorted(firsts, slots, side="right") - 1
        sample = getattr(self.parts[0], name)
        found = np.empty((len(slots), *sample.shape[1:]), sample.dtype)
        for home in np.unique(homes).tolist():
            mine = homes == home
            found[mine] = getattr(self.parts[home], name)[slots[mine] - firsts[home]]
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """Anchors come and go: ``before`` and ``after`` (S,) say which slots hold one.

    The corpus covers every slot, those of the new anchors included; its lattice is that of
    before. A replaced anchor goes, and comes back in a slot behind all others.
    """

    corpus: Corpus
    before: Mask
    after: Mask

    @cached_property
    def added(self) -> Slots:
        """The slots of new anchors, ascending."""
        return np.flatnonzero(self.after > self.before)

    @cached_property
    def removed(self) -> Slots:
        """The slots of anchors that go, ascending."""
        return np.flatnonzero(self.before > self.after)
