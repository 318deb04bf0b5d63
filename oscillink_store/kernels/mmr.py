"""Maximal marginal relevance (Carbonell and Goldstein 1998)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["mmr"]


@kernel("void(const float32[:,::1], const float64[::1], float64, int64[::1], float64[::1])")
def _select(
    Y: npt.NDArray[np.float32],
    relevance: npt.NDArray[np.float64],
    balance: float,
    chosen: npt.NDArray[np.int64],
    nearest: npt.NDArray[np.float64],
) -> None:
    # nearest_i is the largest similarity of i with a chosen row; NaN marks i as chosen.
    n, D = Y.shape
    for place in range(chosen.shape[0]):
        best, best_value = -1, 0.0
        for i in range(n):
            if np.isnan(nearest[i]):
                continue
            value = balance * relevance[i]
            if place > 0:
                value -= (1.0 - balance) * nearest[i]
            if best < 0 or value > best_value:
                best, best_value = i, value
        chosen[place] = best
        nearest[best] = np.nan
        for i in range(n):
            if np.isnan(nearest[i]):
                continue
            similarity = 0.0
            for d in range(D):
                similarity += np.float64(Y[i, d]) * np.float64(Y[best, d])
            if place == 0 or similarity > nearest[i]:
                nearest[i] = similarity


def mmr(
    Y: npt.NDArray[np.float32],
    relevance: npt.NDArray[np.floating],
    k: int,
    balance: float,
) -> list[int]:
    """Choose ``k`` rows one by one, each relevant and unlike those chosen before.

    The next row maximises balance·relevance_i − (1 − balance)·max over chosen j of Y_i·Y_j;
    ties go to the lower row.

    Args:
        Y: Unit rows (n, D) float32.
        relevance: One number per row (n,).
        k: How many rows; all of them, in order, when k ≥ n.
        balance: λ in [0, 1]; 1 ignores similarity.

    Returns:
        The chosen rows, first choice first.
    """
    chosen = np.empty(min(k, len(Y)), np.int64)
    rows = np.ascontiguousarray(Y, np.float32)
    _select(rows, np.ascontiguousarray(relevance, np.float64), balance, chosen, np.zeros(len(Y)))
    order: list[int] = chosen.tolist()
    return order
