"""A growing set of 64-bit keys in eight bytes each: which ids have been seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["KeySet", "Keys", "contained"]

Keys = npt.NDArray[np.uint64]


class KeySet:
    """Keys in sorted runs, of which each is more than twice as long as the one behind it.

    So n keys take 8 n bytes, and adding them all one batch after another costs O(n log n).
    """

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def add(self, keys: Keys) -> None:
        """Add keys in any order."""
        run = np.unique(keys)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.union1d(self._runs.pop(), run)
        if len(run):
            self._runs.append(run)

    def holds(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which of the keys (n,) are there."""
        found = np.zeros(len(keys), np.bool_)
        for run in self._runs:
            found |= contained(keys, run)
        return found

    def sorted(self) -> Keys:
        """All keys, each once, ascending."""
        return np.unique(np.concatenate([np.empty(0, np.uint64), *self._runs]))


def contained(keys: Keys, among: Keys) -> npt.NDArray[np.bool_]:
    """Which of the keys (n,) are among others (m,), which ascend."""
    if not len(among):
        return np.zeros(len(keys), np.bool_)
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return np.asarray(among[places] == keys)
