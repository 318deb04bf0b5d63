"""Shorter vectors that keep most of every inner product, and exact products of what they find.

The axes along which rows vary most are the leading eigenvectors of their second moments
(Jolliffe 2002), found by orthogonal iteration (Golub & Van Loan 2013, section 7.3.2) with
sums in a fixed order, so they are the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.knn import helper, insert, multiply, pack
from oscillink_store.kernels.layout import TILE_COLUMNS, TILE_ROWS, aligned

if TYPE_CHECKING:
    from oscillink_store.kernels.lanes import product_tile

__all__ = ["principal_axes", "project", "rescore"]

ITERATIONS = 20
BLOCK = 16_384

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


def principal_axes(sample: Float32, count: int) -> Float32:
    """Return ``count`` ≤ D orthonormal axes (count, D) that keep most of ``sample`` (n, D)."""
    D = sample.shape[1]
    moments = np.zeros((D, D))
    add_moments(sample, moments)
    axes, images = np.zeros((count, D)), np.empty((count, D))
    # from the columns with the most weight
    axes[np.arange(count), np.argsort(-np.diagonal(moments), kind="stable")[:count]] = 1.0
    for _ in range(ITERATIONS):
        turn(moments, axes, images)
    return axes.astype(np.float32)


def project(vectors: Float32, axes: Float32) -> Float32:
    """Multiply the rows of ``vectors`` (N, D) with the rows of ``axes`` (d, D): (N, d)."""
    d, D = axes.shape
    panels = aligned(-(-d // TILE_COLUMNS), D, TILE_COLUMNS)
    pack(axes, 0, d, panels)
    Z = aligned(len(vectors), d)

    def work(low: int, high: int) -> None:
        strip = aligned(TILE_ROWS, panels.shape[0] * TILE_COLUMNS)
        for start in range(low, high, BLOCK):
            end = min(start + BLOCK, high)
            multiply(np.asarray(vectors[start:end]), panels, strip, Z[start:end])

    middle = len(vectors) // 2
    other = helper().submit(work, 0, middle)
    work(middle, len(vectors))
    other.result()
    return Z


def rescore(vectors: Float32, rows: Int64, candidates: Int32, k: int) -> tuple[Int32, Float32]:
    """Keep the ``k`` ≥ 1 ``candidates`` (R, c) most similar to each of ``rows`` (R,).

    Candidates are rows of ``vectors`` (N, D ≥ 1), −1 for none, none of them twice in a list.
    Returns indices (R, k) and similarities (R, k), best first, ties to the lower index, the
    rest −1 and −inf. Products are those of :func:`~oscillink_store.kernels.knn.knn_exact`.
    """
    indices = np.full((len(rows), k), -1, np.int32)
    values = np.full((len(rows), k), -np.inf, np.float32)
    vectors = np.asarray(vectors)

    def work(low: int, high: int) -> None:
        D = vectors.shape[1]
        compare(
            vectors, rows[low:high], candidates[low:high], aligned(1, D, TILE_COLUMNS),
            aligned(TILE_ROWS, D), aligned(TILE_ROWS, TILE_COLUMNS),
            values[low:high], indices[low:high],
        )  # fmt: skip

    middle = len(rows) // 2
    other = helper().submit(work, 0, middle)
    work(middle, len(rows))
    other.result()
    return indices, values


@kernel("void(const float32[:,::1], float64[:,::1])")
def add_moments(sample: Float32, moments: Float64) -> None:
    """Add x xᵀ to ``moments`` (D, D) for every row x of ``sample`` (n, D)."""
    D = sample.shape[1]
    for i in range(sample.shape[0]):
        for a in range(D):
            factor = np.float64(sample[i, a])
            for b in range(D):
                moments[a, b] += factor * np.float64(sample[i, b])


@kernel("void(const float64[:,::1], float64[:,::1], float64[:,::1])")
def turn(moments: Float64, axes: Float64, images: Float64) -> None:
    """Multiply ``axes`` (d, D) with ``moments`` (D, D) and make them orthonormal again.

    By modified Gram-Schmidt, twice, in which an axis that vanishes stays zero; ``images``
    (d, D) is scratch.
    """
    d, D = axes.shape
    for i in range(d):
        for b in range(D):
            images[i, b] = 0.0
        for a in range(D):
            for b in range(D):
                images[i, b] += axes[i, a] * moments[a, b]
    for i in range(d):
        before = 0.0
        for b in range(D):
            axes[i, b] = images[i, b]
            before += images[i, b] * images[i, b]
        for _ in range(2):
            for j in range(i):
                product = 0.0
                for b in range(D):
                    product += axes[i, b] * axes[j, b]
                for b in range(D):
                    axes[i, b] -= product * axes[j, b]
        square = 0.0
        for b in range(D):
            square += axes[i, b] * axes[i, b]
        for b in range(D):
            axes[i, b] = axes[i, b] / np.sqrt(square) if square > 1e-20 * before else 0.0


@kernel(
    "void(const float32[:,::1], const int64[::1], const int32[:,::1], float32[:,:,::1],"
    " float32[:,::1], float32[:,::1], float32[:,::1], int32[:,::1])",
    using="oscillink_store.kernels.lanes",
)
def compare(
    vectors: Float32,
    rows: Int64,
    candidates: Int32,
    panel: Float32,
    others: Float32,
    strip: Float32,
    values: Float32,
    places: Int32,
) -> None:
    """Fill the empty lists ``values``, ``places`` (R, k) with the best ``candidates`` (R, c).

    ``panel`` (1, D, 32), ``others`` (12, D) and ``strip`` (12, 32) are scratch.
    """
    last = values.shape[1] - 1
    for i in range(len(rows)):
        pack(vectors, rows[i], rows[i] + 1, panel)
        for first in range(0, candidates.shape[1], TILE_ROWS):
            height = min(TILE_ROWS, candidates.shape[1] - first)
            for r in range(height):
                at = max(candidates[i, first + r], 0)
                for d in range(vectors.shape[1]):
                    others[r, d] = vectors[at, d]
            product_tile(others, 0, panel, 0, strip, 0)
            for r in range(height):
                at, value = candidates[i, first + r], strip[r, 0]
                if at >= 0 and (
                    value > values[i, last] or (value == values[i, last] and at < places[i, last])
                ):
                    insert(values[i], places[i], last, value, at)
