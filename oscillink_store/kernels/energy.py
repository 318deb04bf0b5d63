"""Energies of a state of the lattice, edge by edge and anchor by anchor.

tr(UᵀLU) = Σ_{i<j} A_ij ‖U_i/√d_i − U_j/√d_j‖² for the symmetric normalised Laplacian L of
A with zero rows where d_i = 0: a sum over edges in which nothing cancels. Within a row the
sums run over sixteen float32 lanes, across lanes and anchors in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.kernels.layout import LANES

if TYPE_CHECKING:
    from oscillink_store.kernels.lanes import (
        fma,
        load_part,
        multiply,
        splat,
        subtract,
        total,
    )

__all__ = ["agreement", "anchor_forms", "edge_forms"]

ROUNDING = 1e-6
"""Gaps that float32 sums leave between rows that are the same."""


@kernel(
    "int64(const int64[::1], const int32[::1], const float64[::1], const float64[::1],"
    " const float32[:,::1], const float32[:,::1], int32[:,::1], float64[:,::1], float64[::1])",
    using="oscillink_store.kernels.lanes",
)
def edge_forms(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    Y: npt.NDArray[np.float32],
    U: npt.NDArray[np.float32],
    pairs: npt.NDArray[np.int32],
    forms: npt.NDArray[np.float64],
    totals: npt.NDArray[np.float64],
) -> int:
    """Take A_ij ‖X_i/√d_i − X_j/√d_j‖² of every edge i < j at X = Y, U and Y − U, and the sums.

    ``indptr`` (n+1,), ``indices`` and ``weights`` (nnz,): a symmetric CSR; ``scale`` (n,) is
    d^(−1/2); ``Y`` and ``U`` (n, D). Writes the edges' ends to ``pairs`` (nnz/2, 2), their
    forms to ``forms`` (3, nnz/2), and tr(YᵀLY), tr(UᵀLU), tr((Y−U)ᵀL(Y−U)) to ``totals`` (3,).
    Returns the number of edges.
    """
    n, D = Y.shape
    zero = splat(np.float32(0.0))
    count = 0
    totals[0] = 0.0
    totals[1] = 0.0
    totals[2] = 0.0
    for i in range(n):
        # summed over a row's edges before the lanes are folded, as the bits of the totals are told
        at_y, at_difference = zero, zero
        for entry in range(indptr[i], indptr[i + 1]):
            j = indices[entry]
            if j <= i:
                continue
            # A_ij goes into the scales, which exceed float32 where a degree is tiny: A_ij/d_i ≤ 1
            root = np.sqrt(weights[entry])
            own = splat(np.float32(root * scale[i]))
            other = splat(np.float32(root * scale[j]))
            before, after, moved = zero, zero, zero
            for d in range(0, D, LANES):
                width = min(LANES, D - d)
                y = subtract(
                    multiply(own, load_part(Y, i, d, width)),
                    multiply(other, load_part(Y, j, d, width)),
                )
                u = subtract(
                    multiply(own, load_part(U, i, d, width)),
                    multiply(other, load_part(U, j, d, width)),
                )
                difference = subtract(y, u)
                at_y = fma(y, y, at_y)
                at_difference = fma(difference, difference, at_difference)
                before = fma(y, y, before)
                after = fma(u, u, after)
                moved = fma(difference, difference, moved)
            pairs[count, 0] = i
            pairs[count, 1] = j
            forms[0, count] = total(before)
            forms[1, count] = total(after)
            forms[2, count] = total(moved)
            totals[1] += forms[1, count]
            count += 1
        totals[0] += total(at_y)
        totals[2] += total(at_difference)
    return count


@kernel(
    "void(const float32[:,::1], const float32[:,::1], const float32[::1], const float64[::1],"
    " float64[:,::1], float64[::1])",
    using="oscillink_store.kernels.lanes",
)
def anchor_forms(
    Y: npt.NDArray[np.float32],
    U: npt.NDArray[np.float32],
    psi: npt.NDArray[np.float32],
    gates: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    totals: npt.NDArray[np.float64],
) -> None:
    """Take ‖Y_i‖² and ‖U_i‖² per anchor and the sums of the anchor and query terms.

    ``Y`` and ``U`` (n, D), ``psi`` (D,), ``gates`` b (n,). Writes ``squares`` (2, n) and, to
    ``totals`` (4,): ‖Y−U‖², Σ b_i‖Y_i−ψ‖², Σ b_i‖U_i−ψ‖², Σ b_i‖Y_i−U_i‖².
    """
    n, D = Y.shape
    zero = splat(np.float32(0.0))
    for k in range(4):
        totals[k] = 0.0
    for i in range(n):
        first, square, moved, before, after = zero, zero, zero, zero, zero
        for d in range(0, D, LANES):
            width = min(LANES, D - d)
            y, u = load_part(Y, i, d, width), load_part(U, i, d, width)
            query = load_part(psi, 0, d, width)
            first = fma(y, y, first)
            square = fma(u, u, square)
            difference = subtract(y, u)
            moved = fma(difference, difference, moved)
            difference = subtract(y, query)
            before = fma(difference, difference, before)
            difference = subtract(u, query)
            after = fma(difference, difference, after)
        squares[0, i] = total(first)
        squares[1, i] = total(square)
        totals[0] += total(moved)
        totals[1] += gates[i] * total(before)
        totals[2] += gates[i] * total(after)
        totals[3] += gates[i] * total(moved)


@kernel(
    "void(const int32[:,::1], const float64[::1], const float64[:,::1], const float64[::1],"
    " const float64[:,::1], float64[::1], float64[:,::1], float64[:,::1])"
)
def agreement(
    pairs: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float64],
    forms: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    ratio: npt.NDArray[np.float64],
    gaps: npt.NDArray[np.float64],
    sums: npt.NDArray[np.float64],
) -> None:
    """Compute 2 Σ_j A_ij U_i·U_j / Σ_j A_ij (‖U_i‖² + ‖U_j‖²), cut off to [0, 1], per anchor.

    And per edge 2 − 2 cos(X_i, X_j), the squared gap between the two directions, at X = Y and
    U. ``pairs`` (E, 2), their ``weights`` A_ij (E,) and ``forms`` A_ij‖X_i/√d_i − X_j/√d_j‖²
    (2 or 3, E), ``scale`` d^(−1/2) (n,) and ``squares`` ‖X_i‖² (2, n), rows Y before U. With
    a_i = X_i d_i^(−1/2) the inner products follow from 2 a_i·a_j = ‖a_i‖² + ‖a_j‖² −
    ‖a_i − a_j‖². Writes ``ratio`` (n,), 0 for an anchor without edges, and ``gaps`` (2, E), 0
    where float32 cannot tell and 2 for an X_i of zero; ``sums`` (2, n) is scratch.
    """
    for i in range(ratio.shape[0]):
        sums[0, i] = 0.0
        sums[1, i] = 0.0
    for e in range(weights.shape[0]):
        i, j = pairs[e, 0], pairs[e, 1]
        si, sj = scale[i], scale[j]
        cross = 0.0
        for state in range(2):
            first, second = squares[state, i], squares[state, j]
            gap = forms[state, e] / weights[e]
            cross = (si * si * first + sj * sj * second - gap) / (si * sj)
            norms = np.sqrt(first * second)
            directions = 2.0 - cross / norms if norms > 0.0 else 2.0
            gaps[state, e] = directions if directions > ROUNDING else 0.0
        possible = weights[e] * (squares[1, i] + squares[1, j])
        sums[0, i] += weights[e] * cross
        sums[0, j] += weights[e] * cross
        sums[1, i] += possible
        sums[1, j] += possible
    for i in range(ratio.shape[0]):
        value = sums[0, i] / sums[1, i] if sums[1, i] > 0.0 else 0.0
        ratio[i] = min(max(value, 0.0), 1.0)
