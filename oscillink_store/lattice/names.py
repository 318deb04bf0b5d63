"""Names in a question: which titles, and which values of a facet, stand in it.

The index of titles is two sorted arrays that can be memory-mapped, so that opening a store
builds nothing. A title is looked up by a 64-bit key of its words; whether it really is the
title is then settled by comparing the words themselves.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.hashing import encoded
from oscillink_store.kernels.tokens import cut
from oscillink_store.lattice.keyindex import KeyIndex, find, key_index
from oscillink_store.lattice.words import letters, outermost, title_words, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence, Set

    from oscillink_store.model import Parameters

__all__ = [
    "FacetSpan", "NameIndex", "NamedRun", "facet_spans", "line_keys", "match", "meant_anchors",
    "meant_value", "name_index", "named_runs", "named_values", "title_line", "title_runs",
]  # fmt: skip

Keys = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

NameIndex = KeyIndex
"""Where titles are found by their words: the key of each title, and the row of its anchor.

The top byte of a key is the number of words. The rest are the upper bits of the polynomial
Σ hash(w_i) · B^(n−i) modulo 2^64 over the words w_1 … w_n, which extends by one word at a
time. B is odd, thus no word is ever shifted out.
"""

_BASE = np.uint64(0x9E3779B97F4A7C15)
_COUNT_BITS, _COUNT_SHIFT = np.uint64(8), np.uint64(56)
_MOST_WORDS = 255

# The bytes that words consist of. What is not ASCII is cut before, into words of any bytes.
_INSIDE = np.array([b > 127 or chr(b).isalnum() or chr(b) == "_" for b in range(256)], np.uint8)

# Looking a key up among n others takes about as long as marking these many keys in a table.
_LOOKUP_COST = 8

# A value of one letter is an article or an initial more often than itself.
_LEAST_VALUE = 2


def title_line(title: str | None, parameters: Parameters) -> str:
    """The words of a title with a space between, or nothing if it cannot be named.

    Titles of fewer than ``title_min_length`` letters stand in too many texts, and what has
    more than 255 words is none.
    """
    parts = title_words(title)
    usable = letters(parts) >= parameters.title_min_length and len(parts) <= _MOST_WORDS
    return " ".join(parts) if usable else ""


def name_index(titles: Iterable[str | None], parameters: Parameters) -> NameIndex:
    """Index the titles of the anchors of a part, in their order, for :func:`match`."""
    lines, rows = [], []
    for row, title in enumerate(titles):
        line = title_line(title, parameters)
        if line:
            lines.append(line)
            rows.append(row)
    return key_index(line_keys(lines), np.array(rows, np.int32))


def line_keys(lines: Sequence[str]) -> Keys:
    """The key (n,) of each of n lines, of 1 to 255 words."""
    hashes, ends = _hashes(lines)
    counts = np.diff(ends, prepend=0)
    starts = ends - counts
    keys = np.zeros(len(lines), np.uint64)
    longer = np.arange(len(lines))
    for word in range(counts.max(initial=0)):
        longer = longer[counts[longer] > word]
        keys[longer] = keys[longer] * _BASE + hashes[starts[longer] + word]
    return _counted(keys, counts)


def title_runs(
    texts: Sequence[str], parts: Sequence[tuple[int, NameIndex]]
) -> tuple[Integers, Integers, Keys]:
    """Every run of words in ``texts`` whose key is that of a title.

    Returns (text, start, key), each (H,): in which text the run stands, how many of its words
    stand before the run, and the key.
    """
    hashes, ends = _hashes(texts)
    counts = np.diff(ends, prepend=0)
    lengths = _lengths(parts)
    lengths = lengths[lengths <= counts.max(initial=0)]
    text = np.repeat(np.arange(len(texts)), counts)
    left = ends[text] - np.arange(len(hashes))  # words up to the end of the text
    titles = sum(len(index.keys) for _, index in parts)
    known = _Filter(parts) if len(hashes) * len(lengths) * _LOOKUP_COST > titles else None
    wanted = set(lengths.tolist())
    places, keys, found = [np.empty(0, np.int64)], [np.empty(0, np.uint64)], hashes
    for length in range(1, lengths.max(initial=0) + 1):
        if length > 1:
            found = found[:-1] * _BASE
            found += hashes[length - 1 :]
        if length in wanted:
            maybe = np.arange(len(found)) if known is None else known.candidates(found)
            maybe = maybe[left[maybe] >= length]
            places.append(maybe)
            keys.append(_counted(found[maybe], np.int64(length)))
    place, key = np.concatenate(places), np.concatenate(keys)
    held = np.zeros(len(key), np.bool_)
    for _, index in parts:
        if len(index.keys):
            at = np.searchsorted(index.keys, key)
            held |= index.keys[np.minimum(at, len(index.keys) - 1)] == key
    place, key = place[held], key[held]
    return text[place], place - (ends - counts)[text[place]], key


class NamedRun(NamedTuple):
    """A run of words of a question, from ``start`` to ``end``, that is a title of anchors.

    So many ``anchors`` have it; ``slots`` are theirs, none if too many to say which is meant.
    """

    start: int
    end: int
    anchors: int
    slots: tuple[int, ...]


def match(
    question: str,
    parts: Sequence[tuple[int, NameIndex]],
    alive: npt.NDArray[np.uint8] | None,
    title_of: Callable[[int], str | None],
    parameters: Parameters,
) -> list[int]:
    """The slots of the anchors whose title stands in ``question`` as whole words, ascending.

    They are the :func:`meant_anchors` of all :func:`named_runs`.
    """
    runs = named_runs(question, parts, alive, title_of, parameters)
    return meant_anchors([runs], parameters)[0]


def named_runs(
    question: str,
    parts: Sequence[tuple[int, NameIndex]],
    alive: npt.NDArray[np.uint8] | None,
    title_of: Callable[[int], str | None],
    parameters: Parameters,
) -> list[NamedRun]:
    """Every run of words of a question that is a title, those within longer ones too.

    ``parts`` are indices, each with its first slot; ``alive`` (S,) is 0 where a slot
    holds no anchor, None if all do. ``title_of`` gives the title of a slot; it is asked for
    the few whose key is found.
    """
    asked = words(question)
    _, starts, keys = title_runs([question], parts)
    which, slots = find(parts, keys)
    if alive is not None:
        there = alive[slots] != 0
        which, slots = which[there], slots[there]
    counts = np.bincount(which, minlength=len(keys)).tolist()
    ends = (starts + _count(keys)).tolist()
    held: list[list[int]] = [[] for _ in counts]
    for run, slot in zip(which.tolist(), slots.tolist(), strict=True):
        if counts[run] <= parameters.title_max_anchors:
            start, end = int(starts[run]), ends[run]
            if title_words(title_of(slot)) == asked[start:end]:
                held[run].append(slot)
    return [
        NamedRun(start, end, count, tuple(sorted(slots)))
        for start, end, count, slots in zip(starts.tolist(), ends, counts, held, strict=True)
        if count
    ]


def meant_anchors(stores: Sequence[Sequence[NamedRun]], parameters: Parameters) -> list[list[int]]:
    """Of each of some stores the slots of the anchors that a question names, ascending.

    A title within a longer title that stands there does not count. One of more than
    ``title_max_anchors`` anchors, in all stores together, says nothing about which is meant: it
    is as if it were not there.
    """
    counts: defaultdict[tuple[int, int], int] = defaultdict(int)
    for runs in stores:
        for run in runs:
            counts[run.start, run.end] += run.anchors
    anchors = [
        (place, slot, run)
        for place, runs in enumerate(stores)
        for run in runs
        if counts[run.start, run.end] <= parameters.title_max_anchors
        for slot in run.slots
    ]
    spans = [(at, run.start, run.end) for at, (_, _, run) in enumerate(anchors)]
    meant: list[set[int]] = [set() for _ in stores]
    for at, _, _ in outermost(spans):
        place, slot, _ = anchors[at]
        meant[place].add(slot)
    return [sorted(slots) for slots in meant]


class FacetSpan(NamedTuple):
    """A value of a facet that stands in a question, from word ``start`` to word ``end``."""

    value: str
    start: int
    end: int


def facet_spans(question: str, values: Sequence[str]) -> list[FacetSpan]:
    """Where ``values`` stand in ``question`` as whole words; none of a single letter."""
    known, longest = _values(tuple(values))
    asked = words(question)
    return [
        FacetSpan(values[at], start, end)
        for start in range(len(asked))
        for end in range(start + 1, min(start + longest, len(asked)) + 1)
        for at in known.get(tuple(asked[start:end]), ())
    ]


def meant_value(spans: Sequence[FacetSpan], present: Callable[[], Set[str] | None]) -> str | None:
    """The one value of a facet that a question names; None when there is none, or several.

    A value within a longer value that stands there does not count. ``present`` gives those that
    can be meant, None for all; it is asked when several are named.
    """
    named = _outermost_values(spans)
    if len(named) > 1 and (there := present()) is not None:
        named &= there
    return named.pop() if len(named) == 1 else None


def named_values(question: str, values: Sequence[str]) -> list[str]:
    """Which of ``values`` stand in ``question`` as whole words, in their own order.

    A value within a longer value that stands there does not count, nor does a value of a
    single letter.
    """
    named = _outermost_values(facet_spans(question, values))
    return [value for value in values if value in named]


def _outermost_values(spans: Sequence[FacetSpan]) -> set[str]:
    placed = [(at, span.start, span.end) for at, span in enumerate(spans)]
    return {spans[at].value for at, _, _ in outermost(placed)}


@lru_cache(maxsize=16)
def _values(values: tuple[str, ...]) -> tuple[dict[tuple[str, ...], list[int]], int]:
    """The places of every value by its words, and the most words that a value has."""
    known: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, value in enumerate(values):
        parts = words(value)
        if letters(parts) >= _LEAST_VALUE:
            known[tuple(parts)].append(at)
    return dict(known), max(map(len, known), default=0)


class _Filter:
    """A table in which titles are marked twice each: what lacks a mark is no title."""

    def __init__(self, parts: Sequence[tuple[int, NameIndex]]) -> None:
        titles = sum(len(index.keys) for _, index in parts)
        bits = min(titles.bit_length() + 4, 27)
        self._high = np.uint64(64 - bits)
        self._low, self._mask = _COUNT_BITS, np.uint64((1 << bits) - 1)
        self._marks = np.zeros(1 << bits, np.bool_)
        for _, index in parts:
            found = index.keys << _COUNT_BITS
            self._marks[found >> self._high] = True
            self._marks[(found >> self._low) & self._mask] = True

    def candidates(self, found: Keys) -> Integers:
        """The places of the polynomials that may be those of titles, ascending."""
        maybe = np.flatnonzero(self._marks[found >> self._high])
        return np.asarray(maybe[self._marks[(found[maybe] >> self._low) & self._mask]])


def _hashes(texts: Sequence[str]) -> tuple[Keys, Integers]:
    """The hashes of the words of n texts, and where those of each text end (n,)."""
    # of ASCII the kernel cuts the same words as words() does
    data, ends = encoded(
        [text.lower() if text.isascii() else " ".join(words(text)) for text in texts]
    )
    # words have a byte between them, unless the text ends
    hashes = np.empty((len(data) + len(ends)) // 2 + 1, np.uint64)
    word_ends = np.empty(len(ends), np.int64)
    cut(data, ends, _INSIDE, hashes, word_ends)
    return hashes[: word_ends[-1] if len(ends) else 0], word_ends


def _counted(polynomials: Keys, counts: Integers | np.int64) -> Keys:
    """Put the number of words on top of a polynomial: the key."""
    tops: Keys = np.asarray(counts).astype(np.uint64) << _COUNT_SHIFT
    return polynomials >> _COUNT_BITS | tops


def _count(keys: Keys) -> Integers:
    """The number of words of each key."""
    return (keys >> _COUNT_SHIFT).astype(np.int64)


def _lengths(parts: Sequence[tuple[int, NameIndex]]) -> Integers:
    """How many words the titles of any part have, ascending."""
    tops = np.arange(_MOST_WORDS + 1).astype(np.uint64) << _COUNT_SHIFT
    there = np.zeros(_MOST_WORDS + 1, np.bool_)
    for _, index in parts:
        there |= np.diff(np.searchsorted(index.keys, tops), append=len(index.keys)) > 0
    return np.flatnonzero(there)
