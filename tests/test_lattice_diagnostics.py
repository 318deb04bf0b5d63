"""Null points and chain receipts: on planted groups, and against their dense formulas."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from dense_lattice import adjacency_of, dense_of, path_laplacian, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import GROUPS, Planted
from test_lattice_golden import CASES, opened

from oscillink_store import Lattice
from oscillink_store.lattice.graph import Edges
from oscillink_store.lattice.settle import (
    NULL_POINT_Z,
    null_points,
    path_adjacency,
    robust_z,
    settle,
)
from oscillink_store.model import RELATIONS, Parameters

Float64 = npt.NDArray[np.float64]

planted = pytest.mark.parametrize(
    ("noise", "kind"),
    [(0.05, "all"), (0.3, "all"), (0.8, "all"), (0.05, "group"), (0.3, "group"), (0.8, "group"),
     (0.3, "cosine"), (0.6, "cosine")],
)  # fmt: skip


@planted
def test_coherent_anchors_have_hardly_any_null_point(noise: float, kind: str) -> None:
    found = edges = 0
    for seed in range(4):
        lattice = Planted(seed, noise).lattice(kind)
        found += len(lattice.settle().null_points)
        edges += len(lattice.adjacency.weights) // 2
    assert edges > 1000
    assert found <= 0.03 * edges


@planted
def test_an_edge_between_strangers_is_a_null_point(noise: float, kind: str) -> None:
    for seed in range(4):
        data = Planted(seed, noise)
        one, two = (int(np.flatnonzero(data.group == g)[seed]) for g in (1, 2))
        lattice = data.with_edge(kind, one, two)
        points = lattice.settle().null_points
        assert (min(one, two), max(one, two)) in [point[:2] for point in points]
        assert all(z > NULL_POINT_Z for _, _, z in points)
        scores = [z for _, _, z in points]
        assert scores == sorted(scores, reverse=True)


@planted
def test_planted_contradictions_are_found_among_a_thousand_edges(noise: float, kind: str) -> None:
    # strong edges between strangers, which settling draws together, beside weak ones of neighbours
    planted_edges = found = right = 0
    for seed in range(6):
        data = Planted(seed, noise)
        indptr, indices, weights = Lattice(data.Y).adjacency
        near = Edges(
            source=np.repeat(np.arange(len(data.Y)), np.diff(indptr)), target=indices,
            weight=weights, relation=RELATIONS.index("knn"),
        )  # fmt: skip
        ends = data.rng.permutation(len(data.Y))[:12].reshape(-1, 2)
        ends = np.sort(ends[data.group[ends[:, 0]] != data.group[ends[:, 1]]], axis=1)
        wrong = Edges(
            source=ends[:, 0], target=ends[:, 1], weight=np.ones(len(ends)),
            relation=RELATIONS.index("link"),
        )  # fmt: skip
        lattice = Lattice(data.Y, edges=[near, wrong])
        lattice.set_query(data.psi, data.gates(kind))
        points = {point[:2] for point in lattice.settle().null_points}
        planted_edges += len(ends)
        found += len(points)
        right += len(points & {(int(i), int(j)) for i, j in ends})
    assert right / planted_edges >= 0.95  # recall
    assert right / found >= (0.85 if kind == "all" else 0.4)  # precision


@pytest.mark.parametrize("name", CASES)
def test_the_golden_cases_have_few_null_points(name: str) -> None:
    receipt = opened(name).lattice.receipt()
    assert len(receipt["null_points"]) <= 0.03 * receipt["edges"]


def test_a_hub_among_equal_anchors_is_no_null_point() -> None:
    # lengths of U differ between hub and leaves; directions are the same
    Y = np.tile(np.eye(1, 6, dtype=np.float32), (40, 1))
    ends = [(0, leaf) for leaf in range(1, 25)] + [(at, at + 1) for at in range(24, 39)]
    pairs = np.array(ends)
    edges = Edges(source=pairs[:, 0], target=pairs[:, 1], weight=np.ones(len(pairs)), relation=2)
    lattice = Lattice(Y, edges=[edges])
    lattice.set_query(Y[0])
    assert lattice.settle().null_points == []
    Y[30] = -Y[30]
    lattice = Lattice(Y, edges=[edges])
    lattice.set_query(Y[0], np.zeros(40))
    assert {(29, 30), (30, 31)} >= {point[:2] for point in lattice.settle().null_points} > set()


@settings(max_examples=40)
@given(n=st.integers(2, 40), degree=st.floats(1.0, 8.0), seed=st.integers(0, 2**32 - 1))
def test_null_points_follow_the_dense_formula(n: int, degree: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = random_weights(n, degree, rng)
    Y = rng.standard_normal((n, 12)).astype(np.float32)
    Y[rng.integers(n)] *= -20.0
    settled = settle(Y, Y[0], rng.random(n), adjacency_of(A), Parameters(tolerance=1e-6))
    i, j = np.nonzero(np.triu(A))
    degrees = A.sum(axis=1)
    wide = Y.astype(float), settled.U.astype(float)
    forms, gaps = [], []
    for X in (wide[1], wide[0] - wide[1]):
        apart = X[i] / np.sqrt(degrees[i])[:, None] - X[j] / np.sqrt(degrees[j])[:, None]
        forms.append(0.5 * A[i, j] * (apart**2).sum(axis=1))
    for X in wide:
        lengths = np.linalg.norm(X, axis=1)
        gaps.append(2.0 - 2.0 * (X[i] * X[j]).sum(axis=1) / (lengths[i] * lengths[j]))

    def z(values: Float64) -> Float64:
        deviation = np.abs(values - np.median(values))
        spread = np.median(deviation) / 0.6744897501960817
        if spread == 0.0:
            spread = deviation.mean() / math.sqrt(2.0 / math.pi)
        return (values - np.median(values)) / spread if spread > 0.0 else 0.0 * values

    told = {(a, b): score for a, b, score in settled.null_points}
    if not len(i):
        assert told == {}
        return
    seconds = np.maximum(z(gaps[0] - gaps[1]), np.minimum(z(gaps[0]), z(gaps[1])))
    for a, b, first, second in zip(i, j, z(forms[0] + forms[1]), seconds, strict=True):
        if min(first, second) > NULL_POINT_Z + 0.01:
            assert told[a, b] == pytest.approx(first, rel=1e-2)
        elif min(first, second) < NULL_POINT_Z - 0.01:
            assert (a, b) not in told


@settings(max_examples=60)
@given(
    n=st.integers(1, 25),
    counts=st.lists(st.integers(0, 40), min_size=len(RELATIONS), max_size=len(RELATIONS)),
    path=st.lists(st.integers(0, 24), max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_terms_of_delta_h_add_up_to_the_bit(
    n: int, counts: list[int], path: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    edges = [
        Edges(
            source=rng.integers(0, n, count), target=rng.integers(0, n, count),
            weight=rng.uniform(0.01, 2.0, count), relation=code,
        )
        for code, count in enumerate(counts)
    ]  # fmt: skip
    lattice = Lattice(rng.standard_normal((n, 9)), edges=edges)
    gates = rng.random(n)
    lattice.set_query(rng.standard_normal(9), gates)
    if len(path) > 1:
        lattice.add_chain([node % n for node in path])
    receipt, parameters = lattice.receipt(), lattice.parameters
    terms = receipt["terms"]
    flat = [terms["anchor"], *terms["graph"].values(), terms["query"], terms["chain"]]
    assert math.fsum(flat) == receipt["delta_h"]
    assert min(flat) >= 0.0
    assert list(terms["graph"]) == list(RELATIONS)

    apart = lattice.Y.astype(float) - lattice.stationary()
    A = dense_of(lattice.adjacency)
    scale = np.divide(1.0, np.sqrt(A.sum(axis=1)), out=np.zeros(n), where=A.any(axis=1))
    gaps = ((apart[:, None] * scale[:, None, None] - apart * scale[:, None]) ** 2).sum(axis=2)
    for code, omega in enumerate(parameters.relation_weights):
        once = edges[code].canonical()
        form = (once.weight * gaps[once.source, once.target]).sum()
        expected = parameters.coherence_term * omega * float(form)
        assert terms["graph"][RELATIONS[code]] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    pull = float((gates * (apart**2).sum(axis=1)).sum())
    assert terms["query"] == pytest.approx(parameters.query_term * pull, rel=1e-4, abs=1e-5)
    assert terms["anchor"] == pytest.approx(float((apart**2).sum()), rel=1e-4, abs=1e-5)
    along = path_laplacian(n, [node % n for node in path] if len(path) > 1 else None)
    chain = parameters.path_term * float(np.trace(apart.T @ along @ apart))
    assert terms["chain"] == pytest.approx(chain, rel=1e-4, abs=1e-5)


def test_robust_scores() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    np.testing.assert_allclose(robust_z(values, values), (values - 3.0) * 0.6744897501960817)
    # most of them equal: the mean deviation, 0.2·(10 − 1), takes the place of the median's
    values = np.array([1.0, 1.0, 1.0, 1.0, 10.0])
    expected = 9.0 / (9.0 / 5.0) * math.sqrt(2.0 / math.pi)
    np.testing.assert_allclose(robust_z(values, values), [0, 0, 0, 0, expected], rtol=1e-12)
    assert robust_z(values, np.ones(3)).tolist() == [0.0] * 5
    assert robust_z(values, np.empty(0)).tolist() == [0.0] * 5
    none = np.empty((0, 2), np.int32)
    assert null_points(none, np.empty((3, 0)), np.empty((2, 0))) == []


@given(
    values=st.lists(st.integers(-50, 50), min_size=1, max_size=40),
    shift=st.integers(-9, 9),
    scale=st.sampled_from([0.25, 1.0, 8.0]),
)
def test_robust_scores_know_neither_origin_nor_unit(
    values: list[int], shift: int, scale: float
) -> None:
    plain = np.array(values, float)
    other = scale * (plain + shift)
    np.testing.assert_allclose(robust_z(other, other), robust_z(plain, plain), atol=1e-12)


@planted
def test_walks_along_edges_are_coherent_and_jumps_are_not(noise: float, kind: str) -> None:
    walks, jumps = [], []
    for seed in range(4):
        data = Planted(seed, noise)
        lattice = data.lattice(kind)
        for _ in range(6):
            path = data.walk(lattice, 5)
            if path is not None:
                walks.append(lattice.chain_receipt(path))
                broken = [*path[:3], *data.scattered(GROUPS)]
                jumps.append(lattice.chain_receipt(broken))
            jumps.append(lattice.chain_receipt(data.scattered(5)))
    assert len(walks) > 12
    assert np.mean([receipt.coherent for receipt in walks]) >= 0.9
    assert not any(receipt.coherent for receipt in jumps)
    for receipt in (*walks, *jumps):
        assert 0.0 <= receipt.gain <= 1.0
        scores = [link.structural_z for link in receipt.links]
        assert receipt.weakest == int(np.argmax(scores))
        assert receipt.coherent == (max(scores) <= NULL_POINT_Z)


@planted
def test_the_one_jump_of_a_path_is_its_weakest_link(noise: float, kind: str) -> None:
    for seed in range(4):
        data = Planted(seed, noise)
        lattice = data.lattice(kind)
        for at in (1, 2, 3):
            ways = [data.walk(lattice, 5) for _ in range(40)]
            ways = [way for way in ways if way is not None]
            here = ways[0]
            there = next(way for way in ways if data.group[way[0]] != data.group[here[0]])
            receipt = lattice.chain_receipt([*here[:at], *there[: 5 - at]])
            assert receipt.weakest == at - 1
            assert not receipt.coherent


@settings(max_examples=60)
@given(
    n=st.integers(2, 12),
    path=st.lists(st.integers(0, 11), min_size=2, max_size=9),
    weight=st.sampled_from([1e-3, 0.2, 5.0]),
    alike=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_chain_receipt_measures_each_link(
    n: int, path: list[int], weight: float, alike: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    path = [node % n for node in path]
    Y = rng.standard_normal((n, 7))
    if alike:  # so that the query, not the anchors, draws the path apart
        Y = Y[:1] + 1e-3 * Y
    Y[rng.integers(n)] = 0.0
    lattice = Lattice(Y, kneighbors=3)
    lattice.set_query(rng.standard_normal(7), rng.random(n))
    lattice.add_chain(path, weight)
    receipt = lattice.chain_receipt(path)
    assert 0.0 <= receipt.gain <= 1.0
    assert [(link.source, link.target) for link in receipt.links] == list(pairwise(path))
    settled = lattice.settle()
    U = settled.U.astype(float)
    lengths = np.linalg.norm(U, axis=1)
    along = np.diag((path_laplacian(n, path) != 0.0).sum(axis=1) - 1.0)
    assert (path_laplacian(n, path) == path_laplacian(n, path[::-1])).all()
    each: dict[tuple[int, int], float] = {}
    for link in receipt.links:
        i, j = link.source, link.target
        norm = lengths[i] * lengths[j]
        if norm > 0.0:
            assert link.structural == pytest.approx(2 - 2 * U[i] @ U[j] / norm, abs=1e-6)
        if i != j:
            ends = U[i] / math.sqrt(along[i, i]), U[j] / math.sqrt(along[j, j])
            expected = weight * ((ends[0] - ends[1]) ** 2).sum()
            assert link.path == pytest.approx(expected, rel=1e-6, abs=1e-12)
            each[min(i, j), max(i, j)] = link.path
    # a link that is walked twice counts once
    stationary_energy = settled.energy_stationary["chain"]
    assert sum(each.values()) == pytest.approx(stationary_energy, rel=1e-3, abs=1e-6)
    json.dumps(receipt.to_dict(), allow_nan=False)


def test_a_path_drawn_apart_by_the_query_gains_nothing() -> None:
    Y = np.array([[1.0, 0.0], [1.0, 1e-4], [0.0, 1.0]])
    lattice = Lattice(Y, edges=[])
    lattice.set_query([0.0, 1.0], gates=[0.0, 1.0, 0.0])
    assert lattice.chain_receipt([0, 1]).gain == 0.0
    lattice.set_gates([0.0, 0.0, 0.0])
    assert 0.0 < lattice.chain_receipt([0, 2]).gain < 1.0


@given(
    n=st.integers(1, 9),
    path=st.lists(st.integers(0, 8), min_size=0, max_size=12),
)
def test_a_path_joins_its_steps_once(n: int, path: list[int]) -> None:
    path = [node % n for node in path]
    expected = np.zeros((n, n))
    for a, b in pairwise(path):
        if a != b:
            expected[a, b] = expected[b, a] = 1.0
    assert (dense_of(path_adjacency(n, path)) == expected).all()
