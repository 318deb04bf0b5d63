"""Exact nearest neighbours by inner product.

Rows are multiplied in small tiles, and each strip of products goes at once into the lists of
the best k. A product is one chain of fused multiply-adds along the columns, so it depends on
its two rows alone: neither the number of threads nor the size of the blocks can change a
result, and equal rows tie exactly. It is off by at most D·2^-24 for unit rows (Higham 2002,
section 3.1), in practice by a few units in the last place.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.layout import LANES, TILE_COLUMNS, TILE_ROWS, aligned

if TYPE_CHECKING:
    from collections.abc import Callable

    from oscillink_store.kernels.lanes import (
        below,
        exceeds,
        largest,
        load,
        maximum,
        product_tile,
        splat,
        trailing_zeros,
    )

__all__ = ["knn_against", "knn_exact"]

PACKED = 1 << 18
ALL_LANES, ONE = np.uint64(2**LANES - 1), np.uint64(1)

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


def knn_exact(
    Y: Float32, k: int, *, block: int = 2048, progress: Callable[[int], None] | None = None
) -> tuple[Int32, Float32]:
    """Find the ``k`` most similar other rows of every row of ``Y`` (N, D), unit rows.

    Returns indices (N, k) int32 and similarities (N, k) float32, best first, ties to the
    lower index; places beyond the N − 1 other rows hold −1 and −inf. Works on two threads.
    Every pair of rows from different blocks is multiplied once and serves both.
    ``progress`` is told after each block how many rows' worth of pairs are done, N at the
    end. Besides its results this takes 8 bytes per row and neighbour of one block, and a few
    megabytes of buffers.
    """
    N = len(Y)
    best = Lists(N, k)
    for low in range(0, N, block):
        high = min(low + block, N)
        rows = Y[low:high]
        # within the block: each thread has half of the rows
        middle = low + (high - low) // 2
        other = helper().submit(_offer, Y[low:middle], rows, best, low, low, low)
        _offer(Y[middle:high], rows, best, middle, middle, low)
        other.result()
        if high < N:
            # with the rows behind it: each thread has half of those, and lists of its own
            middle = high + (N - high) // 2
            beside = Lists(high - low, k)
            other = helper().submit(_offer, rows, Y[middle:], beside, 0, low, middle, best)
            _offer(rows, Y[high:middle], best, low, low, high, best)
            other.result()
            join(beside.values, beside.places, best.values[low:high], best.places[low:high])
        if progress is not None:
            progress((high * (2 * N - high)) // N)
    return best.places, best.values


def knn_against(X: Float32, Y: Float32, k: int) -> tuple[Int32, Float32]:
    """Find the ``k`` rows of ``Y`` (N, D) most similar to each row of ``X`` (M, D), unit rows.

    Returns indices (M, k) and similarities (M, k) as :func:`knn_exact` does; a row of X that
    also stands in Y finds itself.
    """
    best = Lists(len(X), k)
    middle = len(X) // 2
    # rows numbered behind the last column: none of them is one of the columns
    other = helper().submit(_offer, X[:middle], Y, best, 0, len(Y), 0)
    _offer(X[middle:], Y, best, middle, len(Y), 0)
    other.result()
    return best.places, best.values


@cache
def helper() -> ThreadPoolExecutor:
    # One thread besides the caller's. Kernels release the GIL; a helper never waits for one.
    return ThreadPoolExecutor(1, "oscillink-knn")


class Lists:
    """For each row the best k so far: values and places (n, k), and what it takes to enter."""

    def __init__(self, n: int, k: int) -> None:
        self.values = np.full((n, k), -np.inf, np.float32)
        self.places = np.full((n, k), -1, np.int32)
        self.bounds = np.full(n, -np.inf, np.float32)


def _offer(
    X: Float32,
    Y: Float32,
    rows: Lists,
    row: int,
    own: int,
    column: int,
    columns: Lists | None = None,
) -> None:
    """Offer the rows of Y, numbered from ``column``, to those of X, and the other way round.

    Row i of X has list ``row`` + i and the number ``own`` + i; the lists of the rows of Y are
    in ``columns``, at their numbers, when those are to be served too.
    """
    D = X.shape[1]
    # as many columns at a time as stay in the processor's cache
    count = max(1, min(PACKED // D, len(Y) + TILE_COLUMNS - 1) // TILE_COLUMNS)
    chunk = count * TILE_COLUMNS
    panels = aligned(count, D, TILE_COLUMNS)
    strip = aligned(TILE_ROWS, chunk)
    for start in range(0, len(Y) if len(X) else 0, chunk):
        part = Y[start : start + chunk]
        pack(part, 0, len(part), panels)
        served = rows if columns is None else columns
        offer(
            X, panels, len(part), strip, row, own, column + start,
            rows.values, rows.places, rows.bounds,
            columns is not None, served.values, served.places, served.bounds,
        )  # fmt: skip


@kernel("void(const float32[:,::1], int64, int64, float32[:,:,::1])")
def pack(Y: Float32, first: int, end: int, panels: Float32) -> None:
    """Copy rows ``first`` to ``end`` − 1 of ``Y`` (n, D) to columns of ``panels`` (P, D, 32).

    Zeros fill the last panel that they reach; the panels behind it stay as they are.
    """
    for panel in range((end - first + TILE_COLUMNS - 1) // TILE_COLUMNS):
        start = first + panel * TILE_COLUMNS
        for d in range(Y.shape[1]):
            for c in range(TILE_COLUMNS):
                panels[panel, d, c] = Y[start + c, d] if start + c < end else np.float32(0.0)


@kernel(
    "void(const float32[:,::1], const float32[:,:,::1], float32[:,::1], float32[:,::1])",
    using="oscillink_store.kernels.lanes",
)
def multiply(X: Float32, panels: Float32, strip: Float32, S: Float32) -> None:
    """Multiply the rows of ``X`` (M, D) with C packed columns, into ``S`` (M, C).

    ``strip`` (12, 32 times the panels) is scratch.
    """
    for first in range(0, X.shape[0], TILE_ROWS):
        for panel in range(panels.shape[0]):
            product_tile(X, first, panels, panel, strip, panel * TILE_COLUMNS)
        for r in range(min(TILE_ROWS, X.shape[0] - first)):
            for c in range(S.shape[1]):
                S[first + r, c] = strip[r, c]


@kernel("void(float32[::1], int32[::1], int64, float32, int64)")
def insert(values: Float32, places: Int32, last: int, value: np.float32, place: int) -> None:
    """Put (value, place) into a list sorted by value, then by place, dropping the last."""
    at = last
    while at > 0 and (
        values[at - 1] < value or (values[at - 1] == value and places[at - 1] > place)
    ):
        values[at] = values[at - 1]
        places[at] = places[at - 1]
        at -= 1
    values[at] = value
    places[at] = place


@kernel(
    "float32(const float32[:,::1], int64, int64, int64)",
    using="oscillink_store.kernels.lanes",
)
def floor(S: Float32, i: int, width: int, count: int) -> np.float32:
    """Return a number that at least ``count`` ≤ 32 of a row's first ``width`` values exceed.

    It lies just below the ``count``-th of the largest values of every 32nd column, and so is
    as large as is cheap; −inf when fewer of those differ.
    """
    m0, m1 = load(S, i, 0), load(S, i, LANES)
    for start in range(2 * LANES, width - 2 * LANES + 1, 2 * LANES):
        m0 = maximum(m0, load(S, i, start))
        m1 = maximum(m1, load(S, i, start + LANES))
    bound = largest(maximum(m0, m1))
    for _ in range(1, count):
        m0, m1 = below(m0, splat(bound)), below(m1, splat(bound))
        bound = largest(maximum(m0, m1))
    return np.float32(bound - np.float32(abs(bound) * 1e-6 + 1e-30))


@kernel(
    "void(const float32[:,::1], const float32[:,:,::1], int64, float32[:,::1],"
    " int64, int64, int64, float32[:,::1], int32[:,::1], float32[::1],"
    " int64, float32[:,::1], int32[:,::1], float32[::1])",
    using="oscillink_store.kernels.lanes",
)
def offer(
    X: Float32,
    panels: Float32,
    width: int,
    strip: Float32,
    row: int,
    own: int,
    column: int,
    values: Float32,
    places: Int32,
    bounds: Float32,
    mutual: int,
    column_values: Float32,
    column_places: Int32,
    column_bounds: Float32,
) -> None:
    """Multiply the rows of ``X`` (M, D) with ``width`` packed columns and keep the best.

    Row i of X has the list ``row`` + i of ``values``, ``places`` (n, k) and ``bounds`` (n,),
    the number ``own`` + i, and is no neighbour of the column of that number; the columns are
    numbered from ``column``. If ``mutual``, the columns' own lists receive the rows.
    ``strip`` (12, ≥ width) is scratch. What comes first stays when
    values are equal: columns must come in ascending order, call by call.
    """
    last = values.shape[1] - 1
    # a floor spares an empty list most of the values that would not stay; one of the values
    # may be the row's own, which does not count
    spared = width >= 8 * LANES and last + 2 <= 2 * LANES
    for first in range(0, X.shape[0], TILE_ROWS):
        for panel in range((width + TILE_COLUMNS - 1) // TILE_COLUMNS):
            product_tile(X, first, panels, panel, strip, panel * TILE_COLUMNS)
        height = min(TILE_ROWS, X.shape[0] - first)
        for r in range(height):
            at = row + first + r
            if spared and places[at, last] < 0:
                bounds[at] = max(bounds[at], floor(strip, r, width, last + 2))
            bound = splat(bounds[at])
            for start in range(0, width, LANES):
                mask = exceeds(load(strip, r, start), bound)
                while mask != 0:
                    j = start + int(trailing_zeros(mask))
                    mask &= mask - ONE
                    value = strip[r, j]
                    if j < width and value > bounds[at] and column + j != own + first + r:
                        insert(values[at], places[at], last, value, column + j)
                        bounds[at] = max(bounds[at], values[at, last])
                        bound = splat(bounds[at])
        if not mutual:
            continue
        for start in range(0, width, LANES):
            whole = start + LANES <= width
            for r in range(height):
                mask = ALL_LANES
                if whole:
                    mask = exceeds(load(strip, r, start), load(column_bounds, 0, column + start))
                while mask != 0:
                    j = start + int(trailing_zeros(mask))
                    mask &= mask - ONE
                    at = column + j
                    if j < width and strip[r, j] > column_bounds[at]:
                        insert(
                            column_values[at], column_places[at], last, strip[r, j],
                            own + first + r,
                        )  # fmt: skip
                        column_bounds[at] = max(column_bounds[at], column_values[at, last])


@kernel("void(const float32[:,::1], const int32[:,::1], float32[:,::1], int32[:,::1])")
def join(more_values: Float32, more_places: Int32, values: Float32, places: Int32) -> None:
    """Put the entries of one set of lists (n, k) into another, best first."""
    n, k = values.shape
    for i in range(n):
        for c in range(k):
            if more_places[i, c] >= 0 and more_values[i, c] > values[i, k - 1]:
                insert(values[i], places[i], k - 1, more_values[i, c], more_places[i, c])
