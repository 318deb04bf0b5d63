"""Mean and covariance of the embeddings, and what they say about any query's similarities.

For rows y and a query ψ, the similarities y·ψ over the whole corpus have mean ψᵀμ and
variance ψᵀΣψ: exact, in O(D²), without touching the rows.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["moments", "similarity_moments"]

# Values are rounded to whole multiples of 2^-21 of the power of two above the largest. The
# products of two are then whole numbers up to 2^42, and sums of 2^10 of them stay within
# 2^53, where float64 is exact: a block's matrix product has one value, however BLAS orders
# its sums.
BITS = 21
BLOCK = 1 << 10


def moments(
    Y: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean μ (D,) and covariance Σ (D, D) (division by N) of the rows of ``Y`` (N, D).

    Computed on Y rounded to 2^-21 of the power of two above its largest value, in float64, a
    block of rows at a time: the same bits on any machine and with any number of threads.
    Zeros when N = 0.
    """
    N, D = Y.shape
    total, products = np.zeros(D), np.zeros((D, D))
    if N == 0:
        return total, products
    largest = max(float(Y.max()), -float(Y.min()))
    unit = math.ldexp(1.0, max(math.frexp(largest)[1], -100) - BITS)
    ones = np.ones(BLOCK)
    for at in range(0, N, BLOCK):
        block = Y[at : at + BLOCK]
        whole = np.rint(block * np.float32(1.0 / unit)).astype(np.float64)
        total += ones[: len(block)] @ whole
        products += whole.T @ whole
    mean = total * unit / N
    covariance = products * (unit * unit / N) - np.outer(mean, mean)
    return mean, covariance


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
