"""Rows of embedding matrices that come in parts, and their exact inner products with a query.

A part is an immutable array with the slot of its first row; its rows have the slots that
follow. Parts share no slot, and some slots may have no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

if TYPE_CHECKING:
    from oscillink_store.kernels.lanes import copy_row, inner

__all__ = ["add_rows", "close_pairs", "eliminate", "gather", "products"]

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Int64: TypeAlias = npt.NDArray[np.int64]


@kernel(
    "int64(const int64[:,::1], const int64[::1], float32[:,::1])",
    using="oscillink_store.kernels.lanes",
)
def _gather(parts: Int64, slots: Int64, out: Float32) -> int:
    # A part is its first slot, the slot behind its last, and the address of its rows.
    # Answers with the place of a slot that has no row, else −1.
    part = 0
    for place in range(len(slots)):
        slot = slots[place]
        if len(parts) == 0 or slot < parts[part, 0] or slot >= parts[part, 1]:
            low, high = 0, len(parts)
            while low < high:  # the first part that ends behind the slot
                part = (low + high) >> 1
                if slot < parts[part, 1]:
                    high = part
                else:
                    low = part + 1
            part = low
            if part == len(parts) or slot < parts[part, 0]:
                return place
        copy_row(parts[part, 2], slot - parts[part, 0], out, place)
    return -1


def gather(parts: Sequence[tuple[int, Float32]], slots: Int64) -> Float32:
    """Copy the rows of some slots (n,) out of several parts, float32 (n, D).

    A part is (first slot, rows (m, D)). Raises IndexError for a slot without a row, and
    ValueError if there are no parts, or if they differ in D or share a slot.
    """
    if not parts:
        raise ValueError("gather: there must be at least one part to tell the dimension")
    width = parts[0][1].shape[1]
    table = np.array(
        [
            (first, first + len(rows), rows.ctypes.data)
            for first, rows in sorted(parts, key=lambda part: part[0])
            if len(rows) and _fits(rows, width)
        ],
        np.int64,
    ).reshape(-1, 3)
    if (table[1:, 0] < table[:-1, 1]).any():
        raise ValueError("gather: two parts share a slot")
    out = np.empty((len(slots), width), np.float32)
    missing = _gather(table, slots, out)
    if missing >= 0:
        raise IndexError(f"gather: no part has a row of slot {slots[missing]}")
    return out


def _fits(rows: Float32, width: int) -> bool:
    if rows.dtype != np.float32 or not rows.flags.c_contiguous or rows.shape[1:] != (width,):
        raise ValueError(
            f"gather: a part is {rows.dtype} of shape {rows.shape}, not contiguous float32 of "
            f"{width} columns"
        )
    return True


@kernel(
    "void(const float32[:,::1], const float32[::1], float64[::1])",
    using="oscillink_store.kernels.lanes",
)
def _products(Y: Float32, psi: Float32, out: Float64) -> None:
    for row in range(len(Y)):
        out[row] = inner(Y, row, psi)


def products(Y: Float32, psi: Float32) -> Float64:
    """Inner products of the rows of ``Y`` (n, D) with ψ (D,), float64 (n,).

    A product depends on its row and ψ alone, and has the same bits on every machine.
    """
    if Y.shape[1:] != psi.shape:
        raise ValueError(f"products: rows of shape {Y.shape} and a query of shape {psi.shape}")
    out = np.empty(len(Y), np.float64)
    _products(Y, psi, out)
    return out


@kernel("void(const float64[:,::1], const int64[::1], const float64[::1], float64[::1])")
def add_rows(M: Float64, rows: Int64, weights: Float64, out: Float64) -> None:
    """Add to ``out`` (m,) the ``rows`` (k,) of ``M`` (N, m) times their ``weights`` (k,).

    One after the other, hence with the same bits on every machine.
    """
    for place in range(len(rows)):
        row, weight = rows[place], weights[place]
        for column in range(len(out)):
            out[column] += weight * M[row, column]


@kernel("void(float64[:,::1], float64[:,::1])")
def eliminate(A: Float64, B: Float64) -> None:
    """Put A⁻¹B in the place of ``B`` (n, m); of ``A`` (n, n), regular, nothing is left.

    Gauss elimination with the largest pivot of a column, in a fixed order: with the same bits
    whatever the number of threads, which no BLAS promises.
    """
    n, m = B.shape
    for step in range(n):
        pivot = step
        for row in range(step + 1, n):
            if abs(A[row, step]) > abs(A[pivot, step]):
                pivot = row
        if pivot != step:
            for column in range(step, n):
                A[step, column], A[pivot, column] = A[pivot, column], A[step, column]
            for column in range(m):
                B[step, column], B[pivot, column] = B[pivot, column], B[step, column]
        for row in range(step + 1, n):
            factor = A[row, step] / A[step, step]
            if factor != 0.0:
                for column in range(step + 1, n):
                    A[row, column] -= factor * A[step, column]
                for column in range(m):
                    B[row, column] -= factor * B[step, column]
    for step in range(n - 1, -1, -1):
        for column in range(m):
            B[step, column] /= A[step, step]
        for row in range(step):
            factor = A[row, step]
            if factor != 0.0:
                for column in range(m):
                    B[row, column] -= factor * B[step, column]


@kernel(
    "int64(const float32[:,::1], const int64[::1], float64, int64[:,::1], float64[::1])",
    using="oscillink_store.kernels.lanes",
)
def _close_pairs(Y: Float32, rows: Int64, least: float, pairs: Int64, found: Float64) -> int:
    count = 0
    for place in range(len(rows)):
        row = rows[place]
        psi = Y[row]
        for other in range(len(Y)):
            product = inner(Y, other, psi)
            if product <= least or other == row:
                continue
            earlier = False
            for before in range(place):
                earlier = earlier or rows[before] == other
            if not earlier:
                pairs[count, 0] = row
                pairs[count, 1] = other
                found[count] = product
                count += 1
    return count


def close_pairs(Y: Float32, rows: Int64, least: float) -> tuple[Int64, Float64]:
    """Pairs (P, 2) of one of ``rows`` (k,) with another row of ``Y`` (n, D), and their product.

    Those whose inner product, float64 (P,), exceeds ``least``; a pair of two of the rows comes
    once. In the order of ``rows``, then of the other row.
    """
    room = len(rows) * len(Y)
    pairs, found = np.empty((room, 2), np.int64), np.empty(room)
    count = _close_pairs(Y, rows, least, pairs, found)
    return pairs[:count], found[:count]
