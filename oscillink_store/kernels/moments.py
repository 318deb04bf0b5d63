"""Mean and covariance of the embeddings, and what they say about any query's similarities.

For rows y and a query ψ, the similarities y·ψ over the whole corpus have mean ψᵀμ and
variance ψᵀΣψ: exact, in O(D²), without touching the rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.knn import helper

__all__ = ["BITS", "Sums", "moments", "row_total", "similarity_moments", "sums"]

# Unit rows have no value above 1. Values are rounded to whole multiples of 2^-20; products of
# two are whole numbers up to 2^40, and the sums of a block of 2^10 rows stay far within 2^53,
# where float64 is exact and the order of sums does not matter. Blocks are added up as 64-bit
# integers, exact for more than 2^22 rows.
BITS = 20
BLOCK = 1 << 10
STEP = 8


class Sums(NamedTuple):
    """Σ y (D,) and Σ yyᵀ (D, D) over rows y, as int64 in units of 2^-20 and 2^-40.

    They are exact, so that rows can be added and taken away in any order.
    """

    total: npt.NDArray[np.int64]
    products: npt.NDArray[np.int64]

    def plus(self, other: Sums) -> Sums:
        """The sums over the rows of both."""
        return Sums(self.total + other.total, self.products + other.products)

    def minus(self, other: Sums) -> Sums:
        """The sums without the rows of ``other``."""
        return Sums(self.total - other.total, self.products - other.products)


def row_total(Y: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Σ y (D,) alone over the rows of ``Y`` (N, D), as in :class:`Sums`."""
    total = np.zeros(Y.shape[1], np.int64)
    for at in range(0, len(Y), BLOCK):
        whole = np.rint(Y[at : at + BLOCK] * np.float32(1 << BITS))
        total += whole.sum(axis=0, dtype=np.float64).astype(np.int64)
    return total


def sums(Y: npt.NDArray[np.float32]) -> Sums:
    """The sums over the rows of ``Y`` (N, D), unit rows: the same on any machine."""
    D = Y.shape[1]
    total, products = np.zeros(D, np.int64), np.zeros((D, D), np.int64)
    whole, block_sums = np.zeros((BLOCK, D)), np.empty((D, D))
    # above the diagonal there is as much to do in the first rows as in the others
    middle = int(D * (1 - 0.5**0.5))
    for at in range(0, len(Y), BLOCK):
        block = Y[at : at + BLOCK]
        np.rint(block * np.float32(1 << BITS), out=whole[: len(block)])
        size = -(-len(block) // STEP) * STEP
        whole[len(block) : size] = 0.0
        total += whole[: len(block)].sum(axis=0).astype(np.int64)
        # not by BLAS, whose threads go on spinning for a while and slow down what comes next
        other = helper().submit(add_products, whole[:size], middle, D, block_sums, products)
        add_products(whole[:size], 0, middle, block_sums, products)
        other.result()
    return Sums(total, products)


@kernel("void(const float64[:,::1], int64, int64, float64[:,::1], int64[:,::1])")
def add_products(
    Y: npt.NDArray[np.float64],
    start: int,
    end: int,
    scratch: npt.NDArray[np.float64],
    products: npt.NDArray[np.int64],
) -> None:
    """Add YᵀY to ``products`` (D, D): to rows ``start`` to ``end`` above the diagonal, and below.

    ``Y`` (n, D) are whole numbers, n a multiple of :data:`STEP`; ``scratch`` is (D, D).
    """
    D = Y.shape[1]
    for i in range(start, end):
        for j in range(i, D):
            scratch[i, j] = 0.0
    for row in range(0, Y.shape[0], STEP):
        # so many rows at a time: each sum is read and written once for them; as views, so that
        # the compiler sees that all indices count up from 0
        for i in range(start, end):
            a, b, c, d = Y[row, i], Y[row + 1, i], Y[row + 2, i], Y[row + 3, i]
            e, f, g, h = Y[row + 4, i], Y[row + 5, i], Y[row + 6, i], Y[row + 7, i]
            y0, y1, y2, y3 = Y[row, i:], Y[row + 1, i:], Y[row + 2, i:], Y[row + 3, i:]
            y4, y5, y6, y7 = Y[row + 4, i:], Y[row + 5, i:], Y[row + 6, i:], Y[row + 7, i:]
            sums_of_row = scratch[i, i:]
            for j in range(D - i):
                sums_of_row[j] += (
                    a * y0[j] + b * y1[j] + c * y2[j] + d * y3[j]
                    + e * y4[j] + f * y5[j] + g * y6[j] + h * y7[j]
                )  # fmt: skip
    for i in range(start, end):
        for j in range(i, D):
            products[i, j] += np.int64(scratch[i, j])
            products[j, i] = products[i, j]


def moments(of: Sums, rows: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean μ (D,) and covariance Σ (D, D) (division by N) of ``rows`` rows from their sums.

    Zeros when there are no rows.
    """
    unit = 1.0 / (1 << BITS) / max(rows, 1)
    mean = np.asarray(of.total * unit, np.float64)
    covariance = of.products * (unit / (1 << BITS)) - np.outer(mean, mean)
    return mean, np.asarray(covariance, np.float64)


def similarity_moments(
    psi: npt.NDArray[np.float32],
    mean: npt.NDArray[np.float64],
    covariance: npt.NDArray[np.float64],
) -> tuple[float, float]:
    """Mean ψᵀμ and standard deviation √(ψᵀΣψ) of the similarities of all rows with ``psi`` (D,)."""
    out = np.empty(2)
    similarity_forms(psi, mean, covariance, np.empty(len(psi)), out)
    return float(out[0]), math.sqrt(max(0.0, float(out[1])))


@kernel(
    "void(const float32[::1], const float64[::1], const float64[:,::1], float64[::1], float64[::1])"
)
def similarity_forms(
    psi: npt.NDArray[np.float32],
    mean: npt.NDArray[np.float64],
    covariance: npt.NDArray[np.float64],
    scratch: npt.NDArray[np.float64],
    out: npt.NDArray[np.float64],
) -> None:
    """Write ψᵀμ and ψᵀΣψ to ``out`` (2,); ``scratch`` (D,) receives Σψ."""
    D = psi.shape[0]
    for column in range(D):
        scratch[column] = 0.0
    whole = D - D % 4
    for row in range(0, whole, 4):
        # four rows at a time: each sum is read and written once for them
        a, b = np.float64(psi[row]), np.float64(psi[row + 1])
        c, d = np.float64(psi[row + 2]), np.float64(psi[row + 3])
        for column in range(D):
            scratch[column] += (
                a * covariance[row, column]
                + b * covariance[row + 1, column]
                + c * covariance[row + 2, column]
                + d * covariance[row + 3, column]
            )
    for row in range(whole, D):
        for column in range(D):
            scratch[column] += np.float64(psi[row]) * covariance[row, column]
    first, second = 0.0, 0.0
    for column in range(D):
        first += psi[column] * mean[column]
        second += psi[column] * scratch[column]
    out[0] = first
    out[1] = second
