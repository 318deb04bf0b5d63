"""Dense candidates: one pass over 4-bit codes, then exact similarities of the best few.

A row v of the embedding matrix is stored as codes c = rint(v / s) in −7..7, s = max|v| / 7,
two to a byte, so ⟨v, ψ⟩ ≈ s·t·⟨c, q⟩ for a query coded as q = rint(ψ / t) in 16 bits. The pass
is bound by memory, and reads an eighth of what the vectors take. All products are integers,
hence it is exact for the codes and the same on every machine and thread. The rounding of the
codes adds an error with standard deviation s/√12 to the similarity with a unit ψ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["Scanned", "best_rows", "encode_query", "quantize", "similarities"]

_BLOCK = 65_536
_PRODUCTS = 1024
_LEVELS = 7
_ZERO = 8


def quantize(
    vectors: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Codes (N, ⌈D/2⌉) uint8 and scales s (N,) float32 of the rows of ``vectors`` (N, D).

    A byte holds c + 8 of column j in its low half and of column j + ⌈D/2⌉ in its high half.
    """
    half = (vectors.shape[1] + 1) // 2
    codes = np.empty((len(vectors), half), np.uint8)
    scales = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        block = np.asarray(vectors[start : start + _BLOCK])
        scale = np.abs(block).max(axis=1, initial=0.0) / np.float32(_LEVELS)
        scale[scale == 0.0] = 1.0
        whole = np.full((len(block), 2 * half), _ZERO, np.uint8)
        whole[:, : vectors.shape[1]] = np.rint(block / scale[:, None]) + _ZERO
        codes[start : start + _BLOCK] = whole[:, :half] | whole[:, half:] << 4
        scales[start : start + _BLOCK] = scale
    return codes, scales


def encode_query(psi: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int16], float]:
    """The query (D,) as 16-bit codes (2, ⌈D/2⌉), the columns of both halves, and t.

    The codes are as fine as 32-bit sums of products allow.
    """
    half = (len(psi) + 1) // 2
    codes = np.zeros((2, half), np.int16)
    limit = min(32_767, (2**31 - 1) // (16 * len(psi)))
    step = float(np.abs(psi).max(initial=0.0)) / limit
    if step > 0.0:
        codes.ravel()[: len(psi)] = np.rint(psi / step)
    return codes, step


@kernel(
    "int64(const uint8[:,::1], const float32[::1], const int16[::1], const int16[::1],"
    " const uint8[::1],"
    " int32[::1], float32[::1], int64[::1], float64[::1])"
)
def _scan(
    codes: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.float32],
    first: npt.NDArray[np.int16],
    second: npt.NDArray[np.int16],
    allowed: npt.NDArray[np.uint8],
    products: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    sums: npt.NDArray[np.float64],
) -> int:
    # A binary heap of the best rows so far, its root the worst of them: lowest score
    # first, at equal scores the higher row. Products are taken a block at a time, in a
    # loop of their own, so that the compiler vectorizes it.
    capacity = len(scores)
    half = codes.shape[1]
    masked = len(allowed) > 0
    held = 0
    offset = np.int32(0)
    for column in range(half):
        offset += np.int32(_ZERO) * (np.int32(first[column]) + np.int32(second[column]))
    seen, total_score, total_square = 0.0, 0.0, 0.0
    for low in range(0, len(codes), len(products)):
        high = min(low + len(products), len(codes))
        for row in range(low, high):
            if masked and allowed[row] == 0:
                continue
            total = np.int32(0)
            for column in range(half):
                pair = codes[row, column]
                total += np.int32(np.int16(pair & 15)) * np.int32(first[column]) + np.int32(
                    np.int16(pair >> 4)
                ) * np.int32(second[column])
            products[row - low] = total - offset
        for row in range(low, high):
            if masked and allowed[row] == 0:
                continue
            score = np.float32(products[row - low]) * scales[row]
            if masked:  # the moments of all rows are known better without the codes
                seen += 1.0
                total_score += np.float64(score)
                total_square += np.float64(score) * np.float64(score)
            if held < capacity:
                place = held
                held += 1
                while place > 0:
                    parent = (place - 1) >> 1
                    above = scores[parent]
                    if above < score or (above == score and rows[parent] > row):
                        break
                    scores[place] = above
                    rows[place] = rows[parent]
                    place = parent
            elif score > scores[0]:
                place = 0
                while True:
                    child = 2 * place + 1
                    if child >= capacity:
                        break
                    other = child + 1
                    if other < capacity and (
                        scores[other] < scores[child]
                        or (scores[other] == scores[child] and rows[other] > rows[child])
                    ):
                        child = other
                    below = scores[child]
                    if score < below or (score == below and row > rows[child]):
                        break
                    scores[place] = below
                    rows[place] = rows[child]
                    place = child
            else:
                continue
            scores[place] = score
            rows[place] = row
    sums[0], sums[1], sums[2] = seen, total_score, total_square
    return held


@kernel("void(const float32[:,::1], const int64[::1], const float32[::1], float64[::1])")
def _similarities(
    vectors: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    psi: npt.NDArray[np.float32],
    out: npt.NDArray[np.float64],
) -> None:
    # Eight partial sums in a fixed order: vectorizable, yet the same on every machine.
    dimension = vectors.shape[1]
    whole = dimension - dimension % 8
    for place in range(len(rows)):
        row = rows[place]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for j in range(0, whole, 8):
            s0 += np.float64(vectors[row, j]) * np.float64(psi[j])
            s1 += np.float64(vectors[row, j + 1]) * np.float64(psi[j + 1])
            s2 += np.float64(vectors[row, j + 2]) * np.float64(psi[j + 2])
            s3 += np.float64(vectors[row, j + 3]) * np.float64(psi[j + 3])
            s4 += np.float64(vectors[row, j + 4]) * np.float64(psi[j + 4])
            s5 += np.float64(vectors[row, j + 5]) * np.float64(psi[j + 5])
            s6 += np.float64(vectors[row, j + 6]) * np.float64(psi[j + 6])
            s7 += np.float64(vectors[row, j + 7]) * np.float64(psi[j + 7])
        tail = 0.0
        for j in range(whole, dimension):
            tail += np.float64(vectors[row, j]) * np.float64(psi[j])
        out[place] = ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7)) + tail


def similarities(
    vectors: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    psi: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """Exact inner products of the unit rows ``vectors[rows]`` with ψ (D,), float64 (n,)."""
    out = np.empty(len(rows), np.float64)
    _similarities(vectors, rows, psi, out)
    return out


class Scanned(NamedTuple):
    """What one pass over the codes found.

    ``rows`` (n,) are in no particular order; ``cutoff`` is the similarity, by codes, that a
    row had to reach to be among them; ``mean`` and ``deviation`` are those of the similarity
    over the rows that a mask allowed (0 without a mask), and ``error`` is the standard
    deviation of the codes' error in it.
    """

    rows: npt.NDArray[np.int64]
    cutoff: float
    mean: float
    deviation: float
    error: float


def best_rows(
    codes: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.float32],
    psi: npt.NDArray[np.float32],
    count: int,
    allowed: npt.NDArray[np.uint8] | None = None,
) -> Scanned:
    """Find the ``count`` rows most similar to the unit vector ψ (D,) by their codes.

    ``codes`` (N, ⌈D/2⌉) and ``scales`` (N,) are those of :func:`quantize`; ``allowed`` (N,)
    leaves out the rows where it is 0. At equal scores the lower row is kept.
    """
    capacity = min(count, len(codes))
    if capacity == 0:
        return Scanned(np.empty(0, np.int64), -np.inf, 0.0, 0.0, 0.0)
    scores = np.empty(capacity, np.float32)
    rows = np.empty(capacity, np.int64)
    sums = np.empty(3)
    mask = np.empty(0, np.uint8) if allowed is None else allowed
    query, step = encode_query(psi)
    products = np.empty(_PRODUCTS, np.int32)
    held = _scan(codes, scales, query[0], query[1], mask, products, scores, rows, sums)
    seen = max(float(sums[0]), 1.0)
    mean = float(sums[1]) / seen
    variance = max(float(sums[2]) / seen - mean * mean, 0.0)
    return Scanned(
        rows=rows[:held],
        cutoff=float(scores[0]) * step if held == capacity < len(codes) else -np.inf,
        mean=mean * step,
        deviation=variance**0.5 * step,
        error=float(scales[rows[:held]].mean()) / 12.0**0.5 if held else 0.0,
    )
