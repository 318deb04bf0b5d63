"""Mutual neighbours, cuts and degrees at their edges, against plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from dense_lattice import adjacency_of, dense_of, laplacian_of, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from oscillink_store.errors import InputError
from oscillink_store.kernels.energy import agreement, anchor_forms, edge_forms
from oscillink_store.kernels.knn import knn_against, knn_exact
from oscillink_store.kernels.laplacian import normalize
from oscillink_store.kernels.mutual import mutual
from oscillink_store.lattice.graph import (
    Adjacency,
    Csr,
    Edges,
    Entries,
    TypedGraph,
    build_csr,
    induced,
    whole_degrees,
)
from oscillink_store.lattice.memory import mutual_knn
from oscillink_store.lattice.records import empty_records
from oscillink_store.model import RELATIONS

Float32 = npt.NDArray[np.float32]

# small whole numbers: every product is exact and many are equal
grids = given(
    rows=st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=60),
    D=st.sampled_from([3, 15, 16, 17, 33, 48]),
    k=st.integers(1, 70),
    block=st.integers(1, 80),
)


def grid(rows: list[list[int]], D: int) -> Float32:
    """Rows of whole numbers, spread over D columns with zeros between."""
    Y = np.zeros((len(rows), D), np.float32)
    Y[:, np.linspace(0, D - 1, 3).astype(int)] = rows
    return Y


def best_by_loop(S: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int64]:
    """The k best columns of each row, ties to the lower; −1 where there are none left."""
    out = np.full((len(S), k), -1)
    for i, row in enumerate(S):
        ranked = sorted((-s, j) for j, s in enumerate(row) if s > -np.inf)[:k]
        out[i, : len(ranked)] = [j for _, j in ranked]
    return out


@settings(max_examples=60)
@grids
def test_ties_go_to_the_lower_index(rows: list[list[int]], D: int, k: int, block: int) -> None:
    Y = grid(rows, D)
    S = (Y @ Y.T).astype(np.float64)
    against, _ = knn_against(Y, Y, k)
    assert (against == best_by_loop(S, k)).all()
    np.fill_diagonal(S, -np.inf)
    indices, similarity = knn_exact(Y, k, block=block)
    expected = best_by_loop(S, k)
    assert (indices == expected).all()
    values = np.take_along_axis(S, np.maximum(expected, 0), axis=1)
    assert (similarity == np.where(expected < 0, -np.inf, values)).all()


def test_thousands_of_ties_in_many_blocks() -> None:
    rng = np.random.default_rng(2)
    Y = rng.integers(-1, 2, (3000, 20)).astype(np.float32)
    S = Y @ Y.T
    np.fill_diagonal(S, -np.inf)
    expected = np.argsort(-S, axis=1, kind="stable")[:, :10]
    for block in (300, 2048, 5000):
        assert (knn_exact(Y, 10, block=block)[0] == expected).all()
    against, _ = knn_against(Y[:500], Y, 11)
    for i, found in enumerate(against.tolist()):
        others = [j for j in found if j != i]
        assert others[:10] == expected[i].tolist()


def test_neighbours_have_the_same_bits_in_any_block_and_order() -> None:
    rng = np.random.default_rng(5)
    Y = rng.standard_normal((2600, 33)).astype(np.float32)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    indices, similarity = knn_exact(Y, 12)
    for block in (97, 1024, 2600):
        again = knn_exact(Y, 12, block=block)
        assert (again[0] == indices).all()
        assert (again[1] == similarity).all()
    order = rng.permutation(len(Y))
    shuffled, values = knn_exact(Y[order], 12)
    assert (values == similarity[order]).all()
    assert (order[shuffled] == indices[order]).all()
    found, told = knn_against(Y[40:90], np.delete(Y, np.s_[40:90], axis=0), 5)
    assert told.dtype == np.float32
    for i in range(50):  # without the rows' own block, and numbered as if it were not there
        kept = [j if j < 40 else j - 50 for j in indices[40 + i] if not 40 <= j < 90]
        assert found[i, : len(kept)].tolist() == kept[:5]


@settings(max_examples=60)
@grids
def test_mutual_neighbours_are_in_each_others_lists(
    rows: list[list[int]], D: int, k: int, block: int
) -> None:
    Y = grid(rows, D) / np.float32(2 ** (k % 4))  # row sums above 1 and below
    n = len(Y)
    neighbors, similarity = knn_exact(Y, k)
    indptr, indices = np.empty(n + 1, np.int64), np.empty(n * k, np.int32)
    weights = np.empty(n * k)
    count = mutual(neighbors, similarity, indptr, indices, weights, np.empty(n))
    A = np.zeros((n, n))
    lists = [dict(zip(i.tolist(), s.tolist(), strict=True)) for i, s in
             zip(neighbors, similarity, strict=True)]  # fmt: skip
    for i in range(n):
        for j in range(n):
            if j in lists[i] and i in lists[j]:
                A[i, j] = max(lists[i][j], 0.0)
    total = A.sum(axis=1)
    caps = np.minimum(1.0, np.divide(1.0, total, out=np.ones(n), where=total > 0.0))
    expected = A * np.sqrt(np.outer(caps, caps))
    found = Adjacency(indptr, indices[:count], weights[:count])
    np.testing.assert_allclose(dense_of(found), expected, rtol=1e-12)
    assert (dense_of(found) == dense_of(found).T).all()
    assert (found.weights > 0.0).all()
    for i in range(n):
        row = indices[indptr[i] : indptr[i + 1]]
        assert (np.diff(row) > 0).all()


def test_the_graph_of_neighbours_is_that_of_cosines() -> None:
    rng = np.random.default_rng(1)
    Y = rng.standard_normal((40, 9)).astype(np.float32)
    Y[3] = 0.0
    lengths = rng.uniform(0.01, 100.0, (40, 1)).astype(np.float32)
    A, B = dense_of(mutual_knn(Y, 5)), dense_of(mutual_knn(Y * lengths, 5))
    assert ((A > 0.0) == (B > 0.0)).all()
    np.testing.assert_allclose(A, B, atol=1e-6)
    assert (A[3] == 0.0).all()
    assert dense_of(mutual_knn(Y, 500)).shape == (40, 40)


def entries_of(csr: Csr, rows: npt.NDArray[np.int64]) -> Entries:
    return TypedGraph(csr, empty_records()).entries(rows)


def one_relation(source: Any, target: Any, weight: Any = 1.0, relation: int = 2) -> Edges:
    source, target = np.asarray(source), np.asarray(target)
    return Edges(
        source=source,
        target=target,
        weight=np.broadcast_to(np.asarray(weight, np.float32), source.shape),
        relation=relation,
    )


@pytest.mark.parametrize("stride", [2, 2**10, 2**16, 3 * 2**14])
def test_a_cut_finds_its_rows_however_they_lie(stride: int) -> None:
    # far apart in multiples of powers of two, where hashes by the low bits collide
    N = 24 * stride + 2
    rows = np.arange(24, dtype=np.int64) * stride
    rng = np.random.default_rng(stride)
    i, j = np.triu_indices(24, 1)
    kept = rng.random(len(i)) < 0.3
    i, j = i[kept], j[kept]
    weight = rng.uniform(0.1, 1.0, len(i)).astype(np.float32)
    outside = one_relation(rows, rows + 1, 5.0, 4)  # neighbours that are cut off
    csr = build_csr(N, [one_relation(rows[i], rows[j], weight), outside])
    expected = np.zeros((24, 24))
    expected[i, j] = expected[j, i] = weight
    entries = entries_of(csr, rows)
    omega = (0.0, 0.0, 1.0, 0.0, 0.5)
    assert (dense_of(induced(entries, omega)) == expected).all()
    degrees = whole_degrees(entries, omega)
    np.testing.assert_allclose(degrees, expected.sum(axis=1) + 2.5, rtol=1e-12)
    allowed = np.zeros(N, np.uint8)
    allowed[rows] = 1
    degrees = whole_degrees(entries, omega, allowed)
    np.testing.assert_allclose(degrees, expected.sum(axis=1), rtol=1e-12)


def test_parallel_edges_add_up_and_weightless_relations_vanish() -> None:
    csr = build_csr(
        4,
        [
            one_relation([0, 0], [1, 2], [0.5, 1.0], 0),
            one_relation([1, 2], [0, 3], [2.0, 4.0], 3),
            one_relation([0, 1], [1, 3], [8.0, 16.0], 4),
        ],
    )
    entries = entries_of(csr, np.arange(4))
    cut = dense_of(induced(entries, (1.0, 1.0, 1.0, 0.25, 0.0)))
    assert cut[0].tolist() == [0.0, 0.5 + 0.25 * 2.0, 1.0, 0.0]
    assert cut[3].tolist() == [0.0, 0.0, 1.0, 0.0]  # its other edge weighs nothing
    assert len(induced(entries, (0.0,) * 5).weights) == 0
    assert whole_degrees(entries, (0.0,) * 5).tolist() == [0.0] * 4
    none = induced(entries_of(csr, np.empty(0, np.int64)), (1.0,) * 5)
    assert none.indptr.tolist() == [0]


def test_degrees_and_cuts_of_read_only_memory_maps(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    ends = rng.integers(0, 300, (2, 1200))
    csr = build_csr(300, [one_relation(*ends, rng.uniform(0.1, 1.0, 1200), 1)])
    np.save(tmp_path / "rows.npy", np.arange(0, 300, 7))
    np.save(tmp_path / "allowed.npy", (np.arange(300) % 2).astype(np.uint8))
    for name, array in csr._asdict().items():
        np.save(tmp_path / f"{name}.npy", array)
    mapped = Csr(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in csr._fields))
    rows, allowed = (np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in ("rows", "allowed"))
    assert not mapped.indices.flags.writeable
    omega = (1.0, 0.5, 1.0, 0.3, 0.1)
    ours, theirs = entries_of(mapped, rows), entries_of(csr, np.arange(0, 300, 7))
    for one, other in zip(induced(ours, omega), induced(theirs, omega), strict=True):
        assert (one == other).all()
    assert (whole_degrees(ours, omega) == whole_degrees(theirs, omega)).all()
    assert (
        whole_degrees(ours, omega, allowed)
        == whole_degrees(theirs, omega, np.asarray(allowed).copy())
    ).all()


def test_edges_take_lists_and_any_width_of_numbers() -> None:
    # anchors of 32 bits, whose products with the number of anchors do not fit 32 bits
    csr = build_csr(
        70_000,
        [one_relation(np.array([69_999, 1], np.int32), np.array([69_998, 0], np.uint32), 0.5)],
    )
    assert csr.indices.tolist() == [1, 0, 69_999, 69_998]
    assert np.flatnonzero(np.diff(csr.indptr)).tolist() == [0, 1, 69_998, 69_999]
    plain = Edges(source=[0, 1], target=[1, 2], weight=[1, 2], relation=0)
    assert [plain.source.dtype, plain.target.dtype, plain.weight.dtype] == [
        np.int64, np.int64, np.float32,
    ]  # fmt: skip
    assert len(Edges(source=[], target=[], weight=[], relation=0)) == 0


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("relation", {"relation": len(RELATIONS)}),
        ("relation", {"relation": 300}),
        ("relation", {"relation": -1}),
        ("relation", {"relation": "link"}),
        ("source", {"source": np.array([0.0, 1.0])}),
        ("source", {"source": np.array([[0, 1]])}),
        ("target", {"target": ["a", "b"]}),
        ("weight", {"weight": np.ones(1, np.float32)}),
        ("weight", {"weight": np.array([1.0, 1e-60])}),
        ("weight", {"weight": np.array([1.0, 1e60])}),
    ],
    ids=str,
)
def test_unusable_edges_name_their_field(field: str, change: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        "source": np.array([0, 1]), "target": np.array([1, 2]),
        "weight": np.ones(2, np.float32), "relation": 0,
    }  # fmt: skip
    with pytest.raises(InputError, match=field) as refused:
        build_csr(3, [Edges(**{**values, **change})])
    assert refused.value.field == field


@settings(max_examples=40)
@given(
    n=st.integers(2, 30),
    D=st.sampled_from([1, 15, 16, 17, 33]),
    smallest=st.sampled_from([0, -6, -20, -42]),
    seed=st.integers(0, 2**32 - 1),
)
def test_edge_energies_hold_for_any_size_of_weight(
    n: int, D: int, smallest: int, seed: int
) -> None:
    # the Laplacian does not change when all weights do, and single tiny ones are no trouble
    rng = np.random.default_rng(seed)
    A = random_weights(n, 4, rng) * 10.0**smallest
    mixed = np.where(np.add.outer(np.arange(n), np.arange(n)) % 3 == 0, A, A * 10.0**-smallest)
    Y, U = (rng.standard_normal((n, D)).astype(np.float32) for _ in range(2))
    for weights in (A, mixed):
        graph = adjacency_of(weights)
        edges = len(graph.weights) // 2
        scale, coupling = np.empty(n), np.empty(2 * edges)
        normalize(*graph, scale, coupling)
        pairs, forms = np.empty((edges, 2), np.int32), np.empty((3, edges))
        totals = np.empty(3)
        assert edge_forms(*graph, scale, Y, U, pairs, forms, totals) == edges
        wide = [X.astype(float) for X in (Y, U, Y - U)]
        L = laplacian_of(weights)
        expected = [float(np.trace(X.T @ L @ X)) for X in wide]
        np.testing.assert_allclose(totals, expected, rtol=2e-5, atol=1e-5)
        for X, told in zip(wide, forms, strict=True):
            ends = [X[pairs[:, side]] * scale[pairs[:, side]][:, None] for side in (0, 1)]
            each = weights[pairs[:, 0], pairs[:, 1]] * ((ends[0] - ends[1]) ** 2).sum(axis=1)
            np.testing.assert_allclose(told, each, rtol=1e-4, atol=1e-6)
        assert (pairs[:, 0] < pairs[:, 1]).all()


@settings(max_examples=40)
@given(
    n=st.integers(2, 30),
    D=st.sampled_from([1, 15, 16, 17, 33]),
    copies=st.integers(0, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_agreement_is_that_of_directions(n: int, D: int, copies: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = random_weights(n, 4, rng)
    U = rng.standard_normal((n, D)).astype(np.float32)
    for _ in range(copies):
        U[rng.integers(n)] = U[rng.integers(n)]
    U[rng.integers(n)] = 0.0
    graph = adjacency_of(A)
    edges = len(graph.weights) // 2
    scale, coupling = np.empty(n), np.empty(2 * edges)
    normalize(*graph, scale, coupling)
    Y = rng.permutation(U)
    pairs, forms = np.empty((edges, 2), np.int32), np.empty((3, edges))
    edge_forms(*graph, scale, Y, U, pairs, forms, np.empty(3))
    squares = np.empty((2, n))
    anchor_forms(Y, U, np.zeros(D, np.float32), np.zeros(n), squares, np.empty(4))
    ratio, gaps = np.empty(n), np.empty((2, edges))
    i, j = pairs.T
    agreement(pairs, A[i, j], forms, scale, squares, ratio, gaps, np.empty((2, n)))

    for state, X in enumerate((Y, U)):
        wide = X.astype(float)
        np.testing.assert_allclose(squares[state], (wide**2).sum(axis=1), rtol=1e-6)
        lengths = np.sqrt(squares[state])
        norms = lengths[i] * lengths[j]
        inner = (wide[i] * wide[j]).sum(axis=1)
        cosines = np.divide(inner, norms, out=0 * norms, where=norms > 0.0)
        # a gap is told by ‖a_i − a_j‖² in float32, which loses the smaller of two unlike lengths
        p, q = lengths[i] * scale[i], lengths[j] * scale[j]
        lost = np.divide((p + q) ** 2, p * q, out=0 * norms, where=norms > 0.0)
        wrong = np.abs(gaps[state] - (2.0 - 2.0 * cosines))
        assert (wrong <= np.maximum(1e-5, 5e-7 * lost)).all()
        alike = (X[i] == X[j]).all(axis=1) & (norms > 0.0) & (scale[i] < 2 * scale[j])
        alike &= scale[j] < 2 * scale[i]
        assert (gaps[state][alike] == 0.0).all()  # not the rounding of float32
    wide = U.astype(float)
    bottom = (A * np.add.outer(squares[1], squares[1])).sum(axis=1)
    top = 2.0 * (A * (wide @ wide.T)).sum(axis=1)
    expected = np.divide(top, bottom, out=np.zeros(n), where=bottom > 0.0)
    np.testing.assert_allclose(ratio, np.clip(expected, 0.0, 1.0), atol=2e-4)
