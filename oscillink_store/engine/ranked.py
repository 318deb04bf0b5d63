"""What a ranking found: the candidate lattice with everything that was computed on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.standing import Graph, Numbers
from oscillink_store.lattice.graph import Adjacency, TypedEdges
from oscillink_store.lattice.rank import order
from oscillink_store.lattice.routing import Routed
from oscillink_store.lattice.settle import Settled, settle
from oscillink_store.model import Parameters

__all__ = ["NOTHING", "Ranked", "settled_ranking"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """The candidates and what they amount to; arrays are (n,).

    ``rows`` are slots, ascending, and ``vectors`` (n, D) theirs; ``best`` places among them,
    best first. ``named`` and ``faceted`` tell whose title and whose facet the question names.
    ``gates``, ``adjacency``, its ``edges`` by relation and ``settled`` are None in rankings
    without the lattice, ``cosine`` when the query had no vector, ``routed`` when all
    anchors were scanned.
    """

    rows: Rows
    vectors: npt.NDArray[np.float32]
    best: Rows
    scores: Floats
    evidence: Floats
    named: Bools
    faceted: Bools
    gates: Floats | None
    cosine: Floats | None
    adjacency: Adjacency | None
    edges: TypedEdges | None
    settled: Settled | None
    routed: Routed | None = None


NOTHING = Ranked(
    rows=np.empty(0, np.int64), vectors=np.empty((0, 0), np.float32),
    best=np.empty(0, np.int64), scores=np.empty(0), evidence=np.empty(0),
    named=np.empty(0, np.bool_), faceted=np.empty(0, np.bool_), gates=None, cosine=None,
    adjacency=None, edges=None, settled=None,
)  # fmt: skip


def settled_ranking(
    numbers: Numbers,
    vectors: npt.NDArray[np.float32],
    total: Floats,
    lifted: Bools,
    shares: Floats,
    scores: Floats,
    graph: Graph,
    psi: npt.NDArray[np.float32],
    parameters: Parameters,
) -> Ranked:
    """The ranking by ``scores`` (n,), its candidates settled towards ψ (D,).

    ``total`` (n,) is the evidence, ``lifted`` (n,) whose facet is named, ``shares`` (n,) are the
    diffusion gates over the largest.
    """
    gates = shares * numbers.trust
    return Ranked(
        rows=numbers.rows, vectors=vectors, best=order(scores, numbers.rows), scores=scores,
        evidence=total, named=numbers.named, faceted=lifted, gates=gates, cosine=numbers.cosine,
        adjacency=graph.adjacency, edges=graph.edges,
        settled=settle(vectors, psi, gates, graph.adjacency, parameters),
    )  # fmt: skip
