"""From texts to an inverted file, and the upkeep of inverted files.

An inverted file lists for every word the rows that hold it: ``starts`` (W + 1,) says which
entries of ``rows`` (P,) and ``counts`` (P,) belong to a word; rows ascend within it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.hashing import digest
from oscillink_store.kernels.jit import kernel

__all__ = ["append", "capitalized", "count", "cut", "intern", "keep", "place"]

OTHER, INSIDE, CAPITAL, SPACE, BREAK = range(5)
"""Kinds of bytes: what parts phrases, letters and capitals, white space and line breaks."""

Uint8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]


@kernel("void(const uint8[::1], const int64[::1], const uint8[::1], uint64[::1], int64[::1])")
def cut(data: Uint8, ends: Int64, inside: Uint8, keys: Uint64, token_ends: Int64) -> None:
    """Write the key of every word of n texts, and where each text's keys end (n,).

    The texts lie in ``data`` (B,) one behind the other, each up to its end in ``ends`` (n,).
    Words are the longest runs of bytes whose entry of ``inside`` (256,) is not 0, of which B
    bytes hold at most B. No word reaches from one text into the next.
    """
    total, at = 0, 0
    for row in range(ends.shape[0]):
        end = ends[row]
        while at < end:
            if inside[data[at]] == 0:
                at += 1
                continue
            start = at
            while at < end and inside[data[at]] != 0:
                at += 1
            keys[total] = digest(data, start, at)
            total += 1
        token_ends[row] = total


@kernel("void(const uint8[::1], const int64[::1], const uint8[::1], int64, int64, uint8[::1],"
        " int64[::1], uint64[::1], int64[::1])")  # fmt: skip
def capitalized(
    data: Uint8,
    ends: Int64,
    kinds: Uint8,
    fewest: int,
    most: int,
    folded: Uint8,
    starts: Int64,
    keys: Uint64,
    key_ends: Int64,
) -> None:
    """Write the key of every phrase of n texts of ASCII, and where each text's keys end (n,).

    The texts lie in ``data`` (B,) as in :func:`cut`; ``kinds`` (256,) are the kinds of bytes.
    Phrases are ``fewest`` to ``most`` ≤ 4 words in a row that begin with a capital, with white
    space alone between them, at most one line break of it. The keys are those of the words in
    small letters with one space between. ``folded`` (B + 1,) and ``starts`` (B + 1,) are
    scratch; ``keys`` has room for 2 B.
    """
    total, at = 0, 0
    for row in range(ends.shape[0]):
        end = ends[row]
        words, size, breaks, joined = 0, 0, 0, False
        while at < end:
            kind = kinds[data[at]]
            if kind == CAPITAL:
                if joined:
                    folded[size] = 32
                    size += 1
                else:
                    words, size = 0, 0
                starts[words] = size
                words += 1
                while at < end and (kinds[data[at]] == INSIDE or kinds[data[at]] == CAPITAL):
                    small = kinds[data[at]] == INSIDE
                    folded[size] = data[at] if small else data[at] + 32
                    size += 1
                    at += 1
                for count in range(fewest, min(most, words) + 1):
                    keys[total] = digest(folded, starts[words - count], size)
                    total += 1
                breaks, joined = 0, True
            elif kind == INSIDE:
                while at < end and (kinds[data[at]] == INSIDE or kinds[data[at]] == CAPITAL):
                    at += 1
                joined = False
            else:
                breaks += kind == BREAK
                joined = joined and kind != OTHER and breaks <= 1
                at += 1
        key_ends[row] = total


@kernel("int64(const uint64[::1], int64, int32[::1], uint64[::1], int64[::1], int32[::1])")
def intern(
    keys: Uint64, first: int, table: Int32, words: Uint64, known: Int64, numbers: Int32
) -> int:
    """Number the distinct keys from 0 on, as they come, beginning with ``keys[first]``.

    ``table`` is a hash table with a power of two of places, −1 where it is empty; ``words``
    are the ``known[0]`` keys seen so far. Writes the number of each key (T,) to ``numbers``.
    Stops when ``words`` is full, which must be before the table is; returns how far it came.
    """
    last = np.uint64(table.shape[0] - 1)
    one = np.uint64(1)
    W = known[0]
    for t in range(first, keys.shape[0]):
        key = keys[t]
        slot = key & last
        number = table[slot]
        while number >= 0 and words[number] != key:
            slot = (slot + one) & last
            number = table[slot]
        if number < 0:
            if words.shape[0] == W:
                known[0] = W
                return t
            number = np.int32(W)
            words[W] = key
            table[slot] = number
            W += 1
        numbers[t] = number
    known[0] = W
    return len(keys)


@kernel("void(const int32[::1], const int64[::1], const uint8[::1], int32[::1], int64[::1],"
        " int32[::1])")  # fmt: skip
def count(
    numbers: Int32, ends: Int64, stop: Uint8, last: Int32, frequencies: Int64, lengths: Int32
) -> None:
    """Add up in how many rows each word occurs (W,), and each row's words (n,).

    ``numbers`` (T,) are the words of all rows, each row's up to its end in ``ends`` (n,).
    Words with ``stop`` (W,) do not count in the length of a row. ``last`` (W,) is scratch, −1.
    """
    t = 0
    for row in range(ends.shape[0]):
        length = 0
        while t < ends[row]:
            word = numbers[t]
            if last[word] != row:
                last[word] = row
                frequencies[word] += 1
            length += 1 - stop[word]
            t += 1
        lengths[row] = length


@kernel("void(const int32[::1], const int64[::1], int32[::1], int64[::1], int32[::1],"
        " uint8[::1])")  # fmt: skip
def place(
    numbers: Int32, ends: Int64, last: Int32, cursors: Int64, rows: Int32, counts: Uint8
) -> None:
    """Write the entries of every word from its cursor (W,) on, which moves to their end.

    ``numbers``, ``ends`` and ``last`` are those of :func:`count`. Counts stop at 255.
    """
    t = 0
    for row in range(ends.shape[0]):
        while t < ends[row]:
            word = numbers[t]
            at = cursors[word]
            if last[word] != row:
                last[word] = row
                rows[at] = row
                counts[at] = 1
                cursors[word] = at + 1
            elif counts[at - 1] < 255:
                counts[at - 1] += np.uint8(1)
            t += 1


@kernel("void(const int64[::1], const int32[::1], const uint8[::1], int64, const int64[::1],"
        " int64[::1], int32[::1], uint8[::1])")  # fmt: skip
def append(
    starts: Int64,
    rows: Int32,
    counts: Uint8,
    shift: int,
    places: Int64,
    cursors: Int64,
    out_rows: Int32,
    out_counts: Uint8,
) -> None:
    """Copy one inverted file into a larger one, its rows shifted.

    Word w has place ``places[w]`` there; its entries go where that place's cursor stands.
    """
    for w in range(places.shape[0]):
        at = cursors[places[w]]
        for entry in range(starts[w], starts[w + 1]):
            out_rows[at] = rows[entry] + shift
            out_counts[at] = counts[entry]
            at += 1
        cursors[places[w]] = at


@kernel("int64(const uint64[::1], const int64[::1], const int32[::1], const uint8[::1],"
        " const int32[::1], uint64[::1], int64[::1], int32[::1], uint8[::1])")  # fmt: skip
def keep(
    keys: Uint64,
    starts: Int64,
    rows: Int32,
    counts: Uint8,
    numbers: Int32,
    out_keys: Uint64,
    out_starts: Int64,
    out_rows: Int32,
    out_counts: Uint8,
) -> int:
    """Copy the entries whose row has a new number in ``numbers`` (n,), which is −1 elsewhere.

    Words without entries are left out. The arrays written to are as large as those read;
    returns how many words they hold afterwards.
    """
    words, at = 0, 0
    out_starts[0] = 0
    for w in range(keys.shape[0]):
        for entry in range(starts[w], starts[w + 1]):
            number = numbers[rows[entry]]
            if number >= 0:
                out_rows[at] = number
                out_counts[at] = counts[entry]
                at += 1
        if at > out_starts[words]:
            out_keys[words] = keys[w]
            words += 1
            out_starts[words] = at
    return words
