"""Typed edges, their symmetric CSR, and the small graphs cut out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.errors import InputError
from oscillink_store.kernels.degrees import degrees
from oscillink_store.kernels.laplacian import induce
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Adjacency", "Csr", "Edges", "build_csr", "induced", "neighbors", "whole_degrees"]

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


def neighbors(csr: Csr, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return every anchor with an edge to one of ``rows``, sorted, each once.

    One of ``rows`` is among them exactly when it neighbours another of them.
    """
    starts, ends = csr.indptr[rows], csr.indptr[rows + 1]
    parts = [csr.indices[start:end] for start, end in zip(starts, ends, strict=True)]
    if not parts:
        return np.empty(0, np.int64)
    return np.unique(np.concatenate(parts)).astype(np.int64)


def induced(csr: Csr, rows: npt.NDArray[np.int64], relation_weights: Sequence[float]) -> Adjacency:
    """Cut out the graph among ``rows`` (n,), sorted and unique, with Σ_r ω_r A_r applied.

    ``relation_weights`` are ω in the order of :data:`oscillink_store.model.RELATIONS`.
    Anchor ``rows[i]`` becomes node i. Edges whose weight is zero are left out.
    """
    room = int((csr.indptr[rows + 1] - csr.indptr[rows]).sum())
    table = np.empty(1 << (2 * len(rows)).bit_length(), np.int64)
    indptr = np.empty(len(rows) + 1, np.int64)
    indices = np.empty(room, np.int32)
    weights = np.empty(room, np.float64)
    count = induce(
        # memory maps as plain arrays: the compiled call recognises those at once
        np.asarray(csr.indptr), np.asarray(csr.indices), np.asarray(csr.weights),
        np.asarray(csr.relation), rows, np.asarray(relation_weights, np.float64),
        table, indptr, indices, weights,
    )  # fmt: skip
    return Adjacency(indptr, indices[:count], weights[:count])


def whole_degrees(
    csr: Csr,
    rows: npt.NDArray[np.int64],
    relation_weights: Sequence[float],
    allowed: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.float64]:
    """Return the degrees (n,) of ``rows`` (n,) in the whole lattice, ω_r applied.

    ``allowed`` (N,) uint8 leaves out neighbours where it is 0.
    """
    out = np.empty(len(rows))
    degrees(
        np.asarray(csr.indptr), np.asarray(csr.indices), np.asarray(csr.weights),
        np.asarray(csr.relation), rows, np.asarray(relation_weights, np.float64),
        np.empty(0, np.uint8) if allowed is None else allowed, out,
    )  # fmt: skip
    return out
