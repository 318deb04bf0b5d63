"""What a ranking found: the candidate lattice with everything that was computed on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oscillink_store.lattice.graph import Adjacency, TypedEdges
from oscillink_store.lattice.routing import Routed
from oscillink_store.lattice.settle import Settled

__all__ = ["NOTHING", "Ranked"]

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
