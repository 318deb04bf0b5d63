"""Upkeep of the summary nodes' lattice, and of the inverse by which it is solved.

With degrees d and σ = √d, 1 for a node without edges, h = (σ/σ₀)γy where

    B y = (σ/σ₀)s,  B = ((1 + γ)D − A)/σ₀σ₀ᵀ,  B_ii = γ for a node without edges,

whatever the scales σ₀. With those of a base graph B is B₀ = L₀ + γI for that graph itself, and a
change of the graph that touches the nodes T changes B in the rows and columns T alone, so by the
identity of Woodbury (1950)

    B⁻¹ = G − G_:T K G_T:  with  G = B₀⁻¹,  K = (I + ΔB_TT G_TT)⁻¹ ΔB_TT.

ΔB is always taken against the base, hence errors do not add up however many changes there were.
The spectrum of L is in [0, 2], so both ends are well conditioned as long as no degree is very far
from what it was; where one is, there is a new base.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.dense import add_rows, eliminate
from oscillink_store.kernels.diffusion import screened
from oscillink_store.kernels.knn import helper
from oscillink_store.kernels.knn_upkeep import research
from oscillink_store.kernels.laplacian import normalize
from oscillink_store.lattice.graph import Csr
from oscillink_store.lattice.levels import KNN, Inverse, NearNodes, scales
from oscillink_store.model import Parameters

__all__ = ["corrected", "inverted", "near_nodes"]

_FOLD_LEAST, _FOLD_SHARE = 64, 0.25
_FAR = 1024.0  # times what a diagonal entry of B was, or a part of it
_EXACT, _MOST_STEPS = 1e-14, 1000

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Nodes = npt.NDArray[np.int64]


def near_nodes(
    vectors: Float32,
    parameters: Parameters,
    known: NearNodes | None = None,
    changed: Nodes | None = None,
) -> NearNodes:
    """Find the nearest others of every node, ``vectors`` (C, D) being unit rows or zero.

    With the lists ``known`` of before and the nodes whose vectors ``changed`` since, new nodes
    at the end among them, only lists that this can have changed are looked for anew.
    """
    count, k = len(vectors), parameters.knn_neighbors
    nodes = np.full((count, k), -1, np.int32)
    cosine = np.full((count, k), -np.inf, np.float32)
    renewed = np.arange(count)
    if known is not None and changed is not None and known.nodes.shape[1] == k:
        old = len(known.nodes)
        nodes[:old], cosine[:old] = known
        moved = np.zeros(count, np.bool_)
        moved[changed] = True
        moved[old:] = True
        listed = (known.nodes >= 0) & moved[known.nodes]
        moved_now = np.flatnonzero(moved)
        stale = moved.copy()
        stale[:old] |= listed.any(axis=1)
        if len(moved_now):
            # products of another routine differ in the last bits: rather search once too often
            best = (vectors[:old] @ vectors[moved_now].T).max(axis=1)
            stale[:old] |= best >= known.cosine[:, -1] - 1e-5
        renewed = np.flatnonzero(stale)
    if len(renewed):
        found, values = research(renewed, [(0, np.ascontiguousarray(vectors))], None, k)
        nodes[renewed, : found.shape[1]], cosine[renewed, : found.shape[1]] = found, values
    return NearNodes(nodes, cosine)


def inverted(graph: Csr, screening: float) -> Inverse:
    """(L + γI)⁻¹ of a graph, without corrections.

    Column by column, as evidence diffuses among anchors: with the same bits whatever the number
    of threads.
    """
    count, weights = len(graph.indptr) - 1, graph.weights.astype(np.float64)
    scale, coupling = np.empty(count), np.empty(len(weights))
    normalize(graph.indptr, graph.indices, weights, scale, coupling)
    base = np.empty((count, count))

    def work(low: int, high: int) -> None:
        source, scratch, residual = np.zeros(count), np.empty((3, count)), np.empty(1)
        for node in range(low, high):
            source[node] = 1.0 / screening
            screened(
                graph.indptr, graph.indices, coupling, scale, source, screening, _EXACT,
                _MOST_STEPS, base[node], scratch, residual,
            )  # fmt: skip
            source[node] = 0.0

    other = helper().submit(work, count // 2, count)
    work(0, count // 2)
    other.result()
    return Inverse(
        base, graph.indptr, graph.indices, weights, np.empty(0, np.int64), np.empty((0, 0))
    )


def corrected(inverse: Inverse, graph: Csr, screening: float) -> Inverse:
    """The inverse for another graph, whose nodes are those of the base and maybe more behind.

    So many changes that correcting costs more than it saves are folded into a new base, and so
    is one that correcting would be too inexact for.
    """
    count, known = len(graph.indptr) - 1, len(inverse.base)
    if count < known:
        return inverted(graph, screening)
    old = _base_graph(inverse, count)
    touched = _differing(old, graph)
    if len(touched) > max(_FOLD_LEAST, _FOLD_SHARE * count):
        return inverted(graph, screening)
    scale = scales(old.indptr, old.weights)[touched]
    before = _system(old, touched, scale, screening)
    after = _system(graph, touched, scale, screening)
    grown = after.diagonal() / before.diagonal()
    if ((grown > _FAR) | (grown < 1.0 / _FAR)).any():
        return inverted(graph, screening)
    delta = after - before
    old_ones = touched[touched < known]
    within = np.diag(np.full(len(touched), 1.0 / screening))  # a new one had no edges
    within[: len(old_ones), : len(old_ones)] = inverse.base[np.ix_(old_ones, old_ones)]
    system = np.eye(len(touched))
    for row, changed in zip(system, delta, strict=True):
        some = np.flatnonzero(changed)
        add_rows(within, some, changed[some], row)
    eliminate(system, delta)
    return inverse._replace(touched=touched, kernel=delta)


def _system(graph: Csr, nodes: Nodes, scale: Float64, screening: float) -> Float64:
    # B in some rows and columns, whose scales σ₀ are those.
    place = np.full(len(graph.indptr) - 1, -1, np.int64)
    place[nodes] = np.arange(len(nodes))
    counts = graph.indptr[nodes + 1] - graph.indptr[nodes]
    rows = np.repeat(np.arange(len(nodes)), counts)
    starts = np.repeat(graph.indptr[nodes] - np.cumsum(counts) + counts, counts)
    entries = starts + np.arange(len(rows))
    columns = place[graph.indices[entries]]
    weights = graph.weights[entries].astype(np.float64)
    degrees = np.bincount(rows, weights, len(nodes))
    system = np.zeros((len(nodes), len(nodes)))
    inside = columns >= 0
    ends = rows[inside], columns[inside]
    system[ends] = -weights[inside] / (scale[ends[0]] * scale[ends[1]])
    diagonal = np.where(degrees > 0.0, (1.0 + screening) * degrees, screening) / scale**2
    system[np.arange(len(nodes)), np.arange(len(nodes))] += diagonal
    return system


def _base_graph(inverse: Inverse, count: int) -> Csr:
    more = np.full(count + 1 - len(inverse.indptr), inverse.indptr[-1])
    return Csr(
        np.concatenate([inverse.indptr, more]), inverse.indices,
        inverse.weights.astype(np.float32), np.full(len(inverse.indices), KNN, np.uint8),
    )  # fmt: skip


def _differing(old: Csr, new: Csr) -> Nodes:
    # The nodes whose rows are not the same in both graphs.
    count = len(new.indptr) - 1
    keys, values = [], []
    for graph in (old, new):
        rows = np.repeat(np.arange(count), np.diff(graph.indptr))
        keys.append(rows * count + graph.indices)
        values.append(graph.weights)
    places = np.searchsorted(keys[1], keys[0])
    same = np.zeros(len(keys[0]), np.bool_)
    there = places < len(keys[1])
    same[there] = (keys[1][places[there]] == keys[0][there]) & (
        values[1][places[there]] == values[0][there]
    )
    kept = np.zeros(len(keys[1]), np.bool_)
    kept[places[same]] = True
    differing = np.concatenate([keys[0][~same], keys[1][~kept]]) // max(count, 1)
    return np.unique(differing)
