"""Names in a question: which titles, and which values of a facet, stand in it.

The index of titles is two sorted arrays that can be memory-mapped, so that opening a store
builds nothing. A title is looked up by a 64-bit key of its words; whether it really is the
title is then settled by comparing the words themselves.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.lattice.words import letters, outermost, title_words, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from oscillink_store.model import Parameters

__all__ = ["NameIndex", "match", "name_index", "named_values", "titled"]

Keys = npt.NDArray[np.uint64]

# The key of a sequence of words w_1 … w_n is the polynomial Σ hash(w_i) · _BASE^(n−i) modulo
# 2^64, which extends by one word at a time. _BASE is odd, thus no word is ever shifted out.
_BASE = np.uint64(0x9E3779B97F4A7C15)

# A value of one letter is an article or an initial more often than itself.
_LEAST_VALUE = 2


class NameIndex(NamedTuple):
    """Where titles are found by their words; the arrays may be read-only memory maps.

    ``keys`` (M,) uint64 ascending and ``rows`` (M,) int32: the key of each indexed title and
    its anchor, ascending at equal keys. ``lengths`` (K,) int32 ascending: how many words the
    indexed titles have.
    """

    keys: Keys
    rows: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]


def titled(
    titles: Iterable[str | None], parameters: Parameters
) -> dict[tuple[str, ...], list[int]]:
    """The anchors of every title that can be named or mentioned, by the title's words.

    Titles of fewer than ``title_min_length`` letters are left out, as are titles of more
    than ``title_max_anchors`` anchors, for those say nothing about which one is meant.
    """
    rows: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, title in enumerate(titles):
        parts = title_words(title)
        if letters(parts) >= parameters.title_min_length:
            rows[tuple(parts)].append(row)
    most = parameters.title_max_anchors
    return {parts: anchors for parts, anchors in rows.items() if len(anchors) <= most}


def name_index(titles: Iterable[str | None], parameters: Parameters) -> NameIndex:
    """Index the titles of all anchors, in anchor order, for :func:`match`."""
    found = titled(titles, parameters)
    hashes: dict[str, int] = {}
    keys = np.empty(sum(map(len, found.values())), np.uint64)
    rows = np.empty(len(keys), np.int32)
    at = 0
    for parts, anchors in found.items():
        key = 0
        for part in parts:
            value = hashes.get(part)
            if value is None:
                value = hashes[part] = _hash(part)
            key = (key * int(_BASE) + value) & 0xFFFFFFFFFFFFFFFF
        keys[at : at + len(anchors)] = key
        rows[at : at + len(anchors)] = anchors
        at += len(anchors)
    best = np.lexsort((rows, keys))
    lengths = np.array(sorted({len(parts) for parts in found}), np.int32)
    return NameIndex(keys=keys[best], rows=rows[best], lengths=lengths)


def match(question: str, index: NameIndex, title_of: Callable[[int], str | None]) -> list[int]:
    """The anchors whose title stands in ``question`` as whole words, ascending.

    A title within a longer title that stands there does not count. ``title_of`` gives the
    title of a row; it is asked for the few rows whose key is found.
    """
    asked = words(question)
    lengths = index.lengths[: np.searchsorted(index.lengths, len(asked), "right")]
    if len(lengths) == 0:
        return []
    starts, counts, keys = _keys(asked, lengths)
    left = np.searchsorted(index.keys, keys, "left")
    hits = np.flatnonzero(index.keys[np.minimum(left, len(index.keys) - 1)] == keys)
    spans: list[tuple[int, int, int]] = []
    for hit in hits.tolist():
        start, end = int(starts[hit]), int(starts[hit] + counts[hit])
        last = np.searchsorted(index.keys, keys[hit], "right")
        spans += [
            (row, start, end)
            for row in index.rows[left[hit] : last].tolist()
            if title_words(title_of(row)) == asked[start:end]
        ]
    return sorted({row for row, _, _ in outermost(spans)})


def named_values(question: str, values: Sequence[str]) -> list[str]:
    """Which of ``values`` stand in ``question`` as whole words, in their own order.

    A value within a longer value that stands there does not count, nor does a value of a
    single letter.
    """
    known, longest = _values(tuple(values))
    asked = words(question)
    spans: list[tuple[int, int, int]] = []
    for start in range(len(asked)):
        for end in range(start + 1, min(start + longest, len(asked)) + 1):
            spans += [(at, start, end) for at in known.get(tuple(asked[start:end]), ())]
    named = {at for at, _, _ in outermost(spans)}
    return [values[at] for at in sorted(named)]


@lru_cache(maxsize=16)
def _values(values: tuple[str, ...]) -> tuple[dict[tuple[str, ...], list[int]], int]:
    """The places of every value by its words, and the most words that a value has."""
    known: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, value in enumerate(values):
        parts = words(value)
        if letters(parts) >= _LEAST_VALUE:
            known[tuple(parts)].append(at)
    return dict(known), max(map(len, known), default=0)


def _hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def _keys(
    asked: list[str], lengths: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Keys]:
    """Start, number of words and key of every run of words that has one of ``lengths``."""
    hashes = np.array([_hash(word) for word in asked], np.uint64)
    wanted = set(lengths.tolist())
    keys, runs = hashes, [hashes] if 1 in wanted else []
    for length in range(2, max(wanted) + 1):
        keys = keys[:-1] * _BASE + hashes[length - 1 :]
        if length in wanted:
            runs.append(keys)
    sizes = [len(run) for run in runs]
    starts = np.concatenate([np.arange(size) for size in sizes])
    return starts, np.repeat(lengths.astype(np.int64), sizes), np.concatenate(runs)
