"""Conjugate gradients over all right-hand sides at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["block_cg"]


@kernel(
    "int64(const int64[::1], const int32[::1], const float32[::1], const float32[::1],"
    " float64, int64, float32[:,::1], float32[:,::1], float32[:,::1], float32[:,::1],"
    " float64[:,::1], float32[:,::1], float64[::1])"
)
def block_cg(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    coupling: npt.NDArray[np.float32],
    diagonal: npt.NDArray[np.float32],
    tolerance: float,
    max_iterations: int,
    R: npt.NDArray[np.float32],
    X: npt.NDArray[np.float32],
    P: npt.NDArray[np.float32],
    Q: npt.NDArray[np.float32],
    sums: npt.NDArray[np.float64],
    steps: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float64],
) -> int:
    """Solve M X = R column by column, all columns in step, with a Jacobi preconditioner.

    M is symmetric positive definite: (Mx)_i = diagonal_i x_i − Σ_j coupling_ij x_j over the
    CSR entries of row i; entries that occur twice add up. ``R`` (n, D) holds the right-hand
    sides and ends as the residuals, ``X`` (n, D) is written, ``P`` and ``Q`` (n, D), ``sums``
    (4, D) and ``steps`` (1, D) are scratch. Each column has its own step lengths (Hestenes
    and Stiefel 1952). Stops when every column has ‖r‖ ≤ tolerance·‖r_0‖; writes the largest
    such ratio to ``residual[0]`` and returns the iterations. Sums over anchors are taken in
    float64 in the order of the rows, so the result has one value, whatever the machine load.
    """
    n, D = R.shape
    norm, rz, pq, rr = sums[0], sums[1], sums[2], sums[3]
    step = steps[0]
    for d in range(D):
        norm[d] = 0.0
        rz[d] = 0.0
    for i in range(n):
        inverse = np.float32(1.0) / diagonal[i]
        for d in range(D):
            r = R[i, d]
            z = r * inverse
            X[i, d] = np.float32(0.0)
            P[i, d] = z
            norm[d] += np.float64(r) * np.float64(r)
            rz[d] += np.float64(r) * np.float64(z)
    worst = 0.0
    for d in range(D):
        if norm[d] > 0.0:
            worst = 1.0
    iterations = 0
    while worst > tolerance and iterations < max_iterations:
        # Q = M P and the curvatures pᵀMp
        for d in range(D):
            pq[d] = 0.0
        for i in range(n):
            own = diagonal[i]
            for d in range(D):
                Q[i, d] = own * P[i, d]
            for entry in range(indptr[i], indptr[i + 1]):
                j = indices[entry]
                weight = coupling[entry]
                for d in range(D):
                    Q[i, d] -= weight * P[j, d]
            for d in range(D):
                pq[d] += np.float64(P[i, d]) * np.float64(Q[i, d])
        # X and R along the step α = rᵀz / pᵀMp; a column that is solved stands still
        for d in range(D):
            step[d] = np.float32(rz[d] / pq[d]) if pq[d] > 0.0 else np.float32(0.0)
            rr[d] = 0.0
            pq[d] = 0.0
        for i in range(n):
            inverse = np.float32(1.0) / diagonal[i]
            for d in range(D):
                X[i, d] += step[d] * P[i, d]
                r = R[i, d] - step[d] * Q[i, d]
                R[i, d] = r
                rr[d] += np.float64(r) * np.float64(r)
                pq[d] += np.float64(r) * np.float64(r * inverse)
        # the next direction, with β = new rᵀz / old rᵀz
        worst = 0.0
        for d in range(D):
            step[d] = np.float32(pq[d] / rz[d]) if rz[d] > 0.0 else np.float32(0.0)
            rz[d] = pq[d]
            if norm[d] > 0.0:
                worst = max(worst, rr[d] / norm[d])
        worst = np.sqrt(worst)
        iterations += 1
        for i in range(n):
            inverse = np.float32(1.0) / diagonal[i]
            for d in range(D):
                P[i, d] = R[i, d] * inverse + step[d] * P[i, d]
    residual[0] = worst
    return iterations
