"""Exact nearest neighbours by inner product, in blocks.

BLAS multiplies blocks of rows; a compiled pass keeps, per row, a few more than k of the
best. Those are then measured again by a product whose order of summation is fixed, so that
a similarity depends on its two rows alone. A float32 product of unit rows, summed in
whatever order, is off by at most D·2^-24 (Higham 2002, section 3.1); where that leaves open
which rows are the best k, the row is measured against all others. Hence neither the number
of threads nor the size of the blocks can change a result.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.layout import LANES, aligned

if TYPE_CHECKING:
    from collections.abc import Callable

    from oscillink_store.kernels.lanes import (
        exceeds,
        load,
        load_part,
        maximum,
        splat,
        store,
        trailing_zeros,
        wide_fma,
        wide_total,
        wide_zero,
    )

__all__ = ["knn_against", "knn_exact"]

SPARE = 4
WIDE = 4
ONE = np.uint64(1)
ALL_LANES = np.uint64(2**LANES - 1)
SMALL = 4096
SMALL_BLOCK = 256

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


def knn_exact(
    Y: Float32, k: int, *, block: int = 1024, progress: Callable[[int], None] | None = None
) -> tuple[Int32, Float32]:
    """Find the ``k`` most similar other rows of every row of ``Y`` (N, D), unit rows.

    Returns indices (N, k) int32 and similarities (N, k) float32, best first, ties to the
    lower index; places beyond the N − 1 other rows hold −1 and −inf. Every pair is
    multiplied once and serves both its rows. ``progress`` is told after each block how many
    rows' worth of pairs are done, N at the end. Besides its results this takes
    16·``block``² bytes and 8·(k + 5) bytes per row.
    """
    N = len(Y)
    if N <= SMALL:
        best = _Best(N, N, k, spare=SPARE // 2)
        # products that stay in the processor's cache are cheaper made twice than shared
        buffer = aligned(min(SMALL_BLOCK, N) * N)
        for low in range(0, N, SMALL_BLOCK):
            best.keep_rows(_product(Y[low : low + SMALL_BLOCK], Y, buffer), low, 0, low)
        if progress is not None:
            progress(N)
        return best.measured(Y, Y, 0)
    best = _Best(N, N, k)
    buffer = aligned(min(block, N) * min(block * WIDE, N))
    done = 0
    with ThreadPoolExecutor(2) as pool:
        for low in range(0, N, block):
            high = min(low + block, N)
            for left in range(low, N, block * WIDE):
                products = _product(Y[low:high], Y[left : left + block * WIDE], buffer)
                # the lists of the rows and those of the columns behind them are disjoint
                columns = pool.submit(best.keep_columns, products, low, left, max(high - left, 0))
                best.keep_in_halves(products, low, left, low, pool)
                columns.result()
            done += (high - low) * (2 * N - low - high)
            if progress is not None:
                progress(done // N)
        return best.measured(Y, Y, 0, pool)


def knn_against(X: Float32, Y: Float32, k: int, *, block: int = 1024) -> tuple[Int32, Float32]:
    """Find the ``k`` rows of ``Y`` (N, D) most similar to each row of ``X`` (M, D), unit rows.

    Returns indices (M, k) and similarities (M, k) as :func:`knn_exact` does; a row of X that
    also stands in Y finds itself.
    """
    M, N = len(X), len(Y)
    best = _Best(M, N, k)
    buffer = aligned(min(block, M) * min(block * WIDE, N))
    with ThreadPoolExecutor(2) as pool:
        for low in range(0, M, block):
            for left in range(0, N, block * WIDE):
                products = _product(X[low : low + block], Y[left : left + block * WIDE], buffer)
                # rows numbered behind the last column: none of them is one of the columns
                best.keep_rows(products, low, left, low + N)
        return best.measured(X, Y, N, pool)


def _product(X: Float32, Y: Float32, buffer: Float32) -> Float32:
    return np.matmul(X, Y.T, out=buffer[: len(X) * len(Y)].reshape(len(X), len(Y)))


class _Best:
    """For each of M rows a list of the best few of N columns by approximate products."""

    def __init__(self, M: int, N: int, k: int, spare: int = SPARE) -> None:
        self.k = k
        room = min(k + spare, max(N, 1))
        self.values = np.full((M, room), -np.inf, np.float32)
        self.places = np.full((M, room), -1, np.int32)
        self.worst = np.full(M, -np.inf, np.float32)

    def keep_rows(self, products: Float32, row: int, column: int, own: int) -> None:
        """Offer each row's products to its list; row i bears the number ``own`` + i."""
        maxima = np.empty(4 * LANES, np.float32)
        keep_rows(products, row, column, own, self.values, self.places, self.worst, maxima)

    def keep_in_halves(
        self, products: Float32, row: int, column: int, own: int, pool: ThreadPoolExecutor
    ) -> None:
        """Do :meth:`keep_rows` on two threads."""
        half = len(products) // 2
        first = pool.submit(self.keep_rows, products[:half], row, column, own)
        self.keep_rows(products[half:], row + half, column, own + half)
        first.result()

    def keep_columns(self, products: Float32, row: int, column: int, skip: int) -> None:
        """Offer each column's products to its list, but for the first ``skip`` columns."""
        keep_columns(products, row, column, skip, self.values, self.places, self.worst)

    def measured(
        self, X: Float32, Y: Float32, own: int, pool: ThreadPoolExecutor | None = None
    ) -> tuple[Int32, Float32]:
        """Measure the kept columns by the fixed-order product and return the best k."""
        M, D = X.shape
        indices = np.full((M, self.k), -1, np.int32)
        similarity = np.full((M, self.k), -np.inf, np.float32)
        slack = np.float32((D + 8) * 2.0**-24)

        def part(low: int, high: int) -> None:
            measure(X, Y, low, high, own, self.places, self.worst, slack, indices, similarity)

        if pool is None:
            part(0, M)
        else:
            first = pool.submit(part, 0, M // 2)
            part(M // 2, M)
            first.result()
        return indices, similarity


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
    "float32(const float32[:,::1], int64, int64, float32[::1])",
    using="oscillink_store.kernels.lanes",
)
def floor(S: Float32, i: int, count: int, maxima: Float32) -> np.float32:
    """Return a number that at least ``count`` values of row i exceed, as large as is cheap.

    The largest value of every 64th column is written to ``maxima`` (64,); the ``count``-th
    of these, or just below it, is the answer.
    """
    m0, m1 = load(S, i, 0), load(S, i, LANES)
    m2, m3 = load(S, i, 2 * LANES), load(S, i, 3 * LANES)
    for start in range(4 * LANES, S.shape[1] - 4 * LANES + 1, 4 * LANES):
        m0 = maximum(m0, load(S, i, start))
        m1 = maximum(m1, load(S, i, start + LANES))
        m2 = maximum(m2, load(S, i, start + 2 * LANES))
        m3 = maximum(m3, load(S, i, start + 3 * LANES))
    lanes = 2 * LANES
    store(maxima, 0, 0, maximum(m0, m1))
    store(maxima, 0, LANES, maximum(m2, m3))
    if count > LANES:
        lanes = 4 * LANES
        store(maxima, 0, 0, m0)
        store(maxima, 0, LANES, m1)
        store(maxima, 0, 2 * LANES, m2)
        store(maxima, 0, 3 * LANES, m3)
    for lane in range(1, lanes):
        value = maxima[lane]
        at = min(lane, count - 1)
        if value <= maxima[at] and lane > at:
            continue
        while at > 0 and maxima[at - 1] < value:
            maxima[at] = maxima[at - 1]
            at -= 1
        maxima[at] = value
    bound = maxima[count - 1]
    return np.float32(bound - np.float32(abs(bound) * 1e-6 + 1e-30))


@kernel(
    "void(const float32[:,::1], int64, int64, int64, float32[:,::1], int32[:,::1], float32[::1],"
    " float32[::1])",
    using="oscillink_store.kernels.lanes",
)
def keep_rows(
    S: Float32,
    row: int,
    column: int,
    own: int,
    values: Float32,
    places: Int32,
    worst: Float32,
    maxima: Float32,
) -> None:
    """Offer S_ij to the list of row ``row`` + i, for every column ``column`` + j but its own.

    ``values`` and ``places`` (M, room): the lists, sorted; ``worst`` (M,): what a value must
    exceed to be kept. ``maxima`` is scratch for :func:`floor`, which spares an empty list
    most of the values that would not stay.
    """
    last = values.shape[1] - 1
    width = S.shape[1]
    whole = width - width % LANES
    # one of the values may be the row's own, which does not count
    spared = width >= 8 * LANES and last + 2 <= 3 * LANES
    for i in range(S.shape[0]):
        at = row + i
        if spared and places[at, last] < 0:
            worst[at] = max(worst[at], floor(S, i, last + 2, maxima))
        bound = splat(worst[at])
        for start in range(0, width, LANES):
            mask = ALL_LANES
            if start < whole:
                mask = exceeds(load(S, i, start), bound)
            while mask != 0:
                j = start + int(trailing_zeros(mask))
                mask &= mask - ONE
                if j < width and S[i, j] > worst[at] and column + j != own + i:
                    insert(values[at], places[at], last, S[i, j], column + j)
                    worst[at] = max(worst[at], values[at, last])
            bound = splat(worst[at])


@kernel(
    "void(const float32[:,::1], int64, int64, int64, float32[:,::1], int32[:,::1], float32[::1])",
    using="oscillink_store.kernels.lanes",
)
def keep_columns(
    S: Float32, row: int, column: int, skip: int, values: Float32, places: Int32, worst: Float32
) -> None:
    """Offer S_ij to the list of column ``column`` + j as row ``row`` + i, for j ≥ ``skip``.

    The lists are those of :func:`keep_rows`.
    """
    last = values.shape[1] - 1
    width = S.shape[1]
    for i in range(S.shape[0]):
        for start in range(skip, width, LANES):
            if start + LANES <= width and (
                exceeds(load(S, i, start), load(worst, 0, column + start)) == 0
            ):
                continue
            for j in range(start, min(start + LANES, width)):
                at = column + j
                if S[i, j] > worst[at]:
                    insert(values[at], places[at], last, S[i, j], row + i)
                    worst[at] = max(worst[at], values[at, last])


@kernel(
    "float64(const float32[:,::1], int64, const float32[:,::1], int64)",
    using="oscillink_store.kernels.lanes",
)
def inner_product(X: Float32, i: int, Y: Float32, j: int) -> float:
    """X_i·Y_j in float64, summed in a fixed order that does not tell X from Y."""
    D = X.shape[1]
    sums = wide_zero()
    for d in range(0, D, LANES):
        width = min(LANES, D - d)
        sums = wide_fma(load_part(X, i, d, width), load_part(Y, j, d, width), sums)
    return wide_total(sums)


@kernel(
    "void(const float32[:,::1], const float32[:,::1], int64, int64, int64, const int32[:,::1],"
    " const float32[::1], float32, int32[:,::1], float32[:,::1])",
    using="oscillink_store.kernels.lanes",
)
def measure(
    X: Float32,
    Y: Float32,
    low: int,
    high: int,
    own: int,
    places: Int32,
    worst: Float32,
    slack: np.float32,
    indices: Int32,
    similarity: Float32,
) -> None:
    """Fill ``indices`` and ``similarity`` (M, k) from the kept columns of rows low to high.

    What a full list has dropped had an approximate product of at most ``worst``; only when
    that plus ``slack`` reaches the k-th similarity is the row measured against all of Y.
    Row i bears the number ``own`` + i, and no row is its own neighbour.
    """
    room = places.shape[1]
    last = indices.shape[1] - 1
    for i in range(low, high):
        for c in range(room):
            j = places[i, c]
            if j < 0:
                break
            s = np.float32(inner_product(X, i, Y, j))
            if s > similarity[i, last] or (s == similarity[i, last] and j < indices[i, last]):
                insert(similarity[i], indices[i], last, s, j)
        if places[i, room - 1] < 0 or worst[i] + slack < similarity[i, last]:
            continue
        for c in range(last + 1):
            similarity[i, c] = -np.inf
            indices[i, c] = -1
        for j in range(Y.shape[0]):
            s = np.float32(inner_product(X, i, Y, j))
            if j != own + i and s > similarity[i, last]:
                insert(similarity[i], indices[i], last, s, j)
