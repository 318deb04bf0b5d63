"""The lattice by dense float64 matrices: the oracle of the kernels' tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from oscillink_store.lattice.graph import Adjacency
from oscillink_store.model import Parameters

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def random_weights(n: int, degree: float, rng: np.random.Generator) -> Float64:
    """A symmetric matrix of weights in (0, 2), zero diagonal, about ``degree`` edges a row."""
    upper = np.triu(rng.random((n, n)) < degree / max(n, 1), 1)
    A = np.where(upper, 2.0 * rng.random((n, n)), 0.0)
    return A + A.T


def adjacency_of(A: Float64) -> Adjacency:
    rows, columns = np.nonzero(A)
    indptr = np.zeros(len(A) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(A)), out=indptr[1:])
    return Adjacency(indptr, columns.astype(np.int32), A[rows, columns])


def dense_of(adjacency: Adjacency) -> Float64:
    n = len(adjacency.indptr) - 1
    A = np.zeros((n, n))
    rows = np.repeat(np.arange(n), np.diff(adjacency.indptr))
    np.add.at(A, (rows, adjacency.indices), adjacency.weights)
    return A


def laplacian_of(A: Float64) -> Float64:
    """I − D^(−1/2) A D^(−1/2) with zero rows for anchors without edges."""
    degrees = A.sum(axis=1)
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros(len(A)), where=degrees > 0.0)
    return np.diag((degrees > 0.0).astype(float)) - scale[:, None] * A * scale


def path_laplacian(n: int, path: Sequence[int] | None) -> Float64:
    A = np.zeros((n, n))
    for a, b in pairwise(path or ()):
        if a != b:
            A[a, b] = A[b, a] = 1.0
    return laplacian_of(A)


def operator_of(
    A: Float64, gates: Float64, parameters: Parameters, path: Sequence[int] | None = None
) -> Float64:
    """M = λ_G I + λ_C L + λ_Q diag(b) + λ_P L_path."""
    chain = parameters.path_term * path_laplacian(len(A), path)
    pull = np.diag(parameters.anchor_term + parameters.query_term * gates)
    return pull + parameters.coherence_term * laplacian_of(A) + chain


def stationary(
    A: Float64,
    Y: npt.NDArray[np.floating],
    psi: npt.NDArray[np.floating],
    gates: Float64,
    parameters: Parameters,
    path: Sequence[int] | None = None,
) -> Float64:
    right = parameters.anchor_term * Y.astype(float)
    right = right + parameters.query_term * np.outer(gates, psi.astype(float))
    return np.linalg.solve(operator_of(A, gates, parameters, path), right)


def energies(
    A: Float64,
    Y: npt.NDArray[np.floating],
    U: npt.NDArray[np.floating],
    psi: npt.NDArray[np.floating],
    gates: Float64,
    parameters: Parameters,
    path: Sequence[int] | None = None,
) -> dict[str, float]:
    """The terms of H(U)."""
    Y, U, psi = Y.astype(float), U.astype(float), psi.astype(float)
    return {
        "anchor": parameters.anchor_term * float(((U - Y) ** 2).sum()),
        "graph": parameters.coherence_term * float(np.trace(U.T @ laplacian_of(A) @ U)),
        "query": parameters.query_term * float((gates * ((U - psi) ** 2).sum(axis=1)).sum()),
        "chain": parameters.path_term * float(np.trace(U.T @ path_laplacian(len(A), path) @ U)),
    }
