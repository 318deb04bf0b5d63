"""Upkeep of the summary nodes' lattice: what is corrected is what is worked out anew."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shard_model import check_inverse, dense_flow

from oscillink_store import Parameters
from oscillink_store.kernels.dense import add_rows, eliminate
from oscillink_store.lattice import superlattice
from oscillink_store.lattice.graph import Csr, Edges, build_csr
from oscillink_store.lattice.levels import KNN, Inverse, flow, node_graph
from oscillink_store.lattice.superlattice import corrected, inverted, near_nodes

Floats = npt.NDArray[np.float32]
GAMMA = 0.5


def nodes(rng: np.random.Generator, count: int, dimension: int = 4) -> Floats:
    """Unit rows, some of them zero, some equal, some with cosines that are but rounding."""
    vectors = rng.standard_normal((count, dimension))
    plain = rng.random(count) < 0.4
    vectors[plain] = np.eye(dimension)[rng.integers(0, dimension, plain.sum())]
    vectors[plain, 0] += rng.choice([0.0, 0.0, 1e-8, -1.0, 1e-3], plain.sum())
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.where(lengths > 1e-6, vectors / np.where(lengths > 1e-6, lengths, 1.0), 0.0)
    vectors[rng.random(count) < 0.1] = 0.0
    return vectors.astype(np.float32)


def unit(rng: np.random.Generator, count: int) -> Floats:
    vectors = rng.standard_normal((count, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def graph_of(vectors: Floats, parameters: Parameters) -> Csr:
    return node_graph(near_nodes(vectors, parameters), parameters).base


@given(st.integers(0, 1 << 32), st.integers(1, 40), st.integers(1, 6))
@example(seed=0, count=1, k=3)
def test_lists_and_inverse_after_any_changes(seed: int, count: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    parameters = Parameters(knn_neighbors=k)
    vectors = nodes(rng, count)
    lists = near_nodes(vectors, parameters)
    inverse = inverted(node_graph(lists, parameters).base, GAMMA)
    for _ in range(5):
        changed = np.flatnonzero(rng.random(len(vectors)) < rng.choice([0.0, 0.1, 0.5]))
        vectors = vectors.copy()
        vectors[changed] = nodes(rng, len(changed))
        vectors = np.concatenate([vectors, nodes(rng, int(rng.choice([0, 0, 1, 5])))])
        lists = near_nodes(vectors, parameters, lists, changed)
        whole = near_nodes(vectors, parameters)
        assert np.array_equal(lists.nodes, whole.nodes)
        assert np.array_equal(lists.cosine, whole.cosine)
        graph = node_graph(lists, parameters).base
        inverse = corrected(inverse, graph, GAMMA)
        check_inverse(inverse, graph, GAMMA)


def test_corrected_as_inverted(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ten digits, after thirty changes on one base, new nodes among them."""
    monkeypatch.setattr(superlattice, "_FOLD_LEAST", 1000)
    rng = np.random.default_rng(4)
    parameters = Parameters(knn_neighbors=6)
    vectors = unit(rng, 120)
    first = inverse = inverted(graph_of(vectors, parameters), GAMMA)
    for step in range(30):
        vectors = np.concatenate([vectors, unit(rng, 1)])
        vectors[step % 3] = unit(rng, 1)
        inverse = corrected(inverse, graph_of(vectors, parameters), GAMMA)
    assert inverse.base is first.base
    assert len(inverse.touched) > 40
    graph = graph_of(vectors, parameters)
    anew = inverted(graph, GAMMA)
    for sources in ([0, 3], [149, 7, 100], [50]):
        at = np.array(sources)
        weights = np.linspace(1.0, 0.2, len(at))
        found, wanted = (flow(one, graph, at, weights, GAMMA) for one in (inverse, anew))
        np.testing.assert_allclose(found, wanted, atol=1e-10)
        np.testing.assert_allclose(found, dense_flow(graph, at, weights, GAMMA), atol=1e-10)


def path(*weights: float) -> Csr:
    """0 – 1 – 2 – … with these weights; nodes without edges where they are 0."""
    source = np.flatnonzero(weights)
    edges = Edges(
        source=source, target=source + 1, weight=np.array(weights)[source].astype(np.float32),
        relation=KNN,
    )  # fmt: skip
    return build_csr(len(weights) + 1, [edges])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1, 1, 1), (1, 1e-24, 1)),
        ((1, 1e-24, 1), (1, 1, 1)),
        ((1e-30, 0, 1), (1, 1, 1e-30)),
        ((1, 0, 1), (1, 1, 0)),
        ((0, 0, 0), (1, 1e-12, 1e-24)),
        ((1, 1e-9, 1e-9), (0, 1, 1, 0, 1)),
    ],
)
def test_weights_of_any_size(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    for graph in (path(*before), path(*after)):
        check_inverse(inverted(graph, GAMMA), graph, GAMMA)
    check_inverse(
        corrected(inverted(path(*before), GAMMA), path(*after), GAMMA), path(*after), GAMMA
    )


def test_a_node_without_edges_keeps_what_it_is_given() -> None:
    graph = path(0, 1)
    gates = flow(inverted(graph, GAMMA), graph, np.array([0]), np.array([0.7]), GAMMA)
    assert gates.tolist() == pytest.approx([0.7, 0.0, 0.0])


def test_without_changes_nothing_is_corrected() -> None:
    graph = path(1, 2, 3)
    inverse = inverted(graph, GAMMA)
    same = corrected(inverse, graph, GAMMA)
    assert same.base is inverse.base
    assert (same.touched.size, same.kernel.size) == (0, 0)


def test_many_changes_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superlattice, "_FOLD_LEAST", 4)
    ones = [1.0] * 30
    inverse = inverted(path(*ones), GAMMA)
    few = corrected(inverse, path(*ones[:-1], 2.0), GAMMA)
    assert (few.base is inverse.base, len(few.touched)) == (True, 2)
    many = corrected(few, path(*[2.0] * 30), GAMMA)
    assert (many.base is inverse.base, len(many.touched)) == (False, 0)
    check_inverse(many, path(*[2.0] * 30), GAMMA)


def test_corrections_are_taken_back_with_the_change() -> None:
    graph, other = path(1, 1, 1, 1), path(1, 1, 5, 1)
    inverse: Inverse = inverted(graph, GAMMA)
    there = corrected(inverse, other, GAMMA)
    assert there.touched.tolist() == [2, 3]
    assert corrected(there, graph, GAMMA).touched.size == 0


def test_a_graph_of_fewer_nodes_is_begun_anew() -> None:
    fewer = corrected(inverted(path(1, 1, 1), GAMMA), path(1), GAMMA)
    assert fewer.base.shape == (2, 2)
    check_inverse(fewer, path(1), GAMMA)


@pytest.mark.parametrize("gamma", [0.01, 0.5, 20.0])
def test_other_screenings(gamma: float) -> None:
    vectors = unit(np.random.default_rng(9), 60)
    parameters = Parameters(knn_neighbors=5)
    inverse = inverted(graph_of(vectors, parameters), gamma)
    vectors[3] = vectors[40]
    graph = graph_of(vectors, parameters)
    inverse = corrected(inverse, graph, gamma)
    assert inverse.touched.size
    check_inverse(inverse, graph, gamma)


def digests() -> str:
    """Of an inverse and its corrections, large enough for any BLAS to share the work."""
    parameters = Parameters(knn_neighbors=8)
    vectors = unit(np.random.default_rng(1), 500)
    inverse = inverted(graph_of(vectors, parameters), GAMMA)
    vectors[0] = vectors[100]
    inverse = corrected(inverse, graph_of(vectors, parameters), GAMMA)
    assert 10 < len(inverse.touched) < 64
    return hashlib.sha256(inverse.base.tobytes() + inverse.kernel.tobytes()).hexdigest()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_number_of_threads_changes_no_bit(threads: str) -> None:
    program = "from test_superlattice import digests; print(digests())"
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True,
        env=os.environ | dict.fromkeys(names, threads), cwd=Path(__file__).parent,
    )  # fmt: skip
    assert done.stdout.split() == [digests()]


@given(st.integers(0, 12), st.integers(0, 4), st.integers(0, 1 << 32), st.booleans())
def test_elimination_solves(n: int, m: int, seed: int, swapped: bool) -> None:
    """Also where no pivot is where it should be."""
    rng = np.random.default_rng(seed)
    A = np.eye(n)[rng.permutation(n)] if swapped else rng.standard_normal((n, n)) + 4 * np.eye(n)
    B = rng.standard_normal((n, m))
    wanted = np.linalg.solve(A, B)
    eliminate(A.copy(), B)
    np.testing.assert_allclose(B, wanted, atol=1e-9)


@given(st.lists(st.integers(0, 6), max_size=8), st.integers(0, 5))
def test_rows_are_added_up(chosen: list[int], columns: int) -> None:
    rng = np.random.default_rng(len(chosen))
    M, weights, out = rng.standard_normal((7, columns)), rng.random(len(chosen)), np.ones(columns)
    rows = np.array(chosen, np.int64)
    add_rows(M, rows, weights, out)
    np.testing.assert_allclose(out, 1.0 + weights @ M[rows], atol=1e-12)
