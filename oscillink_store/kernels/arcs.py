"""What becomes of a graph's edges when some anchors' arcs are replaced."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel
from oscillink_store.model import IN, OUT

__all__ = ["GONE", "SAME", "changed_edges"]

SAME, GONE = -1, -2
"""The place of an anchor whose arcs stay as they are, and of one that leaves the graph."""

NOBODY = 1 << 62


@kernel("int64(const int64[::1], int64, int64, int64)")
def find_arc(targets: npt.NDArray[np.int64], start: int, end: int, target: int) -> int:
    """Return where ``target`` stands in the ascending ``targets[start:end]``, or −1."""
    place, length = start, end - start
    while length > 1:  # without a branch that could be mispredicted
        half = length >> 1
        place += half if targets[place + half] <= target else 0
        length -= half
    return place if length == 1 and targets[place] == target else -1


@kernel(
    "int64(const int64[::1], const int32[::1], const float32[::1], const uint8[::1],"
    " const int64[::1], int64, const int32[::1], const uint8[::1], const int64[::1],"
    " const int64[::1], const float32[::1], const float32[::1],"
    " int64[::1], int64[::1], float32[::1], float32[::1], uint8[::1])"
)
def changed_edges(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    relation: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    code: int,
    places: npt.NDArray[np.int32],
    partly: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int64],
    arc_weights: npt.NDArray[np.float32],
    incoming: npt.NDArray[np.float32],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
    before: npt.NDArray[np.float32],
    after: npt.NDArray[np.float32],
    flags: npt.NDArray[np.uint8],
) -> int:
    """Write the edges of one relation that change, each once, and return how many there are.

    The first four arguments are the entries of ``rows`` (n,), among which are all anchors
    whose arcs are replaced and all that go. ``places[i]`` (S,) is the place p of anchor i
    among the former, whose arcs lead to the ascending ``targets[starts[p]:starts[p + 1]]``
    with ``arc_weights``, or :data:`SAME` or :data:`GONE`. Where ``partly[p]`` is not 0, its
    other arcs stay, and those of weight 0 go. ``incoming[p]`` is the weight of the arcs that
    stay and lead into that anchor; without any they keep the entry's.

    An edge joins ``low`` < ``high``, its weight is ``before`` and ``after``, 0 where there is
    none, and ``flags`` tell :data:`OUT` when ``low`` points at ``high`` afterwards,
    :data:`IN` when it is pointed at. There must be room for all entries and arcs.
    """
    written = 0
    for row in range(rows.shape[0]):
        i = rows[row]
        place = places[i]
        if place == SAME:
            continue
        entry, last = indptr[row], indptr[row + 1]
        arc, last_arc = np.int64(0), np.int64(0)
        if place >= 0:
            arc, last_arc = starts[place], starts[place + 1]
        while True:
            while entry < last and (relation[entry] & 7) != code:
                entry += 1
            old = np.int64(indices[entry]) if entry < last else np.int64(NOBODY)
            new = targets[arc] if arc < last_arc else np.int64(NOBODY)
            j = min(old, new)
            if j == NOBODY:
                break
            was, now = 0, 0
            weight_was, weight = np.float32(0.0), np.float32(0.0)
            if old == j:
                was = relation[entry] & (OUT | IN)
                weight_was = weights[entry]
                entry += 1
            if new == j:
                weight = arc_weights[arc]
                now = OUT if weight > 0.0 else 0
                arc += 1
            elif place >= 0 and partly[place] != 0:
                continue  # as it is, or seen from the other end
            other = places[j]
            stays = other == SAME or (other >= 0 and partly[other] != 0)
            if i > j and was != 0 and not stays:
                continue  # seen from the other end
            back = -1
            if other >= 0:
                back = find_arc(targets, starts[other], starts[other + 1], i)
            if back >= 0:
                if i > j:
                    continue  # likewise
                if arc_weights[back] > 0.0:
                    now |= IN
                    weight = max(weight, arc_weights[back])
            elif stays and place >= 0 and was & IN != 0:
                now |= IN
                weight = max(weight, incoming[place] if incoming.shape[0] else weight_was)
            if was == now and weight_was == weight:
                continue
            low[written] = min(i, j)
            high[written] = max(i, j)
            before[written] = weight_was
            after[written] = weight
            if i > j:
                now = (IN if now & OUT != 0 else 0) | (OUT if now & IN != 0 else 0)
            flags[written] = now
            written += 1
    return written
