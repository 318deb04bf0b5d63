"""The summary vectors of all shards, the graph between them, and the file that keeps both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.lattice.superlattice import near_nodes
from oscillink_store.model import Parameters

if TYPE_CHECKING:
    from oscillink_store.engine.store import Store

__all__ = [
    "Edge",
    "Summary",
    "cross_edges",
    "read_summaries",
    "summary_of",
    "summary_table",
    "table_bytes",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Summary:
    """What a shard is like in one generation: its anchors' mean embedding and mean gate.

    ``vector`` is (D,) float32 and no unit vector: its length tells how much the anchors have in
    common. A shard without anchors has none.
    """

    shard: str
    generation: int
    anchors: int
    gate: float
    vector: npt.NDArray[np.float32] | None


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Two shards, of which one is among the nearest of the other; the weight is cos³."""

    source: str
    target: str
    weight: float


def summary_of(name: str, store: Store) -> Summary:
    """The summary of the live generation."""
    snapshot = store.current()
    count = len(snapshot)
    if not count:
        return Summary(shard=name, generation=snapshot.generation, anchors=0, gate=1.0, vector=None)
    gates = snapshot.gates if snapshot.alive is None else snapshot.gates[snapshot.alive == 1]
    return Summary(
        shard=name,
        generation=snapshot.generation,
        anchors=count,
        gate=float(gates.mean(dtype=np.float64)),
        vector=snapshot.moments[0].astype(np.float32),
    )


def cross_edges(summaries: Sequence[Summary], parameters: Parameters) -> list[Edge]:
    """The edges between shards, by the rule of the graph between summary nodes of one store.

    Nearest neighbours by cosine in either direction, as many as ``parameters`` say for anchors.
    """
    known = [(summary.shard, summary.vector) for summary in summaries if summary.vector is not None]
    if len(known) < 2 or len({len(vector) for _, vector in known}) > 1:
        return []
    names = [name for name, _ in known]
    Y = np.stack([vector for _, vector in known])
    Y /= np.maximum(np.linalg.norm(Y, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    near = near_nodes(Y, parameters)
    weights = {
        (min(row, other), max(row, other)): float(max(cosine, 0.0)) ** parameters.knn_power
        for row, (others, cosines) in enumerate(zip(near.nodes, near.cosine, strict=True))
        for other, cosine in zip(others.tolist(), cosines.tolist(), strict=True)
        if other >= 0
    }
    return [
        Edge(source=names[row], target=names[other], weight=weight)
        for (row, other), weight in sorted(weights.items())
        if weight > 0.0
    ]


_EDGE = pa.struct([("shard", pa.string()), ("weight", pa.float64())])


def summary_table(summaries: Mapping[str, Summary], parameters: Parameters) -> pa.Table:
    """One row per shard, with its edges to others; each edge stands at both of its ends."""
    edges: dict[str, list[dict[str, object]]] = {name: [] for name in summaries}
    for edge in cross_edges(list(summaries.values()), parameters):
        edges[edge.source].append({"shard": edge.target, "weight": edge.weight})
        edges[edge.target].append({"shard": edge.source, "weight": edge.weight})
    rows = list(summaries.values())
    vectors = [None if row.vector is None else row.vector.tolist() for row in rows]
    return pa.table(
        {
            "shard": pa.array([row.shard for row in rows], pa.string()),
            "generation": pa.array([row.generation for row in rows], pa.int64()),
            "anchors": pa.array([row.anchors for row in rows], pa.int64()),
            "gate": pa.array([row.gate for row in rows], pa.float64()),
            "vector": pa.array(vectors, pa.list_(pa.float32())),
            "edges": pa.array([edges[row.shard] for row in rows], pa.list_(_EDGE)),
        }
    )


def table_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of an Arrow IPC file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_summaries(content: bytes) -> dict[str, Summary]:
    """The summaries in the bytes of :func:`table_bytes`, by shard."""
    rows = pa.ipc.open_file(pa.py_buffer(content)).read_all().to_pylist()
    return {
        row["shard"]: Summary(
            shard=row["shard"],
            generation=row["generation"],
            anchors=row["anchors"],
            gate=row["gate"],
            vector=None if row["vector"] is None else np.array(row["vector"], np.float32),
        )
        for row in rows
    }
