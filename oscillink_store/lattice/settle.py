"""Diffusion gates and the stationary state of a small graph, with its diagnostics."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.kernels.cg import TILE, block_cg
from oscillink_store.kernels.diffusion import heat, heat_coefficients, screened
from oscillink_store.kernels.energy import agreement, anchor_forms, edge_forms
from oscillink_store.kernels.laplacian import normalize
from oscillink_store.kernels.layout import aligned
from oscillink_store.lattice.graph import Adjacency
from oscillink_store.model import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oscillink_store.lattice.graph import TypedEdges
    from oscillink_store.model import Parameters

__all__ = ["TERMS", "Diffused", "Settled", "diffuse", "settle", "split_terms"]

TERMS = ("anchor", "graph", "query", "chain")
HEAT_TERMS = 8
NULL_POINT_Z = 3.5
# a normal distribution has 0.6745 σ between median and quartile, 0.7979 σ as mean deviation
MAD_SIGMA, MEAN_DEVIATION_SIGMA = 0.6744897501960817, 0.7978845608028654

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]


class Diffused(NamedTuple):
    """Diffusion gates ``gates`` (n,), not negative, and how the solve went.

    For the heat kernel ``iterations`` is the number of Chebyshev terms and ``residual`` the
    bound on what the terms left out can add to a unit source.
    """

    gates: Float64
    iterations: int
    residual: float
    converged: bool


class Settled(NamedTuple):
    """The stationary state and what it says.

    ``U`` (n, D); ``residual`` is the largest ‖rhs − MU‖/‖rhs‖ over the D columns;
    ``energy_anchors`` and ``energy_stationary`` hold the terms of H at Y and at U by
    :data:`TERMS`, weights λ applied; ``delta_h`` = tr((Y−U)ᵀM(Y−U)) ≥ 0 equals their
    difference at the exact solution, and ``delta_terms`` are its terms, none below 0.
    ``coherence`` (n,) in [0, 1] is 2 Σ_j A_ij U_i·U_j / Σ_j A_ij (‖U_i‖² + ‖U_j‖²), cut off
    at 0: 1 when an anchor equals its neighbours, 0 when it is orthogonal or opposed to them or
    has none. Per edge i < j of the graph, in the order of ``pairs`` (E, 2): ``forms`` (3, E)
    are λ_C A_ij‖X_i/√d_i − X_j/√d_j‖² at X = Y, U and Y − U, ``gaps`` (2, E) are
    2 − 2 cos(X_i, X_j) at X = Y and U.
    """

    U: Float32
    iterations: int
    residual: float
    converged: bool
    energy_anchors: dict[str, float]
    energy_stationary: dict[str, float]
    delta_terms: dict[str, float]
    coherence: Float64
    pairs: npt.NDArray[np.int32]
    forms: Float64
    gaps: Float64

    @property
    def delta_h(self) -> float:
        """tr((Y−U)ᵀM(Y−U)), the sum of ``delta_terms``."""
        return math.fsum(self.delta_terms.values())

    @property
    def null_points(self) -> list[tuple[int, int, float]]:
        """The edges (i, j, z) of :func:`null_points`, found anew at every look."""
        return null_points(self.pairs, self.forms, self.gaps)


def diffuse(
    adjacency: Adjacency,
    sources: Float64,
    parameters: Parameters,
    *,
    degrees: Float64 | None = None,
    trust: Float64 | None = None,
) -> Diffused:
    """Let evidence flow from ``sources`` (n,) over the graph.

    ``"screened"`` solves (L + γI)h = γs; ``"heat"`` is e^(−tL)s by eight Chebyshev terms.
    ``degrees`` (n,) are those of a larger graph that this one was cut from: L is then the
    principal submatrix of that graph's Laplacian, so that evidence flowing out of the cut is
    lost instead of kept; it stays positive semi-definite.

    ``trust`` t (n,) in [0, 1] restrains what flows: off its diagonal L = I − C becomes I − TCT
    with T = diag(t). The degrees stay, so what is restrained is lost and not sent elsewhere.
    As xᵀTCTx ≤ ‖Tx‖² ≤ ‖x‖², L stays positive semi-definite, its spectrum in [0, 2]. None is
    full trust in all.
    """
    indptr, indices, weights = adjacency
    n = len(sources)
    scale, coupling, gates = np.empty(n), np.empty(len(weights)), np.empty(n)
    normalize(indptr, indices, weights, scale, coupling)
    if degrees is not None:
        scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros(n), where=degrees > 0.0)
        coupling = weights * (np.repeat(scale, np.diff(indptr)) * scale[indices])
    if trust is not None:
        coupling = coupling * (np.repeat(trust, np.diff(indptr)) * trust[indices])
    if parameters.diffusion == "heat":
        coefficients = heat_coefficients(parameters.heat_time, HEAT_TERMS)
        gates = heat(indptr, indices, coupling, scale, sources, coefficients)
        left_out = max(0.0, 1.0 - float(np.abs(coefficients).sum()))
        converged = left_out <= parameters.tolerance
        return Diffused(np.maximum(gates, 0.0), HEAT_TERMS, left_out, converged)
    residual = np.empty(1)
    iterations = screened(
        indptr, indices, coupling, scale, sources, parameters.screening, parameters.tolerance,
        parameters.max_iterations, gates, np.empty((3, n)), residual,
    )  # fmt: skip
    converged = bool(residual[0] <= parameters.tolerance)
    return Diffused(np.maximum(gates, 0.0), iterations, float(residual[0]), converged)


def settle(
    Y: Float32,
    psi: Float32,
    gates: Float64,
    adjacency: Adjacency,
    parameters: Parameters,
    *,
    path: Sequence[int] | None = None,
) -> Settled:
    """Solve M U = λ_G Y + λ_Q b ψᵀ and take the energies at Y and at U.

    ``Y`` (n, D), ``psi`` (D,), ``gates`` b (n,) in [0, 1]; ``path`` is a chain of nodes whose
    own normalised Laplacian enters M with weight λ_P = ``parameters.path_term``.
    """
    n, D = Y.shape
    graph = _Operator(adjacency)
    chain = _Operator(path_adjacency(n, path)) if path is not None else None
    pull = parameters.query_term * gates
    diagonal = parameters.anchor_term + pull + parameters.coherence_term * (graph.scale > 0)
    indptr, indices = adjacency.indptr, adjacency.indices
    coupling = parameters.coherence_term * graph.coupling
    if chain is not None:
        diagonal += parameters.path_term * (chain.scale > 0)
        indptr, indices, coupling = _stacked(indptr, indices, coupling, chain, parameters.path_term)
    U, residual = aligned(n, D), np.empty(1)
    iterations = block_cg(
        indptr, indices, coupling.astype(np.float32), diagonal.astype(np.float32),
        Y, parameters.anchor_term, pull.astype(np.float32), psi,
        parameters.tolerance, parameters.max_iterations, U,
        aligned(4, n, TILE), aligned(4, max(n, TILE)), residual,
    )  # fmt: skip

    squares, sums = np.empty((2, n)), np.empty(4)
    anchor_forms(Y, U, psi, gates, squares, sums)
    pairs, forms, totals = graph.forms(Y, U)
    path_totals = chain.forms(Y, U)[2] if chain is not None else np.zeros(3)
    weights = (
        parameters.anchor_term, parameters.coherence_term,
        parameters.query_term, parameters.path_term,
    )  # fmt: skip
    at_y = (0.0, totals[0], sums[1], path_totals[0])
    at_u = (sums[0], totals[1], sums[2], path_totals[1])
    at_difference = (sums[0], totals[2], sums[3], path_totals[2])
    agreed, gaps = coherence(adjacency, graph.scale, pairs, forms, squares)
    return Settled(
        U=U,
        iterations=iterations,
        residual=float(residual[0]),
        converged=bool(residual[0] <= parameters.tolerance),
        energy_anchors=_terms(weights, at_y),
        energy_stationary=_terms(weights, at_u),
        delta_terms=_terms(weights, at_difference),
        coherence=agreed,
        pairs=pairs,
        forms=parameters.coherence_term * forms,
        gaps=gaps,
    )


def split_terms(settled: Settled, edges: TypedEdges | None) -> dict[str, Any]:
    """The terms of ΔH with that of the graph by relation; ``math.fsum`` of all of them is ΔH.

    ``edges`` are those of the graph that was settled, None where nothing was known of
    relations: all of them are then nearest neighbours'. An edge's part of the graph's term
    belongs to its relations in the shares ω_r w_r / A_ij.
    """
    graph = settled.delta_terms["graph"]
    by_relation = np.zeros(len(RELATIONS))
    if edges is None:
        by_relation[RELATIONS.index("knn")] = graph
    elif graph > 0.0:
        by_relation = _by_relation(settled.forms[2], edges, graph)
    return {
        **settled.delta_terms,
        "graph": dict(zip(RELATIONS, by_relation.tolist(), strict=True)),
    }


def _by_relation(moved: Float64, edges: TypedEdges, graph: float) -> Float64:
    first = np.ones(len(edges.relation), np.bool_)
    first[1:] = (edges.ends[1:] != edges.ends[:-1]).any(axis=1)
    pair = np.cumsum(first) - 1
    shares = edges.weight / np.bincount(pair, edges.weight)[pair]
    whole = np.bincount(edges.relation, moved[pair] * shares, len(RELATIONS))
    # In multiples of the sum's last bit nothing is lost, so that what the largest part is given,
    # the rest, makes the parts add up exactly.
    unit = np.spacing(graph)
    sums: Float64 = np.rint(whole / unit) * unit
    largest = int(np.argmax(sums))
    sums[largest] = 0.0
    sums[largest] = graph - sums.sum()
    return sums


class _Operator:
    """A normalised Laplacian ready for use: d^(−1/2) per anchor, coupling per entry."""

    def __init__(self, adjacency: Adjacency) -> None:
        self.adjacency = adjacency
        self.scale = np.empty(len(adjacency.indptr) - 1)
        self.coupling = np.empty(len(adjacency.weights))
        normalize(*adjacency, self.scale, self.coupling)

    def forms(self, Y: Float32, U: Float32) -> tuple[npt.NDArray[np.int32], Float64, Float64]:
        """Return edges (E, 2), their forms A_ij‖·‖² (3, E) at Y, U and Y − U, and the sums (3,)."""
        room = len(self.adjacency.weights) // 2
        pairs, forms, totals = np.empty((room, 2), np.int32), np.empty((3, room)), np.empty(3)
        edge_forms(*self.adjacency, self.scale, Y, U, pairs, forms, totals)
        return pairs, forms, totals


def _terms(weights: Sequence[float], forms: Sequence[float]) -> dict[str, float]:
    values = zip(TERMS, weights, forms, strict=True)
    return {name: weight * float(form) for name, weight, form in values}


def path_adjacency(n: int, path: Sequence[int]) -> Adjacency:
    """Build the graph of a path's consecutive pairs, each with weight 1 however often it occurs."""
    links = {
        pair for a, b in pairwise(path) if a != b for pair in ((int(a), int(b)), (int(b), int(a)))
    }
    ordered = np.array(sorted(links), np.int64).reshape(-1, 2)
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(ordered[:, 0], minlength=n), out=indptr[1:])
    return Adjacency(indptr, ordered[:, 1].astype(np.int32), np.ones(len(ordered)))


def _stacked(
    indptr: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int32],
    coupling: Float64,
    chain: _Operator,
    path_term: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Float64]:
    """One CSR whose rows hold the graph's entries, then the chain's."""
    ends = np.repeat(indptr[1:], np.diff(chain.adjacency.indptr))
    return (
        indptr + chain.adjacency.indptr,
        np.insert(indices, ends, chain.adjacency.indices),
        np.insert(coupling, ends, path_term * chain.coupling),
    )


def coherence(
    adjacency: Adjacency,
    scale: Float64,
    pairs: npt.NDArray[np.int32],
    forms: Float64,
    squares: Float64,
) -> tuple[Float64, Float64]:
    """Measure each anchor's agreement with its neighbours, and the gaps (2, E) of the edges.

    See :class:`Settled` and :func:`oscillink_store.kernels.energy.agreement`.
    """
    n = squares.shape[1]
    rows = np.repeat(np.arange(n), np.diff(adjacency.indptr))
    weights = adjacency.weights[adjacency.indices > rows]
    ratio, gaps = np.empty(n), np.empty((2, len(weights)))
    agreement(pairs, weights, forms, scale, squares, ratio, gaps, np.empty((2, n)))
    return ratio, gaps


def null_points(
    pairs: npt.NDArray[np.int32],
    forms: Float64,
    gaps: Float64,
    threshold: float = NULL_POINT_Z,
) -> list[tuple[int, int, float]]:
    """Find the edges that are under an outlying strain because their ends disagree.

    ``forms`` (3, E) and ``gaps`` (2, E) are those of :class:`Settled`. An edge's strain is the
    residual that is left of it at U and what it spent on drawing its ends together, the form at
    Y − U: a strong edge between strangers leaves hardly any residual, because it won. Strain
    alone would name every edge between a hub and a leaf, where U_i/√d_i and U_j/√d_j differ in
    length however well the two agree. So the gap between the directions must be an outlier too:
    what settling closed of it, or else both the gap at Y and what was left open. (Left open
    alone would name the true neighbours of an anchor that was drawn away.) Outliers are those
    whose robust z-score exceeds ``threshold``.

    Returns (i, j, z of the strain) with i < j, the largest z first.
    """
    strain = forms[1] + forms[2]
    z = robust_z(strain, strain)
    strained = z > threshold
    if not strained.any():
        return []
    at_y, at_u, closed = (robust_z(gap, gap) for gap in (*gaps, gaps[0] - gaps[1]))
    disagree = (closed > threshold) | (np.minimum(at_y, at_u) > threshold)
    found = np.flatnonzero(strained & disagree)
    order = found[np.argsort(-z[found], kind="stable")]
    ends, scores = pairs[order].tolist(), z[order].tolist()
    return [(i, j, score) for (i, j), score in zip(ends, scores, strict=True)]


def robust_z(values: Float64, reference: Float64) -> Float64:
    """0.6745 (x − median)/MAD of ``values`` (n,) against ``reference`` (m,).

    When more than half of the reference is equal (MAD = 0), the mean absolute deviation
    takes its place; when all is equal or there is none, every score is 0 (Iglewicz and
    Hoaglin 1993).
    """
    if not len(reference):
        return np.zeros(len(values))
    middle = _median(reference)
    deviation = np.abs(reference - middle)
    sigma = _median(deviation) / MAD_SIGMA
    if sigma == 0.0:
        sigma = float(deviation.mean()) / MEAN_DEVIATION_SIGMA
    scores: Float64 = (values - middle) / sigma if sigma > 0.0 else np.zeros(len(values))
    return scores


def _median(values: Float64) -> float:
    # a third of what numpy's own takes for a thousand values
    ascending, half = np.sort(values), len(values) // 2
    return float(ascending[half] + ascending[-1 - half]) / 2.0
