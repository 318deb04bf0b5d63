"""Dense candidates: one pass over 4-bit codes, in one or several parts.

A row v of the embedding matrix is stored as codes c = rint(v / s) in −7..7, s = max|v| / 7,
two to a byte, so ⟨v, ψ⟩ ≈ s·t·⟨c, q⟩ for a query coded as q = rint(ψ / t) in 16 bits. The pass
is bound by memory, and reads an eighth of what the vectors take. All products are integers,
hence it is exact for the codes and the same on every machine and thread. The rounding of the
codes adds an error with standard deviation s/√12 to the similarity with a unit ψ.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

if TYPE_CHECKING:
    from oscillink_store.kernels.code_lanes import code_products, float_at

__all__ = [
    "Part",
    "Scanned",
    "best_listed",
    "best_rows",
    "encode_query",
    "quantize",
]

_BLOCK = 65_536
_LEVELS = 7
_ZERO = 8
_STRIDE = 64  # bytes of codes that are multiplied at a time
_ROWS = 4  # multiplied at a time
_AHEAD = 48  # rows that memory takes to answer
_SLOTS = 1024  # whose products and moments are taken together
_SHARED = 1 << 25  # bytes of codes from which a second thread is worth its start

Uint8: TypeAlias = npt.NDArray[np.uint8]
Int16: TypeAlias = npt.NDArray[np.int16]
Int32: TypeAlias = npt.NDArray[np.int32]
Int64: TypeAlias = npt.NDArray[np.int64]
Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Part: TypeAlias = tuple[int, Uint8, Float32]
"""First slot, codes and scales of rows whose slots follow each other."""


def quantize(
    vectors: Float32,
) -> tuple[Uint8, Float32]:
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


def encode_query(psi: Float32) -> tuple[Int16, float]:
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


def _planes(query: Int16) -> Int16:
    """The codes of a query (2, ⌈D/2⌉) as planes (4, W), in the order of the rows' half bytes.

    Two bytes hold four codes, lowest first those of columns 2j, ⌈D/2⌉ + 2j, 2j + 1 and
    ⌈D/2⌉ + 2j + 1. Zeros fill up to whole strides.
    """
    half = query.shape[1]
    padded = np.zeros((2, half + -half % _STRIDE), np.int16)
    padded[:, :half] = query
    return np.ascontiguousarray(padded.reshape(2, -1, 2).transpose(2, 0, 1)).reshape(4, -1)


@kernel("int64(float32[::1], int64[::1], int64, float32, int64)")
def _push(scores: Float32, slots: Int64, held: int, score: np.float32, slot: int) -> int:
    """Offer a slot to a heap of ``held`` slots and return how many it holds then.

    The root is the worst of them: the lowest score, among equal scores the highest slot.
    """
    place = 0
    if held < len(scores):
        place = held
        while place > 0:
            parent = (place - 1) >> 1
            above = scores[parent]
            if above < score or (above == score and slots[parent] > slot):
                break
            scores[place] = above
            slots[place] = slots[parent]
            place = parent
        held += 1
    elif score < scores[0] or (score == scores[0] and slot > slots[0]):
        return held
    else:
        while True:
            child = 2 * place + 1
            if child >= held:
                break
            other = child + 1
            if other < held and (
                scores[other] < scores[child]
                or (scores[other] == scores[child] and slots[other] > slots[child])
            ):
                child = other
            below = scores[child]
            if score < below or (score == below and slot > slots[child]):
                break
            scores[place] = below
            slots[place] = slots[child]
            place = child
    scores[place] = score
    slots[place] = slot
    return held


@kernel("int32(const int16[:,::1])")
def _offset(planes: Int16) -> np.int32:
    # What the zeros of the codes add to each product.
    total = np.int32(0)
    for plane in range(planes.shape[0]):
        for place in range(planes.shape[1]):
            total += np.int32(_ZERO) * np.int32(planes[plane, place])
    return total


@kernel(
    "int64(const int64[::1], int64[::1], int64, const int16[:,::1], int32, int32[::1],"
    " float64[:,::1], int64, float32[::1], int64[::1], int64)",
    using="oscillink_store.kernels.code_lanes",
)
def _offer(
    part: Int64,
    picked: Int64,
    found: int,
    planes: Int16,
    offset: np.int32,
    totals: Int32,
    sums: Float64,
    line: int,
    scores: Float32,
    slots: Int64,
    held: int,
) -> int:
    # Offers the ``found`` rows of a part that are ``picked`` to the best slots, of which it
    # returns the number. Their moments are added to a line of ``sums`` if that is not empty.
    first, codes, scales = part[0], part[2], part[3]
    for place in range(found, found + _AHEAD + _ROWS):
        picked[place] = picked[max(found - 1, 0)]
    for place in range(0, found, _ROWS):
        code_products(codes, part[4], picked, place, _AHEAD, planes, totals)
    worst = scores[0] if held == len(scores) else np.float32(-np.inf)
    for place in range(found):
        score = np.float32(totals[place] - offset) * float_at(scales, picked[place])
        if len(sums) > 0:
            sums[line, 0] += 1.0
            sums[line, 1] += np.float64(score)
            sums[line, 2] += np.float64(score) * np.float64(score)
        if score < worst:
            continue
        held = _push(scores, slots, held, score, first + picked[place])
        if held == len(scores):
            worst = scores[0]
    return held


@kernel(
    "int64(const int64[:,::1], int64, int64, const int16[:,::1], const uint8[::1],"
    " int64[::1], int32[::1], float32[::1], int64[::1], float64[:,::1])"
)
def _scan(
    parts: Int64,
    start: int,
    end: int,
    planes: Int16,
    mask: Uint8,
    picked: Int64,
    totals: Int32,
    scores: Float32,
    slots: Int64,
    sums: Float64,
) -> int:
    # Collects the best slots of start ≤ slot < end and returns their number. The mask leaves
    # out slots if it is not empty, and the moments of each block of slots go to ``sums`` if
    # that is not empty.
    block = len(totals) - _ROWS
    offset = _offset(planes)
    held = 0
    for part in range(len(parts)):
        first = parts[part, 0]
        low, behind = max(start, first), min(end, parts[part, 1])
        while low < behind:
            high = min(behind, (low // block + 1) * block)
            found = 0
            if len(mask) > 0:
                for slot in range(low, high):
                    picked[found] = slot - first
                    found += int(mask[slot] != 0)
            else:
                for slot in range(low, high):
                    picked[found] = slot - first
                    found += 1
            held = _offer(
                parts[part], picked, found, planes, offset, totals, sums, low // block,
                scores, slots, held,
            )  # fmt: skip
            low = high
    return held


@kernel(
    "int64(const int64[:,::1], const int64[::1], const int64[::1], const int16[:,::1],"
    " int64[::1], int32[::1], float64[:,::1], float32[::1], int64[::1])"
)
def _scan_listed(
    parts: Int64,
    listed: Int64,
    ends: Int64,
    planes: Int16,
    picked: Int64,
    totals: Int32,
    sums: Float64,
    scores: Float32,
    slots: Int64,
) -> int:
    # Collects the best of the ``listed`` slots, those of a part from the end of the one before
    # to its own among ``ends``, and returns their number.
    block = len(totals) - _ROWS
    offset = _offset(planes)
    held, low = 0, 0
    for part in range(len(parts)):
        while low < ends[part]:
            found = min(ends[part] - low, block)
            for place in range(found):
                picked[place] = listed[low + place] - parts[part, 0]
            held = _offer(
                parts[part], picked, found, planes, offset, totals, sums, 0, scores, slots, held
            )
            low += found
    return held


@kernel("int64(const float32[::1], const int64[::1], int64, float32[::1], int64[::1], int64)")
def _join(
    more: Float32, others: Int64, count: int, scores: Float32, slots: Int64, held: int
) -> int:
    # Offers the slots of one heap to another.
    for place in range(count):
        held = _push(scores, slots, held, more[place], others[place])
    return held


@kernel("float64(const int64[:,::1], const int64[::1])", using="oscillink_store.kernels.code_lanes")
def _mean_scale(parts: Int64, slots: Int64) -> float:
    # Of slots in ascending order, so that the sum is always the same.
    part, total = 0, 0.0
    for slot in slots:
        while slot >= parts[part, 1]:
            part += 1
        total += np.float64(float_at(parts[part, 3], slot - parts[part, 0]))
    return total / len(slots)


class Scanned(NamedTuple):
    """What one pass over the codes found.

    ``rows`` (n,) are slots, ascending; ``cutoff`` is the similarity, by codes, that a row had
    to reach to be among them; ``mean`` and ``deviation`` are those of the similarity over the
    rows that ``allowed`` left (0 without it), and ``error`` is the standard deviation of the
    codes' error in it.
    """

    rows: Int64
    cutoff: float
    mean: float
    deviation: float
    error: float


def best_rows(
    parts: Sequence[Part],
    psi: Float32,
    count: int,
    allowed: Uint8 | None = None,
    alive: Uint8 | None = None,
) -> Scanned:
    """Find the ``count`` rows most similar to the unit vector ψ (D,) by their codes.

    A part is its first slot with the codes (m, ⌈D/2⌉) and scales (m,) of :func:`quantize`.
    Rows are left out where ``allowed`` (S,) or ``alive`` (S,), which reach to the last slot
    at least, are 0; the first asks for the moments of what is left. At equal scores the lower
    slot is kept. Large parts take two threads, which changes nothing in the result.
    Raises ValueError for arrays that do not fit each other and for parts that share a slot.
    """
    query, step = encode_query(psi)
    table, _padded = _table(parts, query.shape[1])  # some of the rows live in the latter
    rows = int((table[:, 1] - table[:, 0]).sum())
    capacity = min(count, rows)
    if capacity == 0:
        return Scanned(np.empty(0, np.int64), -np.inf, 0.0, 0.0, 0.0)
    end = int(table[-1, 1])
    mask = _mask(allowed, alive, end)
    wanted = np.count_nonzero(mask.view(np.bool_)) if len(mask) else rows
    planes = _planes(query)
    sums = np.zeros((0 if allowed is None else (end - 1) // _SLOTS + 1, 3))

    def scan(low: int, high: int) -> tuple[Float32, Int64, int]:
        scores, slots = np.empty(capacity, np.float32), np.empty(capacity, np.int64)
        picked = np.empty(_SLOTS + _AHEAD + _ROWS, np.int64)
        totals = np.empty(_SLOTS + _ROWS, np.int32)
        held = _scan(table, low, high, planes, mask, picked, totals, scores, slots, sums)
        return scores, slots, held

    if wanted * query.shape[1] < _SHARED:
        scores, slots, held = scan(0, end)
    else:
        middle = _middle(table)
        other = _helper().submit(scan, middle, end)
        scores, slots, held = scan(0, middle)
        # a helper that is busy with somebody else's search is not worth waiting for
        more = scan(middle, end) if other.cancel() else other.result()
        held = _join(*more, scores, slots, held)
    # The blocks of slots one after the other, whoever scanned them.
    seen, total, square = np.add.accumulate(sums)[-1].tolist() if len(sums) else (0.0, 0.0, 0.0)
    mean = total / max(seen, 1.0)
    variance = max(square / max(seen, 1.0) - mean * mean, 0.0)
    cutoff, error = -np.inf, 0.0
    if held == capacity < rows:
        cutoff = float(scores[0]) * step
    found = np.sort(slots[:held])
    if held:
        error = _mean_scale(table, found) / 12.0**0.5
    return Scanned(found, cutoff, mean * step, variance**0.5 * step, error)


def best_listed(parts: Sequence[Part], psi: Float32, count: int, slots: Int64) -> Scanned:
    """Find the ``count`` of some ``slots`` (n,), ascending, most similar to ψ by their codes.

    As :func:`best_rows` does, whose parts these are. Of the slots alone is looked at anything, so
    that few of very many rows cost little. Without moments.
    Raises ValueError for slots that no part has a row of, besides what :func:`best_rows` refuses.
    """
    query, step = encode_query(psi)
    table, _padded = _table(parts, query.shape[1])
    capacity = min(count, len(slots))
    if capacity == 0:
        return Scanned(np.empty(0, np.int64), -np.inf, 0.0, 0.0, 0.0)
    starts, ends = np.searchsorted(slots, table[:, :2].T)
    if (np.append(starts, len(slots)) != np.append(0, ends)).any():
        raise ValueError(f"scan: slots {slots[0]} to {slots[-1]} are not all in a part")
    scores, best = np.empty(capacity, np.float32), np.empty(capacity, np.int64)
    held = _scan_listed(
        table, slots, ends, _planes(query), np.empty(_SLOTS + _AHEAD + _ROWS, np.int64),
        np.empty(_SLOTS + _ROWS, np.int32), np.empty((0, 3)), scores, best,
    )  # fmt: skip
    cutoff = float(scores[0]) * step if capacity < len(slots) else -np.inf
    found = np.sort(best[:held])
    return Scanned(found, cutoff, 0.0, 0.0, _mean_scale(table, found) / 12.0**0.5)


def _table(parts: Sequence[Part], half: int) -> tuple[Int64, list[Uint8]]:
    # What the kernel knows of the parts, in the order of their slots: first slot, the slot
    # behind the last, the addresses of codes and scales, and the bytes from row to row. It
    # reads whole strides, so the last rows of a part, behind which there may be no memory,
    # stand in an array of their own, which is returned to be kept alive.
    whole = half + -half % _STRIDE
    lines: list[tuple[int, int, int, int, int]] = []
    padded: list[Uint8] = []
    end = 0
    for first, codes, scales in sorted(parts, key=lambda part: part[0]):
        if (
            codes.shape != (len(scales), half)
            or codes.dtype != np.uint8
            or scales.dtype != np.float32
            or not (codes.flags.c_contiguous and scales.flags.c_contiguous)
        ):
            raise ValueError(
                f"scan: a part of codes {codes.dtype} {codes.shape} and scales {scales.dtype} "
                f"{scales.shape}, for a query of {half} bytes"
            )
        if len(codes) == 0:
            continue
        if first < end:
            raise ValueError(f"scan: two parts have rows of slot {first}")
        end = first + len(codes)
        safe = max(len(codes) - (whole - 1) // half, 0)
        start = scales.ctypes.data
        if safe:
            lines.append((first, first + safe, codes.ctypes.data, start, half))
        if safe < len(codes):
            last = np.zeros((len(codes) - safe, whole), np.uint8)
            last[:, :half] = codes[safe:]
            padded.append(last)
            lines.append((first + safe, end, last.ctypes.data, start + 4 * safe, whole))
    return np.array(lines, np.int64).reshape(-1, 5), padded


def _mask(allowed: Uint8 | None, alive: Uint8 | None, end: int) -> Uint8:
    # One mask of both, or an empty one.
    masks = [mask for mask in (allowed, alive) if mask is not None]
    for mask in masks:
        if mask.dtype != np.uint8 or mask.ndim != 1 or len(mask) < end:
            raise ValueError(f"scan: a mask {mask.dtype} {mask.shape} of slots below {end}")
    if len(masks) < 2:
        return masks[0] if masks else np.empty(0, np.uint8)
    return np.minimum(masks[0][:end], masks[1][:end])


def _middle(table: Int64) -> int:
    # A slot with about half of the rows before it, where a block of slots begins: the moments
    # of a block are never summed by two.
    counts = table[:, 1] - table[:, 0]
    before = np.cumsum(counts) - counts
    half = int(counts.sum()) // 2
    part = int(np.searchsorted(before, half, side="right")) - 1
    return (int(table[part, 0]) + half - int(before[part])) // _SLOTS * _SLOTS


@cache
def _helper() -> ThreadPoolExecutor:
    # One thread besides the caller's. Kernels release the GIL; a helper never waits for one.
    return ThreadPoolExecutor(1, "oscillink-scan")
