"""A summary node: what a group of anchors, or of other nodes, says as a whole.

A group is settled by itself, without a question: M U = λ_G Y with M = λ_G I + λ_C L over the
edges within the group. What agrees with its neighbours then is the group's core, and its
embedding that of the core.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.cells import spread
from oscillink_store.lattice.graph import Entries, TypedGraph, cut_out
from oscillink_store.lattice.grouping import centre_of
from oscillink_store.lattice.settle import settle
from oscillink_store.model import Parameters

__all__ = ["Items", "Summary", "sampled", "summarize"]

_MOST = 4096

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class Items(NamedTuple):
    """What a group is made of: unit ``vectors`` (n, D) and ``gates`` (n,) of some rows.

    ``rows`` (n,) ascend, ``graph`` is the lattice that they stand in. Of a large group they are
    those of :func:`sampled`.
    """

    rows: Rows
    vectors: Float32
    gates: Float32
    graph: TypedGraph


class Summary(NamedTuple):
    """Of one group: its unit ``vector`` (D,), zero without rows, and figures.

    ``coherence`` is the mean over the rows, in [0, 1]; ``edges`` are those within the group and
    ``null_points`` those of them that settle apart; ``delta_h`` is ΔH of the group's settle.
    """

    vector: Float32
    coherence: float
    edges: int
    null_points: int
    delta_h: float


def sampled(rows: Rows) -> Rows:
    """The rows of a group that it is settled by: all, or of very many some, evenly spread."""
    return rows[spread(len(rows), _MOST)]


def summarize(items: Items, parameters: Parameters) -> Summary:
    """Settle a group and take its core: the half that is most coherent, ties included.

    The vector is the unit mean of the core, each row weighed by its gate; of a group that is
    not trusted at all, unweighed.
    """
    rows, vectors, gates, graph = items
    if len(rows) == 0:
        return Summary(np.zeros(vectors.shape[1], np.float32), 0.0, 0, 0, 0.0)
    entries: Entries = graph.entries(rows)
    adjacency, _ = cut_out(entries, parameters.relation_weights)
    none = np.zeros(len(rows))
    settled = settle(
        np.ascontiguousarray(vectors), np.zeros(vectors.shape[1], np.float32), none, adjacency,
        parameters,
    )  # fmt: skip
    least = np.sort(settled.coherence)[::-1][(len(rows) - 1) // 2]
    core = settled.coherence >= least
    weighed = vectors[core] * gates[core, None] if gates[core].any() else vectors[core]
    vector = centre_of(weighed)
    return Summary(
        vector=vector if vector.any() else vectors[core][0],
        coherence=float(settled.coherence.mean()),
        edges=len(settled.pairs),
        null_points=len(settled.null_points),
        delta_h=settled.delta_h,
    )
