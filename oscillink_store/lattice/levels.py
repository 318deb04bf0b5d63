"""Levels of summary nodes as values, and how evidence flows through the last one's lattice.

Nodes are joined with their nearest others as anchors are (relation ``knn``: union of both
directions, weight cos^p). The last level's are few and their graph changes little from batch to
batch, so the system (L + γI)h = γs is solved by an inverse that is worked out once and corrected
since; see :mod:`oscillink_store.lattice.superlattice`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.dense import add_rows
from oscillink_store.lattice.graph import Csr, Edges, TypedGraph, build_csr
from oscillink_store.lattice.records import empty_records
from oscillink_store.model import RELATIONS, Parameters

__all__ = [
    "KNN",
    "Grouped",
    "Hierarchy",
    "Inverse",
    "Level",
    "NearNodes",
    "flow",
    "node_graph",
    "scales",
]

KNN = RELATIONS.index("knn")

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]
Nodes = npt.NDArray[np.int64]


class NearNodes(NamedTuple):
    """The nearest others of each of C nodes: ``nodes`` and ``cosine`` (C, k), best first.

    −1 and −inf where there are fewer; ties go to the lower node.
    """

    nodes: Int32
    cosine: Float32


class Inverse(NamedTuple):
    """G = (L₀ + γI)⁻¹ (C₀, C₀) of a base graph, and what has to be corrected since.

    ``indptr``, ``indices`` and ``weights`` are the base graph A₀; ``touched`` (t,) are the nodes
    T and ``kernel`` (t, t) is K. Nodes beyond C₀ had no edges in the base. What these mean is
    told in :mod:`oscillink_store.lattice.superlattice`.
    """

    base: Float64
    indptr: npt.NDArray[np.int64]
    indices: Int32
    weights: Float64
    touched: Nodes
    kernel: Float64


class Level(NamedTuple):
    """The summary nodes of one level, one row of each array per node; G of them.

    ``centres`` (G, D) are what new items are assigned by, ``vectors`` (G, D) the embeddings of
    the cores, unit rows or zero. ``items`` are how many nodes or anchors a node is over,
    ``anchors`` how many anchors in all, ``weights`` the sum of their gates. ``held`` is the
    gate set on the node itself, 1 unless told otherwise. ``coherence``, ``edges``,
    ``null_points`` and ``delta_h`` are those of :class:`~oscillink_store.lattice.summary.Summary`
    as of ``generation``, since when ``changed`` items came or went or were shaken. ``parents``
    are nodes of the next level, −1 in the last; ``near`` and ``cosine`` (G, k) the nearest others.
    """

    centres: Float32
    vectors: Float32
    items: Rows
    anchors: Rows
    weights: Float64
    held: Float32
    coherence: Float64
    edges: Rows
    null_points: Rows
    delta_h: Float64
    generation: Rows
    changed: Rows
    parents: Int32
    near: Int32
    cosine: Float32

    @property
    def gates(self) -> Float64:
        """The mean gate of each node's anchors times the gate set on the node, (G,)."""
        mean: Float64 = self.weights / np.maximum(self.anchors, 1)
        return mean * self.held

    @property
    def anomaly(self) -> Float64:
        """The share of null points among the edges within each node, (G,)."""
        density: Float64 = self.null_points / np.maximum(self.edges, 1)
        return density

    def lists(self) -> NearNodes:
        """The nearest others."""
        return NearNodes(self.near, self.cosine)


class Hierarchy(NamedTuple):
    """All levels, shards first, and the inverse that belongs to the last one's lattice."""

    levels: tuple[Level, ...]
    inverse: Inverse


class Grouped(NamedTuple):
    """The hierarchy after a change, and the shard of each item, (n,), −1 where it has none."""

    own: Int32
    hierarchy: Hierarchy


def node_graph(near: NearNodes, parameters: Parameters, nodes: Nodes | None = None) -> TypedGraph:
    """The graph of the nodes, or of some (n,) the part among them alone.

    Opposed or orthogonal ones have no edge.
    """
    every = np.arange(len(near.nodes)) if nodes is None else nodes
    listed, cosine = near.nodes[every], near.cosine[every]
    there = cosine > 0.0
    if nodes is not None:
        among = np.zeros(len(near.nodes), np.bool_)
        among[nodes] = True
        there &= among[listed]
    rows, columns = np.nonzero(there)
    weight = (cosine[rows, columns].astype(np.float64) ** parameters.knn_power).astype(np.float32)
    kept = weight > 0.0  # the power of a small cosine may be none
    edges = Edges(
        source=every[rows[kept]].astype(np.int64),
        target=listed[rows[kept], columns[kept]].astype(np.int64),
        weight=weight[kept],
        relation=KNN,
    )
    return TypedGraph(build_csr(len(near.nodes), [edges]), empty_records())


def flow(
    inverse: Inverse, graph: Csr, sources: Nodes, weights: Float64, screening: float
) -> Float64:
    """The gates h (C,) that evidence of ``weights`` (m,) at ``sources`` (m,) gives the nodes.

    Solves (L + γI)h = γs; in a fixed order, hence with the same bits on every machine.
    """
    count, known = len(graph.indptr) - 1, len(inverse.base)
    grown = scales(graph.indptr, graph.weights)
    grown[:known] /= scales(inverse.indptr, inverse.weights)
    y = np.zeros(count)
    _add_rows(inverse, sources, grown[sources] * weights, screening, y)
    if len(inverse.touched):
        inner = (inverse.kernel * y[inverse.touched][None, :]).sum(axis=1)
        _add_rows(inverse, inverse.touched, -inner, screening, y)
    gates: Float64 = np.maximum(screening * grown * y, 0.0)
    return gates


def scales(indptr: Rows, weights: npt.NDArray[np.floating[Any]]) -> Float64:
    """σ = √d of every node of a graph, (C,), 1 for a node without edges."""
    count = len(indptr) - 1
    degrees = np.bincount(
        np.repeat(np.arange(count), np.diff(indptr)), weights.astype(np.float64), count
    )
    return np.sqrt(np.where(degrees > 0.0, degrees, 1.0))


def _add_rows(
    inverse: Inverse, nodes: Nodes, weights: Float64, screening: float, out: Float64
) -> None:
    # Rows of G, which is symmetric, times weights; nodes that the base does not know had no edges.
    known = len(inverse.base)
    old = nodes < known
    add_rows(inverse.base, nodes[old], weights[old], out[:known])
    out[nodes[~old]] += weights[~old] / screening
