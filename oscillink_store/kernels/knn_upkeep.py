"""Upkeep of nearest-neighbour lists: new rows against the rows of a store, rows searched anew.

A store's rows stand in numbered slots, in parts ``(first, vectors)``: the rows of a part
(n, D) float32, unit length, have the slots ``first`` to ``first`` + n − 1, and the parts follow
each other. One pass over all parts serves both sides: the new rows get the lists of their
nearest, and every row of the store for which a new one matters is told of it. Products are
those of :mod:`~oscillink_store.kernels.knn`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.knn import PACKED, helper, insert, join, pack
from oscillink_store.kernels.layout import LANES, TILE_COLUMNS, TILE_ROWS, aligned

if TYPE_CHECKING:
    from oscillink_store.kernels.lanes import (
        exceeds,
        load,
        product_tile,
        splat,
        trailing_zeros,
    )

__all__ = [
    "Block", "Part", "block_neighbors", "gather", "insert_each", "merge_lists", "recall",
    "research",
]  # fmt: skip

HELD = 1 << 16
SMALL = 256
ONE = np.uint64(1)

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Part = tuple[int, Float32]


class Block(NamedTuple):
    """What one pass of M new rows over a store found.

    ``indices`` (M, k) int32 and ``similarities`` (M, k) float32 are the new rows' nearest
    alive slots, best first, ties to the lower slot, the rest −1 and −inf. Arrival a says that
    the new row ``arrived[a]`` (int32) has with slot ``slots[a]`` (int32) the similarity
    ``values[a]`` (float32), above that slot's floor; arrivals are sorted by slot, then best
    first, ties to the lower number.
    """

    indices: Int32
    similarities: Float32
    slots: Int32
    arrived: Int32
    values: Float32


def block_neighbors(
    X: Float32,
    first_own: int,
    parts: Sequence[Part],
    alive: UInt8 | None,
    floors: Float32,
    k: int,
) -> Block:
    """Compare the new unit rows ``X`` (M, D) with every alive row of ``parts``, once.

    The rows of X have the numbers ``first_own`` to ``first_own`` + M − 1 and are not in the
    parts. ``alive`` (S,) is 0 for slots whose rows no longer exist, None when all do. A slot
    is told of the new rows whose similarity exceeds its entry of ``floors`` (S,). Each new row
    gets ``k`` ≥ 1 places. Works on two threads; reads every part once per few hundred new rows.
    """
    numbers = np.arange(first_own, first_own + len(X), dtype=np.int32)
    return _sweep(X, numbers, parts, alive, floors, k)


def research(
    rows: Int64, parts: Sequence[Part], alive: UInt8 | None, k: int
) -> tuple[Int32, Float32]:
    """Find the ``k`` ≥ 1 alive slots most similar to each of the slots ``rows`` (R,) of ``parts``.

    Returns indices (R, k) int32 and similarities (R, k) float32, best first, ties to the lower
    slot, the rest −1 and −inf. A slot is never its own neighbour; whether the slots in
    ``rows`` are alive themselves does not matter.
    """
    nothing = np.empty(0, np.float32)
    found = _sweep(gather(rows, parts), rows.astype(np.int32), parts, alive, nothing, k)
    return found.indices, found.similarities


def gather(rows: Int64, parts: Sequence[Part]) -> Float32:
    """Copy the vectors (R, D) of the slots ``rows`` (R,) out of ``parts``."""
    ends = np.array([first + len(vectors) for first, vectors in parts])
    within = np.searchsorted(ends, rows, side="right")
    X = np.empty((len(rows), parts[0][1].shape[1] if parts else 0), np.float32)
    for part in np.unique(within):
        first, vectors = parts[part]
        chosen = within == part
        X[chosen] = vectors[rows[chosen] - first]
    return X


def merge_lists(
    indices: Int32, values: Float32, more_indices: Int32, more_values: Float32, k: int
) -> tuple[Int32, Float32]:
    """Merge two sets of lists (M, k1) and (M, k2) into the ``k`` best, (M, k).

    Each list is sorted best first, ties to the lower slot, and ends with −1 and −inf where it
    has fewer entries; so is the result. No slot may stand in both lists of a row.
    """
    merged = np.full((len(indices), k), -1, np.int32)
    best = np.full((len(indices), k), -np.inf, np.float32)
    merge(indices, values, more_indices, more_values, merged, best)
    return merged, best


def recall(indices: Int32, values: Float32, exact_indices: Int32, exact_values: Float32) -> float:
    """Return which share of the exact neighbours (R, k) stands in the lists (R, k).

    A neighbour that is as similar as the last exact one counts as one of them. 1 when there
    is nothing to find.
    """
    there = exact_indices >= 0
    wanted = there.sum(axis=1)
    last = np.where(there, exact_values, np.inf).min(axis=1, initial=np.inf)
    hit = (indices[:, :, None] == exact_indices[:, None, :]).any(axis=2)
    hit |= values == last[:, None]
    found = np.minimum((hit & (indices >= 0)).sum(axis=1), wanted)
    return float(found.sum() / wanted.sum()) if wanted.any() else 1.0


def _sweep(
    X: Float32,
    numbers: Int32,
    parts: Sequence[Part],
    alive: UInt8 | None,
    floors: Float32,
    k: int,
) -> Block:
    # The rows of X are packed as columns, as many at a time as stay in the processor's cache;
    # the rows of the parts are read where they are.
    M, D = X.shape
    indices, values = np.full((M, k), -1, np.int32), np.full((M, k), -np.inf, np.float32)
    count = max(1, min(PACKED // max(D, 1), M + TILE_COLUMNS - 1) // TILE_COLUMNS)
    chunk = count * TILE_COLUMNS
    panels = aligned(count, D, TILE_COLUMNS)
    mask = np.empty(0, np.uint8) if alive is None else alive
    halves = _halves(parts)
    arrivals: list[tuple[Int32, Int32, Float32]] = []
    for start in range(0, M, chunk):
        width = min(chunk, M - start)
        pack(X, start, start + width, panels)
        meets = [_Meeting(panels, numbers[start : start + width], mask, floors, k) for _ in halves]
        other = helper().submit(meets[1].run, halves[1])
        meets[0].run(halves[0])
        other.result()
        # the second half's slots are the higher ones: they come after equals
        join(meets[1].values, meets[1].places, meets[0].values, meets[0].places)
        indices[start : start + width] = meets[0].places
        values[start : start + width] = meets[0].values
        arrivals += meets[0].arrivals + meets[1].arrivals
    slots = np.concatenate([slots for slots, _, _ in arrivals] or [np.empty(0, np.int32)])
    arrived = np.concatenate([new for _, new, _ in arrivals] or [np.empty(0, np.int32)])
    similar = np.concatenate([value for _, _, value in arrivals] or [np.empty(0, np.float32)])
    order = np.lexsort((arrived, -similar, slots))
    return Block(indices, values, slots[order], arrived[order], similar[order])


def _halves(parts: Iterable[Part]) -> tuple[list[Part], list[Part]]:
    # Two runs of parts with equally many rows.
    there = list(_joined(parts))
    middle = sum(len(vectors) for _, vectors in there) // 2
    low: list[Part] = []
    high: list[Part] = []
    for first, vectors in there:
        cut = min(max(middle, 0), len(vectors))
        middle -= len(vectors)
        if cut:
            low.append((first, vectors[:cut]))
        if cut < len(vectors):
            high.append((first + cut, vectors[cut:]))
    return low, high


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    # The parts with rows, neighbouring small ones copied together: a call of a kernel takes
    # as long as some dozen rows.
    small: list[Part] = []

    def flush() -> Iterator[Part]:
        if small:
            yield small[0][0], np.concatenate([vectors for _, vectors in small])
            small.clear()

    for first, vectors in parts:
        end = small[-1][0] + len(small[-1][1]) if small else first
        if len(vectors) >= SMALL or first != end:
            yield from flush()
        if len(vectors) >= SMALL:
            yield first, np.asarray(vectors)
        elif len(vectors):
            small.append((first, vectors))
    yield from flush()


class _Meeting:
    """One thread's share of a sweep: the lists of the packed rows, and the arrivals."""

    def __init__(
        self, panels: Float32, numbers: Int32, alive: UInt8, floors: Float32, k: int
    ) -> None:
        self.panels, self.numbers = panels, numbers
        self.alive, self.floors = alive, floors
        width = panels.shape[0] * TILE_COLUMNS
        self.values = np.full((len(numbers), k), -np.inf, np.float32)
        self.places = np.full((len(numbers), k), -1, np.int32)
        # columns that only fill a panel take nothing
        self.bounds = np.full(width, np.inf, np.float32)
        self.bounds[: len(numbers)] = -np.inf
        self.strip = aligned(TILE_ROWS, width)
        self.arrivals: list[tuple[Int32, Int32, Float32]] = []

    def run(self, parts: Sequence[Part]) -> None:
        size = max(HELD, TILE_ROWS * len(self.numbers))
        slots, arrived = np.empty(size, np.int32), np.empty(size, np.int32)
        values, held = np.empty(size, np.float32), np.zeros(1, np.int64)
        for first, vectors in parts:
            at = 0
            while at < len(vectors):
                at = meet(
                    vectors, at, first, self.panels, self.numbers, self.strip,
                    self.alive, self.floors, self.values, self.places, self.bounds,
                    slots, arrived, values, held,
                )  # fmt: skip
                if at < len(vectors):  # no room for what the next rows might bring
                    self._keep(slots, arrived, values, held)
        self._keep(slots, arrived, values, held)

    def _keep(self, slots: Int32, arrived: Int32, values: Float32, held: Int64) -> None:
        count = int(held[0])
        self.arrivals.append((slots[:count].copy(), arrived[:count].copy(), values[:count].copy()))
        held[0] = 0


@kernel(
    "int64(const float32[:,::1], int64, int64, const float32[:,:,::1], const int32[::1],"
    " float32[:,::1], const uint8[::1], const float32[::1],"
    " float32[:,::1], int32[:,::1], float32[::1],"
    " int32[::1], int32[::1], float32[::1], int64[::1])",
    using="oscillink_store.kernels.lanes",
)
def meet(
    vectors: Float32,
    start: int,
    slot: int,
    panels: Float32,
    numbers: Int32,
    strip: Float32,
    alive: UInt8,
    floors: Float32,
    values: Float32,
    places: Int32,
    bounds: Float32,
    arrival_slots: Int32,
    arrival_numbers: Int32,
    arrival_values: Float32,
    held: Int64,
) -> int:
    """Offer the rows of ``vectors`` (n, D), from ``start`` on, to the packed columns.

    Row i has slot ``slot`` + i; ``alive`` (S,) and ``floors`` (S,) go by slot and may be empty:
    then every row is alive, and none is told of the columns. Column j has the number
    ``numbers[j]``, its list in ``values``, ``places`` (M, k), and takes what exceeds
    ``bounds[j]``; places of bounds beyond the last column are +inf. Slots must come in
    ascending order, call by call. The arrivals go behind the first ``held[0]`` of the three
    arrays that hold them. Returns the first row not done: n, or less when twelve more rows
    might bring more arrivals than there is room for.
    """
    width = len(numbers)
    last = values.shape[1] - 1
    masked = len(alive) > 0
    watched = len(floors) > 0
    count = held[0]
    for first in range(start, vectors.shape[0], TILE_ROWS):
        height = min(TILE_ROWS, vectors.shape[0] - first)
        if count + height * width > len(arrival_slots):
            held[0] = count
            return first
        if masked:
            living = 0
            for r in range(height):
                living += alive[slot + first + r]
            if living == 0:
                continue
        for panel in range((width + TILE_COLUMNS - 1) // TILE_COLUMNS):
            product_tile(vectors, first, panels, panel, strip, panel * TILE_COLUMNS)
        for r in range(height):
            own = slot + first + r
            if masked and alive[own] == 0:
                continue
            if watched:
                floor = splat(floors[own])
                for column in range(0, width, LANES):
                    mask = exceeds(load(strip, r, column), floor)
                    while mask != 0:
                        j = column + int(trailing_zeros(mask))
                        mask &= mask - ONE
                        if j < width:
                            arrival_slots[count] = own
                            arrival_numbers[count] = numbers[j]
                            arrival_values[count] = strip[r, j]
                            count += 1
            for column in range(0, width, LANES):
                mask = exceeds(load(strip, r, column), load(bounds, 0, column))
                while mask != 0:
                    j = column + int(trailing_zeros(mask))
                    mask &= mask - ONE
                    if numbers[j] != own:
                        insert(values[j], places[j], last, strip[r, j], own)
                        bounds[j] = values[j, last]
    held[0] = count
    return len(vectors)


@kernel(
    "void(const int32[:,::1], const float32[:,::1], const int32[:,::1], const float32[:,::1],"
    " int32[:,::1], float32[:,::1])"
)
def merge(
    indices: Int32,
    values: Float32,
    more_indices: Int32,
    more_values: Float32,
    merged: Int32,
    best: Float32,
) -> None:
    """Fill ``merged`` and ``best`` (M, k) from two sorted lists per row, best first."""
    for i in range(merged.shape[0]):
        a, b = 0, 0
        for at in range(merged.shape[1]):
            left = a < indices.shape[1] and indices[i, a] >= 0
            right = b < more_indices.shape[1] and more_indices[i, b] >= 0
            if not left and not right:
                break
            if left and right:
                left = values[i, a] > more_values[i, b] or (
                    values[i, a] == more_values[i, b] and indices[i, a] < more_indices[i, b]
                )
            if left:
                merged[i, at] = indices[i, a]
                best[i, at] = values[i, a]
                a += 1
            else:
                merged[i, at] = more_indices[i, b]
                best[i, at] = more_values[i, b]
                b += 1


@kernel(
    "void(const int64[::1], const int32[::1], const float32[::1], int32[:,::1], float32[:,::1])"
)
def insert_each(
    rows: Int64, slots: Int32, similarities: Float32, indices: Int32, values: Float32
) -> None:
    """Insert entries (E,), in any order, into the lists (R, k) of their rows that they fit in.

    The lists are as in :func:`merge_lists`. No slot may come twice in a row.
    """
    last = indices.shape[1] - 1
    for entry in range(rows.shape[0]):
        row, slot, value = rows[entry], slots[entry], similarities[entry]
        if value > values[row, last] or (value == values[row, last] and slot < indices[row, last]):
            insert(values[row], indices[row], last, value, slot)
