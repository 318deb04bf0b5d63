"""The full-text index of a part of a store, and BM25 over all its parts.

A part covers consecutive slots and never changes, so it is written once, when its texts come
in; deleted anchors are masked, and what depends on the whole corpus (the number of anchors,
their mean length, the document frequencies) is taken over those alive at each search. Hence
a search answers bit for bit as on an index built anew from the texts alive.
"""

from __future__ import annotations

import math
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels import bm25, tokens
from oscillink_store.kernels.hashing import encoded, keys_of
from oscillink_store.lattice.words import words as words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "STOP_WORDS", "Postings", "TextStatistics", "Tokens", "build", "containing", "frequencies",
    "merge", "search", "take", "tokenize",
]  # fmt: skip

Uint8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]

K1, B = 1.2, 0.75

STOP_WORDS = frozenset(
    # articles and determiners
    "a an the this that these those some any each all both such same own "  # noqa: SIM905
    "other few more most "
    # pronouns; the words before and after an apostrophe
    "i me my myself we us our ours ourselves you your yours yourself yourselves he him his "
    "himself she her hers herself it its itself they them their theirs themselves s t d m o ll "
    "re ve y don doesn didn isn wasn aren weren hasn haven hadn won wouldn shouldn couldn "
    # questions
    "who whom whose what which when where why how "
    # auxiliaries
    "am is are was were be been being have has had having do does did doing will should can "
    # prepositions, conjunctions, particles
    "about above after again against at before below between by down during for from further in "
    "into of off on once out over through to under until up with "
    "and but or nor if because as while than so "
    "not no only just now then here there too very".split()
)
"""Words too common in English to tell texts apart. They are indexed, for titles that consist
of them, but neither count in the length of a text nor are looked for in a question."""

_FIRST_WORDS = 1 << 11
_BLOCK = 4096  # rows scored at a time: their sums fill the processor's first cache
_ALL = np.empty(0, np.uint8)


class Tokens(NamedTuple):
    """The words of n texts: ``keys`` (T,) in order, those of text i up to ``ends[i]``."""

    keys: Uint64
    ends: Int64


class Postings(NamedTuple):
    """Which of n texts hold which words.

    The texts with word ``keys[w]`` (W,), ascending, are ``rows[starts[w]:starts[w + 1]]``,
    ascending; ``starts`` is (W + 1,), ``rows`` (P,). ``counts`` (P,) says how often, 255
    standing for more as well; ``lengths`` (n,) are the texts' words without stop words. The
    arrays may be read-only memory maps.
    """

    keys: Uint64
    starts: Int64
    rows: Int32
    counts: Uint8
    lengths: Int32


class TextStatistics(NamedTuple):
    """What BM25 needs of a corpus: its anchors, and their words without stop words in total.

    ``frequencies`` (Q,), in how many anchors each word of a question stands as of
    :func:`frequencies`, are given when the corpus is larger than what is searched.
    """

    anchors: int
    length: int
    frequencies: Int64 | None = None


class _Marks(dict[int, str | None]):
    """What :meth:`str.translate` makes of a character, found out when first met.

    Accents above, below and through a letter, and the points of Hebrew and Arabic, vanish.
    Marks that spell (kana voicing, the viramas and nuktas of Indic scripts, Thai, Lao and
    Tibetan vowels) stay: without them it would be another word. The combining class of
    Unicode's chapter 4.3 tells them apart.
    """

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.combining(chr(code))
        self[code] = None if kind == 1 or 10 <= kind <= 36 or kind >= 200 else chr(code)
        return self[code]


_MARKS = _Marks()


def _unaccented(folded: str) -> str:
    if folded.isascii():
        return folded
    return unicodedata.normalize("NFD", folded).translate(_MARKS)


def _folded(text: str) -> str:
    # Of ASCII the kernel cuts the same words as words_of does.
    return text.lower() if text.isascii() else _unaccented(" ".join(words_of(text)))


@cache
def _word_bytes() -> Uint8:
    # What is not ASCII stands in texts already cut, with spaces between the words.
    return np.array([b > 127 or chr(b).isalnum() or chr(b) == "_" for b in range(256)], np.uint8)


@cache
def _stop_keys() -> Uint64:
    return keys_of(sorted(STOP_WORDS))


def _cut(folded: Sequence[str]) -> Tokens:
    data, ends = encoded(folded)
    # words have a byte between them, unless the text ends
    keys = np.empty((len(data) + len(ends)) // 2 + 1, np.uint64)
    token_ends = np.empty(len(ends), np.int64)
    tokens.cut(data, ends, _word_bytes(), keys, token_ends)
    return Tokens(keys[: token_ends[-1] if len(ends) else 0], token_ends)


def tokenize(texts: Sequence[str]) -> Tokens:
    """Cut ``texts`` (n) into words, as :func:`.words.words` does, and drop their accents."""
    return _cut([_folded(text) for text in texts])


def build(texts: Sequence[str]) -> Postings:
    """Index ``texts`` (n)."""
    keys, ends = tokenize(texts)
    known, numbers = _numbered(keys)
    W = len(known)
    frequencies = np.zeros(W, np.int64)
    lengths = np.empty(len(ends), np.int32)
    stop = np.isin(known, _stop_keys()).view(np.uint8)
    tokens.count(numbers, ends, stop, np.full(W, -1, np.int32), frequencies, lengths)
    order = np.argsort(known)
    starts = _starts(frequencies[order])
    cursors = np.empty(W, np.int64)
    cursors[order] = starts[:-1]
    rows, counts = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.uint8)
    tokens.place(numbers, ends, np.full(W, -1, np.int32), cursors, rows, counts)
    return Postings(known[order], starts, rows, counts, lengths)


def _numbered(keys: Uint64) -> tuple[Uint64, Int32]:
    """The distinct keys (W,) as they come, and for each key (T,) its place among them."""
    numbers = np.empty(len(keys), np.int32)
    known, found = np.empty(0, np.uint64), np.zeros(1, np.int64)
    done, room = 0, _FIRST_WORDS
    while done < len(keys):
        larger = np.empty(room, np.uint64)
        table = np.full(2 * room, -1, np.int32)
        found[0] = 0
        tokens.intern(known, 0, table, larger, found, np.empty(len(known), np.int32))
        known = larger
        done = tokens.intern(keys, done, table, known, found, numbers)
        room *= 4
    return known[: found[0]], numbers


def _starts(sizes: Int64) -> Int64:
    starts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts


def merge(parts: Sequence[Postings]) -> Postings:
    """Join the indices of consecutive texts; equal to :func:`build` of all of them."""
    # the parts' keys ascend already: a stable sort merges such runs
    keys = np.sort(np.concatenate([_EMPTY.keys, *(part.keys for part in parts)]), kind="stable")
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]]
    places = [np.searchsorted(keys, part.keys) for part in parts]
    sizes = np.zeros(len(keys), np.int64)
    for part, place in zip(parts, places, strict=True):
        sizes[place] += np.diff(part.starts)
    starts = _starts(sizes)
    cursors = starts[:-1].copy()
    rows, counts = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.uint8)
    shift = 0
    for part, place in zip(parts, places, strict=True):
        tokens.append(part.starts, part.rows, part.counts, shift, place, cursors, rows, counts)
        shift += len(part.lengths)
    lengths = np.concatenate([_EMPTY.lengths, *(part.lengths for part in parts)])
    return Postings(keys, starts, rows, counts, lengths)


def take(postings: Postings, keep: npt.NDArray[np.bool_]) -> Postings:
    """Keep only the texts where ``keep`` (n,); equal to :func:`build` of those.

    Raises:
        ValueError: ``keep`` has another length.

    """
    if keep.shape != postings.lengths.shape:
        raise ValueError(f"a mask of {len(keep)} for {len(postings.lengths)} texts")
    numbers = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
    keys, starts = np.empty_like(postings.keys), np.empty_like(postings.starts)
    rows, counts = np.empty_like(postings.rows), np.empty_like(postings.counts)
    W = tokens.keep(*postings[:4], numbers, keys, starts, rows, counts)
    P = starts[W]
    return Postings(keys[:W], starts[: W + 1], rows[:P], counts[:P], postings.lengths[keep])


_EMPTY = Postings(
    np.empty(0, np.uint64), np.zeros(1, np.int64), np.empty(0, np.int32), _ALL,
    np.empty(0, np.int32),
)  # fmt: skip


def _of_part(mask: Uint8 | None, first: int, part: Postings) -> Uint8:
    if mask is None:
        return _ALL
    if len(mask) < first + len(part.lengths):
        raise ValueError(f"a mask of {len(mask)} slots, of {first + len(part.lengths)} or more")
    return mask[first : first + len(part.lengths)]


def search(
    parts: Sequence[tuple[int, Postings]],
    question: str,
    limit: int,
    *,
    alive: Uint8 | None,
    allowed: Uint8 | None,
    statistics: TextStatistics,
) -> tuple[Int64, Float64]:
    """Find the best ``limit`` anchors for a question by BM25.

    A part is (its first slot, its index). A text scores the sum over the words of the
    question, each as often as it stands there, by ascending key, of

        idf·(k1 + 1)·f / (f + k1·(1 − b) + k1·b/mean·length),
        idf = ln(1 + (N − n + 1/2) / (n + 1/2)),  k1 = 1.2, b = 0.75

    (Robertson and Zaragoza 2009, equation 3.15, with an idf that is never negative), for a
    word that stands f times in it, and in n of the N anchors.

    Args:
        parts: By first slot.
        question: Any text; its stop words are ignored.
        limit: How many anchors to return at most.
        alive: (S,) 0 for slots whose anchor is deleted; None if there are none. n counts
            those alive.
        allowed: (S,) 0 for slots that are not to be found, among them all that are not alive;
            None without a filter. It changes no score.
        statistics: Those of the anchors alive, or of more of which these are a part.

    Returns:
        Slots (m,) and scores (m,), best first, ties by ascending slot. Only anchors with a
        word of the question are found.

    Raises:
        ValueError: A mask covers fewer slots than the parts.

    """
    keys, times = _asked(question)
    ranges, counted, entries = _ranges(parts, keys, alive)
    if statistics.frequencies is not None:
        counted = statistics.frequencies
    most = max(0, min(limit, entries))
    slots, scores = np.empty(most, np.int64), np.empty(most)
    if most == 0 or statistics.length == 0:
        return slots[:0], scores[:0]
    weights = np.array(
        [
            time * _idf(statistics.anchors, frequency) * (K1 + 1.0)
            for time, frequency in zip(times.tolist(), counted.tolist(), strict=True)
        ]
    )
    slope = K1 * B * statistics.anchors / statistics.length
    sums, touched = np.zeros(_BLOCK), np.empty(_BLOCK + 1, np.int32)
    mask = alive if allowed is None else allowed
    size = 0
    for first, part, lows, highs in ranges:
        size = bm25.score(
            part.rows, part.counts, part.lengths, _of_part(mask, first, part), first, lows, highs,
            weights, K1 * (1.0 - B), slope, sums, touched, scores, slots, size,
        )  # fmt: skip
    order = np.lexsort((slots[:size], -scores[:size]))
    return slots[order], scores[order]


def frequencies(parts: Sequence[tuple[int, Postings]], question: str, alive: Uint8 | None) -> Int64:
    """In how many of the anchors alive each word of a question stands, by ascending key, (Q,)."""
    return _ranges(parts, _asked(question)[0], alive)[1]


def _asked(question: str) -> tuple[Uint64, Int64]:
    """The words of a question, stop words left out, by ascending key, and how often each."""
    keys, times = np.unique(tokenize([question]).keys, return_counts=True)
    wanted = ~np.isin(keys, _stop_keys())
    return keys[wanted], times[wanted]


def _idf(anchors: int, frequency: int) -> float:
    return math.log(1.0 + (anchors - frequency + 0.5) / (frequency + 0.5))


def _ranges(
    parts: Sequence[tuple[int, Postings]], keys: Uint64, alive: Uint8 | None
) -> tuple[list[tuple[int, Postings, Int64, Int64]], Int64, int]:
    """Parts with any of the keys, where the entries of each key are, and how many there are.

    The second answer is how many entries of each key are alive, the third how many there are
    of all keys, dead or alive.
    """
    frequencies = np.zeros(len(keys), np.int64)
    ranges, total = [], 0
    for first, part in parts:
        lows, highs = np.empty_like(frequencies), np.empty_like(frequencies)
        mask = _of_part(alive, first, part)
        entries = bm25.look_up(*part[:3], mask, keys, lows, highs, frequencies)
        if entries:
            ranges.append((first, part, lows, highs))
            total += entries
    return ranges, frequencies, total


def containing(
    parts: Sequence[tuple[int, Postings]], groups: Sequence[Sequence[str]], alive: Uint8 | None
) -> Int64:
    """Find the anchors alive whose text holds all words of one of the ``groups``, in any order.

    The words are such as :func:`.words.words` gives; accents do not matter. Every text in
    which they stand is found, hence all texts if a group has no words.

    Returns:
        Slots (m,), ascending, each once.

    Raises:
        ValueError: ``alive`` covers fewer slots than the parts.

    """
    cut = _cut([" ".join(map(_unaccented, words)) for words in groups])
    counts = np.diff(cut.ends, prepend=0)
    found = [np.empty(0, np.int64)]
    if (counts == 0).any():
        for first, part in parts:
            there = np.ones(len(part.lengths), np.uint8)
            mask = there if alive is None else _of_part(alive, first, part)
            found.append(first + np.flatnonzero(mask))
        return np.concatenate(found)
    keys, each = np.unique(cut.keys, return_inverse=True)
    group = np.repeat(np.arange(len(groups)), counts)
    for first, part, lows, highs in _ranges(parts, keys, None)[0]:
        # the shortest list of a group comes first
        order = np.lexsort(((highs - lows)[each], group))
        starts, stops = lows[each[order]], highs[each[order]]
        shortest = (stops - starts)[cut.ends - counts]
        out = np.empty(int(shortest.sum()), np.int64)
        mask = _of_part(alive, first, part)
        m = bm25.intersect_groups(part.rows, mask, starts, stops, cut.ends, first, out)
        found.append(np.unique(out[:m]))
    return np.concatenate(found)
