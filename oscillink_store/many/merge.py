"""From what each store found to what one store that holds all anchors would have found.

Ties go to the store that comes first, then to the lower row: the order in which one store would
hold the anchors if it had been filled by one store's after the other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.candidates import LEAST_DEVIATION, TextMatches
from oscillink_store.engine.part import Kept
from oscillink_store.engine.query import Query
from oscillink_store.engine.standing import Graph, Moments, Numbers
from oscillink_store.lattice.graph import Adjacency, block_diagonal
from oscillink_store.lattice.names import meant_anchors, meant_value
from oscillink_store.lattice.postings import TextStatistics
from oscillink_store.lattice.rank import pooled, text_moments
from oscillink_store.many.answers import Gathered, Survey
from oscillink_store.model import Parameters

__all__ = [
    "Pool", "corpus_of", "kept_of", "meant_facets", "meant_rows", "moments_of", "narrowed",
    "side_by_side", "with_words",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

Value = TypeVar("Value", bound=np.generic)


class Pool(NamedTuple):
    """The candidates of several stores as one: ``numbers`` (n,) are those of the ``parts``."""

    parts: Mapping[str, Numbers]
    numbers: Numbers

    @classmethod
    def of(cls, parts: Mapping[str, Numbers]) -> Pool:
        """Put candidates of stores together; their rows are numbered anew."""
        each = list(parts.values())

        def joined(values: Sequence[Floats | None]) -> Floats | None:
            there = [array for array in values if array is not None]
            return np.concatenate(there) if there else None

        numbers = Numbers(
            np.arange(sum(len(part.rows) for part in each)),
            joined([part.cosine for part in each]),
            joined([part.words for part in each]),
            np.concatenate([np.empty(0, np.bool_), *(part.named for part in each)]),
            np.concatenate([np.empty(0), *(part.trust for part in each)]),
        )
        return cls(parts, numbers)

    @property
    def homes(self) -> Rows:
        """Of each candidate the place of its store, (n,)."""
        return np.repeat(np.arange(len(self.parts)), [len(p.rows) for p in self.parts.values()])

    def apart(self, values: npt.NDArray[Value]) -> dict[str, npt.NDArray[Value]]:
        """Values (n,) by store."""
        ends = np.cumsum([len(part.rows) for part in self.parts.values()])
        return dict(zip(self.parts, np.split(values, ends[:-1]), strict=True))

    def own_places(self, places: Rows) -> dict[str, Rows]:
        """Places (m,) among all candidates as places among each store's, in the order given."""
        homes = self.homes
        firsts = np.searchsorted(homes, np.arange(len(self.parts)))
        return {
            name: places[homes[places] == at] - firsts[at] for at, name in enumerate(self.parts)
        }

    def of_stores(self, names: Sequence[str]) -> Rows:
        """The places of the candidates of some stores, ascending."""
        wanted = [at for at, name in enumerate(self.parts) if name in names]
        return np.flatnonzero(np.isin(self.homes, wanted))


def corpus_of(surveys: Mapping[str, Survey]) -> TextStatistics | None:
    """What BM25 needs of all stores; None without words."""
    counted = [each.frequencies for each in surveys.values() if each.frequencies is not None]
    if not counted:
        return None
    return TextStatistics(
        sum(each.anchors for each in surveys.values()),
        sum(each.words for each in surveys.values()),
        np.sum(counted, axis=0, dtype=np.int64),
    )


def meant_rows(surveys: Mapping[str, Survey], parameters: Parameters) -> dict[str, Rows]:
    """The rows of each store whose title stands in the question, ascending."""
    found = meant_anchors([each.names for each in surveys.values()], parameters)
    return {name: np.array(rows, np.int64) for name, rows in zip(surveys, found, strict=True)}


def meant_facets(surveys: Mapping[str, Survey]) -> dict[str, str]:
    """The digest of the one value that the question names, by facet column."""
    columns = dict.fromkeys(column for each in surveys.values() for column in each.facets)
    meant = {}
    for column in columns:
        spans = [span for each in surveys.values() for span in each.facets.get(column, ())]

        def present(column: str = column) -> set[str] | None:
            there = [each.present for each in surveys.values()]
            if any(each is None for each in there):
                return None
            return {value for each in there if each for value in each.get(column, ())}

        value = meant_value(spans, present)
        if value is not None:
            meant[column] = value
    return meant


def kept_of(gathered: Mapping[str, Gathered], query: Query) -> dict[str, Kept]:
    """How many of each store's own are among the best of all, as each lists its best first."""
    dense = [
        np.empty(0)
        if each.numbers.cosine is None
        else each.numbers.cosine[np.searchsorted(each.numbers.rows, each.dense)]
        for each in gathered.values()
    ]
    text = [each.bm25 for each in gathered.values()]
    counts = zip(
        gathered,
        _among(dense, query.dense_count),
        _among(text, query.text_count),
        _among(text, query.text_limit),
        strict=True,
    )
    return {name: Kept(*numbers) for name, *numbers in counts}


def _among(lists: Sequence[Floats], best: int) -> list[int]:
    homes = np.repeat(np.arange(len(lists)), [len(values) for values in lists])
    order = np.argsort(-np.concatenate([np.empty(0), *lists]), kind="stable")[:best]
    return [int(count) for count in np.bincount(homes[order], minlength=len(lists))]


def moments_of(gathered: Mapping[str, Gathered], kept: Mapping[str, Kept], query: Query) -> Moments:
    """How similarity and BM25 are spread over the anchors of all stores."""
    dense = text = None
    if query.vector is not None:
        mean, deviation = pooled(
            [(each.anchors, *each.similarity) for each in gathered.values() if each.similarity]
        )
        if query.where is not None and deviation < LEAST_DEVIATION:
            deviation = 0.0  # as for one store, whose codes are off by as much
        dense = mean, deviation
    if query.words is not None:
        scores = [each.bm25[: kept[name].matches] for name, each in gathered.items()]
        anchors = sum(each.anchors for each in gathered.values())
        text = text_moments(np.concatenate(scores), anchors)
    return Moments(dense, text)


def with_words(numbers: Numbers, found: Gathered, kept: Kept, query: Query) -> Numbers:
    """A store's numbers with the BM25 of the matches that are among the best of all."""
    if query.words is None:
        return numbers
    rows, scores = found.text[: kept.matches], found.bm25[: kept.matches]
    matches = TextMatches(rows=rows, scores=scores, mean=0.0, deviation=0.0)
    return numbers._replace(words=matches.scores_of(numbers.rows))


def narrowed(found: Gathered, kept: Kept, query: Query) -> tuple[Numbers, Rows]:
    """A store's candidates that are such among the best of all, and their places before."""
    numbers = found.numbers
    rows = np.concatenate(
        [found.dense[: kept.dense], found.text[: kept.text], numbers.rows[numbers.named]]
    )
    places = np.flatnonzero(np.isin(numbers.rows, rows))
    return with_words(numbers.taken(places), found, kept, query), places


def side_by_side(parts: Mapping[str, Numbers], graphs: Mapping[str, Graph]) -> Graph:
    """The lattices of several stores as one; those that told none have no edges.

    No edge leads from one store to another, so what flows from a source stays in its store: a
    store without a source is left out of it as well without its edges.
    """
    blocks, degrees = [], [np.empty(0)]
    for name, numbers in parts.items():
        graph = graphs.get(name)
        n = len(numbers.rows)
        empty = Adjacency(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0))
        blocks.append(empty if graph is None else graph.adjacency)
        degrees.append(np.zeros(n) if graph is None else graph.degrees)
    return Graph(block_diagonal(blocks), None, np.concatenate(degrees))
