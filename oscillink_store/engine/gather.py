"""Gathering: what a store finds for a query, and what its candidates measure.

Numbers alone, so that a store that is one of several can tell them: the ranking that follows,
in :mod:`oscillink_store.engine.standing`, is the same for one store and for many.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.candidates import (
    DenseMatches,
    TextMatches,
    dense_matches,
    named_rows,
    text_matches,
)
from oscillink_store.engine.query import Query
from oscillink_store.engine.route import route
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.standing import Graph, Moments, Numbers
from oscillink_store.kernels.dense import products
from oscillink_store.lattice.graph import cut_out, neighbors, whole_degrees
from oscillink_store.lattice.names import FacetSpan, facet_spans, meant_value
from oscillink_store.lattice.postings import TextStatistics
from oscillink_store.lattice.routing import Routed
from oscillink_store.model import Parameters

__all__ = [
    "Found", "cut", "faceted", "facets_named", "gather", "holding", "measured", "neighbourhood",
]  # fmt: skip

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What the gathering of candidates found, under the filter's mask (None: no filter).

    The first ``text_count`` of the full-text matches are candidates.
    """

    query: Query
    text_count: int
    dense: DenseMatches | None
    text: TextMatches | None
    named: Rows
    allowed: Mask | None

    @property
    def routed(self) -> Routed | None:
        """The shards that the vector was looked for in; None for all."""
        return None if self.dense is None else self.dense.routed

    def rows(self) -> Rows:
        """The candidates: dense, full text and named, ascending."""
        parts = [self.named]
        if self.dense is not None:
            parts.append(self.dense.rows)
        if self.text is not None:
            parts.append(self.text.rows[: self.text_count])
        return np.unique(np.concatenate(parts))

    def moments(self) -> Moments:
        """How similarity and BM25 are spread over the anchors."""
        dense, text = self.dense, self.text
        return Moments(
            dense=None if dense is None else (dense.mean, dense.deviation),
            text=None if text is None else (text.mean, text.deviation),
        )


def gather(
    snapshot: Snapshot,
    query: Query,
    executor: Executor,
    *,
    statistics: TextStatistics | None = None,
    named: Rows | None = None,
) -> Found:
    """What the parts of the query that its ranking looks at find.

    ``statistics`` and ``named`` rows are those of the snapshot unless they are given.
    """
    parameters = query.parameters
    allowed = None if query.where is None else snapshot.allowed(query.where)
    pending = None
    if query.words is not None:  # beside the scan of the vectors, on another core
        limit, among = query.text_limit, allowed
        if query.only is not None and parameters.ranking == "text":
            # each has a score of its own, however many other anchors match better
            limit, among = max(limit, len(query.only)), np.zeros(snapshot.slots, np.uint8)
            among[query.only] = 1
        pending = executor.submit(text_matches, snapshot, query.words, limit, among, statistics)
    dense = None
    if query.vector is not None:
        # rows that are given need the moments alone, not the scan
        count = 0 if query.only is not None else query.dense_count
        routed = None
        if query.route and snapshot.sharded is not None:
            routed = route(snapshot, snapshot.sharded, query.vector, count, parameters)
        dense = dense_matches(snapshot, query.vector, count, allowed, routed)
    matches = None
    if query.words is not None and pending is not None:
        if named is None and query.looks_for_names:
            named = named_rows(snapshot, query.words, allowed)
        matches = pending.result()
    if named is None:
        named = np.empty(0, np.int64)
    return Found(
        query=query, text_count=query.text_count, dense=dense, text=matches, named=named,
        allowed=allowed,
    )  # fmt: skip


def measured(
    snapshot: Snapshot, query: Query, rows: Rows, named: Rows, text: TextMatches | None
) -> tuple[Numbers, npt.NDArray[np.float32]]:
    """What some rows (n,) measure, and their vectors (n, D).

    ``named`` rows are those whose title stands in the question, ``text`` its matches.
    """
    vectors = snapshot.vectors(rows)
    numbers = Numbers(
        rows=rows,
        cosine=None if query.vector is None else products(vectors, query.vector),
        words=None if text is None else text.scores_of(rows),
        named=np.isin(rows, named),
        trust=snapshot.trust(rows).astype(np.float64),
    )
    return numbers, vectors


def neighbourhood(
    snapshot: Snapshot, rows: Rows, seeds: Rows, allowed: Mask | None, parameters: Parameters
) -> Rows:
    """Rows with the neighbours of the ``seeds`` among them, ascending."""
    near = neighbors(snapshot.lattice.entries(np.sort(seeds)), parameters.relation_weights)
    if allowed is not None:
        near = near[allowed[near] == 1]
    return np.union1d(rows, near)


def cut(snapshot: Snapshot, rows: Rows, allowed: Mask | None, parameters: Parameters) -> Graph:
    """The lattice between some rows, with their degrees in the whole one."""
    entries = snapshot.lattice.entries(rows)
    adjacency, edges = cut_out(entries, parameters.relation_weights)
    degrees = whole_degrees(entries, parameters.relation_weights, allowed)
    return Graph(adjacency, edges, degrees)


def facets_named(snapshot: Snapshot, text: str | None) -> dict[str, list[FacetSpan]]:
    """Where values of the facets stand in a question, by column."""
    if text is None:
        return {}
    spans = {name: facet_spans(text, list(values)) for name, values in snapshot.facets.items()}
    return {name: found for name, found in spans.items() if found}


def faceted(snapshot: Snapshot, found: Found, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows (n,) hold the one facet value that the question names."""
    meant = {}
    for column, spans in facets_named(snapshot, found.query.text).items():

        def present(column: str = column) -> set[str] | None:
            # a value that no allowed anchor has cannot be meant
            allowed = found.allowed
            return None if allowed is None else snapshot.facet_values(column, allowed)

        value = meant_value(spans, present)
        if value is not None:
            meant[column] = value
    return holding(snapshot, meant, rows)


def holding(snapshot: Snapshot, meant: dict[str, str], rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows (n,) hold one of some values, by column."""
    lifted = np.zeros(len(rows), np.bool_)
    for column, value in meant.items():
        held = snapshot.values(column, rows)
        lifted |= np.array([each is not None and str(each) == value for each in held], np.bool_)
    return lifted
