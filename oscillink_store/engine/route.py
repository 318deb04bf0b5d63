"""Routing: which shards a search goes into, and what its receipt says of that."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.query import Query
from oscillink_store.engine.ranked import Ranked
from oscillink_store.engine.sharded import Sharded
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.lattice.graph import TypedGraph, cut_out, neighbors, whole_degrees
from oscillink_store.lattice.rank import scaled, source_rows, source_weights
from oscillink_store.lattice.records import empty_records
from oscillink_store.lattice.routing import Layer, Routed, descend
from oscillink_store.lattice.settle import Settled, diffuse, settle
from oscillink_store.model import Parameters

__all__ = ["PER_CANDIDATE", "layers_of", "route"]

_MOST_NULL_POINTS, _MOST_NODES = 16, 64
PER_CANDIDATE = 4  # anchors to choose from

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


def route(
    snapshot: Snapshot, sharded: Sharded, psi: Float32, count: int, parameters: Parameters
) -> Routed:
    """Choose the shards that a question's vector ψ (D,) goes into for so many candidates."""
    layers = descend(sharded.hierarchy, sharded.top_graph, psi, PER_CANDIDATE * count, parameters)
    slots = sharded.slots_in(layers[-1].chosen.tolist(), snapshot.alive)
    return Routed(slots=slots, layers=layers)


def layers_of(snapshot: Snapshot, ranked: Ranked, query: Query) -> dict[str, Any] | None:
    """What the receipt of a search in a store with shards says of its layers.

    Of ``route`` how many anchors there are, and were visited; in a light receipt no more.

    ``shards`` are those that candidates come from: how many, the ΔH of their anchors and of all
    edges at them, and how many null points are among these. An edge between two shards counts in
    both, so ``overlap`` says what all such edges add up to: ΔH is the sum less that. ``route``
    tells of every level what was chosen, and of the last, whose nodes are settled like anchors,
    also ΔH and null points. None where there are no shards.
    """
    sharded = snapshot.sharded
    if sharded is None:
        return None
    routed = ranked.routed
    told: dict[str, Any] = {"route": None}
    if routed is not None:
        visited = len(routed.slots)
        told["route"] = {"anchors": len(snapshot), "visited": visited, "walked": routed.walked}
    if query.detail == "light":
        return told
    if ranked.settled is not None and ranked.gates is not None:
        told |= _shards(sharded, ranked, ranked.settled, query.parameters)
    if routed is not None and query.vector is not None:
        told["route"] |= _route(sharded, routed, query.vector, query.parameters)
    return told


def _shards(
    sharded: Sharded, ranked: Ranked, settled: Settled, parameters: Parameters
) -> dict[str, Any]:
    shards, own = np.unique(sharded.shards_of(ranked.rows), return_inverse=True)
    count = len(shards)
    gates = np.zeros(len(own)) if ranked.gates is None else ranked.gates
    moved = (ranked.vectors - settled.U).astype(np.float64) ** 2
    pull = parameters.anchor_term + parameters.query_term * gates
    low, high = own[settled.pairs[:, 0]], own[settled.pairs[:, 1]]
    forms = settled.forms[2]
    cross = low != high
    null = np.zeros(len(forms))
    if points := settled.null_points:
        # both ends in one number, by which the edges are sorted
        both = (len(own), 1)
        sought = np.array([point[:2] for point in points]) @ both
        null[np.searchsorted(settled.pairs.astype(np.int64) @ both, sought)] = 1.0

    def at_shards(values: Floats) -> Floats:
        # an edge between two shards counts in both
        between: Floats = np.bincount(high[cross], values[cross], count).astype(np.float64)
        return between + np.bincount(low, values, count)

    delta_h = np.bincount(own, pull * moved.sum(axis=1), count) + at_shards(forms)
    entries = [
        {
            "shard": sharded.name(0, shard),
            "candidates": candidates,
            "delta_h": delta,
            "null_points": n,
        }
        for shard, candidates, delta, n in zip(
            shards.tolist(),
            np.bincount(own, minlength=count).tolist(),
            delta_h.tolist(),
            at_shards(null).astype(int).tolist(),
            strict=True,
        )
    ]
    overlap = {
        "edges": int(cross.sum()),
        "delta_h": math.fsum(forms[cross].tolist()),
        "null_points": int(null[cross].sum()),
    }
    return {"shards": entries, "overlap": overlap}


def _route(
    sharded: Sharded, routed: Routed, psi: Float32, parameters: Parameters
) -> dict[str, Any]:
    return {
        "levels": [
            {
                "level": layer.level + 1,
                "nodes": len(sharded.levels[layer.level].items),
                "considered": len(layer.nodes),
                "chosen": [
                    sharded.name(layer.level, node) for node in layer.chosen[:_MOST_NODES].tolist()
                ],
                "chosen_count": len(layer.chosen),
            }
            for layer in routed.layers
        ],
        "super": _super(sharded, routed.layers[0], psi, parameters),
    }


def _super(sharded: Sharded, layer: Layer, psi: Float32, parameters: Parameters) -> dict[str, Any]:
    """The settle of the last level, as of anchors: the best nodes and those next to them."""
    level, graph = sharded.levels[layer.level], TypedGraph(sharded.top_graph, empty_records())
    best = np.sort(layer.chosen[:_MOST_NODES])
    nodes = np.union1d(best, neighbors(graph.entries(best))) if len(best) else best
    nodes = nodes[level.vectors[nodes].any(axis=1)]
    if len(nodes) == 0:
        return {"nodes": 0, "delta_h": None, "null_points": [], "null_point_count": 0}
    entries = graph.entries(nodes)
    adjacency, _ = cut_out(entries, parameters.relation_weights)
    evidence = layer.evidence[nodes]  # all nodes of the last level are looked at
    strength = scaled(evidence, parameters)
    sources = source_rows(evidence, nodes, parameters)
    gates = diffuse(
        adjacency,
        source_weights(strength, sources),
        parameters,
        degrees=whole_degrees(entries, parameters.relation_weights),
    ).gates
    peak = gates.max(initial=0.0)
    gates = gates / peak if peak > 0.0 else gates
    settled = settle(level.vectors[nodes], psi, gates, adjacency, parameters)
    points = settled.null_points
    return {
        "nodes": len(nodes),
        "delta_h": settled.delta_h,
        "null_points": [
            [sharded.name(layer.level, int(nodes[i])), sharded.name(layer.level, int(nodes[j])), z]
            for i, j, z in points[:_MOST_NULL_POINTS]
        ],
        "null_point_count": len(points),
    }
