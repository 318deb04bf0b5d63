"""Nearest neighbours of very many rows: each is compared with the cells nearest to it.

The rows are grouped into cells around centres, and every row meets the rows of the cells whose
centres are nearest to it: a join by an inverted file (Sivic & Zisserman 2003; Jégou, Douze &
Schmid 2011, section 4). Where few axes tell nearly all of the inner products, rows meet in
those, and the best twice k of each are compared exactly. How many axes and cells it takes is
read off a sample of rows whose neighbours are known, and the recall is measured on another
sample. Similarities have the bits of :func:`~oscillink_store.kernels.knn.knn_exact`; with all
axes and cells so have the lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.cells import make_cells, spread
from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.knn import PACKED, helper, insert, knn_exact, multiply, pack
from oscillink_store.kernels.knn_upkeep import recall, research
from oscillink_store.kernels.layout import LANES, TILE_COLUMNS, TILE_ROWS, aligned
from oscillink_store.kernels.reduced import principal_axes, project, rescore

if TYPE_CHECKING:
    from oscillink_store.kernels.lanes import exceeds, load, product_tile, trailing_zeros

__all__ = ["Partitioned", "knn_partitioned"]

AUDITED = 300
CELLS = 2.0  # times the square root of the number of rows
CANDIDATES = 2  # times k
COSTLY = 0.1
EXACT_BELOW = 20_000
KEPT = 0.7
MARGIN = 0.3
SAMPLE = 8192
SHORTENED = 64
SHORTER = (6, 4, 3)
TASK = 1024
WORTHWHILE = 0.8
ONE = np.uint64(1)

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Lists = tuple[Int32, Float32]


class Partitioned(NamedTuple):
    """Neighbour lists of N rows, and how far they can be trusted.

    ``indices`` (N, k) int32 and ``similarities`` (N, k) float32 are best first, ties to the
    lower index, the rest −1 and −inf; ``floors`` (N,) float32 are the last similarities.
    ``recall`` is the share of the exact k neighbours that stood in the lists of ``audited``
    rows. Each row met the rows of ``probes`` out of ``cells`` cells, 1 of 1 when it met all
    rows, along ``axes`` axes, which are D when the rows met as they are. When everything was
    compared exactly, recall is 1 and audited 0.
    """

    indices: Int32
    similarities: Float32
    floors: Float32
    recall: float
    audited: int
    cells: int
    probes: int
    axes: int


def knn_partitioned(
    vectors: Float32,
    k: int,
    *,
    wanted: float = 0.95,
    exact_below: int = EXACT_BELOW,
    progress: Callable[[int], None] | None = None,
) -> Partitioned:
    """Find nearly all of the ``k`` ≥ 1 nearest others of the unit rows ``vectors`` (N, D ≥ 1).

    Cells are added until the audited recall is at least ``wanted``; fewer rows than
    ``exact_below``, or rows without structure, are compared one and all. Deterministic; works
    on two threads. ``progress`` is told how many rows' worth of work is done, N at the end.
    Besides its results this takes as much memory as the vectors and about a hundred megabytes.
    """
    N = len(vectors)
    told = -1

    def tell(done: int) -> None:
        nonlocal told
        if progress is not None and done > told:
            told = done
            progress(done)

    everyone = np.arange(N)
    if max(exact_below, 2) <= N:
        truth = _Truth(vectors, k)
        # a little more than wanted: the sample has an error of about a hundredth
        share = wanted + MARGIN * (1.0 - wanted)
        rows, length, join = vectors, k, _Join(vectors, k, truth)
        if join.cost(join.holding(share)) > COSTLY:
            shorter = _shortened(vectors, truth, CANDIDATES * k, wanted)
            if shorter is not None:
                rows, length = shorter, CANDIDATES * k
                join = _Join(rows, length, truth)
        probes = join.holding(share)
        while join.cost(probes) <= WORTHWHILE:
            join.probe(probes, tell)
            found = truth.recall(vectors, join.lists(truth.audited))
            if found >= wanted or probes == join.count:
                lists = _compared(vectors, everyone, join.lists(everyone), k)
                tell(N)
                return _result(lists, (found, len(truth.audited)), (join.count, probes), rows)
            probes = min(join.count, probes + probes // 2 + 1)
        del join
        if length > k:
            candidates = knn_exact(rows, length, progress=tell)
            some = candidates[0][truth.audited], candidates[1][truth.audited]
            found = truth.recall(vectors, some)
            if found >= wanted:
                lists = _compared(vectors, everyone, candidates, k)
                return _result(lists, (found, len(truth.audited)), (1, 1), rows)
    lists = knn_exact(vectors, k, progress=tell)
    return _result(lists, (1.0, 0), (1, 1), vectors)


def _result(
    lists: Lists, audit: tuple[float, int], visited: tuple[int, int], rows: Float32
) -> Partitioned:
    floors = lists[1][:, -1].copy()
    return Partitioned(*lists, floors, *audit, *visited, len(rows.T))


def _compared(vectors: Float32, rows: Int64, lists: Lists, k: int) -> Lists:
    # Longer lists than wanted are those of shortened rows.
    return lists if lists[0].shape[1] == k else rescore(vectors, rows, lists[0], k)


class _Truth:
    """The exact neighbours of two samples: one to choose by, the other to judge by."""

    def __init__(self, vectors: Float32, k: int) -> None:
        N = len(vectors)
        self.chosen, self.audited = spread(N, AUDITED, 0.25), spread(N, AUDITED, 0.75)
        both = np.concatenate([self.chosen, self.audited])
        indices, similarities = research(both, [(0, vectors)], None, k)
        self.neighbors = indices[: len(self.chosen)]
        self.there = self.neighbors >= 0
        # those that shortened rows still show
        self.kept = self.there
        self.exact = indices[len(self.chosen) :], similarities[len(self.chosen) :]

    def keep(self, candidates: Int32) -> float:
        """Which share of the first sample's neighbours is among the candidates (n, c)."""
        among = (self.neighbors[:, :, None] == candidates[:, None, :]).any(axis=2)
        self.kept = self.there & among
        return float(self.kept.sum() / self.there.sum())

    def recall(self, vectors: Float32, lists: Lists) -> float:
        """The recall of the lists of the second sample."""
        k = self.neighbors.shape[1]
        return recall(*_compared(vectors, self.audited, lists, k), *self.exact)


def _shortened(vectors: Float32, truth: _Truth, length: int, wanted: float) -> Float32 | None:
    # The rows along as few axes as keep the neighbours in lists of that length, if any do.
    N, D = vectors.shape
    if D >= SHORTENED:
        sample = np.asarray(vectors[spread(N, SAMPLE, 0.5)])
        axes = principal_axes(sample, D // SHORTER[-1])
        for part in SHORTER:
            Z = project(vectors, axes[: D // part])
            candidates, _ = research(truth.chosen, [(0, Z)], None, length)
            if truth.keep(candidates) >= wanted + KEPT * (1.0 - wanted):
                return Z
        truth.kept = truth.there
    return None


class _Join:
    """Rows in the order of their cells, and the lists found so far."""

    def __init__(self, vectors: Float32, k: int, truth: _Truth) -> None:
        N, D = vectors.shape
        cells = make_cells(vectors, round(CELLS * math.sqrt(N)))
        self.count = len(cells.centres)
        self.panels = aligned(-(-self.count // TILE_COLUMNS), D, TILE_COLUMNS)
        pack(cells.centres, 0, self.count, self.panels)
        self.starts = cells.starts
        self.numbers = cells.order.astype(np.int32)
        self.place = np.empty(N, np.int32)
        self.place[self.numbers] = np.arange(N, dtype=np.int32)
        self._rank(np.asarray(vectors[truth.chosen]), truth)
        self.vectors, self.order = vectors, cells.order
        self.rows = aligned(0, D)
        self.values = np.full((N, k), -np.inf, np.float32)
        self.places = np.full((N, k), -1, np.int32)
        # a row has met the cells whose centres are at least as similar as this
        self.reach = np.full(N, np.inf, np.float32)

    def _rank(self, X: Float32, truth: _Truth) -> None:
        # The ranks of the neighbours' cells among the cells nearest to a row, ascending, and
        # the mean number of rows in the 1, 2, ... nearest cells.
        ranking = np.argsort(-self._products(X), axis=1, kind="stable")
        rank = np.empty_like(ranking)
        np.put_along_axis(rank, ranking, np.arange(self.count)[None, :], axis=1)
        cell = np.searchsorted(self.starts, self.place[truth.neighbors], side="right") - 1
        ranks = np.where(truth.kept, np.take_along_axis(rank, cell, axis=1), self.count - 1)
        self.ranks = np.sort(ranks[truth.there])
        self.met = np.diff(self.starts)[ranking].cumsum(axis=1).mean(axis=0)

    def _products(self, X: Float32) -> Float32:
        S = np.empty((len(X), self.count), np.float32)
        multiply(X, self.panels, aligned(TILE_ROWS, self.panels.shape[0] * TILE_COLUMNS), S)
        return S

    def holding(self, share: float) -> int:
        """How many of its nearest cells hold ``share`` of the neighbours of a row."""
        return 1 + int(self.ranks[min(int(share * len(self.ranks)), len(self.ranks) - 1)])

    def cost(self, probes: int) -> float:
        """The number of products for ``probes`` cells, by that for all pairs of rows."""
        return 2.0 * float(self.met[probes - 1]) / len(self.vectors)

    def probe(self, probes: int, tell: Callable[[int], None]) -> None:
        """Let each row meet the rows of the ``probes`` cells nearest to it, if it has not."""
        N, D = self.vectors.shape
        if len(self.rows) < N:
            # cell by cell: the rows that meet lie together
            self.rows = aligned(N, D)
            for start in range(0, N, TASK):
                chosen = self.order[start : start + TASK]
                self.rows[start : start + TASK] = self.vectors[chosen]
        tasks = iter(range(0, N, TASK))
        other = helper().submit(self._work, probes, tasks, None)
        self._work(probes, tasks, tell)
        other.result()

    def _work(self, probes: int, tasks: Iterator[int], tell: Callable[[int], None] | None) -> None:
        N, D = self.rows.shape
        count = max(1, min(PACKED // D, TASK + TILE_COLUMNS - 1) // TILE_COLUMNS)
        panels = aligned(count, D, TILE_COLUMNS)
        strip, bounds = aligned(TILE_ROWS, count * TILE_COLUMNS), aligned(count * TILE_COLUMNS)
        # a row belongs to one task: which thread takes which does not matter
        for start in tasks:
            end = min(start + TASK, N)
            near = self._products(self.rows[start:end])
            reach = np.partition(near, self.count - probes, axis=1)[:, self.count - probes]
            meets = (near >= reach[:, None]) & (near < self.reach[start:end, None])
            self.reach[start:end] = reach
            cells, rows = np.nonzero(meets.T)
            each = np.bincount(cells, minlength=self.count)
            # cells that many are near to come first, which makes good lists soon
            visit(
                self.rows, self.numbers, self.starts, np.argsort(-each, kind="stable"),
                np.append(0, np.cumsum(each)), rows + start, panels, strip, bounds,
                self.values, self.places,
            )  # fmt: skip
            if tell is not None:
                tell(end)

    def lists(self, rows: Int64) -> Lists:
        """The lists of ``rows`` found so far."""
        at = self.place[rows]
        return self.places[at], self.values[at]


@kernel("float32(float32[::1])")
def bar(values: Float32) -> np.float32:
    """Return a number that lies by a few units in the last place below the last value."""
    last = values[len(values) - 1]
    return np.float32(last - np.float32(abs(last) * np.float32(2.4e-7) + np.float32(1e-37)))


@kernel("void(const float32[:,::1], const int64[::1], float32[:,:,::1])")
def pack_chosen(Y: Float32, chosen: Int64, panels: Float32) -> None:
    """Copy the rows ``chosen`` (n,) of ``Y`` (N, D) to the first n columns of ``panels``."""
    for panel in range((len(chosen) + TILE_COLUMNS - 1) // TILE_COLUMNS):
        start = panel * TILE_COLUMNS
        for c in range(TILE_COLUMNS):
            # what only fills the panel repeats the last row
            row = chosen[min(start + c, len(chosen) - 1)]
            for d in range(Y.shape[1]):
                panels[panel, d, c] = Y[row, d]


@kernel(
    "void(const float32[:,::1], const int32[::1], const int64[::1], const int64[::1],"
    " const int64[::1], const int64[::1], float32[:,:,::1], float32[:,::1], float32[::1],"
    " float32[:,::1], int32[:,::1])",
    using="oscillink_store.kernels.lanes",
)
def visit(
    Y: Float32,
    numbers: Int32,
    starts: Int64,
    cells: Int64,
    visits: Int64,
    visitors: Int64,
    panels: Float32,
    strip: Float32,
    bounds: Float32,
    values: Float32,
    places: Int32,
) -> None:
    """Offer the rows of each cell to its visitors.

    Cell c has the rows ``starts[c]`` to ``starts[c + 1]`` − 1 of ``Y`` (N, D) and its visitors
    are the rows ``visitors[visits[c]:visits[c + 1]]``, whose lists are those of ``values`` and
    ``places`` (N, k); row i is known there as ``numbers[i]``. The ``cells`` are taken in their
    order, which makes no difference to the lists as long as no row visits a cell twice.
    ``panels`` (P, D, 32), ``strip`` (12, 32 P) and ``bounds`` (32 P,) are scratch.
    """
    last = values.shape[1] - 1
    for cell in cells:
        for low in range(visits[cell], visits[cell + 1], len(bounds)):
            width = min(len(bounds), visits[cell + 1] - low)
            pack_chosen(Y, visitors[low : low + width], panels)
            for j in range(len(bounds)):
                bounds[j] = np.inf if j >= width else bar(values[visitors[low + j]])
            for first in range(starts[cell], starts[cell + 1], TILE_ROWS):
                for panel in range((width + TILE_COLUMNS - 1) // TILE_COLUMNS):
                    product_tile(Y, first, panels, panel, strip, panel * TILE_COLUMNS)
                for r in range(min(TILE_ROWS, starts[cell + 1] - first)):
                    number = numbers[first + r]
                    for start in range(0, width, LANES):
                        mask = exceeds(load(strip, r, start), load(bounds, 0, start))
                        while mask != 0:
                            j = start + int(trailing_zeros(mask))
                            mask &= mask - ONE
                            at = visitors[low + j]
                            value = strip[r, j]
                            if at != first + r and (
                                value > values[at, last]
                                or (value == values[at, last] and number < places[at, last])
                            ):
                                insert(values[at], places[at], last, value, number)
                                bounds[j] = bar(values[at])
