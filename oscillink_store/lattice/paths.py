"""The strongest way that evidence takes from the sources to every other anchor."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from oscillink_store.lattice.graph import Adjacency

__all__ = ["Paths", "strongest_paths"]

Float64 = npt.NDArray[np.float64]


class Paths(NamedTuple):
    """The strongest path to every node, as a forest whose roots are the sources.

    ``before`` (n,) is the node before each one on its path, −1 at sources and where no path
    leads; ``hops`` (n,) is the path's number of edges, 0 at sources and −1 where none leads;
    ``strength`` (n,) is the source's weight times, per edge, its coupling and the damping.
    """

    before: npt.NDArray[np.int64]
    hops: npt.NDArray[np.int64]
    strength: Float64

    def to(self, node: int) -> list[int]:
        """The nodes from the source to ``node``; empty where no path leads."""
        if self.hops[node] < 0:
            return []
        path = [node]
        while self.before[path[-1]] >= 0:
            path.append(int(self.before[path[-1]]))
        return path[::-1]


def strongest_paths(
    adjacency: Adjacency, scale: Float64, sources: Float64, screening: float
) -> Paths:
    """Find the path from a source to each node that carries the most evidence.

    The screened diffusion's gates are h = γ Σ_k C^k s/(1+γ)^(k+1) with the couplings
    C_ij = A_ij scale_i scale_j, a sum over all walks from the sources: a path with the
    couplings c_1 … c_m from source i adds γ/(1+γ) · s_i · Π c/(1+γ). This finds the path with
    the largest s_i · Π c/(1+γ) among those that pass no other source, by Dijkstra's algorithm;
    at equal strength the one with fewer edges, then the one over the lower node.

    ``adjacency`` is the graph among n nodes; ``scale`` (n,) is at most d^(−1/2), so that no
    coupling is above 1; ``sources`` (n,) is positive at the sources, else 0.
    """
    indptr, indices, weights = adjacency
    n = len(sources)
    rows = np.repeat(np.arange(n), np.diff(indptr))
    factors = (weights * scale[rows] * scale[indices] / (1.0 + screening)).tolist()
    columns, starts = indices.tolist(), indptr.tolist()
    before, hops = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    strength = np.zeros(n)
    roots = np.flatnonzero(sources > 0.0).tolist()
    # what leads to a node is known to be its best once it leaves the heap
    heap = [(-float(sources[root]), 0, -1, root) for root in roots]
    heapq.heapify(heap)
    inner = set(range(n)).difference(roots)
    while heap:
        negative, length, last, node = heapq.heappop(heap)
        if hops[node] >= 0:
            continue
        before[node], hops[node], strength[node] = last, length, -negative
        for entry in range(starts[node], starts[node + 1]):
            other = columns[entry]
            if factors[entry] > 0.0 and other in inner and hops[other] < 0:
                heapq.heappush(heap, (negative * factors[entry], length + 1, node, other))
    return Paths(before, hops, strength)
