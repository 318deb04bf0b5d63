"""The lists of nearest others, as parts and a log hold them together.

What is known of an anchor's neighbours is the list of its part and the log's newer entries,
without the dead and without what is less similar than its floor. In the order of neighbours
(more similar first, ties to the lower slot) these always are the first of all anchors, so the
best k of them are the true ones as long as there are k.

For everybody above the floor is known, and of those as similar as the floor, whoever is known,
all present ones of lower slots are known as well: lists are cut in the order of neighbours,
and a newcomer, whose slot is the highest, is noted only if it is above the floor. Neither a
higher floor, when a list has grown long, nor a lower one after a new search changes that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.knn_upkeep import insert_each
from oscillink_store.lattice.corpus import Mask, Near, Slots
from oscillink_store.lattice.keyindex import ranges
from oscillink_store.lattice.records import Records

__all__ = ["Arrivals", "Known", "best_known", "compact_near", "no_arrivals", "present_floors"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
NearParts = Sequence[tuple[int, Near]]

_ROWS = 1 << 16


class Arrivals(NamedTuple):
    """Anchors not yet in the log: ``slots`` (A,) is near the row at ``places`` (A,).

    By place, then best first, ties to the lower slot.
    """

    places: Slots
    slots: Int32
    cosine: Float32


class Known(NamedTuple):
    """The best K known others of R rows: ``slots`` and ``cosine`` (R, K) as in :class:`Near`.

    ``counts`` (R,) is how many are known, which may be more.
    """

    slots: Int32
    cosine: Float32
    counts: Slots


def no_arrivals() -> Arrivals:
    """Nobody comes."""
    return Arrivals(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


def present_floors(near: NearParts, log: Records, size: int) -> Float32:
    """The floors (S,) of the first ``size`` slots; −inf where there is no list."""
    floors = np.full(size, -np.inf, np.float32)
    for first, part in near:
        floors[first : first + len(part.floors)] = part.floors
    newer = np.flatnonzero(log.rows == log.columns)
    floors[log.rows[newer]] = log.weights[newer]
    return floors


def best_known(
    near: NearParts,
    log: Records,
    rows: Slots,
    floors: Float32,
    alive: Mask,
    width: int,
    arrivals: Arrivals,
) -> Known:
    """The best ``width`` known others of ``rows`` (R,), ascending, newcomers among them.

    ``floors`` (R,) are the rows' own; ``alive`` (S,) is 0 for anchors that do not count.
    """
    slots, cosine = _listed(near, rows, width)
    listed = (slots >= 0) & (alive[slots] != 0) & (cosine >= floors[:, None])
    keys = rows.astype(log.rows.dtype)
    which, places = ranges(
        np.searchsorted(log.rows, keys, "left"), np.searchsorted(log.rows, keys, "right")
    )
    columns, values = log.columns[places], log.weights[places]
    own = columns == rows[which]
    _drop_renewed(listed, slots, which, columns, which[own])
    counts = ~own & (alive[columns] != 0) & (values >= floors[which])
    _close_up(slots, cosine, listed)
    later = np.concatenate([which[counts], arrivals.places])
    insert_each(
        later,
        np.concatenate([columns[counts], arrivals.slots]),
        np.concatenate([values[counts], arrivals.cosine]),
        slots,
        cosine,
    )
    known = listed.sum(axis=1) + np.bincount(later, minlength=len(rows))
    return Known(slots, cosine, known)


def compact_near(near: NearParts, log: Records, alive: Mask, numbers: Slots | None = None) -> Near:
    """One :class:`Near` that says of the rows of ``near`` what ``log`` and those say.

    ``alive`` (S,) is 0 for anchors that are gone: they leave the lists. With ``numbers``
    (S,), which give the anchors alive other slots in the same order, their rows vanish as
    well; without, a row without an anchor has an empty list.
    """
    widths = [part.slots.shape[1] for _, part in near]
    width = max(widths, default=0)
    rows = np.concatenate(
        [
            np.empty(0, np.int64),
            *(np.arange(first, first + len(part.slots)) for first, part in near),
        ]
    )
    if numbers is not None:
        rows = rows[alive[rows] != 0]
    compact = Near(
        np.full((len(rows), width), -1, np.int32),
        np.full((len(rows), width), -np.inf, np.float32),
        present_floors(near, log, len(alive))[rows],
    )
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        there = alive[rows[part]] != 0
        mine = np.flatnonzero(there) + start
        known = best_known(near, log, rows[mine], compact.floors[mine], alive, width, no_arrivals())
        last = known.cosine[:, width - 1]
        cut = (known.counts > width) | ((known.counts == width) & (compact.floors[mine] > -np.inf))
        compact.floors[mine] = np.where(cut, last, compact.floors[mine])
        compact.cosine[mine] = known.cosine
        compact.slots[mine] = (
            known.slots if numbers is None else np.where(known.slots < 0, -1, numbers[known.slots])
        )
    return compact


def _listed(near: NearParts, rows: Slots, width: int) -> tuple[Int32, Float32]:
    """The lists of ``rows`` in their parts, copied."""
    slots = np.full((len(rows), width), -1, np.int32)
    cosine = np.full((len(rows), width), -np.inf, np.float32)
    for first, part in near:
        low, high = np.searchsorted(rows, [first, first + len(part.slots)])
        if low < high:
            mine = rows[low:high] - first
            # clipping nothing, but writing where it belongs at once
            np.take(part.slots, mine, 0, slots[low:high], "clip")
            np.take(part.cosine, mine, 0, cosine[low:high], "clip")
    return slots, cosine


def _drop_renewed(
    listed: npt.NDArray[np.bool_], slots: Int32, which: Slots, columns: Int32, renewed: Slots
) -> None:
    """Leave out of the lists what the log has as well, which only rows with a new floor can."""
    logged = np.isin(which, renewed)
    again = which[logged] << 32 | columns[logged]  # ascending, as the log is
    if len(again):
        wanted = renewed[:, None] << 32 | slots[renewed]
        found = np.minimum(np.searchsorted(again, wanted), len(again) - 1)
        listed[renewed] &= again[found] != wanted


def _close_up(slots: Int32, cosine: Float32, listed: npt.NDArray[np.bool_]) -> None:
    """Move what is listed to the front of each list, and empty the rest."""
    gaps = np.flatnonzero((~listed & (slots >= 0)).any(axis=1))
    order = np.argsort(~listed[gaps], axis=1, kind="stable")
    kept = np.take_along_axis(listed[gaps], order, axis=1)
    slots[gaps] = np.where(kept, np.take_along_axis(slots[gaps], order, axis=1), -1)
    cosine[gaps] = np.where(kept, np.take_along_axis(cosine[gaps], order, axis=1), -np.inf)
