"""A summary node against a dense solve: the state without a question, its core and its figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store import Parameters
from oscillink_store.lattice import summary
from oscillink_store.lattice.graph import Edges, TypedGraph, build_csr
from oscillink_store.lattice.records import empty_records
from oscillink_store.lattice.summary import Items, sampled, summarize
from oscillink_store.model import RELATIONS

Float64 = npt.NDArray[np.float64]

EXACT = Parameters(tolerance=1e-10, max_iterations=2000)


def make_items(
    seed: int, n: int, edges: Sequence[tuple[int, int]], gates: Sequence[float] | None = None
) -> Items:
    """Every third row of a lattice, so that rows and nodes have other numbers."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    source, target = (np.array([edge[end] for edge in edges], np.int64) for end in (0, 1))
    weight = rng.uniform(0.2, 1.0, len(edges)).astype(np.float32)
    typed = [
        Edges(source=3 * source[which], target=3 * target[which], weight=weight[which], relation=r)
        for r in range(len(RELATIONS))
        if (which := np.arange(len(edges)) % len(RELATIONS) == r).any()
    ]
    # and edges that lead out of the group, which count for nothing
    typed.append(Edges(source=[0, 0], target=[1, 2], weight=[5.0, 5.0], relation=0))
    return Items(
        3 * np.arange(n), vectors.astype(np.float32),
        np.array(gates if gates is not None else np.ones(n), np.float32),
        TypedGraph(build_csr(3 * n + 3, typed), empty_records()),
    )  # fmt: skip


def dense(items: Items, parameters: Parameters) -> tuple[Float64, Float64, Float64, int]:
    """U, ΔH and coherence of every row, as their definitions say, and the number of edges."""
    n, base = len(items.rows), items.graph.base
    A = np.zeros((n, n))
    for i, row in enumerate(items.rows):
        for at in range(base.indptr[row], base.indptr[row + 1]):
            if base.indices[at] in items.rows:
                omega = parameters.relation_weights[base.relation[at]]
                j = int(np.searchsorted(items.rows, base.indices[at]))
                A[i, j] += omega * base.weights[at]
    degrees = A.sum(axis=1)
    scale = np.where(degrees > 0, 1 / np.sqrt(np.where(degrees > 0, degrees, 1.0)), 0.0)
    L = np.diag((degrees > 0).astype(float)) - scale[:, None] * A * scale
    Y = items.vectors.astype(np.float64)
    M = parameters.anchor_term * np.eye(n) + parameters.coherence_term * L
    U = np.linalg.solve(M, parameters.anchor_term * Y)
    delta_h = np.trace((Y - U).T @ M @ (Y - U))
    squares = (U * U).sum(axis=1)
    agreed = 2 * (A * (U @ U.T)).sum(axis=1)
    possible = (A * (squares[:, None] + squares)).sum(axis=1)
    coherence = np.clip(np.divide(agreed, possible, out=np.zeros(n), where=possible > 0), 0, 1)
    return U, delta_h, coherence, int((np.triu(A) > 0).sum())


def core_mean(items: Items, coherence: Float64, gates: npt.NDArray[np.float32]) -> Float64:
    best = np.sort(coherence)[::-1]
    core = coherence >= best[(len(best) + 1) // 2 - 1] - 1e-7
    total = (items.vectors[core] * gates[core, None]).sum(axis=0, dtype=np.float64)
    found: Float64 = total / np.linalg.norm(total)
    return found


pairs = st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] != pair[1])


@given(
    st.integers(0, 1 << 32), st.lists(pairs, max_size=30, unique=True),
    st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=12, max_size=12).filter(any),
)  # fmt: skip
def test_it_is_what_a_dense_solve_gives(
    seed: int, edges: list[tuple[int, int]], gates: list[float]
) -> None:
    items = make_items(seed, 12, edges, gates)
    found = summarize(items, EXACT)
    _, delta_h, coherence, count = dense(items, EXACT)
    assert found.edges == count
    assert found.delta_h == pytest.approx(delta_h, rel=1e-5, abs=1e-9)
    assert found.coherence == pytest.approx(coherence.mean(), abs=1e-5)
    assert 0 <= found.null_points <= found.edges
    best = np.sort(coherence)[::-1]
    if best[5] - best[6] > 1e-4:  # else rounding decides who is in the core
        least = np.flatnonzero(coherence >= best[5] - 1e-7)
        trust = items.gates if items.gates[least].any() else np.ones(12, np.float32)
        np.testing.assert_allclose(found.vector, core_mean(items, coherence, trust), atol=1e-5)


def test_without_edges_all_rows_tie_for_the_core() -> None:
    items = make_items(3, 7, [], [1, 0.5, 0.5, 0, 1, 0.25, 1])
    found = summarize(items, EXACT)
    assert (found.coherence, found.edges, found.null_points) == (0.0, 0, 0)
    assert found.delta_h == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(found.vector, core_mean(items, np.zeros(7), items.gates), atol=1e-6)


def test_the_core_is_the_half_that_is_coherent() -> None:
    """A clique of like rows among strangers gives the vector, the strangers do not."""
    rng = np.random.default_rng(0)
    items = make_items(0, 8, [(i, j) for i in range(4) for j in range(i)] + [(4, 5), (6, 7)])
    items.vectors[:4] = items.vectors[0] + 0.01 * rng.standard_normal((4, 6))
    items.vectors[5], items.vectors[7] = -items.vectors[4], -items.vectors[6]
    items.vectors[:] = items.vectors / np.linalg.norm(items.vectors, axis=1, keepdims=True)
    found = summarize(items, EXACT)
    assert float(found.vector @ items.vectors[0]) > 0.999


def test_a_group_that_nobody_trusts_counts_unweighed() -> None:
    edges = [(0, 1), (1, 2), (3, 4), (2, 4)]
    trusted = summarize(make_items(1, 6, edges), EXACT)
    assert summarize(make_items(1, 6, edges, [0.0] * 6), EXACT).vector.tolist() == (
        trusted.vector.tolist()
    )


def test_a_core_that_cancels_out_is_what_its_first_row_says() -> None:
    items = make_items(1, 2, [])
    items.vectors[1] = -items.vectors[0]
    assert summarize(items, EXACT).vector.tolist() == items.vectors[0].tolist()


def test_nothing_says_nothing() -> None:
    found = summarize(make_items(0, 0, []), EXACT)
    assert found.vector.tolist() == [0.0] * 6
    assert found[1:] == (0.0, 0, 0, 0.0)


def test_rows_of_zero_say_nothing_and_break_nothing() -> None:
    """As nodes over shards that are empty: all of them, and one among others."""
    items = make_items(5, 6, [(0, 1), (2, 3)])
    items.vectors[4:] = 0.0
    found = summarize(items, EXACT)
    assert np.isfinite(found.vector).all()
    assert np.isfinite([found.coherence, found.delta_h]).all()
    items.vectors[:] = 0.0
    assert summarize(items, EXACT).vector.tolist() == [0.0] * 6


def test_of_a_large_group_some_rows_all_over_it_are_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(summary, "_MOST", 50)
    rows = np.arange(100, 1100)
    some = sampled(rows)
    assert 45 <= len(some) <= 50
    assert (np.diff(some) >= 1).all()
    assert np.histogram(some, 10, (100, 1100))[0].min() >= 3
    assert sampled(rows[:50]).tolist() == rows[:50].tolist()
