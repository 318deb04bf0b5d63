"""``mention``: a text that contains another anchor's title.

A title counts where it stands as whole words (see :mod:`oscillink_store.lattice.words`) and
not within a longer title. The more edges a title makes, the less each of them says: its m
edges weigh 1/√m, rounded to 2^(−⌊log₂ m⌋/2), so that one more text seldom changes the weight
of all the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from ahocorasick_rs import AhoCorasick

from oscillink_store.lattice.graph import Edges
from oscillink_store.lattice.names import titled
from oscillink_store.lattice.words import outermost, words
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from oscillink_store.lattice.relations.corpus import Corpus, Progress
    from oscillink_store.model import Parameters

__all__ = ["edges"]

Integers = npt.NDArray[np.int64]

_NAME = "mention"
_REPORT_EVERY = 4096


def edges(corpus: Corpus, parameters: Parameters, *, progress: Progress | None = None) -> Edges:
    """Join each anchor to the anchors whose title its text contains."""
    found = titled(corpus.titles, parameters)
    texts, titles = _matches(corpus, [_padded(parts) for parts in found], progress)
    counts = np.array([len(anchors) for anchors in found.values()], np.int64)
    anchors = np.array([row for rows in found.values() for row in rows], np.int64)
    source, target, title = _expanded(texts, titles, counts, anchors)
    apart = source != target
    source, target, title = source[apart], target[apart], title[apart]
    return Edges(
        source=source,
        target=target,
        weight=_weights(np.bincount(title, minlength=len(counts)))[title],
        relation=RELATIONS.index(_NAME),
    ).canonical()


def _padded(parts: Iterable[str]) -> str:
    """Words with a space on either side of each, so that only whole words can match."""
    return f" {' '.join(parts)} "


def _matches(
    corpus: Corpus, patterns: list[str], progress: Progress | None
) -> tuple[Integers, Integers]:
    """The pairs (text, title) where the text contains the title, each once."""
    texts: list[int] = []
    titles: list[int] = []
    if patterns:
        find = AhoCorasick(patterns).find_matches_as_indexes
        for row, text in enumerate(corpus.texts):
            if progress is not None and row % _REPORT_EVERY == 0:
                progress(_NAME, row, corpus.anchors)
            spans = find(_padded(words(text)), overlapping=True)
            if spans:
                named = {title for title, _, _ in outermost(spans)}
                texts += [row] * len(named)
                titles += named
    if progress is not None:
        progress(_NAME, corpus.anchors, corpus.anchors)
    return np.array(texts, np.int64), np.array(titles, np.int64)


def _expanded(
    texts: Integers, titles: Integers, counts: Integers, anchors: Integers
) -> tuple[Integers, Integers, Integers]:
    """Replace each pair (text, title) by one (text, anchor, title) per anchor of the title.

    Title t has ``counts[t]`` anchors, which stand in ``anchors`` one title after another.
    """
    repeats = counts[titles]
    ends = np.cumsum(repeats)
    first = (np.cumsum(counts) - counts)[titles]
    places = np.repeat(first - (ends - repeats), repeats) + np.arange(repeats.sum())
    return np.repeat(texts, repeats), anchors[places], np.repeat(titles, repeats)


def _weights(edges_of_title: Integers) -> npt.NDArray[np.float32]:
    """2^(−⌊log₂ m⌋/2) per title that makes m ≥ 1 edges, to the same bit everywhere."""
    _, exponent = np.frexp(edges_of_title)
    halvings = np.maximum(exponent - 1, 0)
    odd = np.where(halvings % 2 == 1, np.sqrt(0.5), 1.0)
    return np.asarray(np.ldexp(odd, -(halvings // 2)), np.float32)
