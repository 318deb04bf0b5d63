"""Typed edges, the CSR made of them, and the graphs cut out of it, against dense matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from dense_lattice import adjacency_of, laplacian_of, random_weights
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import block_diag, csr_array

from oscillink_store.errors import InputError
from oscillink_store.kernels.laplacian import normalize
from oscillink_store.lattice.graph import (
    Adjacency,
    Csr,
    Edges,
    Entries,
    TypedEdges,
    TypedGraph,
    block_diagonal,
    build_csr,
    cut_out,
    empty_graph,
    induced,
    neighbors,
    whole_degrees,
)
from oscillink_store.lattice.records import (
    IN,
    OUT,
    RELATION_MASK,
    Records,
    empty_records,
    sort_records,
)
from oscillink_store.model import RELATIONS, Parameters

OMEGA = Parameters().relation_weights


def edges_of(rng: np.random.Generator, anchors: int, count: int, relation: int) -> Edges:
    return Edges(
        source=rng.integers(0, anchors, count),
        target=rng.integers(0, anchors, count),
        weight=(0.01 + rng.random(count)).astype(np.float32),
        relation=relation,
    )


def dense_relation(anchors: int, parts: list[Edges], relation: int) -> npt.NDArray[np.float64]:
    A = np.zeros((anchors, anchors))
    for part in parts:
        if part.relation != relation:
            continue
        for i, j, w in zip(part.source, part.target, part.weight, strict=True):
            if i != j:
                A[i, j] = A[j, i] = max(A[i, j], float(w))
    return A


def dense_csr(csr: Csr, relation: int) -> npt.NDArray[np.float64]:
    n = len(csr.indptr) - 1
    A = np.zeros((n, n))
    rows = np.repeat(np.arange(n), np.diff(csr.indptr))
    of = csr.relation == relation
    A[rows[of], csr.indices[of]] = csr.weights[of]
    return A


def entries_of(csr: Csr, rows: npt.NDArray[np.int64]) -> Entries:
    return TypedGraph(csr, empty_records()).entries(rows)


def typed_edges_are_those_of(
    cut: tuple[Adjacency, TypedEdges],
    csr: Csr,
    rows: npt.NDArray[np.int64],
    omega: tuple[float, ...],
) -> None:
    adjacency, edges = cut
    assert [array.dtype for array in edges] == [np.int32, np.uint8, np.float64]
    assert (edges.ends[:, 0] < edges.ends[:, 1]).all()
    assert (edges.weight > 0.0).all()
    keys = [tuple(key) for key in np.column_stack([edges.ends, edges.relation]).tolist()]
    assert keys == sorted(set(keys))
    places = np.repeat(np.arange(len(rows)), np.diff(adjacency.indptr))
    pairs = np.column_stack([places, adjacency.indices])[places < adjacency.indices]
    assert {key[:2] for key in keys} == {tuple(pair) for pair in pairs.tolist()}
    for code, w in enumerate(omega):
        mine = edges.relation == code
        expected = np.triu(w * dense_csr(csr, code)[np.ix_(rows, rows)])
        assert np.count_nonzero(expected) == np.count_nonzero(mine)
        assert (expected[tuple(edges.ends[mine].T)] == edges.weight[mine]).all()


typed = given(
    anchors=st.integers(1, 30),
    counts=st.lists(st.integers(0, 60), min_size=len(RELATIONS), max_size=len(RELATIONS)),
    seed=st.integers(0, 2**32 - 1),
)


@typed
def test_a_csr_holds_every_edge_both_ways(anchors: int, counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [edges_of(rng, anchors, count, code) for code, count in enumerate(counts)]
    parts.append(edges_of(rng, anchors, 5, 0))  # a relation may come in two parts
    csr = build_csr(anchors, parts)
    assert [array.dtype for array in csr] == [np.int64, np.int32, np.float32, np.uint8]
    for code in range(len(RELATIONS)):
        assert (dense_csr(csr, code) == dense_relation(anchors, parts, code)).all()
    rows = np.repeat(np.arange(anchors), np.diff(csr.indptr))
    keys = list(zip(rows.tolist(), csr.indices.tolist(), csr.relation.tolist(), strict=True))
    assert keys == sorted(set(keys))


@typed
def test_canonical_edges_are_ordered_and_once(anchors: int, counts: list[int], seed: int) -> None:
    part = edges_of(np.random.default_rng(seed), anchors, sum(counts), 2)
    once = part.canonical()
    pairs = list(zip(once.source.tolist(), once.target.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    assert all(i < j for i, j in pairs)
    assert once.relation == 2
    expected = dense_relation(anchors, [part], 2)
    assert (dense_relation(anchors, [once], 2) == expected).all()
    assert len(once) == np.count_nonzero(np.triu(expected))


@typed
def test_an_induced_graph_is_the_weighted_submatrix(
    anchors: int, counts: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = [edges_of(rng, anchors, count, code) for code, count in enumerate(counts)]
    csr = build_csr(anchors, parts)
    omega = tuple(np.where(rng.random(len(OMEGA)) < 0.2, 0.0, OMEGA).tolist())
    whole = sum(w * dense_csr(csr, code) for code, w in enumerate(omega))
    rows = np.sort(rng.permutation(anchors)[: rng.integers(0, anchors + 1)]).astype(np.int64)
    entries = entries_of(csr, rows)
    cut = induced(entries, omega)
    assert [array.dtype for array in cut] == [np.int64, np.int32, np.float64]
    A = np.zeros((len(rows), len(rows)))
    places = np.repeat(np.arange(len(rows)), np.diff(cut.indptr))
    A[places, cut.indices] = cut.weights
    np.testing.assert_allclose(A, np.asarray(whole)[np.ix_(rows, rows)], rtol=1e-14)
    assert (A == A.T).all()
    assert (cut.weights > 0.0).all()
    keys = list(zip(places.tolist(), cut.indices.tolist(), strict=True))
    assert keys == sorted(set(keys))
    typed_edges_are_those_of(cut_out(entries, omega), csr, rows, omega)
    np.testing.assert_allclose(
        whole_degrees(entries, omega), np.asarray(whole)[rows].sum(axis=1), rtol=1e-12
    )
    allowed = (rng.random(anchors) < 0.5).astype(np.uint8)
    np.testing.assert_allclose(
        whole_degrees(entries, omega, allowed),
        np.asarray(whole)[rows] @ allowed,
        rtol=1e-12,
        atol=1e-15,
    )


@typed
def test_neighbors_are_the_columns_of_the_rows(anchors: int, counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [edges_of(rng, anchors, count, code) for code, count in enumerate(counts)]
    csr = build_csr(anchors, parts)
    there = sum(dense_csr(csr, code) for code in range(len(RELATIONS)))
    rows = np.sort(rng.permutation(anchors)[: rng.integers(0, 4)]).astype(np.int64)
    expected = np.flatnonzero(np.asarray(there)[rows].any(axis=0))
    found = neighbors(entries_of(csr, rows))
    assert found.dtype == np.int64
    assert found.tolist() == expected.tolist()
    # edges of relations that weigh nothing lead nowhere
    omega = [float(rng.random() < 0.5) for _ in RELATIONS]
    heavy = sum(weight * dense_csr(csr, code) for code, weight in enumerate(omega))
    expected = np.flatnonzero((np.asarray(heavy) * np.ones((anchors, 1)))[rows].any(axis=0))
    assert neighbors(entries_of(csr, rows), omega).tolist() == expected.tolist()


@typed
def test_graphs_side_by_side_share_no_edge(anchors: int, counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = []
    for size in (anchors, 1, anchors + 2):
        csr = build_csr(size, [edges_of(rng, size, count, 0) for count in counts[:1]])
        blocks.append(induced(entries_of(csr, np.arange(size)), OMEGA))
    joined = block_diagonal(blocks)
    expected = block_diag([csr_array(each[::-1], (len(each[0]) - 1,) * 2) for each in blocks])
    n = 2 * anchors + 3
    np.testing.assert_array_equal(csr_array(joined[::-1], (n, n)).toarray(), expected.toarray())
    assert [array.dtype for array in joined] == [np.int64, np.int32, np.float64]


def test_a_graph_is_cut_out_of_read_only_memory_maps(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    csr = build_csr(500, [edges_of(rng, 500, 3000, code) for code in (0, 4)])
    for name, array in zip(csr._fields, csr, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = Csr(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in csr._fields))
    rows = np.arange(0, 500, 3)
    ours, theirs = entries_of(mapped, rows), entries_of(csr, rows)
    for one, other in zip(induced(ours, OMEGA), induced(theirs, OMEGA), strict=True):
        assert (one == other).all()
    assert (neighbors(ours) == neighbors(theirs)).all()


Cells = dict[tuple[int, int, int], tuple[int, float]]
"""Flags and weight of every entry (row, column, relation)."""

cells = st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, len(RELATIONS) - 1))
flags = st.sampled_from([0, OUT, IN, OUT | IN])


def sorted_cells(table: Cells) -> Records:
    rows, columns, codes = np.array(list(table), np.int64).reshape(-1, 3).T
    marks = np.array([flag for flag, _ in table.values()], np.uint8)
    weights = np.array([weight for _, weight in table.values()], np.float32)
    return sort_records(rows, columns, codes.astype(np.uint8) | marks, weights)


def base_of(table: Cells, anchors: int) -> Csr:
    records = sorted_cells(table)
    indptr = np.searchsorted(records.rows, np.arange(anchors + 1))
    return Csr(indptr, records.columns, records.weights, records.relation)


def listed(entries: Entries) -> list[tuple[int, int, int, int, float]]:
    codes, marks = entries.relation & RELATION_MASK, entries.relation & ~np.uint8(RELATION_MASK)
    columns = (entries.sources(), entries.indices, codes, marks, entries.weights)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(
    base=st.dictionaries(cells, st.tuples(flags, st.sampled_from([0.5, 2.0])), max_size=20),
    newer=st.dictionaries(cells, st.tuples(flags, st.sampled_from([0.0, 0.5, 4.0])), max_size=20),
    held=st.integers(0, 8),
    wanted=st.lists(st.integers(0, 7), max_size=8),
)
def test_entries_are_those_of_the_base_as_corrected(
    base: Cells, newer: Cells, held: int, wanted: list[int]
) -> None:
    base = {cell: entry for cell, entry in base.items() if cell[0] < held}
    graph = TypedGraph(base_of(base, held), sorted_cells(newer))
    now = {cell: entry for cell, entry in (base | newer).items() if entry[1] != 0.0}
    expected = sorted((*cell, *entry) for cell, entry in now.items())
    # rows in any order, and some twice
    found = graph.entries(np.array(wanted, np.int64))
    assert listed(found) == [entry for row in wanted for entry in expected if entry[0] == row]
    assert found.indptr.tolist() == np.cumsum(
        [0, *(sum(entry[0] == row for entry in expected) for row in wanted)]
    ).tolist()  # fmt: skip
    folded = graph.folded(8)
    assert [array.dtype for array in folded] == [np.int64, np.int32, np.float32, np.uint8]
    assert listed(entries_of(folded, np.arange(8))) == expected
    # relations are weighed and neighbours left out whatever the flags say
    omega = np.arange(1.0, len(RELATIONS) + 1)
    whole = graph.entries(np.arange(8))
    A = np.zeros((8, 8))
    for row, column, code, _, weight in expected:
        A[row, column] += omega[code] * weight
    np.testing.assert_allclose(whole_degrees(whole, omega), A.sum(axis=1))
    assert neighbors(whole).tolist() == np.flatnonzero(A.any(axis=0)).tolist()
    cut = induced(whole, omega)
    places = np.repeat(np.arange(8), np.diff(cut.indptr))
    B = np.zeros((8, 8))
    B[places, cut.indices] = cut.weights
    np.testing.assert_allclose(B, A)


def test_the_lattice_of_nobody_is_empty() -> None:
    graph = empty_graph()
    assert listed(graph.entries(np.empty(0, np.int64))) == []
    assert listed(graph.entries(np.array([0, 5]))) == []
    assert graph.folded(3).indptr.tolist() == [0] * 4
    assert graph.folded(0).indptr.tolist() == [0]


def test_an_edge_names_what_is_wrong_with_it() -> None:
    source, target = np.array([0, 1]), np.array([1, 5])
    weight = np.array([1.0, 1.0], np.float32)
    with pytest.raises(InputError, match="target 5 in row 1") as refused:
        build_csr(3, [Edges(source=source, target=target, weight=weight, relation=0)])
    assert (refused.value.field, refused.value.row) == ("target", 1)
    for wrong in (0.0, -1.0, np.nan, np.inf):
        weight = np.array([1.0, wrong], np.float32)
        with pytest.raises(InputError, match="row 1") as refused:
            build_csr(9, [Edges(source=source, target=target, weight=weight, relation=0)])
        assert refused.value.field == "weight"


@given(n=st.integers(1, 40), degree=st.floats(0.0, 6.0), seed=st.integers(0, 2**32 - 1))
def test_the_normalised_laplacian_is_symmetric_and_between_0_and_2(
    n: int, degree: float, seed: int
) -> None:
    A = random_weights(n, degree, np.random.default_rng(seed))
    adjacency = adjacency_of(A)
    scale, coupling = np.empty(n), np.empty(len(adjacency.weights))
    normalize(*adjacency, scale, coupling)
    L = np.diag((scale > 0.0).astype(float))
    rows = np.repeat(np.arange(n), np.diff(adjacency.indptr))
    L[rows, adjacency.indices] -= coupling
    assert (L == L.T).all()
    np.testing.assert_allclose(L, laplacian_of(A), atol=1e-14)
    eigenvalues = np.linalg.eigvalsh(L)
    assert eigenvalues.min() >= -1e-12
    assert eigenvalues.max() <= 2.0 + 1e-12
