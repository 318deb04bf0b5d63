"""``shared``: two anchors that share a rare phrase.

A phrase is two to four words in a row that all begin with a capital and are parted by spaces
or a line break alone, compared case-folded: most are names of people, places and works, and
need neither a title nor a model. Phrases that stand in 2 to 20 texts join these; the weight
is 1/df, the inverse of the number of texts, and of several shared phrases the rarest counts.

Scripts without capitals have no such phrases, and this relation stays empty.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oscillink_store.lattice.graph import Edges
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from oscillink_store.lattice.relations.corpus import Corpus, Progress
    from oscillink_store.model import Parameters

__all__ = ["edges", "phrases"]

Integers = npt.NDArray[np.int64]

_NAME = "shared"
_FEWEST_WORDS, _MOST_WORDS = 2, 4
_REPORT_EVERY = 4096

# Unicode has letters with case in its first two planes only.
_CASED_END = 0x20000


def edges(corpus: Corpus, parameters: Parameters, *, progress: Progress | None = None) -> Edges:
    """Join all texts (title and text) that share a phrase."""
    phrase, text = _occurrences(corpus, progress)
    order = np.lexsort((text, phrase))
    text = text[order]
    frequency = np.bincount(phrase)
    first = np.cumsum(frequency) - frequency
    sources, targets, weights = [], [], []
    low, high = parameters.shared_min_frequency, parameters.shared_max_frequency
    for size in range(max(low, 2), high + 1):
        # one row per phrase that stands in `size` texts
        members = text[first[frequency == size][:, None] + np.arange(size)]
        left, right = np.triu_indices(size, 1)
        sources.append(members[:, left].ravel())
        targets.append(members[:, right].ravel())
        weights.append(np.full(sources[-1].size, 1.0 / size, np.float32))
    return Edges(
        source=np.concatenate([np.empty(0, np.int64), *sources]),
        target=np.concatenate([np.empty(0, np.int64), *targets]),
        weight=np.concatenate([np.empty(0, np.float32), *weights]),
        relation=RELATIONS.index(_NAME),
    ).canonical()


def phrases(text: str) -> set[str]:
    """Every phrase of ``text``, case-folded."""
    found: set[str] = set()
    for run in _capitalized_runs().findall(text):
        parts = run.casefold().split()
        for count in range(_FEWEST_WORDS, min(_MOST_WORDS, len(parts)) + 1):
            for start in range(len(parts) - count + 1):
                found.add(" ".join(parts[start : start + count]))
    return found


def _occurrences(corpus: Corpus, progress: Progress | None) -> tuple[Integers, Integers]:
    """The pairs (phrase, text), each once; phrases are numbered as they first appear."""
    numbers: dict[str, int] = {}
    numbered: list[int] = []
    counts = np.zeros(corpus.anchors, np.int64)
    for row, (title, text) in enumerate(zip(corpus.titles, corpus.texts, strict=True)):
        if progress is not None and row % _REPORT_EVERY == 0:
            progress(_NAME, row, corpus.anchors)
        found = phrases(text if title is None else f"{title}\n\n{text}")
        counts[row] = len(found)
        numbered += [numbers.setdefault(phrase, len(numbers)) for phrase in found]
    if progress is not None:
        progress(_NAME, corpus.anchors, corpus.anchors)
    return np.array(numbered, np.int64), np.repeat(np.arange(corpus.anchors), counts)


@cache
def _capitalized_runs() -> re.Pattern[str]:
    """Two or more capitalized words in a row. ``re`` has no class for capitals: spell it out."""
    ranges: list[list[int]] = []
    for code in range(_CASED_END):
        character = chr(code)
        if character.isupper() or character.istitle():
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    capital = "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)
    word = rf"[{capital}][\w'’\-]*"
    space = r"(?=\s)[^\S\n]*\n?[^\S\n]*"
    return re.compile(rf"(?<![\w'’\-]){word}(?:{space}{word})+")
