"""Cells: rows grouped by the centre that they are nearest to.

Centres are found by spherical k-means over a sample (Dhillon & Modha 2001): a centre is the
unit mean of the rows nearest to it. Everything is chosen by fixed rules, nothing at random,
and every sum has a fixed order.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.knn import knn_against

__all__ = ["Cells", "VectorRows", "make_cells", "spread"]

GOLDEN = 0.6180339887498949
SAMPLE = 40  # rows per centre
ROUNDS = 5
BLOCK = 65_536

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


class VectorRows(Protocol):
    """Unit rows (N, D) float32: an array, or what gives pieces of one as they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    def __getitem__(self, which: slice | Int64) -> Float32:
        """Some of the rows."""


class Cells(NamedTuple):
    """A partition of N rows into C cells.

    Cell c holds the rows ``order[starts[c]:starts[c + 1]]``, ``order`` (N,) int64 and
    ``starts`` (C + 1,) int64, in ascending order: those most similar to ``centres[c]``
    (C, D) float32. Cells next to each other tend to be similar.
    """

    order: Int64
    starts: Int64
    centres: Float32


def spread(n: int, count: int, phase: float = 0.0) -> Int64:
    """Choose up to ``count`` of the numbers below ``n``, evenly and without a period.

    They are the multiples of the golden ratio modulo 1, shifted by ``phase``, in ascending
    order.
    """
    if count >= n:
        return np.arange(n, dtype=np.int64)
    places = (np.arange(1, count + 1) * GOLDEN + phase) % 1.0
    return np.unique((places * n).astype(np.int64))


def make_cells(vectors: VectorRows, count: int) -> Cells:
    """Group the unit rows ``vectors`` (N, D) around ``count`` ≤ N centres, some maybe alone."""
    N, D = vectors.shape
    sample = np.asarray(vectors[spread(N, SAMPLE * count)])
    centres = sample[spread(len(sample), count, phase=0.5)]
    sums = np.empty((len(centres), D))
    for _ in range(ROUNDS):
        nearest, _ = knn_against(sample, centres, 1)
        move(sample, nearest, sums, centres)
    centres = centres[_chain(centres)]
    own = np.empty(N, np.int32)
    for start in range(0, N, BLOCK):
        nearest, _ = knn_against(np.asarray(vectors[start : start + BLOCK]), centres, 1)
        own[start : start + BLOCK] = nearest[:, 0]
    ends = np.cumsum(np.bincount(own, minlength=len(centres)))
    return Cells(np.argsort(own, kind="stable"), np.append(0, ends), centres)


def _chain(centres: Float32) -> Int64:
    # From each centre to the most similar one that is left.
    nearest, _ = knn_against(centres, centres, len(centres))
    left = np.ones(len(centres), np.bool_)
    chain = np.zeros(len(centres), np.int64)
    for at in range(1, len(centres)):
        left[chain[at - 1]] = False
        ranked = nearest[chain[at - 1]]
        chain[at] = ranked[left[ranked].argmax()]
    return chain


@kernel("void(const float32[:,::1], const int32[:,::1], float64[:,::1], float32[:,::1])")
def move(sample: Float32, nearest: Int32, sums: Float64, centres: Float32) -> None:
    """Move each of ``centres`` (C, D) to the unit mean of the rows of ``sample`` nearest to it.

    A centre that no row is nearest to stays. ``nearest`` is (n, 1); ``sums`` (C, D) is scratch.
    """
    C, D = centres.shape
    for c in range(C):
        for d in range(D):
            sums[c, d] = 0.0
    for i in range(sample.shape[0]):
        c = nearest[i, 0]
        for d in range(D):
            sums[c, d] += np.float64(sample[i, d])
    for c in range(C):
        square = 0.0
        for d in range(D):
            square += sums[c, d] * sums[c, d]
        if square > 0.0:
            length = np.sqrt(square)
            for d in range(D):
                centres[c, d] = np.float32(sums[c, d] / length)
