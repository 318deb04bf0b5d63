"""``shared``: two anchors that share a rare phrase.

A phrase is two to four words in a row that all begin with a capital and are parted by spaces
or a line break alone, compared case-folded: most are names of people, places and works, and
need neither a title nor a model. Phrases that stand in 2 to 20 texts join these. The weight of
one that stands in df texts is 1/df, rounded to 2^(−⌊log₂ df⌋), so that one more text seldom
changes the weight of all its pairs; of several shared phrases the rarest counts.

Scripts without capitals have no such phrases, and this relation stays empty. Phrases are told
apart by their 64-bit keys alone.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.hashing import encoded, keys_of
from oscillink_store.kernels.tokens import BREAK, CAPITAL, INSIDE, OTHER, SPACE, capitalized
from oscillink_store.lattice.keyindex import ranges
from oscillink_store.lattice.upkeep import Arcs
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oscillink_store.lattice.corpus import Change, Corpus, Mask, Progress
    from oscillink_store.model import Parameters

__all__ = ["phrase_keys", "phrases", "update"]

Integers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

_NAME = "shared"
_FEWEST_WORDS, _MOST_WORDS = 2, 4
_ROWS = 1 << 14
"""How many rows' arcs are worked out at a time, which bounds the memory it takes."""

# Unicode has letters with case in its first two planes only.
_ASCII_END, _CASED_END = 0x80, 0x20000

# An arc while they are sorted: the row's place, the target and, last, the halvings.
_SLOT_BITS, _HALVING_BITS = 30, 5


def update(change: Change, parameters: Parameters, progress: Progress | None = None) -> Arcs:
    """Point each anchor at the earlier ones whose text (title and text) shares a phrase.

    Given anew are the arcs of new anchors, and of those that hold a phrase whose weight
    changes.
    """
    rows = _concerned(change, parameters)
    sources, targets, weights = [], [], []
    for start in range(0, len(rows), _ROWS):
        if progress is not None:
            progress(_NAME, start, len(rows))
        source, target, weight = _arcs(change, rows[start : start + _ROWS], parameters)
        sources.append(source)
        targets.append(target)
        weights.append(weight)
    if progress is not None:
        progress(_NAME, len(rows), len(rows))
    return Arcs(
        relation=RELATIONS.index(_NAME),
        rows=rows,
        source=np.concatenate([np.empty(0, np.int64), *sources]),
        target=np.concatenate([np.empty(0, np.int64), *targets]),
        weight=np.concatenate([np.empty(0, np.float32), *weights]),
    )


def phrases(text: str) -> set[str]:
    """Every phrase of ``text``, case-folded."""
    found: set[str] = set()
    for run in _capitalized_runs(text.isascii()).findall(text):
        parts = run.casefold().split()
        if len(parts) == _FEWEST_WORDS:  # most are
            found.add(" ".join(parts))
            continue
        for count in range(_FEWEST_WORDS, min(_MOST_WORDS, len(parts)) + 1):
            for start in range(len(parts) - count + 1):
                found.add(" ".join(parts[start : start + count]))
    return found


def phrase_keys(texts: Sequence[str]) -> tuple[Keys, Integers]:
    """The keys of the phrases of n texts, text by text, and how many each has (n,).

    A key may come several times.
    """
    plain = [text if text.isascii() else "" for text in texts]
    data, ends = encoded(plain)
    keys, key_ends = np.empty(2 * len(data), np.uint64), np.empty(len(ends), np.int64)
    capitalized(
        data, ends, _ascii_kinds(), _FEWEST_WORDS, _MOST_WORDS,
        np.empty(len(data) + 1, np.uint8), np.empty(len(data) + 1, np.int64), keys, key_ends,
    )  # fmt: skip
    counts = np.diff(key_ends, prepend=0)
    others = [row for row, text in enumerate(texts) if not text.isascii()]
    if not others:
        return keys[: counts.sum()], counts
    found = [phrases(texts[row]) for row in others]
    counts[others] = [len(each) for each in found]
    more = keys_of([phrase for each in found for phrase in each])
    places = np.repeat(key_ends[others], counts[others])
    return np.insert(keys[: key_ends[-1]], places, more), counts


class _Occurrences(NamedTuple):
    """Where K phrases occur: in part p at ``starts[p, k]`` to ``ends[p, k]`` of its index."""

    starts: Integers
    ends: Integers


def _occurrences(corpus: Corpus, keys: Keys) -> _Occurrences:
    """Look up ``keys`` (K,), ascending, in every part."""
    shape = (len(corpus.parts), len(keys))
    found = _Occurrences(np.empty(shape, np.int64), np.empty(shape, np.int64))
    for place, part in enumerate(corpus.parts):
        found.starts[place] = np.searchsorted(part.phrases.keys, keys, "left")
        found.ends[place] = np.searchsorted(part.phrases.keys, keys, "right")
    return found


def _frequencies(
    corpus: Corpus, found: _Occurrences, present: Mask, few: Integers | int
) -> Integers:
    """In how many present texts each phrase stands, or more than ``few`` if there are more.

    Where there must be more than ``few`` of them nobody goes through them, so that a phrase
    of thousands of texts costs no more than a rare one.
    """
    counts: Integers = (found.ends - found.starts).sum(axis=0)
    dead = corpus.slots - int(np.count_nonzero(present))
    if dead:
        counted = np.flatnonzero((counts > 0) & (counts - dead <= few))
        for part, starts, ends in zip(corpus.parts, *found, strict=True):
            which, places = ranges(starts[counted], ends[counted])
            gone = present[part.phrases.rows[places].astype(np.int64) + part.first] == 0
            counts[counted] -= np.bincount(which[gone], minlength=len(counted))
    return counts


def _halvings(frequencies: Integers, parameters: Parameters) -> Integers:
    """How often a phrase's weight is halved, ⌊log₂ df⌋, or −1 for one that joins nothing."""
    _, exponent = np.frexp(frequencies)
    least = max(parameters.shared_min_frequency, 2)
    joins = (frequencies >= least) & (frequencies <= parameters.shared_max_frequency)
    return np.where(joins, exponent - 1, -1)


def _lists(corpus: Corpus, rows: Integers) -> tuple[Integers, Keys]:
    """The phrases of ``rows``, ascending: (place, key), by place in ``rows``."""
    places, keys = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    bounds = np.searchsorted(rows, [part.first for part in corpus.parts] + [corpus.slots])
    for part, low, high in zip(corpus.parts, bounds[:-1], bounds[1:], strict=True):
        mine = rows[low:high] - part.first
        starts = part.phrase_lists.starts
        which, entries = ranges(starts[mine], starts[mine + 1])
        places.append(which + low)
        keys.append(part.phrase_lists.keys[entries])
    return np.concatenate(places), np.concatenate(keys)


def _concerned(change: Change, parameters: Parameters) -> Integers:
    """The new anchors, and all those that hold a phrase whose weight changes, ascending."""
    corpus = change.corpus
    came, went = _lists(corpus, change.added)[1], _lists(corpus, change.removed)[1]
    keys, number = np.unique(np.concatenate([came, went]), return_inverse=True)
    growth = np.bincount(number[: len(came)], minlength=len(keys))
    growth -= np.bincount(number[len(came) :], minlength=len(keys))
    found = _occurrences(corpus, keys)
    few = parameters.shared_max_frequency + np.maximum(growth, 0)
    after = _frequencies(corpus, found, change.after, few)
    changes = np.flatnonzero(_halvings(after - growth, parameters) != _halvings(after, parameters))
    holders = [change.added]
    for part, starts, ends in zip(corpus.parts, *found, strict=True):
        _, places = ranges(starts[changes], ends[changes])
        holders.append(part.phrases.rows[places].astype(np.int64) + part.first)
    rows = np.unique(np.concatenate(holders))
    return rows[change.after[rows].astype(np.bool_)]


def _arcs(
    change: Change, rows: Integers, parameters: Parameters
) -> tuple[Integers, Integers, npt.NDArray[np.float32]]:
    """All arcs that leave ``rows``, by source and target."""
    corpus = change.corpus
    holder, key = _lists(corpus, rows)
    keys, number = np.unique(key, return_inverse=True)
    found = _occurrences(corpus, keys)
    frequencies = _frequencies(corpus, found, change.after, parameters.shared_max_frequency)
    halvings = _halvings(frequencies, parameters)
    joining = halvings[number] >= 0
    holder, number = holder[joining], number[joining]
    packed = [np.empty(0, np.int64)]
    for part, starts, ends in zip(corpus.parts, *found, strict=True):
        which, places = ranges(starts[number], ends[number])
        targets = part.phrases.rows[places].astype(np.int64) + part.first
        earlier = (targets < rows[holder[which]]) & (change.after[targets] != 0)
        which, targets = which[earlier], targets[earlier]
        pair = holder[which] << _SLOT_BITS | targets
        packed.append(pair << _HALVING_BITS | halvings[number[which]])
    arcs = np.concatenate(packed)
    # of one pair's phrases that of the fewest halvings comes first
    arcs.sort()
    pairs = arcs >> _HALVING_BITS
    heaviest = np.ones(len(arcs), np.bool_)
    heaviest[1:] = pairs[1:] != pairs[:-1]
    arcs, pairs = arcs[heaviest], pairs[heaviest]
    weight = np.ldexp(np.float32(1), -(arcs & ((1 << _HALVING_BITS) - 1)).astype(np.int32))
    return rows[pairs >> _SLOT_BITS], pairs & ((1 << _SLOT_BITS) - 1), weight


@cache
def _ascii_kinds() -> npt.NDArray[np.uint8]:
    """The kinds of bytes by which :func:`_capitalized_runs` finds phrases in texts of ASCII."""
    kinds = np.full(256, OTHER, np.uint8)
    for code in range(_ASCII_END):
        character = chr(code)
        if character.isspace():
            kinds[code] = BREAK if character == "\n" else SPACE
        elif character.isalnum() or character in "_'-":
            kinds[code] = CAPITAL if character.isupper() else INSIDE
    return kinds


@cache
def _capitalized_runs(ascii_only: bool) -> re.Pattern[str]:
    """Two or more capitalized words in a row.

    ``re`` has no class for capitals: they are spelled out, for texts of ASCII alone those of
    ASCII, which takes half the time.
    """
    ranges: list[list[int]] = []
    for code in range(_ASCII_END if ascii_only else _CASED_END):
        character = chr(code)
        if character.isupper() or character.istitle():
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    capital = "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)
    word = rf"[{capital}][\w'’\-]*"
    # white space with at most one line break
    gap = r"[ \t\r\f\v\x1c-\x1f]" if ascii_only else r"[^\S\n]"
    space = rf"(?:{gap}+\n?|\n){gap}*"
    flags = re.ASCII if ascii_only else re.UNICODE
    return re.compile(rf"(?<![\w'’\-]){word}(?:{space}{word})+", flags)
