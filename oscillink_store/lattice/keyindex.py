"""Which anchors hold a key: a sorted index, and how several of them answer as one.

A key is a 64-bit hash of an id, a title, a phrase, a sequence or a link's target. Whoever
looks a key up compares the text itself where a collision would matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["KeyIndex", "find", "key_index", "merged", "ranges", "taken"]

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


class KeyIndex(NamedTuple):
    """The rows of each key: ``keys`` (M,) uint64 ascending, ``rows`` (M,) int32.

    Rows ascend at equal keys and count from the first row of the part that the index covers.
    The arrays may be read-only memory maps.
    """

    keys: Keys
    rows: npt.NDArray[np.int32]


def key_index(keys: Keys, rows: npt.NDArray[np.integer]) -> KeyIndex:
    """Index pairs of key and row in any order; a pair may occur once only."""
    order = np.lexsort((rows, keys))
    return KeyIndex(keys=keys[order], rows=rows[order].astype(np.int32))


def ranges(starts: Rows, ends: Rows) -> tuple[Rows, Rows]:
    """All places from ``starts[i]`` up to ``ends[i]``, one range after another.

    Returns (which, places): to which range each place belongs, and the place.
    """
    counts = ends - starts
    which = np.repeat(np.arange(len(starts)), counts)
    first = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - first[which] + starts[which]


def find(parts: Sequence[tuple[int, KeyIndex]], wanted: Keys) -> tuple[Rows, Rows]:
    """Every row of every wanted key, over parts of which each starts at some slot.

    Returns (which, slots), sorted by both: slot ``slots[i]`` holds key ``wanted[which[i]]``.
    """
    found_which, found_slots = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first, index in parts:
        starts = np.searchsorted(index.keys, wanted, "left")
        ends = np.searchsorted(index.keys, wanted, "right")
        which, places = ranges(starts, ends)
        found_which.append(which)
        found_slots.append(index.rows[places].astype(np.int64) + first)
    which, slots = np.concatenate(found_which), np.concatenate(found_slots)
    if len(parts) > 1:
        order = np.lexsort((slots, which))
        which, slots = which[order], slots[order]
    return which, slots


def merged(parts: Sequence[tuple[int, KeyIndex]]) -> KeyIndex:
    """One index over several parts, whose first rows are given, counted from row 0."""
    keys = np.concatenate([index.keys for _, index in parts])
    rows = np.concatenate([index.rows + np.int32(first) for first, index in parts])
    # parts come in the order of their rows, and each is sorted: a stable sort merges them
    order = np.argsort(keys, kind="stable")
    return KeyIndex(keys=keys[order], rows=rows[order])


def taken(index: KeyIndex, kept: npt.NDArray[np.bool_]) -> KeyIndex:
    """The index of the kept rows alone, (n,) True, numbered anew."""
    numbers = (np.cumsum(kept) - 1).astype(np.int32)
    stays = kept[index.rows]
    return KeyIndex(keys=index.keys[stays], rows=numbers[index.rows[stays]])
