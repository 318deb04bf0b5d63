"""``mention``: a text that contains another anchor's title.

A title counts where it stands as whole words (see :mod:`oscillink_store.lattice.words`) and
not within a longer title, and only while it has few enough anchors. The more edges a title
makes, the less each of them says: its m edges weigh 1/√m, rounded to 2^(−⌊log₂ m⌋/2), so that
one more text seldom changes the weight of all the others.

An arc leads from a text to each anchor of a title in it. What a change concerns is

- new texts, and texts that hold a title which begins to count: they are matched;
- texts that hold a title which counts no longer. It hid the titles within it: if any of them
  counts, the texts are matched, else only their arcs to that title go;
- texts that hold a title which gets another anchor: they point at that one, too;
- texts that hold a title whose number of edges reaches or leaves a power of two: their arcs
  stay, with another weight.

Which texts hold a title that counted before is read from the lattice. That tells nothing of
the text of a title's only anchor, for no arc leads from a text to itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.lattice.keyindex import key_index, ranges
from oscillink_store.lattice.names import line_keys, title_runs
from oscillink_store.lattice.postings import containing
from oscillink_store.lattice.sets import differing, distinct, pairs, unpaired
from oscillink_store.lattice.titles import Matcher, TitleAnchors, Titles
from oscillink_store.lattice.upkeep import Arcs
from oscillink_store.model import IN, OUT, RELATION_MASK, RELATIONS

if TYPE_CHECKING:
    from oscillink_store.lattice.corpus import Change, Progress
    from oscillink_store.lattice.graph import TypedGraph
    from oscillink_store.model import Parameters

__all__ = ["update"]

Slots = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Marks = npt.NDArray[np.bool_]

_NAME = "mention"
_RELATION = RELATIONS.index(_NAME)
# Texts matched at a time: their words are held in memory.
_BLOCK = 4096
# Which titles occur in a block is looked up first, unless there are few titles for each text.
_TITLES_PER_TEXT = 2
# Looking for the texts that hold all words of a title takes as long as matching so many texts.
_TEXTS_PER_LOOKUP = 4


class _Scope(NamedTuple):
    """The texts whose arcs lead elsewhere after the change, by slot, ascending.

    Those ``matched`` get all arcs anew. Those ``carried`` lose the arcs to the anchors
    ``lost``, and get arcs from ``source`` (E,) to ``target`` (E,).
    """

    matched: Slots
    carried: Slots
    lost: Slots
    source: Slots
    target: Slots


class _Links(NamedTuple):
    """The entries that rows of the lattice have of this relation, row by row."""

    place: Slots
    row: Slots
    column: Slots
    out: Marks
    into: Marks
    weight: Float32

    def taken(self, chosen: Marks) -> _Links:
        """The chosen entries (E,) alone."""
        return _Links(
            self.place[chosen], self.row[chosen], self.column[chosen], self.out[chosen],
            self.into[chosen], self.weight[chosen],
        )  # fmt: skip


def update(change: Change, parameters: Parameters, progress: Progress | None = None) -> Arcs:
    """Give anew the arcs of the texts that a change concerns."""
    graph, after = change.corpus.graph, change.after != 0
    titles = Titles(change, parameters)
    scope = _scope(change, titles)
    texts, anchors = _matches(change, titles, scope.matched, progress)
    primary = distinct(np.concatenate([scope.matched, scope.carried]))
    links = _links(graph, distinct(np.concatenate([primary, change.removed])))
    kept = links.out & _among(change, scope.carried)[links.row]
    kept &= after[links.column] & ~_among(change, scope.lost)[links.column]
    source = np.concatenate([texts, scope.source, links.row[kept]])
    target = np.concatenate([anchors, scope.target, links.column[kept]])
    # the titles whose number of edges may be another one
    gone = links.into & _among(change, change.removed)[links.row]
    past = np.concatenate([
        pairs(links.row[links.out], links.column[links.out]),
        pairs(links.column[gone], links.row[gone]),
    ])  # fmt: skip
    _, ends = unpaired(differing(past, pairs(source, target)))
    held = titles.held(titles.distinct_keys(distinct(ends)))
    reweighed, known, known_weights = _recounted(change, held, primary, target)
    # all arcs from the rows in scope
    rows = distinct(np.concatenate([primary, reweighed]))
    links = _links(graph, rows)
    kept = links.out & _among(change, reweighed)[links.row] & after[links.column]
    source = np.concatenate([source, links.row[kept]])
    target = np.concatenate([target, links.column[kept]])
    # an entry that is an arc one way only has the weight of that arc, unless it was recounted
    weights = np.zeros(len(after), np.float32)
    forth, back = links.out & ~links.into, links.into & ~links.out
    weights[links.column[forth]] = links.weight[forth]
    weights[links.row[back]] = links.weight[back]
    weights[known] = known_weights
    missing = distinct(np.concatenate([target, links.row[links.into]]))
    missing = missing[weights[missing] == 0]
    weights[missing] = _counted(graph, titles, missing)
    incoming = weights[rows]
    incoming[incoming == 0] = 1
    return Arcs(
        relation=_RELATION, rows=rows, source=source, target=target, weight=weights[target],
        incoming=incoming,
    )  # fmt: skip


def _scope(change: Change, titles: Titles) -> _Scope:
    """Find out which texts point elsewhere after the change."""
    graph, after = change.corpus.graph, change.after != 0
    keys = titles.distinct_keys(np.concatenate([change.added, change.removed]))
    held = titles.held(keys)
    had = np.bincount(held.title[held.before], minlength=len(keys))
    has = np.bincount(held.title[held.after], minlength=len(keys))
    closed, opened = (had > 0) & (has == 0), (had == 0) & (has > 0)
    fresh = held.after & ~held.before & (had > 0)[held.title]
    grown = np.bincount(held.title[fresh], minlength=len(keys)) > 0
    hiding = _hiding(titles, held, closed)
    # the texts that held a title
    old = np.flatnonzero(held.before & (closed | grown)[held.title])
    links = _links(graph, held.slot[old])
    links = links.taken(links.into & after[links.column])
    title, text = held.title[old][links.place], links.column
    alone = hiding | (grown & (had == 1))
    own = held.slot[held.before & alone[held.title]]
    matched = distinct(
        np.concatenate([
            change.added, own[after[own]], text[hiding[title]],
            _candidates(change, titles, held, opened),
        ])
    )  # fmt: skip
    apart = ~_among(change, matched)[text]
    stale = closed[title] & after[links.row]
    carried = distinct(text[apart & (stale | grown[title])])
    # texts with a title that has got another anchor
    more = apart & grown[title]
    title, text = unpaired(distinct(pairs(title[more], text[more])))
    which, places = ranges(
        np.searchsorted(held.title[fresh], title, "left"),
        np.searchsorted(held.title[fresh], title, "right"),
    )
    lost = held.slot[held.before & closed[held.title]]
    return _Scope(matched, carried, lost, text[which], held.slot[fresh][places])


def _hiding(titles: Titles, held: TitleAnchors, closed: Marks) -> Marks:
    """Which of the titles that count no longer have a title within them that counts."""
    numbers, lines = _lines_of(titles, held, held.before, closed)
    inner, _, keys = title_runs(lines, titles.indices)
    within = distinct(keys)
    found = titles.held(within)
    counts = np.bincount(found.title[found.after], minlength=len(within)) > 0
    hiding = np.zeros(len(closed), np.bool_)
    hiding[numbers[inner[counts[np.searchsorted(within, keys)]]]] = True
    return hiding


def _lines_of(
    titles: Titles, held: TitleAnchors, present: Marks, chosen: Marks
) -> tuple[Slots, list[str]]:
    """The places of the chosen titles, each once, and their words."""
    mine = np.flatnonzero(present & chosen[held.title])
    numbers = distinct(held.title[mine])
    # titles ascend
    first = mine[np.searchsorted(held.title[mine], numbers)]
    return numbers, titles.lines(held.slot[first])


def _candidates(change: Change, titles: Titles, held: TitleAnchors, opened: Marks) -> Slots:
    """The texts from before that may hold a title which begins to count."""
    _, lines = _lines_of(titles, held, held.after, opened)
    settled = change.before & change.after
    if len(lines) * _TEXTS_PER_LOOKUP >= np.count_nonzero(settled):
        return np.flatnonzero(settled)
    postings = change.corpus.indices("words")
    texts = containing(postings, [line.split() for line in lines], settled)
    # their words may be anywhere: keep the texts where they make up a title
    index = key_index(line_keys(lines), np.arange(len(lines)))
    kept = [np.empty(0, np.int64)]
    for start in range(0, len(texts), _BLOCK):
        block = texts[start : start + _BLOCK]
        places = title_runs(change.corpus.values("text", block), [(0, index)])[0]
        kept.append(block[distinct(places)])
    return np.concatenate(kept)


def _matches(
    change: Change, titles: Titles, texts: Slots, progress: Progress | None
) -> tuple[Slots, Slots]:
    """The pairs (text, anchor) where the text contains the title of another anchor."""
    none = np.empty(0, np.int64)
    found = [(none, none)]
    everything = None
    if len(texts) * _TITLES_PER_TEXT >= np.count_nonzero(change.after):
        everything = Matcher(titles, titles.distinct_keys(np.flatnonzero(change.after)))
    for start in range(0, len(texts), _BLOCK):
        if progress is not None:
            progress(_NAME, start, len(texts))
        block = texts[start : start + _BLOCK]
        values = change.corpus.values("text", block)
        matcher = everything
        if matcher is None:
            places, _, keys = title_runs(values, titles.indices)
            places = distinct(places)
            block, values = block[places], [values[place] for place in places.tolist()]
            matcher = Matcher(titles, distinct(keys))
        which, anchors = matcher.anchors(values)
        apart = block[which] != anchors
        found.append((block[which[apart]], anchors[apart]))
    if progress is not None:
        progress(_NAME, len(texts), len(texts))
    source, target = zip(*found, strict=True)
    return np.concatenate(source), np.concatenate(target)


def _recounted(
    change: Change, held: TitleAnchors, primary: Slots, target: Slots
) -> tuple[Slots, Slots, Float32]:
    """Count the edges of titles before and after the change.

    ``primary`` are the texts that point elsewhere afterwards, ``target`` all that they point
    at. Returns the other texts with a title whose edges weigh something else now, and the
    anchors of all titles with the weights of their edges.
    """
    count = int(held.title.max(initial=-1)) + 1
    old = np.flatnonzero(held.before)
    links = _links(change.corpus.graph, held.slot[old])
    links = links.taken(links.into)
    title, text = held.title[old][links.place], links.column
    stays = held.after[old][links.place] & (change.after[text] != 0)
    stays &= ~_among(change, primary)[text]
    slots, title_of = held.slot[held.after], held.title[held.after]
    numbers = np.zeros(len(change.after), np.int64)
    numbers[slots] = title_of + 1
    before = _weights(np.bincount(title, minlength=count))
    new = np.bincount(numbers[target], minlength=count + 1)[1:]
    after = _weights(np.bincount(title[stays], minlength=count) + new)
    return distinct(text[stays & (before != after)[title]]), slots, after[title_of]


def _counted(graph: TypedGraph, titles: Titles, slots: Slots) -> Float32:
    """What the edges of the titles of some anchors weighed before the change."""
    keys = titles.keys(slots)
    each = distinct(keys)
    held = titles.held(each)
    old = np.flatnonzero(held.before)
    links = _links(graph, held.slot[old])
    title = held.title[old][links.place[links.into]]
    weights = _weights(np.bincount(title, minlength=len(each)))
    return weights[np.searchsorted(each, keys)]


def _links(graph: TypedGraph, rows: Slots) -> _Links:
    entries = graph.entries(rows)
    mine = np.flatnonzero((entries.relation & RELATION_MASK) == _RELATION)
    place = np.repeat(np.arange(len(rows)), np.diff(entries.indptr))[mine]
    flags = entries.relation[mine]
    return _Links(
        place, rows[place], entries.indices[mine].astype(np.int64), (flags & OUT) != 0,
        (flags & IN) != 0, entries.weights[mine],
    )  # fmt: skip


def _among(change: Change, slots: Slots) -> Marks:
    """Marks (S,) at some slots."""
    marks = np.zeros(len(change.after), np.bool_)
    marks[slots] = True
    return marks


def _weights(edges_of_title: npt.NDArray[np.integer]) -> Float32:
    """2^(−⌊log₂ m⌋/2) per title that makes m ≥ 1 edges, to the same bit everywhere."""
    _, exponent = np.frexp(edges_of_title)
    halvings = np.maximum(exponent - 1, 0)
    odd = np.where(halvings % 2 == 1, np.sqrt(0.5), 1.0)
    return np.asarray(np.ldexp(odd, -(halvings // 2)), np.float32)
