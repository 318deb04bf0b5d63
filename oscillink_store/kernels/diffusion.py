"""Diffusion of a few sources over a small graph: screened solve and heat kernel.

L is the symmetric normalised Laplacian with zero rows for anchors without edges, given by
``scale`` and ``coupling`` of :func:`oscillink_store.kernels.laplacian.normalize`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["heat", "heat_coefficients", "screened"]


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


def heat(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    coupling: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    sources: npt.NDArray[np.float64],
    coefficients: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Evaluate h = Σ_k c_k T_k(L − I)s by the Chebyshev polynomials' three-term recurrence.

    The spectrum of L lies in [0, 2], that of X = L − I in [−1, 1]. ``sources`` s and the
    result h are (n,); ``coefficients`` c (K ≥ 2,) those of :func:`heat_coefficients`.
    """
    n = len(sources)
    rows = np.repeat(np.arange(n), np.diff(indptr))
    isolated = scale == 0.0

    def apply(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        flow = np.bincount(rows, coupling * x[indices], n).astype(np.float64, copy=False)
        return -flow - np.where(isolated, x, 0.0)

    before, now = sources, apply(sources)
    h: npt.NDArray[np.float64] = coefficients[0] * before + coefficients[1] * now
    for coefficient in coefficients[2:]:
        before, now = now, 2.0 * apply(now) - before
        h += coefficient * now
    return h


def heat_coefficients(time: float, terms: int) -> npt.NDArray[np.float64]:
    """Expand e^(−tL) in T_k(L − I): e^(−t)(2 − [k=0])(−1)^k I_k(t) for k < ``terms``.

    I_k are the modified Bessel functions, I_k(t) = Σ_m (t/2)^(2m+k) / (m! (m+k)!). Since
    e^t = I_0(t) + 2 Σ_{k≥1} I_k(t), the absolute values of all coefficients sum to 1; what
    is missing to 1 bounds the truncation error per unit of source.
    """
    out = np.empty(terms)
    for k in range(terms):
        total, m, last = 0.0, 0, -1.0
        # terms rise until 2m ≈ t; past that, the first that adds nothing ends the sum
        while m < time or total != last:
            last = total
            power = (2 * m + k) * math.log(time / 2.0)
            total += math.exp(power - time - math.lgamma(m + 1) - math.lgamma(m + k + 1))
            m += 1
        out[k] = (1.0 if k == 0 else 2.0) * (-1.0) ** k * total
    return out
