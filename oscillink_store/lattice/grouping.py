"""Groups of rows of about equal size: by their embeddings, or by a value.

Rows are grouped around centres by spherical k-means (:mod:`oscillink_store.kernels.cells`).
Groups of more than twice the size that is wanted are grouped again by themselves, and those of
less than an eighth give their rows to others. Everything follows fixed rules, so the same rows
in the same order make the same groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.cells import make_cells
from oscillink_store.kernels.knn import knn_against

__all__ = ["Grouping", "Take", "by_value", "centre_of", "grouped", "most", "nearest"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]

Take = Callable[[Rows], Float32]
"""The unit embeddings (n, D) of some rows (n,), however they are stored."""

_SMALLEST = 8  # what is smaller than this part of the size wanted is no group of its own
_BLOCK = 1 << 16


class Grouping(NamedTuple):
    """Which group each of n rows is in, ``own`` (n,) int32, and the ``centres`` (G, D) float32."""

    own: Int32
    centres: Float32


def most(size: int) -> int:
    """How many rows a group may have where ``size`` is wanted."""
    return 2 * size


def grouped(rows: Rows, take: Take, size: int) -> Grouping:
    """Group ``rows`` (n,) by their embeddings, ``size`` to a group on average.

    No group has more than :func:`most` rows; there are several where one would.
    """
    if len(rows) <= most(size):
        return Grouping(np.zeros(len(rows), np.int32), centre_of(take(rows))[None, :])
    cells = make_cells(_Taken(rows, take), -(-len(rows) // size))
    sizes = np.diff(cells.starts)
    kept = np.flatnonzero(sizes > size // _SMALLEST)
    if len(kept) < 2:  # nothing tells the rows apart: as they come
        return _cut(rows, take, size)
    numbers = np.full(len(sizes), -1, np.int32)
    numbers[kept] = np.arange(len(kept))
    own = np.empty(len(rows), np.int32)
    own[cells.order] = np.repeat(numbers, sizes)
    centres = cells.centres[kept]
    homeless = np.flatnonzero(own < 0)
    own[homeless] = nearest(rows[homeless], take, centres)
    return _divided(rows, take, size, Grouping(own, centres))


def _divided(rows: Rows, take: Take, size: int, found: Grouping) -> Grouping:
    # Groups that are too large are grouped by themselves; they keep their number for a part.
    own, centres = found
    more = [centres.copy()]
    count = len(centres)
    for group in np.flatnonzero(np.bincount(own, minlength=count) > most(size)).tolist():
        mine = np.flatnonzero(own == group)
        within = grouped(rows[mine], take, size)
        numbers = np.arange(count - 1, count - 1 + len(within.centres), dtype=np.int32)
        numbers[0] = group
        own[mine] = numbers[within.own]
        more[0][group] = within.centres[0]
        more.append(within.centres[1:])
        count += len(within.centres) - 1
    return Grouping(own, np.concatenate(more))


def _cut(rows: Rows, take: Take, size: int) -> Grouping:
    count = -(-len(rows) // size)
    own = (np.arange(len(rows)) * count // len(rows)).astype(np.int32)
    centres = [centre_of(take(rows[own == group])) for group in range(count)]
    return Grouping(own, np.stack(centres))


def by_value(codes: Int32, count: int, rows: Rows, take: Take) -> Grouping:
    """Group ``rows`` (n,) by their ``codes`` (n,) below ``count``, whatever the sizes."""
    ascending = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=count))
    pieces = np.split(ascending, ends[:-1])
    return Grouping(codes, np.stack([centre_of(take(rows[piece])) for piece in pieces]))


def nearest(rows: Rows, take: Take, centres: Float32) -> Int32:
    """The group (n,) of each of some rows: that of the most similar centre."""
    own = np.empty(len(rows), np.int32)
    for start in range(0, len(rows), _BLOCK):
        places, _ = knn_against(take(rows[start : start + _BLOCK]), centres, 1)
        own[start : start + _BLOCK] = places[:, 0]
    return own


def centre_of(vectors: Float32) -> Float32:
    """The unit mean of some unit rows (n, D); zero where they cancel out or there are none."""
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), _BLOCK):
        total += vectors[start : start + _BLOCK].sum(axis=0, dtype=np.float64)
    length = float(np.sqrt((total * total).sum()))
    unit: Float32 = (total / length if length > 1e-9 else total * 0.0).astype(np.float32)
    return unit


class _Taken:
    """Rows that are taken piece by piece, as :func:`make_cells` looks at them."""

    def __init__(self, rows: Rows, take: Take) -> None:
        self._rows, self._take = rows, take
        self.shape = (len(rows), take(rows[:1]).shape[1])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: slice | Rows) -> Float32:
        return self._take(self._rows[which])
