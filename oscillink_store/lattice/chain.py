"""The chain receipt: whether a path of anchors holds together in the settled state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.diffusion import screened
from oscillink_store.lattice.graph import Adjacency
from oscillink_store.lattice.settle import NULL_POINT_Z, Settled, path_adjacency, robust_z
from oscillink_store.model import Parameters

__all__ = ["LEAST_REACH", "ChainLink", "ChainReceipt", "chain_receipt", "reaches"]

LEAST_REACH = 0.25
"""Of what the closest neighbour hears, what the next of a coherent chain hears at least."""

# far below what a reach is rounded to; and a lattice without coupling reaches nobody
_TOLERANCE, _WEAKEST = 1e-10, 1e-9

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ChainLink:
    """One step of the path.

    ``structural`` is 2 − 2 cos(U_i, U_j), how far apart the two anchors settle, and
    ``structural_z`` its robust z-score among the same gaps over the lattice's real edges.
    (Directions alone: the lengths of U depend on degrees and on the path itself.) ``path`` is
    λ_P·w·‖U_i/√p_i − U_j/√p_j‖² under the path's own Laplacian (p its degrees), ``path_z``
    its robust z-score among the links of the path.
    """

    source: int
    target: int
    structural: float
    structural_z: float
    path: float
    path_z: float


@dataclass(frozen=True, kw_only=True)
class ChainReceipt:
    """Verdict over a path.

    ``coherent`` when no link's structural z-score exceeds 3.5; ``weakest`` is the place of
    the link with the largest; ``gain`` is the share of the path's energy at Y that settling
    with the path removed, tr(UᵀL_path U) against tr(YᵀL_path Y): 0 when it drew the path apart.
    """

    coherent: bool
    weakest: int
    gain: float
    links: tuple[ChainLink, ...]

    def to_dict(self) -> dict[str, Any]:
        """The receipt as plain JSON values."""
        return asdict(self)


def chain_receipt(
    path: Sequence[int],
    settled: Settled,
    edges: npt.NDArray[np.int64],
    path_term: float,
) -> ChainReceipt:
    """Judge a path (at least two nodes) in the state that was settled with it.

    ``edges`` (E, 2) are the real edges of the lattice; without any, every z-score is 0.
    """
    U = settled.U.astype(np.float64)
    lengths = np.linalg.norm(U, axis=1, keepdims=True)
    directions = np.divide(U, lengths, out=np.zeros_like(U), where=lengths > 0.0)
    gaps = _gaps(directions, edges)
    steps = np.array([path[:-1], path[1:]], np.int64).T
    structural = _gaps(directions, steps)
    structural_z = robust_z(structural, gaps)
    degrees = np.maximum(np.diff(path_adjacency(len(U), path).indptr), 1).astype(np.float64)
    along = path_term * _gaps(U / np.sqrt(degrees)[:, None], steps)
    path_z = robust_z(along, along)
    before, after = settled.energy_anchors["chain"], settled.energy_stationary["chain"]
    links = tuple(
        ChainLink(
            source=int(steps[at, 0]),
            target=int(steps[at, 1]),
            structural=float(structural[at]),
            structural_z=float(structural_z[at]),
            path=float(along[at]),
            path_z=float(path_z[at]),
        )
        for at in range(len(steps))
    )
    return ChainReceipt(
        coherent=bool((structural_z <= NULL_POINT_Z).all()),
        weakest=int(np.lexsort((np.arange(len(steps)), -structural, -structural_z))[0]),
        gain=max(0.0, 1.0 - after / before) if before > 0.0 else 0.0,
        links=links,
    )


def reaches(
    path: Sequence[int], adjacency: Adjacency, degrees: Float64, parameters: Parameters
) -> Float64:
    """Measure how closely the lattice itself joins the two ends of each link (L − 1,).

    With G = (λ_G I + λ_C L)^(−1), by which settling spreads what is put on an anchor, the reach
    of a link (i, j) is G_ij over the largest G_ik of a neighbour k of i, or the same from j's
    side if that is more, at most 1: 1 when the next anchor is the closest neighbour, near 0
    when it is a stranger. ``degrees`` (n,) are those of the whole lattice, see
    :func:`oscillink_store.lattice.settle.diffuse`.
    """
    indptr, indices, weights = adjacency
    n = len(degrees)
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros(n), where=degrees > 0.0)
    coupling = weights * (np.repeat(scale, np.diff(indptr)) * scale[indices])
    screening = parameters.anchor_term / max(parameters.coherence_term, _WEAKEST)
    heard: dict[int, Float64] = {}
    for node in sorted(set(path)):
        source, h = np.zeros(n), np.zeros(n)
        source[node] = 1.0
        screened(
            indptr, indices, coupling, scale, source, screening, _TOLERANCE,
            parameters.max_iterations, h, np.empty((3, n)), np.empty(1),
        )  # fmt: skip
        heard[node] = h
    return np.array([_reach(heard, adjacency, *link) for link in pairwise(path)])


def _reach(heard: dict[int, Float64], adjacency: Adjacency, one: int, two: int) -> float:
    if one == two:
        return 1.0
    best = 0.0
    for start, end in ((one, two), (two, one)):
        near = adjacency.indices[adjacency.indptr[start] : adjacency.indptr[start + 1]]
        most = float(heard[start][near].max(initial=0.0))
        if most > 0.0:
            best = max(best, float(heard[start][end]) / most)
    return min(max(best, 0.0), 1.0)


def _gaps(U: Float64, pairs: npt.NDArray[np.int64]) -> Float64:
    gaps: Float64 = ((U[pairs[:, 0]] - U[pairs[:, 1]]) ** 2).sum(axis=1)
    return gaps
