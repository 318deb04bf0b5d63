"""Conjugate gradients, diffusion and energies against dense solves."""

from __future__ import annotations

import numpy as np
import pytest
from dense_lattice import (
    adjacency_of,
    energies,
    laplacian_of,
    operator_of,
    random_weights,
    stationary,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from oscillink_store.kernels.cg import TILE, block_cg
from oscillink_store.kernels.diffusion import heat_coefficients
from oscillink_store.kernels.layout import aligned
from oscillink_store.lattice.settle import diffuse, settle
from oscillink_store.model import Parameters

sizes = given(
    n=st.integers(1, 60),
    D=st.integers(1, 150),
    degree=st.floats(0.0, 8.0),
    chained=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)


@sizes
def test_settling_solves_the_dense_system(
    n: int, D: int, degree: float, chained: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    A = random_weights(n, degree, rng)
    Y = rng.standard_normal((n, D)).astype(np.float32)
    psi = rng.standard_normal(D).astype(np.float32)
    gates = np.where(rng.random(n) < 0.5, rng.random(n), 0.0)
    path = rng.permutation(n)[:6].tolist() if chained and n > 1 else None
    parameters = Parameters(tolerance=1e-6)
    settled = settle(Y, psi, gates, adjacency_of(A), parameters, path=path)
    exact = stationary(A, Y, psi, gates, parameters, path)
    assert settled.converged
    assert settled.residual <= 1e-6
    np.testing.assert_allclose(settled.U, exact, atol=2e-5)

    M = operator_of(A, gates, parameters, path)
    anchor = parameters.anchor_term * Y.astype(float)
    query = parameters.query_term * np.outer(gates, psi)
    missed = np.linalg.norm(M @ settled.U.astype(float) - anchor - query, axis=0)
    # the two may all but cancel, where float32 leaves little of the right-hand side
    size = np.linalg.norm(anchor, axis=0) + np.linalg.norm(query, axis=0)
    assert (missed <= 3e-6 * size).all()

    before = energies(A, Y, Y, psi, gates, parameters, path)
    after = energies(A, Y, exact, psi, gates, parameters, path)
    for name in before:
        assert settled.energy_anchors[name] == pytest.approx(before[name], rel=1e-5, abs=1e-6)
        assert settled.energy_stationary[name] == pytest.approx(after[name], rel=1e-4, abs=1e-5)
    assert settled.delta_h >= 0.0
    expected = sum(before.values()) - sum(after.values())
    assert settled.delta_h == pytest.approx(expected, rel=1e-4, abs=1e-6)


@sizes
def test_coherence_is_the_neighbours_weighted_agreement(
    n: int, D: int, degree: float, chained: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    A = random_weights(n, degree, rng)
    Y = rng.standard_normal((n, D)).astype(np.float32)
    settled = settle(Y, Y[0], rng.random(n), adjacency_of(A), Parameters())
    U = settled.U.astype(float)
    squares = (U * U).sum(axis=1)
    top = 2.0 * (A * (U @ U.T)).sum(axis=1)
    bottom = (A * (squares[:, None] + squares)).sum(axis=1)
    ratio = np.divide(top, bottom, out=np.zeros(n), where=bottom > 0.0)
    np.testing.assert_allclose(settled.coherence, np.clip(ratio, 0.0, 1.0), atol=1e-4)


def test_the_operator_is_symmetric_and_positive_definite() -> None:
    # M applied by the kernel itself: one iteration from x = e_i has q = M p in its scratch
    rng = np.random.default_rng(3)
    A = random_weights(20, 4, rng)
    gates = rng.random(20)
    parameters = Parameters()
    dense = operator_of(A, gates, parameters)
    diagonal = np.diag(dense).astype(np.float32)
    coupling = np.where(A > 0.0, np.diag(np.diag(dense)) - dense, 0.0)
    graph = adjacency_of(coupling)
    M = np.empty((20, 20))
    for i in range(20):
        unit = np.zeros((20, 1), np.float32)
        unit[i] = diagonal[i]  # the first direction is r / diagonal
        tiles = aligned(4, 20, TILE)
        block_cg(
            graph.indptr, graph.indices, graph.weights.astype(np.float32), diagonal, unit,
            1.0, np.zeros(20, np.float32), np.zeros(1, np.float32), 0.0, 1,
            aligned(20, 1), tiles, aligned(4, TILE), np.empty(1),
        )  # fmt: skip
        M[:, i] = tiles[1, :, 0]
    np.testing.assert_allclose(M, M.T, atol=1e-6)
    np.testing.assert_allclose(M, dense, atol=1e-6)
    assert np.linalg.eigvalsh((M + M.T) / 2.0).min() >= parameters.anchor_term - 1e-5


def test_entries_of_one_pair_add_up() -> None:
    # one coupling of 0.6 as entries of 0.4 and 0.2, against the two-by-two solution
    indptr, indices = np.array([0, 2, 4]), np.array([1, 1, 0, 0], np.int32)
    coupling = np.array([0.4, 0.2, 0.2, 0.4], np.float32)
    U, residual = aligned(2, 1), np.empty(1)
    block_cg(
        indptr, indices, coupling, np.full(2, 2.0, np.float32), np.array([[1], [3]], np.float32),
        1.0, np.zeros(2, np.float32), np.zeros(1, np.float32), 1e-6, 50,
        U, aligned(4, 2, TILE), aligned(4, TILE), residual,
    )  # fmt: skip
    expected = np.linalg.solve([[2.0, -0.6], [-0.6, 2.0]], [1.0, 3.0])
    np.testing.assert_allclose(U[:, 0], expected, rtol=1e-6)
    assert residual[0] <= 1e-6


def test_a_solve_that_stops_early_says_so() -> None:
    rng = np.random.default_rng(0)
    A = random_weights(80, 6, rng)
    Y = rng.standard_normal((80, 10)).astype(np.float32)
    parameters = Parameters(tolerance=1e-6, max_iterations=2)
    settled = settle(Y, Y[0], rng.random(80), adjacency_of(A), parameters)
    assert settled.iterations == 2
    assert not settled.converged
    assert settled.residual > 1e-6
    assert settled.delta_h >= 0.0


@pytest.mark.parametrize("column", [0, 20, 63, 64, 99])
def test_an_overflow_in_any_column_is_no_convergence(column: int) -> None:
    Y = np.ones((6, 100), np.float32)
    Y[:, column] = 1e30  # its square is beyond float32
    A = random_weights(6, 4, np.random.default_rng(2))
    settled = settle(Y, np.zeros(100, np.float32), np.zeros(6), adjacency_of(A), Parameters())
    assert not settled.converged
    assert not settled.residual <= 1.0


def test_a_column_of_zeros_is_solved_by_zeros() -> None:
    Y = np.zeros((5, 3), np.float32)
    Y[:, 1] = 1.0
    A = random_weights(5, 3, np.random.default_rng(1))
    settled = settle(Y, np.zeros(3, np.float32), np.zeros(5), adjacency_of(A), Parameters())
    assert settled.converged
    assert (settled.U[:, [0, 2]] == 0.0).all()


@given(
    n=st.integers(1, 60),
    degree=st.floats(0.0, 8.0),
    screening=st.floats(0.05, 4.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_screened_gates_solve_the_dense_system(
    n: int, degree: float, screening: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    A = random_weights(n, degree, rng)
    sources = np.where(rng.random(n) < 0.3, rng.random(n), 0.0)
    parameters = Parameters(screening=screening, tolerance=1e-10)
    found = diffuse(adjacency_of(A), sources, parameters)
    exact = np.linalg.solve(laplacian_of(A) + screening * np.eye(n), screening * sources)
    assert found.converged
    np.testing.assert_allclose(found.gates, exact, atol=1e-8)
    assert (found.gates >= 0.0).all()


@given(
    n=st.integers(1, 60),
    degree=st.floats(0.0, 8.0),
    time=st.floats(0.05, 2.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_heat_gates_are_the_exponential(n: int, degree: float, time: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = random_weights(n, degree, rng)
    sources = np.where(rng.random(n) < 0.3, rng.random(n), 0.0)
    found = diffuse(adjacency_of(A), sources, Parameters(diffusion="heat", heat_time=time))
    exact = expm(-time * laplacian_of(A)) @ sources
    np.testing.assert_allclose(found.gates, exact, atol=3e-5)
    assert found.iterations == 8
    assert np.linalg.norm(found.gates - exact) <= (found.residual + 1e-12) * np.linalg.norm(sources)


def test_too_long_a_heat_time_for_eight_terms_is_not_converged() -> None:
    sources = np.array([1.0, 0.0])
    found = diffuse(
        adjacency_of(np.array([[0.0, 1.0], [1.0, 0.0]])),
        sources,
        Parameters(diffusion="heat", heat_time=30.0),
    )
    assert not found.converged
    assert found.residual > 0.05


@pytest.mark.parametrize("time", [1e-3, 0.5, 1.0, 7.0, 40.0])
def test_heat_coefficients_add_up_to_one(time: float) -> None:
    assert np.abs(heat_coefficients(time, 200)).sum() == pytest.approx(1.0, abs=1e-12)


def test_degrees_of_a_larger_graph_let_evidence_out() -> None:
    rng = np.random.default_rng(8)
    A = random_weights(30, 5, rng)
    rows = np.arange(12)
    sources = np.zeros(12)
    sources[:2] = 1.0
    parameters = Parameters(tolerance=1e-10)
    found = diffuse(
        adjacency_of(A[:12, :12]), sources, parameters, degrees=A.sum(axis=1)[rows].copy()
    )
    L = laplacian_of(A)[:12, :12]
    exact = np.linalg.solve(L + parameters.screening * np.eye(12), parameters.screening * sources)
    np.testing.assert_allclose(found.gates, exact, atol=1e-8)


def test_no_nodes_and_no_sources() -> None:
    empty = adjacency_of(np.zeros((0, 0)))
    for diffusion in ("screened", "heat"):
        assert len(diffuse(empty, np.zeros(0), Parameters(diffusion=diffusion)).gates) == 0
        pair = adjacency_of(np.array([[0.0, 1.0], [1.0, 0.0]]))
        assert (diffuse(pair, np.zeros(2), Parameters(diffusion=diffusion)).gates == 0.0).all()
    settled = settle(
        np.empty((0, 4), np.float32), np.ones(4, np.float32), np.zeros(0), empty, Parameters()
    )
    assert settled.U.shape == (0, 4)
    assert settled.delta_h == 0.0
    assert settled.null_points == []
