"""64-bit keys of strings: the same on every machine and in every release.

The bytes are taken eight at a time, the last group filled up with zeros, and each group goes
through the finalizer of splitmix64 (Steele, Lea and Flood 2014, section 3; the constants are
Stafford's Mix13), chained like a block cipher: h ← mix(h ^ group). The length enters first.
Every step is a bijection, so strings of one length that differ within a single group never
share a key; all others do with a chance of about 2^-64. The keys are no defence against
somebody who looks for collisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["digest", "encoded", "hash_strings", "keys_of"]

Bytes = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]

# Constants of one width: uint64 with any other integer would become a float.
SEED = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S8, S27, S30, S31 = np.uint64(8), np.uint64(27), np.uint64(30), np.uint64(31)


@kernel("uint64(uint64)")
def mix(h: np.uint64) -> np.uint64:
    """Spread every bit of ``h`` over all of them, one to one."""
    h = (h ^ (h >> S30)) * FIRST
    h = (h ^ (h >> S27)) * SECOND
    return h ^ (h >> S31)


@kernel("uint64(const uint8[::1], int64, int64)")
def digest(data: Bytes, start: int, end: int) -> np.uint64:
    """Return the key of the bytes ``data[start:end]``."""
    h = mix(np.uint64(end - start) * SEED)
    at = start
    while at < end:
        group = np.uint64(0)
        stop = min(at + 8, end)
        for i in range(stop - 1, at - 1, -1):
            group = (group << S8) | np.uint64(data[i])
        h = mix(h ^ group)
        at = stop
    return h


@kernel("void(const uint8[::1], const int64[::1], uint64[::1])")
def hash_strings(data: Bytes, ends: Int64, out: Uint64) -> None:
    """Write the keys of n strings that lie in ``data`` (B,) one behind the other.

    String i ends before byte ``ends[i]``, and the next begins there.
    """
    start = 0
    for i in range(ends.shape[0]):
        out[i] = digest(data, start, ends[i])
        start = ends[i]


def encoded(strings: Sequence[str]) -> tuple[Bytes, Int64]:
    """Lay the UTF-8 bytes of ``strings`` (n) one behind the other.

    Returns the bytes (B,) and where each string ends (n,).
    """
    joined = "".join(strings)
    if joined.isascii():
        data, lengths = joined.encode(), map(len, strings)
    else:
        pieces = [string.encode() for string in strings]
        data, lengths = b"".join(pieces), map(len, pieces)
    ends = np.fromiter(lengths, np.int64, len(strings))
    return np.frombuffer(data, np.uint8), np.cumsum(ends, out=ends)


def keys_of(strings: Sequence[str]) -> Uint64:
    """Compute the keys (n,) of the UTF-8 bytes of ``strings`` (n)."""
    keys = np.empty(len(strings), np.uint64)
    hash_strings(*encoded(strings), keys)
    return keys
