"""Contested twins: near-duplicate anchors that differ only in a name or a number.

One of the two is probably wrong: "Angelique Kerber beat Serena Williams in 2018" beside
"Simona Halep beat Serena Williams in 2018". Rewritten copies of a text, of which one is a
forgery, look the same; so do rows of a table in prose ("Area code 261 serves ..."), and these
are no contradiction. So a twin is a reason to look, not a verdict.

Two anchors are twins when their cosine exceeds 0.7, neither text is more than twice as long
as the other, the ratio of their words, 1 − (insertions + deletions)/(all words), exceeds 0.75,
and everything that one has in place of what the other has begins and ends with a capitalized
word or a number. A capital that a sentence alone gives ("How" for "Where") is no name: runs of
such words do not count.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Indel, Levenshtein

from oscillink_store.kernels.dense import close_pairs
from oscillink_store.lattice.words import cased_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LEAST_COSINE", "LEAST_RATIO", "Twins", "find_twins"]

LEAST_COSINE, LEAST_RATIO, MOST_LONGER = 0.7, 0.75, 2

# English words that open sentences; May and Will, which are names too, are not among them.
_OPENERS = frozenset(
    cased_words(
        "a am an and are as at be but by can could did do does for from had has have he her his "
        "how i if in into is it its me must my no not of on or our shall she should so such that "
        "the their them then there these they this those to was we were what when where which "
        "who whom whose why with would you your"
    )
)


class Twins(NamedTuple):
    """Two rows that are twins, with their cosine and the ratio of their words.

    ``differs`` are the runs of words, joined by spaces, that ``first`` and ``second`` have in
    each other's place, in the order of the texts; one of the two may be empty.
    """

    first: int
    second: int
    cosine: float
    ratio: float
    differs: tuple[tuple[str, str], ...]


def find_twins(
    vectors: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    texts: Callable[[npt.NDArray[np.int64]], list[str]],
    *,
    most: int | None = None,
) -> list[Twins]:
    """Find the twins of some rows (k,) among all unit ``vectors`` (n, D).

    ``texts`` gives the texts of rows, and is asked for those of close ones alone; with ``most``
    no more than the ``most`` closest of each row are looked at, as among rows made after one
    pattern all could be twins of all. A pair is found once, ``first`` being one of ``rows``;
    in their order, then in that of ``second``.
    """
    pairs, cosine = close_pairs(vectors, rows, LEAST_COSINE)
    if not len(pairs):
        return []
    if most is not None:
        closest = _closest(pairs, cosine, most)
        pairs, cosine = pairs[closest], cosine[closest]
    close, flat = np.unique(pairs, return_inverse=True)
    told = texts(close)
    size = np.array([len(text) for text in told])[flat].reshape(-1, 2)
    alike = size.max(axis=1) <= MOST_LONGER * size.min(axis=1)
    if not alike.any():
        return []
    pairs, cosine = pairs[alike], cosine[alike]
    found = []
    for at, (one, two) in enumerate(flat.reshape(-1, 2)[alike].tolist()):
        ours, theirs = _cut(told[one]), _cut(told[two])
        ratio = _ratio(ours, theirs)
        if ratio > LEAST_RATIO and (differs := _differences(ours.words, theirs.words)):
            first, second = pairs[at].tolist()
            found.append(Twins(first, second, float(cosine[at]), ratio, differs))
    return found


class _Words(NamedTuple):
    """The words of a text, in order and each once."""

    words: list[str]
    distinct: frozenset[str]


@lru_cache(maxsize=1024)
def _cut(text: str) -> _Words:
    # the same texts are found again and again
    words = cased_words(text)
    return _Words(words, frozenset(words))


def _ratio(one: _Words, two: _Words) -> float:
    """The ratio of two texts' words, or 0 where it cannot exceed the least one."""
    total = len(one.words) + len(two.words)
    # a word that the other text lacks is inserted or deleted at least once
    lacking = len(one.distinct) + len(two.distinct) - 2 * len(one.distinct & two.distinct)
    if lacking >= (1.0 - LEAST_RATIO) * total:
        return 0.0
    return Indel.normalized_similarity(one.words, two.words, score_cutoff=LEAST_RATIO)


def _closest(
    pairs: npt.NDArray[np.int64], cosine: npt.NDArray[np.float64], most: int
) -> npt.NDArray[np.int64]:
    """Places of the pairs that are among the ``most`` closest of their first row, ascending."""
    order = np.lexsort((pairs[:, 1], -cosine, pairs[:, 0]))
    first = pairs[order, 0]
    rank = np.arange(len(order)) - np.searchsorted(first, first, "left")
    return np.sort(order[rank < most])


def _differences(one: list[str], two: list[str]) -> tuple[tuple[str, str], ...]:
    """What is replaced, if it is names and numbers on both sides and nothing else."""
    runs = list(_changed(one, two))
    if not all(_names(run) for pair in runs for run in pair if run):
        return ()
    ours = sorted(word.casefold() for before, _ in runs for word in before)
    theirs = sorted(word.casefold() for _, after in runs for word in after)
    if not ours or not theirs or ours == theirs:
        return ()
    return tuple((" ".join(before), " ".join(after)) for before, after in runs)


def _changed(one: list[str], two: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The runs of words between those that both have; what is added may be empty."""
    start_one = start_two = 0
    for step in Levenshtein.opcodes(one, two):
        if step.tag == "equal":
            if step.src_start > start_one or step.dest_start > start_two:
                yield one[start_one : step.src_start], two[start_two : step.dest_start]
            start_one, start_two = step.src_end, step.dest_end
    if start_one < len(one) or start_two < len(two):
        yield one[start_one:], two[start_two:]


def _names(run: list[str]) -> bool:
    return (
        _names_something(run[0])
        and _names_something(run[-1])
        and not all(word.casefold() in _OPENERS for word in run)
    )


def _names_something(word: str) -> bool:
    return word[0].isupper() or word[0].istitle() or any(map(str.isdigit, word))
