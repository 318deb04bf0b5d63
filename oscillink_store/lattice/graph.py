"""Typed edges, their symmetric CSR, and the small graphs cut out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.errors import InputError
from oscillink_store.kernels.degrees import degrees
from oscillink_store.kernels.laplacian import gather, induce
from oscillink_store.lattice.records import Records, empty_records
from oscillink_store.model import RELATION_MASK, RELATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Adjacency",
    "Csr",
    "Edges",
    "Entries",
    "TypedEdges",
    "TypedGraph",
    "amended",
    "block_diagonal",
    "build_csr",
    "cut_out",
    "empty_graph",
    "induced",
    "neighbors",
    "whole_degrees",
]

RELATION_BITS = 8
_COLUMNS = (("source", "iu", np.int64), ("target", "iu", np.int64), ("weight", "iuf", np.float32))


@dataclass(frozen=True, kw_only=True, eq=False)
class Edges:
    """Undirected weighted edges of one relation.

    ``source`` and ``target`` (E,) int64 are anchors, ``weight`` (E,) float32 is positive,
    ``relation`` is the relation's place in :data:`oscillink_store.model.RELATIONS`. Lists and
    other widths of numbers are converted.

    Raises InputError when the three are not equally long vectors of numbers, or the relation
    is unknown.
    """

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    relation: int

    def __post_init__(self) -> None:
        """Bring the arrays to the types that the kernels read."""
        if self.relation not in range(len(RELATIONS)):
            raise InputError(
                f"edges: relation {self.relation!r} is unknown: pass 0 to {len(RELATIONS) - 1}, "
                "the place of its name in RELATIONS",
                field="relation",
            )
        for name, kinds, dtype in _COLUMNS:
            values = np.asarray(getattr(self, name))
            if values.ndim != 1 or (len(values) and values.dtype.kind not in kinds):
                wanted = "whole numbers" if dtype is np.int64 else "numbers"
                raise InputError(
                    f"edges: {name} has shape {values.shape} and type {values.dtype}: "
                    f"pass a vector of {wanted}",
                    field=name,
                )
            with np.errstate(over="ignore"):  # what does not fit is refused with its row
                object.__setattr__(self, name, values.astype(dtype, copy=False))
        if not len(self.source) == len(self.target) == len(self.weight):
            raise InputError(
                f"edges: {len(self.source)} sources, {len(self.target)} targets and "
                f"{len(self.weight)} weights: give each edge one of each",
                field="weight",
            )

    def __len__(self) -> int:
        return len(self.source)

    def canonical(self) -> Edges:
        """Return the same edges with source < target, sorted by (source, target), each once.

        Loops are dropped; of an edge given twice the larger weight stays.
        """
        low, high = np.minimum(self.source, self.target), np.maximum(self.source, self.target)
        keep = low != high
        low, high, weight = low[keep], high[keep], self.weight[keep]
        order = np.lexsort((-weight, high, low))
        low, high, weight = low[order], high[order], weight[order]
        first = np.ones(len(low), bool)
        first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        return Edges(
            source=low[first],
            target=high[first],
            weight=weight[first],
            relation=self.relation,
        )


class Csr(NamedTuple):
    """A typed symmetric graph: both directions stored, rows sorted by (column, relation).

    ``indptr`` (N+1,) int64; ``indices`` int32, ``weights`` float32 (raw, ω_r not applied)
    and ``relation`` uint8 (nnz,). The arrays may be read-only memory maps.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    relation: npt.NDArray[np.uint8]


class Adjacency(NamedTuple):
    """A = Σ_r ω_r A_r of a small graph: ``indptr`` (n+1,), ``indices``, ``weights`` (nnz,)."""

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float64]


class TypedEdges(NamedTuple):
    """The edges of a small graph by relation, in the order of (i, j, code).

    ``ends`` (E, 2) int32 are nodes i < j, ``relation`` (E,) uint8 the relation's place in
    :data:`oscillink_store.model.RELATIONS`, ``weight`` (E,) float64 is ω_r·w > 0.
    """

    ends: npt.NDArray[np.int32]
    relation: npt.NDArray[np.uint8]
    weight: npt.NDArray[np.float64]


def build_csr(anchors: int, edges: Sequence[Edges]) -> Csr:
    """Build the symmetric CSR of typed edges between ``anchors`` anchors.

    Loops are dropped; of an edge given twice in one relation the larger weight stays.
    Raises InputError when an edge names an anchor that is not there or its weight is not a
    positive finite number.
    """
    keys, weights = [], []
    for part in edges:
        _check(part, anchors)
        keep = part.source != part.target
        source, target, weight = part.source[keep], part.target[keep], part.weight[keep]
        for row, column in ((source, target), (target, source)):
            keys.append((row * anchors + column) << RELATION_BITS | part.relation)
            weights.append(weight)
    key = np.concatenate(keys) if keys else np.empty(0, np.int64)
    weight = np.concatenate(weights) if weights else np.empty(0, np.float32)
    order = np.argsort(key)
    key, weight = key[order], weight[order]
    if len(key) and not (first := np.concatenate(([True], key[1:] != key[:-1]))).all():
        starts = np.flatnonzero(first)
        key, weight = key[starts], np.maximum.reduceat(weight, starts)
    cell = key >> RELATION_BITS
    rows = cell // max(anchors, 1)
    indptr = np.zeros(anchors + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=anchors), out=indptr[1:])
    return Csr(
        indptr=indptr,
        indices=(cell - rows * anchors).astype(np.int32),
        weights=weight,
        relation=(key & ((1 << RELATION_BITS) - 1)).astype(np.uint8),
    )


def _check(edges: Edges, anchors: int) -> None:
    for name, ends in (("source", edges.source), ("target", edges.target)):
        outside = np.flatnonzero((ends < 0) | (ends >= anchors))
        if len(outside):
            row = int(outside[0])
            raise InputError(
                f"edges: {name} {int(ends[row])} in row {row} is none of the {anchors} anchors: "
                f"use 0 to {anchors - 1}",
                field=name,
                row=row,
            )
    wrong = np.flatnonzero(~((edges.weight > 0) & (edges.weight < np.inf)))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(
            f"edges: weight {float(edges.weight[row])} in row {row} is unusable: "
            "leave the edge out or give it a positive finite weight",
            field="weight",
            row=row,
        )


class Entries(NamedTuple):
    """What the lattice holds of some rows: ``rows`` (n,), and their entries as in :class:`Csr`.

    Row i of ``indptr`` (n+1,) is anchor ``rows[i]``; ``indices`` are anchors.
    """

    rows: npt.NDArray[np.int64]
    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    relation: npt.NDArray[np.uint8]

    def sources(self) -> npt.NDArray[np.int64]:
        """The anchor whose row each entry stands in, (nnz,)."""
        return np.repeat(self.rows, np.diff(self.indptr))


class TypedGraph(NamedTuple):
    """A lattice as it is stored: a base, and the newest state of the entries changed since."""

    base: Csr
    corrections: Records

    def entries(self, rows: npt.NDArray[np.int64]) -> Entries:
        """The entries of ``rows`` (n,), base and corrections together.

        Rows beyond the base have those of the corrections alone.
        """
        base, new = self
        wanted = rows.astype(new.rows.dtype)  # of another type, all of the rows were converted
        starts = np.searchsorted(new.rows, wanted, "left")
        ends = np.searchsorted(new.rows, wanted, "right")
        held = rows[rows < len(base.indptr) - 1]
        room = int((base.indptr[held + 1] - base.indptr[held]).sum() + (ends - starts).sum())
        indptr = np.empty(len(rows) + 1, np.int64)
        indices, weights = np.empty(room, np.int32), np.empty(room, np.float32)
        relation = np.empty(room, np.uint8)
        count = gather(
            # memory maps as plain arrays: the compiled call recognises those at once
            np.asarray(base.indptr), np.asarray(base.indices), np.asarray(base.weights),
            np.asarray(base.relation), starts, ends, np.asarray(new.columns),
            np.asarray(new.weights), np.asarray(new.relation), rows,
            indptr, indices, weights, relation,
        )  # fmt: skip
        return Entries(rows, indptr, indices[:count], weights[:count], relation[:count])

    def folded(self, anchors: int) -> Csr:
        """Base and corrections as one CSR over ``anchors`` rows."""
        whole = self.entries(np.arange(anchors))
        return Csr(whole.indptr, whole.indices, whole.weights, whole.relation)


def empty_graph() -> TypedGraph:
    """The lattice of no anchors."""
    base = Csr(
        np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32),
        np.empty(0, np.uint8),
    )  # fmt: skip
    return TypedGraph(base, empty_records())


def amended(entries: Entries, records: Records) -> Entries:
    """The entries of the same rows as records that came later leave them."""
    n = len(entries.rows)
    starts = np.searchsorted(records.rows, entries.rows, "left")
    counts = np.searchsorted(records.rows, entries.rows, "right") - starts
    mine = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    _, columns, relation, weights = (array[mine] for array in records)
    newer = Records(np.repeat(np.arange(n, dtype=np.int32), counts), columns, relation, weights)
    found = TypedGraph(Csr(*entries[1:]), newer).entries(np.arange(n))
    return Entries(entries.rows, *found[1:])


def neighbors(
    entries: Entries, relation_weights: Sequence[float] | None = None
) -> npt.NDArray[np.int64]:
    """Return every anchor with an edge to one of the rows, sorted, each once.

    One of the rows is among them exactly when it neighbours another of them. With
    ``relation_weights`` ω, edges of relations that weigh nothing do not count.
    """
    indices = entries.indices
    if relation_weights is not None and 0.0 in relation_weights:
        counts = np.asarray(relation_weights) > 0.0
        indices = indices[counts[entries.relation & RELATION_MASK]]
    return np.unique(indices).astype(np.int64)


def induced(entries: Entries, relation_weights: Sequence[float]) -> Adjacency:
    """Cut out the graph among the rows as :func:`cut_out` does, without its typed edges."""
    return cut_out(entries, relation_weights)[0]


def cut_out(entries: Entries, relation_weights: Sequence[float]) -> tuple[Adjacency, TypedEdges]:
    """Cut out the graph among the rows, sorted and unique: Σ_r ω_r A_r, and its edges by relation.

    ``relation_weights`` are ω in the order of :data:`oscillink_store.model.RELATIONS`.
    Row i becomes node i. Edges whose weight is zero are left out.
    """
    n, room = len(entries.rows), len(entries.indices)
    table = np.empty(1 << (2 * n).bit_length(), np.int64)
    indptr = np.empty(n + 1, np.int64)
    indices, weights = np.empty(room, np.int32), np.empty(room, np.float64)
    edges = TypedEdges(np.empty((room, 2), np.int32), np.empty(room, np.uint8), np.empty(room))
    typed = np.empty(1, np.int64)
    count = induce(
        entries.indptr, entries.indices, entries.weights, entries.relation, entries.rows,
        np.asarray(relation_weights, np.float64), table, indptr, indices, weights, *edges, typed,
    )  # fmt: skip
    held = int(typed[0])
    return (
        Adjacency(indptr, indices[:count], weights[:count]),
        TypedEdges(edges.ends[:held], edges.relation[:held], edges.weight[:held]),
    )


def block_diagonal(graphs: Sequence[Adjacency]) -> Adjacency:
    """Put small graphs side by side, without an edge between them."""
    sizes = [len(graph.indptr) - 1 for graph in graphs]
    entries = [len(graph.indices) for graph in graphs]
    firsts, starts = np.cumsum([0, *sizes]), np.cumsum([0, *entries])
    return Adjacency(
        np.concatenate(
            [
                np.zeros(1, np.int64),
                *(g.indptr[1:] + at for g, at in zip(graphs, starts, strict=False)),
            ]
        ),
        np.concatenate(
            [
                np.empty(0, np.int32),
                *(g.indices + np.int32(at) for g, at in zip(graphs, firsts, strict=False)),
            ]
        ),
        np.concatenate([np.empty(0), *(graph.weights for graph in graphs)]),
    )


def whole_degrees(
    entries: Entries,
    relation_weights: Sequence[float],
    allowed: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the degrees (n,) of the rows in the whole lattice, ω_r applied.

    ``allowed`` (N,) uint8 leaves out neighbours where it is 0.
    """
    out = np.empty(len(entries.rows))
    degrees(
        entries.indptr, entries.indices, entries.weights, entries.relation,
        np.asarray(relation_weights, np.float64),
        np.empty(0, np.uint8) if allowed is None else allowed, out,
    )  # fmt: skip
    return out
