"""``Lattice``: the mathematics of the store in memory, over vectors alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from numbers import Real
from operator import index
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from oscillink_store.errors import InputError, QueryError
from oscillink_store.kernels.dense import products
from oscillink_store.kernels.knn import knn_exact
from oscillink_store.kernels.mmr import mmr
from oscillink_store.kernels.mutual import mutual
from oscillink_store.lattice.chain import ChainReceipt, chain_receipt
from oscillink_store.lattice.graph import (
    Adjacency,
    Edges,
    TypedEdges,
    TypedGraph,
    build_csr,
    cut_out,
)
from oscillink_store.lattice.rank import (
    final_scores,
    order,
    scaled,
    source_rows,
    source_weights,
    standardize,
)
from oscillink_store.lattice.records import empty_records
from oscillink_store.lattice.settle import Settled, diffuse, settle, split_terms
from oscillink_store.model import Parameters

__all__ = ["Bundled", "Lattice", "blend_order", "mutual_knn"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

Number = TypeVar("Number", np.float32, np.float64)
Rule = Literal["evidence", "blend"]
_BLEND = 0.5
# Squares of what lies between, and their sums, neither overflow float32 nor vanish in it.
_LEAST, _MOST = 1e-12, 1e12


class Bundled(NamedTuple):
    """One chosen anchor: its row in Y, the score it was chosen by, and cos(U*_i, ψ)."""

    anchor: int
    score: float
    alignment: float


class Lattice:
    """Anchors Y with a graph between them, settled towards a query.

    Args:
        Y: Embeddings (N, D), N ≥ 1, finite; unit rows are usual but not needed.
        kneighbors: k of the mutual nearest-neighbour graph that is built when no edges are
            given: weight max(cos, 0), scaled by the geometric mean of both rows'
            min(1, 1/row sum).
        edges: A typed graph instead, weighed by the parameters' ω_r.
        parameters: λ, γ, tolerance and ranking constants.

    Raises:
        InputError: Y is no finite matrix, ``kneighbors`` is below 1, or an edge is unusable.
    """

    def __init__(
        self,
        Y: npt.ArrayLike,
        *,
        kneighbors: int = 6,
        edges: Sequence[Edges] | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        self.Y = _matrix(Y)
        self.parameters = parameters or Parameters()
        if edges is None:
            if not _counts(kneighbors):
                raise InputError(
                    f"kneighbors is {kneighbors!r}: pass a whole number of at least 1",
                    field="kneighbors",
                )
            self.adjacency = mutual_knn(self.Y, int(kneighbors))
            self._edges: TypedEdges | None = None
        else:
            graph = TypedGraph(build_csr(len(self.Y), edges), empty_records())
            entries = graph.entries(np.arange(len(self.Y), dtype=np.int64))
            self.adjacency, self._edges = cut_out(entries, self.parameters.relation_weights)
        self._psi: Float32 | None = None
        self._gates: Float64 = np.ones(len(self.Y))
        self._chain: tuple[int, ...] | None = None
        self._path_term = self.parameters.path_term
        self._settled: Settled | None = None

    def __len__(self) -> int:
        return len(self.Y)

    def __repr__(self) -> str:
        return f"<Lattice {len(self.Y)}x{self.Y.shape[1]} edges={len(self.adjacency.weights) // 2}>"

    def set_query(self, psi: npt.ArrayLike, gates: npt.ArrayLike | None = None) -> None:
        """Set the query ψ (D,) and, when given, the gates b (N,) in [0, 1].

        Raises:
            QueryError: a wrong shape, or numbers that are not finite or not in range; nothing
                has changed then.
        """
        D = self.Y.shape[1]
        vector = _array(psi, np.float32)
        if vector is None or vector.shape != (D,):
            shape = "no numbers" if vector is None else f"shape {vector.shape}"
            raise QueryError(f"psi has {shape}: pass {D} finite numbers")
        if _extreme(vector):
            raise QueryError(
                f"psi holds NaN, infinity, a number beyond {_MOST:g} or none beyond {_LEAST:g}: "
                f"pass {D} finite numbers, best of length 1"
            )
        if gates is not None:
            self.set_gates(gates)
        self._psi, self._settled = vector, None

    def set_gates(self, gates: npt.ArrayLike) -> None:
        """Set the gates b (N,) in [0, 1]: how strongly the query pulls each anchor.

        Raises:
            QueryError: a wrong shape or a gate out of range.
        """
        values = _array(gates, np.float64)
        if values is None or values.shape != (len(self.Y),):
            shape = "no numbers" if values is None else f"shape {values.shape}"
            raise QueryError(f"gates have {shape}: pass {len(self.Y)} numbers from 0 to 1")
        outside = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))
        if len(outside):
            row = int(outside[0])
            raise QueryError(f"gates: row {row} holds {values[row]}: pass numbers from 0 to 1")
        self._gates, self._settled = values, None

    def add_chain(self, path: Sequence[int], weight: float | None = None) -> None:
        """Settle with a chain of anchors from now on; λ_P is ``weight`` or the parameters'.

        Raises:
            QueryError: fewer than two anchors, one that is not there, or a bad weight.
        """
        nodes = self._path(path)
        term: object = self.parameters.path_term if weight is None else weight
        if isinstance(term, bool) or not isinstance(term, Real) or not 0.0 < float(term) <= _MOST:
            raise QueryError(f"weight is {term!r}: pass a positive number, at most {_MOST:g}")
        self._chain, self._path_term, self._settled = nodes, float(term), None

    def clear_chain(self) -> None:
        """Settle without a chain again."""
        self._chain, self._settled = None, None
        self._path_term = self.parameters.path_term

    def settle(self) -> Settled:
        """Solve M U* = λ_G Y + λ_Q b ψᵀ; the result is kept until something changes.

        Raises:
            QueryError: no query was set.
        """
        if self._settled is None:
            self._settled = self._solve(self._chain)
        return self._settled

    def stationary(self) -> Float32:
        """The stationary state U* (N, D)."""
        return self.settle().U

    def bundle(self, k: int, rule: Rule = "evidence") -> list[Bundled]:
        """Choose a coherent set of ``k`` anchors, best first.

        ``"evidence"`` ranks as the store does with dense evidence alone: z(cos) scaled, plus
        the diffusion gates of the best few. ``"blend"`` is the rule of the original for
        reproduction: 0.5·z(coherence drop) + 0.5·cos(U*_i, ψ), then MMR at 0.5.

        Raises:
            QueryError: no query was set, k < 1, or an unknown rule.
        """
        if not _counts(k):
            raise QueryError(f"k is {k!r}: pass a whole number of at least 1")
        settled, psi = self.settle(), self._query()
        if rule == "blend":
            drop = self._graph_terms(self.Y) - self._graph_terms(settled.U)
            scores = _BLEND * standardize(drop, float(drop.mean()), float(drop.std()))
            scores = scores + (1.0 - _BLEND) * _cosines(settled.U, psi)
            chosen = mmr(_unit(self.Y), scores, k, 0.5)
        elif rule == "evidence":
            scores = self._evidence_scores(psi)
            chosen = order(scores, np.arange(len(self.Y), dtype=np.int64))[:k].tolist()
        else:
            raise QueryError(f"rule is {rule!r}: use 'evidence' or 'blend'")
        alignment = _cosines(settled.U[chosen], psi)
        return [
            Bundled(at, float(scores[at]), float(aligned))
            for at, aligned in zip(chosen, alignment, strict=True)
        ]

    def receipt(self) -> dict[str, Any]:
        """What the settled state amounts to, as plain JSON values.

        ΔH with its terms, the graph's by relation, which add up; the energies at Y and at U,
        whose differences do so at the exact solution; iterations, largest relative residual,
        per-anchor coherence and null points.
        """
        settled = self.settle()
        return {
            "anchors": len(self.Y),
            "dimension": self.Y.shape[1],
            "edges": len(self.adjacency.weights) // 2,
            "delta_h": settled.delta_h,
            "terms": split_terms(settled, self._edges),
            "energy_anchors": settled.energy_anchors,
            "energy_stationary": settled.energy_stationary,
            "iterations": settled.iterations,
            "residual": settled.residual,
            "converged": settled.converged,
            "coherence": settled.coherence.tolist(),
            "null_points": [list(point) for point in settled.null_points],
            "chain": None if self._chain is None else list(self._chain),
            "parameters": self._parameters().to_dict(),
        }

    def chain_receipt(self, path: Sequence[int]) -> ChainReceipt:
        """Judge a path of anchors, in the state settled with it as the chain.

        Raises:
            QueryError: fewer than two anchors, or one that is not there.
        """
        checked = self._path(path)
        settled = self.settle() if checked == self._chain else self._solve(checked)
        rows = np.repeat(np.arange(len(self.Y)), np.diff(self.adjacency.indptr))
        once = self.adjacency.indices > rows
        edges = np.stack([rows[once], self.adjacency.indices[once]], axis=1).astype(np.int64)
        return chain_receipt(checked, settled, edges, self._path_term)

    def _parameters(self) -> Parameters:
        # with the λ_P of the chain that was set
        if self.parameters.path_term == self._path_term:
            return self.parameters
        return replace(self.parameters, path_term=self._path_term)

    def _solve(self, path: tuple[int, ...] | None) -> Settled:
        psi, parameters = self._query(), self._parameters()
        return settle(self.Y, psi, self._gates, self.adjacency, parameters, path=path)

    def _query(self) -> Float32:
        if self._psi is None:
            raise QueryError("the lattice has no query: call set_query(psi) first")
        return self._psi

    def _path(self, path: Sequence[int]) -> tuple[int, ...]:
        with suppress(TypeError):  # no sequence, or not of whole numbers
            nodes = tuple(index(node) for node in path)
            if len(nodes) >= 2 and all(0 <= node < len(self.Y) for node in nodes):
                return nodes
        raise QueryError(
            f"path is {path!r:.80}: pass at least two anchors from 0 to {len(self.Y) - 1}"
        )

    def _evidence_scores(self, psi: Float32) -> Float64:
        cosine = _cosines(self.Y, psi)
        evidence = standardize(cosine, float(cosine.mean()), float(cosine.std()))
        strength = scaled(evidence, self.parameters)
        rows = np.arange(len(evidence), dtype=np.int64)
        sources = source_weights(strength, source_rows(evidence, rows, self.parameters))
        flow = diffuse(self.adjacency, sources, self.parameters).gates
        return final_scores(strength, flow, np.zeros(len(rows), np.bool_), self.parameters)

    def _graph_terms(self, X: Float32) -> Float64:
        # Σ_j A_ij ‖X_i/√d_i − X_j/√d_j‖² per anchor
        indptr, indices, weights = self.adjacency
        rows = np.repeat(np.arange(len(X)), np.diff(indptr))
        degrees = np.bincount(rows, weights, len(X))
        scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros(len(X)), where=degrees > 0.0)
        Z = X * scale[:, None]
        gaps = ((Z[rows] - Z[indices]) ** 2).sum(axis=1)
        return np.bincount(rows, weights * gaps, len(X)).astype(np.float64)


def mutual_knn(Y: Float32, k: int) -> Adjacency:
    """The original's graph: mutual k-NN by cosine (ties to the lower index), degree-capped.

    Each weight max(cos, 0) is scaled by the geometric mean of its rows' min(1, 1/row sum).
    """
    n = len(Y)
    neighbors, similarity = knn_exact(_unit(Y), min(k, max(n - 1, 1)))
    indptr = np.empty(n + 1, np.int64)
    indices = np.empty(neighbors.size, np.int32)
    weights = np.empty(neighbors.size)
    count = mutual(neighbors, similarity, indptr, indices, weights, np.empty(n))
    return Adjacency(indptr, indices[:count].copy(), weights[:count].copy())


def blend_order(Y: npt.ArrayLike, psi: npt.ArrayLike, *, k: int, kneighbors: int = 6) -> list[int]:
    """The original's bundle over a candidate set Y (n, D): its rows, first choice first."""
    lattice = Lattice(Y, kneighbors=kneighbors)
    lattice.set_query(psi)
    return [chosen.anchor for chosen in lattice.bundle(k, rule="blend")]


def _array(values: npt.ArrayLike, dtype: type[Number]) -> npt.NDArray[Number] | None:
    # a copy, so that what the caller does to the original later changes nothing here
    try:
        with np.errstate(over="ignore"):  # infinity is refused like any other
            return np.array(values, dtype, order="C")
    except (TypeError, ValueError):
        return None


def _extreme(X: Float32) -> bool:
    largest = max(float(X.max()), -float(X.min()))  # NaN when one is among them
    return not (largest == 0.0 or _LEAST <= largest <= _MOST)


def _counts(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return int(value) >= 1


def _matrix(Y: npt.ArrayLike) -> Float32:
    matrix = _array(Y, np.float32)
    if matrix is None or matrix.ndim != 2 or 0 in matrix.shape:
        shape = "no numbers or uneven rows" if matrix is None else f"shape {matrix.shape}"
        raise InputError(f"Y has {shape}: pass a matrix of at least one row and column", field="Y")
    if _extreme(matrix):
        usable = (np.abs(matrix) <= _MOST).all(axis=1)
        if usable.all():
            raise InputError(
                f"Y holds nothing beyond {np.abs(matrix).max():.0e}: scale the rows to length 1",
                field="Y",
            )
        row = int(np.flatnonzero(~usable)[0])
        raise InputError(
            f"Y: row {row} holds NaN, infinity or a number beyond {_MOST:g}: pass finite "
            "numbers, best rows of length 1",
            field="Y",
            row=row,
        )
    return matrix


def _lengths(X: Float32) -> Float64:
    lengths: Float64 = np.sqrt(np.einsum("ij,ij->i", X, X)).astype(np.float64)
    return lengths


def _unit(Y: Float32) -> Float32:
    lengths = _lengths(Y)
    lengths[lengths == 0.0] = 1.0
    return np.ascontiguousarray(Y / lengths.astype(np.float32)[:, None])


def _cosines(X: Float32, psi: Float32) -> Float64:
    norms = _lengths(X) * float(_lengths(psi[None])[0])
    cosines: Float64 = np.divide(products(X, psi), norms, out=np.zeros(len(X)), where=norms > 0.0)
    return cosines
