"""A store in memory whose lattice is kept up, change by change, and one built from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from oscillink_store.lattice.corpus import Change, Corpus, Near, Part, Progress
from oscillink_store.lattice.graph import Csr, Edges, TypedGraph, empty_graph
from oscillink_store.lattice.indexing import index_part, merge_parts, take_part
from oscillink_store.lattice.near import compact_near
from oscillink_store.lattice.records import RELATION_MASK, Records, empty_records, merge_runs
from oscillink_store.lattice.relations import Updated, update
from oscillink_store.lattice.relations.link import dangling_change
from oscillink_store.lattice.upkeep import Terms, corrections
from oscillink_store.model import RELATIONS, Parameters


@dataclass(kw_only=True)
class Row:
    """One anchor."""

    id: str
    text: str = ""
    title: str | None = None
    vector: Sequence[float] = (0.0, 0.0)
    sequence: str | None = None
    position: float | None = None
    links: Sequence[str] | None = None


@dataclass(kw_only=True)
class Model:
    """Rows with their lattice; every change is an :meth:`apply`."""

    parameters: Parameters
    rows: list[Row] = field(default_factory=list)
    alive: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    parts: list[Part] = field(default_factory=list)
    near: list[tuple[int, Near]] = field(default_factory=list)
    log: Records = field(default_factory=empty_records)
    graph: TypedGraph = field(default_factory=empty_graph)
    terms: list[Terms] = field(default_factory=list)
    dangling: int = 0

    def values(self, column: str, slots: npt.NDArray[np.int64]) -> list[Any]:
        return [getattr(self.rows[slot], column) for slot in slots.tolist()]

    def corpus(self) -> Corpus:
        return Corpus(
            parts=self.parts, values=self.values, graph=self.graph, near=self.near,
            near_log=self.log,
        )  # fmt: skip

    def apply(
        self,
        added: Sequence[Row] = (),
        removed: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Updated:
        """Let rows come and go; a new row takes the place of one that has its id."""
        gone = {*removed, *(row.id for row in added)}
        before = np.concatenate([self.alive, np.zeros(len(added), np.uint8)])
        after = np.concatenate([self.alive, np.ones(len(added), np.uint8)])
        for slot in np.flatnonzero(self.alive):
            after[slot] = self.rows[slot].id not in gone
        first = len(self.rows)
        self.rows += added
        if added:
            self.parts.append(index_rows(first, added, self.parameters))
        change = Change(corpus=self.corpus(), before=before, after=after)
        done = update(change, self.parameters, progress)
        records, terms = corrections(self.graph, change.removed, done.arcs)
        self.dangling += dangling_change(change)
        self.graph = TypedGraph(self.graph.base, merge_runs([self.graph.corrections, records]))
        self.terms.append(terms)
        self.near.append((first, done.near))
        self.log = merge_runs([self.log, done.near_log])
        self.alive = after
        return done

    def fold(self) -> None:
        """Take the corrections into the base."""
        self.graph = TypedGraph(self.graph.folded(len(self.rows)), empty_records())
        self.terms = []

    def merge(self, count: int) -> None:
        """Merge the last parts, and what the log says into the lists."""
        if self.parts:
            self.parts[-count:] = [merge_parts(self.parts[-count:])]
        self.near = [(0, compact_near(self.near, self.log, self.alive))]
        self.log = empty_records()

    def compact(self) -> None:
        """Give the anchors new slots, without those of the dead."""
        kept = self.alive != 0
        numbers = np.cumsum(kept) - 1
        parts, first = [], 0
        for part in self.parts:
            parts.append(take_part(part, kept[part.first : part.first + len(part)], first))
            first += len(parts[-1])
        self.near = [(0, compact_near(self.near, self.log, self.alive, numbers))]
        self.log = empty_records()
        self.graph = TypedGraph(survivors(self.graph, self.alive), empty_records())
        self.terms = []
        self.rows = [row for row, stays in zip(self.rows, kept, strict=True) if stays]
        self.parts, self.alive = parts, np.ones(len(self.rows), np.uint8)

    def rebuilt(self) -> Model:
        """The same anchors in a store built from nothing."""
        anew = Model(parameters=self.parameters)
        anew.apply([row for row, there in zip(self.rows, self.alive, strict=True) if there])
        return anew


def index_rows(first: int, rows: Sequence[Row], parameters: Parameters) -> Part:
    return index_part(
        first,
        vectors=np.array([row.vector for row in rows], np.float32),
        ids=[row.id for row in rows],
        titles=[row.title for row in rows],
        texts=[row.text for row in rows],
        sequences=[row.sequence for row in rows],
        positions=np.array(
            [np.nan if row.position is None else row.position for row in rows], np.float64
        ),
        links=[row.links for row in rows],
        parameters=parameters,
    )


def survivors(graph: TypedGraph, alive: npt.NDArray[np.uint8]) -> Csr:
    """The lattice of the anchors alive, numbered without gaps."""
    entries = graph.entries(np.flatnonzero(alive))
    assert alive[entries.indices].all()
    numbers = np.cumsum(alive, dtype=np.int32) - np.int32(1)
    return Csr(entries.indptr, numbers[entries.indices], entries.weights, entries.relation)


def same_arrays(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def built(rows: Sequence[Row], parameters: Parameters | None = None) -> Model:
    """A model with these rows, built from nothing."""
    model = Model(parameters=parameters or Parameters())
    model.apply(rows)
    return model


def edges_of(model: Model, relation: str) -> Edges:
    """The edges of one relation, canonical."""
    anchors = len(model.rows)
    whole = model.graph.entries(np.arange(anchors))
    code, source = RELATIONS.index(relation), whole.sources()
    mine = ((whole.relation & RELATION_MASK) == code) & (source < whole.indices)
    return Edges(
        source=source[mine], target=whole.indices[mine], weight=whole.weights[mine], relation=code
    ).canonical()
