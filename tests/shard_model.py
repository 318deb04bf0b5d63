"""What the shards and summary nodes of a store must be, worked out from its anchors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

import oscillink_store as osc
from oscillink_store.engine.sharded import Sharded
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.lattice import hierarchy
from oscillink_store.lattice.graph import Csr, TypedGraph
from oscillink_store.lattice.grouping import most
from oscillink_store.lattice.levels import Inverse, Level, flow, node_graph
from oscillink_store.lattice.summary import Items, Summary, summarize
from oscillink_store.lattice.superlattice import near_nodes

Float64 = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]


def sharded_of(store: osc.Store | osc.Snapshot) -> Sharded:
    """The shards of a store that has some."""
    found = store.current().sharded
    assert found is not None
    return found


def check_nodes(store: osc.Store | osc.Snapshot) -> None:
    """Membership, counts, weights, lists and the inverse are those of the anchors present."""
    snapshot = store.current()
    sharded = sharded_of(store)
    _check_members(snapshot, sharded)
    own, gates = sharded.own[snapshot.alive_slots], snapshot.gates[snapshot.alive_slots]
    ones = np.ones(len(own), np.int64)
    _check_counts(sharded.levels[0], own, ones, gates.astype(np.float64))
    for below, level in pairwise(sharded.levels):
        _check_counts(level, below.parents, below.anchors, below.weights * below.held)
        assert level.items.max() <= most(hierarchy.CHILDREN)
    last = sharded.levels[-1]
    assert (last.parents == -1).all()
    assert len(last.items) <= snapshot.parameters.max_nodes
    if sharded.by is None:
        assert sharded.levels[0].items.max() <= most(snapshot.parameters.shard_anchors)
    for level in sharded.levels:
        again = near_nodes(np.ascontiguousarray(level.vectors), snapshot.parameters)
        assert np.array_equal(again.nodes, level.near)
        assert np.array_equal(again.cosine, level.cosine)
    check_inverse(sharded.hierarchy.inverse, sharded.top_graph, snapshot.parameters.screening)
    _check_table(store, sharded)


def _check_members(snapshot: Snapshot, sharded: Sharded) -> None:
    alive = snapshot.alive_slots
    shards = len(sharded.levels[0].items)
    assert [first for first, _ in sharded.parts] == [part.first for part in snapshot.parts]
    assert len(sharded.own) == snapshot.slots
    of_all = sharded.shards_of(alive)
    assert ((of_all >= 0) & (of_all < shards)).all()
    assert sharded.slots_in(range(shards), snapshot.alive).tolist() == alive.tolist()
    for shard in range(shards):
        found = sharded.slots_in([shard], snapshot.alive)
        assert found.tolist() == alive[of_all == shard].tolist()
    if sharded.by is not None:
        held = snapshot.values(sharded.by, alive)
        named = [sharded.names[shard] for shard in of_all.tolist()]
        assert named == [None if value is None else str(value) for value in held]


def _check_counts(level: Level, own: Slots, anchors: Slots, weights: Float64) -> None:
    count = len(level.items)
    assert level.items.tolist() == np.bincount(own, minlength=count).tolist()
    assert level.anchors.tolist() == np.bincount(own, anchors, count).tolist()
    np.testing.assert_allclose(level.weights, np.bincount(own, weights, count), atol=1e-12)


def check_inverse(inverse: Inverse, graph: Csr, screening: float) -> None:
    """Evidence flows as the dense system says, wherever it comes from."""
    count = len(graph.indptr) - 1
    sources = np.arange(count)[:: max(count // 3, 1)]
    weights = np.linspace(1.0, 0.5, len(sources))
    wanted = dense_flow(graph, sources, weights, screening)
    found = flow(inverse, graph, sources, weights, screening)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


def dense_flow(graph: Csr, sources: Slots, weights: Float64, screening: float) -> Float64:
    """(L + γI)h = γs with L the normalised Laplacian, 0 for a node without edges."""
    count = len(graph.indptr) - 1
    A = np.zeros((count, count))
    A[np.repeat(np.arange(count), np.diff(graph.indptr)), graph.indices] = graph.weights
    degrees = A.sum(axis=1)
    scale = np.where(degrees > 0.0, 1.0 / np.sqrt(np.where(degrees > 0.0, degrees, 1.0)), 0.0)
    L = np.diag((degrees > 0.0).astype(np.float64)) - scale[:, None] * A * scale
    s = np.zeros(count)
    np.add.at(s, sources, weights)
    found: Float64 = np.linalg.solve(L + screening * np.eye(count), screening * s)
    return found


def _check_table(store: osc.Store | osc.Snapshot, sharded: Sharded) -> None:
    rows = iter(store.summaries().to_pylist())
    for number, level in enumerate(sharded.levels):
        last = number == len(sharded.levels) - 1
        for node in range(len(level.items)):
            row = next(rows)
            assert (row["id"], row["level"]) == (sharded.name(number, node), number + 1)
            parent = None if last else sharded.name(number + 1, int(level.parents[node]))
            assert row["parent"] == parent
            assert row["vector"] == level.vectors[node].tolist()
            for name in (
                "anchors", "items", "coherence", "edges", "null_points", "delta_h", "generation",
                "changed", "held",
            ):  # fmt: skip
                assert row[name] == getattr(level, name)[node].item(), name
            assert row["weight"] == level.weights[node]
            assert row["gate"] == level.gates[node]
            assert row["anomaly"] == row["null_points"] / max(row["edges"], 1)
    assert next(rows, None) is None


def check_settled(store: osc.Store | osc.Snapshot) -> None:
    """Every node says what its items, settled now, say."""
    snapshot, sharded = store.current(), sharded_of(store)
    parameters = snapshot.parameters
    alive = snapshot.alive_slots
    for number, level in enumerate(sharded.levels):
        assert not level.changed.any()
        for node in range(len(level.items)):
            if number == 0:
                rows = alive[sharded.shards_of(alive) == node]
                items = Items(rows, snapshot.vectors(rows), snapshot.gates[rows], snapshot.lattice)
            else:
                items = _under(sharded.levels[number - 1], node, parameters)
            _check_summary(level, node, summarize(items, parameters))


def _under(below: Level, node: int, parameters: osc.Parameters) -> Items:
    rows = np.flatnonzero(below.parents == node)
    graph: TypedGraph = node_graph(below.lists(), parameters)
    return Items(rows, below.vectors[rows], below.gates[rows].astype(np.float32), graph)


def _check_summary(level: Level, node: int, summary: Summary) -> None:
    found: dict[str, Any] = {name: getattr(level, name)[node] for name in Summary._fields[1:]}
    wanted = summary._asdict()
    assert (found["edges"], found["null_points"]) == (wanted["edges"], wanted["null_points"])
    for name in ("coherence", "delta_h"):
        assert abs(found[name] - wanted[name]) <= 1e-6, (name, node)
    np.testing.assert_allclose(level.vectors[node], wanted["vector"], atol=1e-6)
