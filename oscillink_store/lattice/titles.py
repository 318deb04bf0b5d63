"""Titles while anchors come and go: whose they are, which count, and where they stand."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from ahocorasick_rs import AhoCorasick

from oscillink_store.lattice.keyindex import find, ranges
from oscillink_store.lattice.names import line_keys, title_line
from oscillink_store.lattice.sets import distinct, pairs, unpaired
from oscillink_store.lattice.words import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oscillink_store.lattice.corpus import Change
    from oscillink_store.model import Parameters

__all__ = ["Matcher", "TitleAnchors", "Titles"]

Slots = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Marks = npt.NDArray[np.bool_]


class TitleAnchors(NamedTuple):
    """The anchors of some titles, by title and slot; all arrays (H,).

    ``title`` is the place of the title among those asked for. ``before`` and ``after`` tell
    whether the anchor was there, or is, while its title counted.
    """

    title: Slots
    slot: Slots
    before: Marks
    after: Marks


class Titles:
    """The titles of anchors, and the anchors of titles, before and after a change."""

    def __init__(self, change: Change, parameters: Parameters) -> None:
        self._change, self._parameters = change, parameters
        self._lines: dict[int, str] = {}
        self.indices = change.corpus.indices("titles")

    def lines(self, slots: Slots) -> list[str]:
        """The words of each title, nothing where it cannot be mentioned."""
        missing = [slot for slot in slots.tolist() if slot not in self._lines]
        if missing:
            found = self._change.corpus.values("title", np.array(missing, np.int64))
            for slot, title in zip(missing, found, strict=True):
                self._lines[slot] = title_line(title, self._parameters)
        return [self._lines[slot] for slot in slots.tolist()]

    def keys(self, slots: Slots) -> Keys:
        """The key of each title, 0 where it cannot be mentioned."""
        lines = self.lines(slots)
        usable = [place for place, line in enumerate(lines) if line]
        keys = np.zeros(len(lines), np.uint64)
        keys[usable] = line_keys([lines[place] for place in usable])
        return keys

    def distinct_keys(self, slots: Slots) -> Keys:
        """The keys of the titles of some anchors, ascending, each once."""
        keys = self.keys(slots)
        return distinct(keys[keys != 0])

    def held(self, keys: Keys) -> TitleAnchors:
        """The anchors of the titles with some keys.

        More anchors of one key than ``title_max_anchors`` are taken for those of one title.
        """
        title, slot = find(self.indices, keys)
        marks = []
        for alive in (self._change.before, self._change.after):
            there = alive[slot] != 0
            count = np.bincount(title[there], minlength=len(keys))
            marks.append(there & (count <= self._parameters.title_max_anchors)[title])
        return TitleAnchors(title, slot, *marks)


class Matcher:
    """Finds the titles that count, of those with some keys, in texts."""

    def __init__(self, titles: Titles, keys: Keys) -> None:
        held = titles.held(keys)
        slots = held.slot[held.after]
        numbers: dict[str, int] = {}
        number = [numbers.setdefault(line, len(numbers)) for line in titles.lines(slots)]
        order = np.argsort(number, kind="stable")
        self._anchors = slots[order]
        self._starts = np.searchsorted(np.array(number, np.int64)[order], range(len(numbers) + 1))
        # a space on either side of each word, so that only whole words match
        patterns = [f" {line} " for line in numbers]
        self._find = AhoCorasick(patterns).find_matches_as_indexes if patterns else None

    def anchors(self, texts: Sequence[str]) -> tuple[Slots, Slots]:
        """The pairs (place of the text, slot of an anchor whose title stands in it)."""
        if self._find is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        lines = [" ".join(words(text)) for text in texts]
        begins = np.array([0, *accumulate(len(line) + 3 for line in lines)], np.int64)
        haystack = " " + " \n ".join(lines) + " "
        spans = self._find(haystack, overlapping=True)
        title, start, end = np.array(spans, np.int64).reshape(-1, 3).T
        # by start, and at equal starts the longest first: what ends no later lies within
        order = np.lexsort((-end, start))
        title, start, end = title[order], start[order], end[order]
        reach = np.maximum.accumulate(end)
        outermost = np.ones(len(end), np.bool_)
        outermost[1:] = end[1:] > reach[:-1]
        line = np.searchsorted(begins, start[outermost], "right") - 1
        line, title = unpaired(distinct(pairs(line, title[outermost])))
        which, places = ranges(self._starts[title], self._starts[title + 1])
        return line[which], self._anchors[places]
