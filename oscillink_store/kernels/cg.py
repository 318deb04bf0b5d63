"""Conjugate gradients over all right-hand sides at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.layout import LANES

if TYPE_CHECKING:
    from oscillink_store.kernels.lanes import (
        fma,
        largest,
        load,
        load_part,
        multiply,
        ratio,
        splat,
        store,
        subtract,
        total,
    )

__all__ = ["TILE", "block_cg"]

TILE = 4 * LANES
"""How many columns are solved side by side: their state stays in the processor's cache."""


@kernel(
    "int64(const int64[::1], const int32[::1], const float32[::1], const float32[::1],"
    " const float32[:,::1], float32, const float32[::1], const float32[::1], float64, int64,"
    " float32[:,::1], float32[:,:,::1], float32[:,::1], float64[::1])",
    using="oscillink_store.kernels.lanes",
)
def block_cg(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    coupling: npt.NDArray[np.float32],
    diagonal: npt.NDArray[np.float32],
    Y: npt.NDArray[np.float32],
    anchor_term: float,
    pull: npt.NDArray[np.float32],
    psi: npt.NDArray[np.float32],
    tolerance: float,
    max_iterations: int,
    U: npt.NDArray[np.float32],
    tiles: npt.NDArray[np.float32],
    rows: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float64],
) -> int:
    """Solve M U = λ_G Y + pull ψᵀ by conjugate gradients with a Jacobi preconditioner.

    M is symmetric positive definite: (Mx)_i = diagonal_i x_i − Σ_j coupling_ij x_j over the
    CSR entries of row i; entries that occur twice add up. ``Y`` and ``U`` (out) (n, D),
    ``pull`` (n,), ``psi`` (D,); scratch: ``tiles`` (4, n, TILE), ``rows`` (4, max(n, TILE)),
    best from :func:`oscillink_store.kernels.layout.aligned`. Each column has its own step
    lengths (Hestenes and Stiefel 1952), after a start from the right-hand side divided by the
    diagonal; a tile of columns stops when each of them has ‖r‖ ≤ tolerance·‖right-hand side‖.
    Writes the largest such ratio to ``residual[0]``, NaN when float32 overflowed, and returns
    the most iterations any tile took.
    """
    n, D = Y.shape
    P, Q, R, X = tiles[0], tiles[1], tiles[2], tiles[3]
    inverse, norm, rz, pq = rows[0], rows[1], rows[2], rows[3]
    zero = splat(np.float32(0.0))
    for i in range(n):
        inverse[i] = np.float32(1.0) / diagonal[i]
    most = 0
    residual[0] = 0.0
    for first in range(0, D, TILE):
        # x = 0, r the right-hand side, p = z = r / diagonal
        for c in range(0, TILE, LANES):
            width = min(LANES, max(0, D - first - c))
            query = load_part(psi, 0, first + c, width)
            squares, products = zero, zero
            for i in range(n):
                y = load_part(Y, i, first + c, width)
                r = fma(splat(pull[i]), query, multiply(splat(np.float32(anchor_term)), y))
                z = multiply(splat(inverse[i]), r)
                store(R, i, c, r)
                store(P, i, c, z)
                store(X, i, c, zero)
                squares = fma(r, r, squares)
                products = fma(r, z, products)
            store(norm, 0, c, squares)
            store(rz, 0, c, products)
        worst = 1.0
        iterations = 0
        while worst > tolerance and iterations < max_iterations:
            # q = Mp and the curvatures pᵀMp
            pq0, pq1, pq2, pq3 = zero, zero, zero, zero
            for i in range(n):
                weight = splat(diagonal[i])
                p0, p1 = load(P, i, 0), load(P, i, LANES)
                p2, p3 = load(P, i, 2 * LANES), load(P, i, 3 * LANES)
                q0, q1 = multiply(weight, p0), multiply(weight, p1)
                q2, q3 = multiply(weight, p2), multiply(weight, p3)
                for entry in range(indptr[i], indptr[i + 1]):
                    j = indices[entry]
                    weight = splat(-coupling[entry])
                    q0 = fma(weight, load(P, j, 0), q0)
                    q1 = fma(weight, load(P, j, LANES), q1)
                    q2 = fma(weight, load(P, j, 2 * LANES), q2)
                    q3 = fma(weight, load(P, j, 3 * LANES), q3)
                store(Q, i, 0, q0)
                store(Q, i, LANES, q1)
                store(Q, i, 2 * LANES, q2)
                store(Q, i, 3 * LANES, q3)
                pq0, pq1 = fma(p0, q0, pq0), fma(p1, q1, pq1)
                pq2, pq3 = fma(p2, q2, pq2), fma(p3, q3, pq3)
            store(pq, 0, 0, pq0)
            store(pq, 0, LANES, pq1)
            store(pq, 0, 2 * LANES, pq2)
            store(pq, 0, 3 * LANES, pq3)
            worst = 0.0
            for c in range(0, TILE, LANES):
                # α = rᵀz / pᵀMp, and 1 at first, which solves decoupled rows to the last bit;
                # a column that is solved stands still
                before, curvature = load(rz, 0, c), load(pq, 0, c)
                alpha = ratio(before if iterations > 0 else curvature, curvature)
                squares, products = zero, zero
                for i in range(n):
                    r = subtract(load(R, i, c), multiply(alpha, load(Q, i, c)))
                    store(R, i, c, r)
                    squares = fma(r, r, squares)
                    products = fma(r, multiply(splat(inverse[i]), r), products)
                store(rz, 0, c, products)
                left = ratio(squares, load(norm, 0, c))
                most_left = np.float64(largest(left))
                if most_left > worst:  # never when worst is NaN already
                    worst = most_left
                if np.isnan(total(left)):
                    worst = np.nan
                # β = new rᵀz / old rᵀz; x moves along p before p = z + βp takes its place
                beta = ratio(products, before) if iterations > 0 else zero
                for i in range(n):
                    p = load(P, i, c)
                    store(X, i, c, fma(alpha, p, load(X, i, c)))
                    z = multiply(splat(inverse[i]), load(R, i, c))
                    store(P, i, c, fma(beta, p, z))
            worst = np.sqrt(worst)
            iterations += 1
        most = max(most, iterations)
        if worst > residual[0] or np.isnan(worst):
            residual[0] = worst
        for i in range(n):
            for d in range(min(TILE, D - first)):
                U[i, first + d] = X[i, d]
    return most
