"""Reading an inverted file: scores of a question's words, and rows that hold several words.

A row's score is the sum over the words of w·f / (f + a + b·length), where f is how often the
word stands in the row; BM25 (Robertson and Zaragoza 2009, equation 3.15) has this form. It is
added up word by word in the order given, so the bits do not depend on how rows are spread
over files.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

__all__ = ["intersect_groups", "look_up", "score"]

Uint8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]


@kernel("int64(const uint64[::1], const int64[::1], const int32[::1], const uint8[::1],"
        " const uint64[::1], int64[::1], int64[::1], int64[::1])")  # fmt: skip
def look_up(
    keys: Uint64,
    starts: Int64,
    rows: Int32,
    alive: Uint8,
    wanted: Uint64,
    lows: Int64,
    highs: Int64,
    frequencies: Int64,
) -> int:
    """Find the entries ``lows[i]`` to ``highs[i]`` of each wanted key (Q,), in that order.

    Adds to ``frequencies`` (Q,) how many of these have a row that is ``alive`` (n,), all of
    them if ``alive`` is empty. Keys that are missing get an empty range. Returns how many
    entries the ranges have in total.
    """
    entries = 0
    for i in range(wanted.shape[0]):
        low, high = 0, keys.shape[0]
        while low < high:
            middle = (low + high) // 2
            if keys[middle] < wanted[i]:
                low = middle + 1
            else:
                high = middle
        lows[i] = highs[i] = 0
        if low == keys.shape[0] or keys[low] != wanted[i]:
            continue
        lows[i], highs[i] = starts[low], starts[low + 1]
        entries += highs[i] - lows[i]
        if alive.shape[0] == 0:
            frequencies[i] += highs[i] - lows[i]
            continue
        total = 0
        for entry in range(lows[i], highs[i]):
            total += alive[rows[entry]] != 0
        frequencies[i] += total
    return entries


@kernel("int64(float64[::1], int64[::1], int64, float64, int64)")
def offer(scores: Float64, slots: Int64, size: int, value: float, slot: int) -> int:
    """Offer a score to a heap of the best ``size`` so far, its worst on top; return the size.

    Of equal scores the higher slot is the worse. The heap holds at most all of ``scores``.
    """
    if size < scores.shape[0]:
        at = size
        while at > 0:
            above = (at - 1) // 2
            if scores[above] < value or (scores[above] == value and slots[above] > slot):
                break
            scores[at], slots[at] = scores[above], slots[above]
            at = above
        scores[at], slots[at] = value, slot
        return size + 1
    if value < scores[0] or (value == scores[0] and slot > slots[0]):
        return size
    at = 0
    while 2 * at + 1 < size:
        worst = 2 * at + 1
        other = worst + 1
        if other < size and (
            scores[other] < scores[worst]
            or (scores[other] == scores[worst] and slots[other] > slots[worst])
        ):
            worst = other
        if value < scores[worst] or (value == scores[worst] and slot > slots[worst]):
            break
        scores[at], slots[at] = scores[worst], slots[worst]
        at = worst
    scores[at], slots[at] = value, slot
    return size


@kernel("int64(const int32[::1], const uint8[::1], const int32[::1], const uint8[::1], int64,"
        " int64[::1], const int64[::1], const float64[::1], float64, float64, float64[::1],"
        " int32[::1], float64[::1], int64[::1], int64)")  # fmt: skip
def score(
    rows: Int32,
    counts: Uint8,
    lengths: Int32,
    allowed: Uint8,
    first: int,
    cursors: Int64,
    highs: Int64,
    weights: Float64,
    offset: float,
    slope: float,
    sums: Float64,
    touched: Int32,
    best_scores: Float64,
    best_slots: Int64,
    size: int,
) -> int:
    """Score the rows of the Q words' entries and keep the best; return how many are kept.

    Word i has the entries ``cursors[i]`` (which moves) to ``highs[i]`` and a weight > 0; a row
    of ``lengths`` (n,) words has ``offset`` + ``slope``·length in the denominator. Rows whose
    entry of ``allowed`` (n,) is 0 are left out, none if it is empty. The best, numbered from
    ``first``, are a heap of ``size`` (see :func:`offer`) and may stem from earlier calls.

    ``sums`` (B,) zeros and ``touched`` (B + 1,) are scratch for B rows at a time, few enough
    to stay in the processor's cache; the sums are zeros again afterwards.
    """
    B, Q = sums.shape[0], weights.shape[0]
    filtered = allowed.shape[0] > 0
    while True:
        base = lengths.shape[0]
        for i in range(Q):
            if cursors[i] < highs[i]:
                base = min(base, rows[cursors[i]])
        if base == lengths.shape[0]:
            return size
        after = base + B
        n = 0
        for i in range(Q):
            weight, entry, high = weights[i], cursors[i], highs[i]
            while entry < high and rows[entry] < after:
                row = rows[entry]
                f = float(counts[entry])
                before = sums[row - base]
                # the place is written anyhow, and counts if the row is new: no branch
                touched[n] = row - base
                n += before == 0.0
                sums[row - base] = before + weight * f / (f + (offset + slope * lengths[row]))
                entry += 1
            cursors[i] = entry
        for t in range(n):
            place = touched[t]
            value = sums[place]
            sums[place] = 0.0
            row = base + place
            if size == best_scores.shape[0] and value < best_scores[0]:
                continue
            if filtered and allowed[row] == 0:
                continue
            size = offer(best_scores, best_slots, size, value, first + row)


@kernel("int64(const int32[::1], const uint8[::1], int64[::1], const int64[::1], int64,"
        " int64[::1])")  # fmt: skip
def intersect(
    rows: Int32, alive: Uint8, cursors: Int64, highs: Int64, first: int, out: Int64
) -> int:
    """Write the rows that stand in all Q ≥ 1 lists of entries, from ``first``; return their number.

    List i holds the entries ``cursors[i]`` (which moves) to ``highs[i]``; the first list should
    be the shortest, and ``out`` has its length. Rows whose entry of ``alive`` (n,) is 0 are
    left out, none if it is empty.
    """
    found = 0
    for entry in range(cursors[0], highs[0]):
        row = rows[entry]
        if alive.shape[0] > 0 and alive[row] == 0:
            continue
        everywhere = True
        for i in range(1, cursors.shape[0]):
            # in steps that double, then by halves, to the first entry that is not before it
            low, step = cursors[i], 1
            while low + step <= highs[i] and rows[low + step - 1] < row:
                low += step
                step *= 2
            high = min(low + step - 1, highs[i])
            while low < high:
                middle = (low + high) // 2
                if rows[middle] < row:
                    low = middle + 1
                else:
                    high = middle
            cursors[i] = low
            if low == highs[i] or rows[low] != row:
                everywhere = False
                break
        if everywhere:
            out[found] = first + row
            found += 1
    return found


@kernel("int64(const int32[::1], const uint8[::1], int64[::1], const int64[::1],"
        " const int64[::1], int64, int64[::1])")  # fmt: skip
def intersect_groups(
    rows: Int32,
    alive: Uint8,
    cursors: Int64,
    highs: Int64,
    ends: Int64,
    first: int,
    out: Int64,
) -> int:
    """Do :func:`intersect` for groups of lists one after another; return how many rows it found.

    Group g consists of the lists up to ``ends[g]``; ``out`` has room for the first of each.
    """
    found, start = 0, 0
    for group in range(ends.shape[0]):
        end = ends[group]
        found += intersect(rows, alive, cursors[start:end], highs[start:end], first, out[found:])
        start = end
    return found
