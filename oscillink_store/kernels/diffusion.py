"""Diffusion of a few sources over a small graph: screened solve and heat kernel.

L is the symmetric normalised Laplacian with zero rows for anchors without edges, given by
``scale`` and ``coupling`` of :func:`oscillink_store.kernels.laplacian.normalize`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["heat", "screened"]


@kernel(
    "int64(const int64[::1], const int32[::1], const float64[::1], const float64[::1],"
    " const float64[::1], float64, float64, int64, float64[::1], float64[:,::1], float64[::1])"
)
def screened(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    coupling: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    sources: npt.NDArray[np.float64],
    screening: float,
    tolerance: float,
    max_iterations: int,
    gates: npt.NDArray[np.float64],
    scratch: npt.NDArray[np.float64],
    residual: npt.NDArray[np.float64],
) -> int:
    """Solve (L + γI)h = γs by conjugate gradients with a Jacobi preconditioner.

    ``sources`` s and ``gates`` h (out): (n,); ``scratch`` (3, n). ``screening`` is γ > 0.
    Stops when ‖γs − (L + γI)h‖ ≤ tolerance·‖γs‖; writes that relative residual to
    ``residual[0]`` and returns the iterations.
    """
    n = sources.shape[0]
    r, p, q = scratch[0], scratch[1], scratch[2]
    norm, rz = 0.0, 0.0
    for i in range(n):
        gates[i] = 0.0
        r[i] = screening * sources[i]
        diagonal = screening + (1.0 if scale[i] > 0.0 else 0.0)
        p[i] = r[i] / diagonal
        norm += r[i] * r[i]
        rz += r[i] * p[i]
    residual[0] = 0.0
    if norm == 0.0:
        return 0
    residual[0] = 1.0
    iterations = 0
    while residual[0] > tolerance and iterations < max_iterations:
        pq = 0.0
        for i in range(n):
            total = (screening + (1.0 if scale[i] > 0.0 else 0.0)) * p[i]
            for entry in range(indptr[i], indptr[i + 1]):
                total -= coupling[entry] * p[indices[entry]]
            q[i] = total
            pq += p[i] * total
        alpha = rz / pq
        rr, rz_next = 0.0, 0.0
        for i in range(n):
            gates[i] += alpha * p[i]
            r[i] -= alpha * q[i]
            rr += r[i] * r[i]
            rz_next += r[i] * r[i] / (screening + (1.0 if scale[i] > 0.0 else 0.0))
        beta = rz_next / rz
        rz = rz_next
        for i in range(n):
            p[i] = r[i] / (screening + (1.0 if scale[i] > 0.0 else 0.0)) + beta * p[i]
        iterations += 1
        residual[0] = np.sqrt(rr / norm)
    return iterations


@kernel(
    "void(const int64[::1], const int32[::1], const float64[::1], const float64[::1],"
    " const float64[::1], const float64[::1], float64[::1], float64[:,::1])"
)
def heat(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    coupling: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    sources: npt.NDArray[np.float64],
    coefficients: npt.NDArray[np.float64],
    gates: npt.NDArray[np.float64],
    scratch: npt.NDArray[np.float64],
) -> None:
    """Evaluate h = Σ_k c_k T_k(L − I)s by the Chebyshev polynomials' three-term recurrence.

    The spectrum of L lies in [0, 2], that of X = L − I in [−1, 1], where
    e^(−tL) = e^(−t) Σ_k (2 − [k=0]) (−1)^k I_k(t) T_k(X), with I_k the modified Bessel
    functions. ``coefficients`` (K ≥ 2,) are these factors, ``scratch`` is (2, n).
    """
    n = sources.shape[0]
    before, now = scratch[0], scratch[1]
    for i in range(n):
        before[i] = sources[i]
    for i in range(n):
        total = 0.0 if scale[i] > 0.0 else -sources[i]
        for entry in range(indptr[i], indptr[i + 1]):
            total -= coupling[entry] * sources[indices[entry]]
        now[i] = total
        gates[i] = coefficients[0] * sources[i] + coefficients[1] * total
    for k in range(2, coefficients.shape[0]):
        for i in range(n):
            total = 0.0 if scale[i] > 0.0 else -now[i]
            for entry in range(indptr[i], indptr[i + 1]):
                total -= coupling[entry] * now[indices[entry]]
            # T_k = 2 X T_(k−1) − T_(k−2), overwriting the one no longer needed
            before[i] = 2.0 * total - before[i]
            gates[i] += coefficients[k] * before[i]
        before, now = now, before
