"""What must hold of the lattice in memory for any anchors, query and gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from dense_lattice import dense_of, laplacian_of
from hypothesis import given, settings
from hypothesis import strategies as st

from oscillink_store import Lattice
from oscillink_store.errors import InputError, QueryError
from oscillink_store.lattice.graph import Edges
from oscillink_store.model import RELATIONS, Parameters

Float32 = npt.NDArray[np.float32]


def clusters(groups: int, each: int, D: int, noise: float, seed: int) -> Float32:
    """Unit rows around a few centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, D))
    Y = np.repeat(centres, each, axis=0) + noise * rng.standard_normal((groups * each, D))
    return (Y / np.linalg.norm(Y, axis=1, keepdims=True)).astype(np.float32)


def query(Y: Float32, seed: int) -> Float32:
    rng = np.random.default_rng(seed)
    psi = Y[rng.integers(len(Y))] + 0.1 * rng.standard_normal(Y.shape[1])
    return np.asarray(psi / np.linalg.norm(psi), np.float32)


lattices = given(
    n=st.integers(1, 60),
    D=st.integers(1, 40),
    k=st.integers(1, 70),
    copies=st.integers(0, 10),
    seed=st.integers(0, 2**32 - 1),
)


def drawn(n: int, D: int, copies: int, seed: int) -> tuple[Float32, np.random.Generator]:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, D)).astype(np.float32)
    for _ in range(copies):
        Y[rng.integers(n)] = Y[rng.integers(n)]
    return Y, rng


@settings(max_examples=50)
@lattices
def test_settling_never_raises_the_energy(n: int, D: int, k: int, copies: int, seed: int) -> None:
    Y, rng = drawn(n, D, copies, seed)
    lattice = Lattice(Y, kneighbors=k)
    lattice.set_query(query(Y, seed), gates=rng.random(n))
    receipt = lattice.receipt()
    assert receipt["converged"]
    assert receipt["delta_h"] >= 0.0
    spent = sum(receipt["energy_anchors"].values()) - sum(receipt["energy_stationary"].values())
    assert receipt["delta_h"] == pytest.approx(spent, rel=1e-3, abs=1e-4)
    assert all(value >= 0.0 for value in receipt["energy_stationary"].values())
    assert all(0.0 <= value <= 1.0 for value in receipt["coherence"])
    assert len(lattice.bundle(k)) == min(k, n)


@settings(max_examples=50)
@lattices
def test_a_gate_of_zero_leaves_an_isolated_anchor_where_it_is(
    n: int, D: int, k: int, copies: int, seed: int
) -> None:
    Y, rng = drawn(n, D, copies, seed)
    lattice = Lattice(Y, kneighbors=k)
    gates = np.where(rng.random(n) < 0.5, 0.0, rng.random(n))
    lattice.set_query(query(Y, seed), gates=gates)
    isolated = dense_of(lattice.adjacency).sum(axis=1) == 0.0
    still = isolated & (gates == 0.0)
    assert (lattice.stationary()[still] == Y[still]).all()
    assert all(lattice.settle().coherence[isolated] == 0.0)


@settings(max_examples=50)
@given(
    n=st.integers(1, 60),
    D=st.integers(3, 40),
    k=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_permuting_the_anchors_permutes_the_results(n: int, D: int, k: int, seed: int) -> None:
    # equal similarities, which go to the lower number on purpose, do not occur here
    Y, rng = drawn(n, D, 0, seed)
    psi, gates, order = query(Y, seed), rng.random(n), rng.permutation(n)
    lattice, permuted = Lattice(Y, kneighbors=k), Lattice(Y[order], kneighbors=k)
    lattice.set_query(psi, gates=gates)
    permuted.set_query(psi, gates=gates[order])
    A, B = dense_of(lattice.adjacency), dense_of(permuted.adjacency)
    # the last bits of a sum of weights depend on the order of the columns
    np.testing.assert_allclose(B, A[np.ix_(order, order)], rtol=1e-12)
    ours, theirs = lattice.settle(), permuted.settle()
    np.testing.assert_allclose(theirs.U, ours.U[order], atol=1e-4)
    assert theirs.delta_h == pytest.approx(ours.delta_h, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(theirs.coherence, ours.coherence[order], atol=1e-4)


def test_one_anchor() -> None:
    lattice = Lattice([[3.0, 4.0]])
    lattice.set_query([1.0, 0.0])
    # (λ_G + λ_Q) u = λ_G y + λ_Q ψ
    np.testing.assert_allclose(lattice.stationary(), [[(3 + 4) / 5, 4 / 5]], rtol=1e-6)
    assert [member.anchor for member in lattice.bundle(3)] == [0]
    assert [member.anchor for member in lattice.bundle(3, rule="blend")] == [0]
    receipt = lattice.receipt()
    assert receipt["edges"] == 0
    assert receipt["coherence"] == [0.0]
    assert receipt["null_points"] == []


def test_no_edges() -> None:
    Y = np.eye(5, dtype=np.float32)  # every cosine is 0
    for lattice in (Lattice(Y, kneighbors=2), Lattice(Y, edges=[])):
        lattice.set_query(Y[3])
        assert lattice.receipt()["edges"] == 0
        assert lattice.receipt()["energy_anchors"]["graph"] == 0.0
        assert lattice.bundle(1)[0].anchor == 3
        assert lattice.chain_receipt([0, 1]).links[0].structural_z == 0.0


def test_more_neighbours_than_anchors_joins_all_that_are_alike() -> None:
    Y = clusters(1, 8, 16, 0.2, 0)
    lattice = Lattice(Y, kneighbors=50)
    assert (dense_of(lattice.adjacency) > 0.0).sum() == 8 * 7


def test_equal_anchors_settle_alike() -> None:
    Y = np.tile(clusters(1, 1, 8, 0.0, 1), (12, 1))
    lattice = Lattice(Y, kneighbors=4)
    lattice.set_query(query(clusters(2, 3, 8, 0.3, 2), 3))
    receipt = lattice.receipt()
    assert receipt["null_points"] == []
    alone = dense_of(lattice.adjacency).sum(axis=1) == 0.0
    np.testing.assert_allclose(np.array(receipt["coherence"])[~alone], 1.0, atol=2e-2)


def test_typed_edges_are_weighed_by_their_relations() -> None:
    def link(relation: str, weight: float) -> Edges:
        return Edges(
            source=np.array([0]), target=np.array([1]),
            weight=np.array([weight], np.float32), relation=RELATIONS.index(relation),
        )  # fmt: skip

    parameters = Parameters(next_weight=2.0, shared_weight=0.5)
    lattice = Lattice(
        np.eye(3), edges=[link("shared", 0.5), link("next", 0.25)], parameters=parameters
    )
    assert dense_of(lattice.adjacency)[0, 1] == pytest.approx(2.0 * 0.25 + 0.5 * 0.5)
    without = Parameters(next_weight=0.0, shared_weight=0.0)
    assert len(Lattice(np.eye(3), edges=[link("next", 1.0)], parameters=without).adjacency[1]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_coherent_data_has_few_null_points(seed: int) -> None:
    Y = clusters(12, 25, 48, 0.35, seed)
    lattice = Lattice(Y, kneighbors=8)
    lattice.set_query(query(Y, seed), gates=np.zeros(len(Y)))
    receipt = lattice.receipt()
    assert len(receipt["null_points"]) <= 0.05 * receipt["edges"]


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_contradiction_is_a_null_point(seed: int) -> None:
    Y = clusters(4, 15, 48, 0.35, seed)
    inside = [
        (group * 15 + a, group * 15 + b) for group in range(4) for a in range(15) for b in range(a)
    ]
    # anchors of two groups that have nothing in common are said to belong together
    planted = (7, 52)
    pairs = np.array([*inside, planted])
    edges = Edges(
        source=pairs[:, 0], target=pairs[:, 1],
        weight=np.ones(len(pairs), np.float32), relation=RELATIONS.index("link"),
    )  # fmt: skip
    lattice = Lattice(Y, edges=[edges])
    lattice.set_query(query(Y, seed), gates=np.zeros(len(Y)))
    (worst, *_) = lattice.settle().null_points
    assert worst[:2] == planted
    assert worst[2] > 3.5
    assert len(lattice.settle().null_points) <= 0.05 * len(pairs)


def test_a_chain_draws_its_anchors_together() -> None:
    Y = clusters(5, 12, 32, 0.4, 9)
    lattice = Lattice(Y)
    lattice.set_query(query(Y, 9), gates=np.zeros(len(Y)))
    path = [0, 5, 11, 3]

    def spread() -> float:
        U = lattice.stationary()[path].astype(float)
        return float(((U[1:] - U[:-1]) ** 2).sum())

    free = spread()
    lattice.add_chain(path, 2.0)
    bound = spread()
    assert bound < 0.5 * free
    assert lattice.receipt()["energy_anchors"]["chain"] > 0.0
    assert lattice.receipt()["chain"] == path
    lattice.clear_chain()
    assert spread() == free
    assert lattice.receipt()["chain"] is None


def test_a_chain_receipt_finds_the_link_that_does_not_hold() -> None:
    Y = clusters(3, 15, 48, 0.3, 4)
    lattice = Lattice(Y)
    lattice.set_query(query(Y, 4), gates=np.zeros(len(Y)))
    within = lattice.chain_receipt([0, 3, 8, 12])
    assert within.coherent
    across = lattice.chain_receipt([0, 3, 31, 33, 40])
    assert not across.coherent
    assert across.weakest == 1
    assert (across.links[1].source, across.links[1].target) == (3, 31)
    assert across.links[1].structural_z > 3.5
    assert 0.0 < within.gain <= 1.0
    plain = across.to_dict()
    assert plain["links"][1]["structural_z"] == across.links[1].structural_z


def test_a_chain_receipt_leaves_the_settled_state_alone() -> None:
    Y = clusters(3, 10, 16, 0.3, 5)
    lattice = Lattice(Y)
    lattice.set_query(query(Y, 5))
    before = lattice.receipt()
    lattice.chain_receipt([1, 2, 20])
    assert lattice.receipt() == before


@settings(max_examples=30)
@given(
    n=st.integers(1, 80),
    k=st.integers(1, 12),
    diffusion=st.sampled_from(["screened", "heat"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_bundle_by_evidence_follows_the_dense_formula(
    n: int, k: int, diffusion: Any, seed: int
) -> None:
    Y = clusters(max(1, n // 10), 10, 12, 0.5, seed)[:n]
    n = len(Y)
    parameters = Parameters(diffusion=diffusion, tolerance=1e-9)
    lattice = Lattice(Y, kneighbors=5, parameters=parameters)
    psi = query(Y, seed)
    lattice.set_query(psi)
    cosine = Y.astype(float) @ psi.astype(float)
    z = (cosine - cosine.mean()) / cosine.std() if cosine.std() > 0.0 else np.zeros(n)
    floor = np.sort(z)[::-1][min(parameters.evidence_floor_rank, n) - 1]
    strength = (z - floor) / (z.max() - floor) if z.max() > floor else np.ones(n)
    sources = np.zeros(n)
    best = np.lexsort((np.arange(n), -z))[: parameters.sources]
    sources[best] = np.maximum(strength[best], 1e-3)
    L = laplacian_of(dense_of(lattice.adjacency))
    if diffusion == "heat":
        values, vectors = np.linalg.eigh(L)
        flow = vectors @ (np.exp(-parameters.heat_time * values) * (vectors.T @ sources))
    else:
        gamma = parameters.screening
        flow = np.linalg.solve(L + gamma * np.eye(n), gamma * sources)
    scores = strength + parameters.gate_weight * flow / flow.max()
    chosen = lattice.bundle(k)
    np.testing.assert_allclose(
        [member.score for member in chosen], -np.sort(-scores)[: min(k, n)], atol=1e-4
    )
    for member in chosen:
        assert member.score == pytest.approx(scores[member.anchor], abs=1e-4)
        u = lattice.stationary()[member.anchor].astype(float)
        cosine_u = float(u @ psi) / float(np.linalg.norm(u) * np.linalg.norm(psi))
        assert member.alignment == pytest.approx(cosine_u, abs=1e-5)


def test_setting_something_settles_anew() -> None:
    Y = clusters(3, 8, 16, 0.4, 6)
    lattice = Lattice(Y)
    lattice.set_query(query(Y, 1))
    first = lattice.settle()
    assert lattice.settle() is first
    lattice.set_gates(np.zeros(len(Y)))
    second = lattice.settle()
    assert second.energy_anchors["query"] == 0.0
    lattice.set_query(query(Y, 2))
    assert lattice.settle() is not second
    assert lattice.settle().energy_anchors["query"] == 0.0  # the gates stay


def test_what_the_caller_changes_later_changes_nothing() -> None:
    Y, psi, gates = clusters(3, 8, 16, 0.4, 6), np.ones(16, np.float32), np.ones(24)
    lattice = Lattice(Y)
    lattice.set_query(psi, gates=gates)
    expected = lattice.stationary().copy()
    Y[:], psi[:], gates[:] = 0.0, 0.0, 0.0
    lattice.set_gates(np.ones(24))
    assert (lattice.stationary() == expected).all()


@pytest.mark.parametrize(
    "Y",
    [np.zeros((0, 3)), np.zeros(3), [[1.0, np.nan]], [[1.0], [1.0, 2.0]], "words", [[np.inf, 0]]],
)
def test_unusable_anchors_are_refused(Y: Any) -> None:
    with pytest.raises(InputError) as refused:
        Lattice(Y)
    assert refused.value.field == "Y"


def test_unusable_arguments_are_refused_and_change_nothing() -> None:
    Y = clusters(2, 5, 4, 0.3, 7)
    for kneighbors in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="kneighbors"):
            Lattice(Y, kneighbors=kneighbors)
    lattice = Lattice(Y)
    with pytest.raises(QueryError, match="set_query"):
        lattice.settle()
    lattice.set_query(Y[0])
    before = lattice.receipt()
    for psi in ([1.0], [np.nan, 0, 0, 0], "words"):
        with pytest.raises(QueryError, match="psi"):
            lattice.set_query(psi)
    for gates in ([1.0], [2.0] * 10, [np.nan] * 10, [-0.1] * 10):
        with pytest.raises(QueryError, match="gates"):
            lattice.set_gates(gates)
    for path in ([1], [0, 10], [0, -1], [0, 1.5]):
        with pytest.raises(QueryError, match="path"):
            lattice.add_chain(path)
        with pytest.raises(QueryError, match="path"):
            lattice.chain_receipt(path)
    for weight in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(QueryError, match="weight"):
            lattice.add_chain([0, 1], weight)
    for k in (0, -1, 1.5):
        with pytest.raises(QueryError, match="k is"):
            lattice.bundle(k)
    with pytest.raises(QueryError, match="rule"):
        lattice.bundle(1, rule="other")
    assert lattice.receipt() == before
