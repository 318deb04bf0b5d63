"""Nearest neighbours against a sorted dense product."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscillink_store.kernels.knn import knn_against, knn_exact

Float32 = npt.NDArray[np.float32]


def unit_rows(n: int, D: int, seed: int, copies: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, D)).astype(np.float32)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    for _ in range(copies):
        Y[rng.integers(n)] = Y[rng.integers(n)]
    return Y


def chained(X: Float32, Y: Float32) -> Float32:
    """Every inner product as one chain of sums along D, each rounded to float32."""
    total = np.zeros((len(X), len(Y)), np.float32)
    for d in range(X.shape[1]):
        total = (total + np.multiply.outer(X[:, d].astype(float), Y[:, d])).astype(np.float32)
    return total


def check(
    indices: npt.NDArray[np.int32], similarity: Float32, S: npt.NDArray[np.float64], k: int
) -> None:
    """Each row holds the k best of S, best first; values that differ by 1e-6 may swap."""
    n, width = S.shape
    there = np.isfinite(S).sum(axis=1)
    assert indices.shape == similarity.shape == (n, k)
    for i in range(n):
        found = min(k, int(there[i]))
        assert (indices[i, found:] == -1).all()
        assert (similarity[i, found:] == -np.inf).all()
        chosen = indices[i, :found]
        assert len(set(chosen.tolist())) == found
        assert ((chosen >= 0) & (chosen < width)).all()
        np.testing.assert_allclose(similarity[i, :found], S[i, chosen], atol=1e-6)
        np.testing.assert_allclose(similarity[i, :found], -np.sort(-S[i])[:found], atol=1e-6)
        order = np.lexsort((chosen, -similarity[i, :found]))
        assert (order == np.arange(found)).all()


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 150),
    D=st.integers(1, 40),
    k=st.integers(1, 40),
    block=st.integers(1, 64),
    copies=st.integers(0, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_neighbours_are_those_of_the_dense_product(
    n: int, D: int, k: int, block: int, copies: int, seed: int
) -> None:
    Y = unit_rows(n, D, seed, copies)
    S = Y.astype(np.float64) @ Y.T.astype(np.float64)
    np.fill_diagonal(S, -np.inf)
    told: list[int] = []
    indices, similarity = knn_exact(Y, k, block=block, progress=told.append)
    check(indices, similarity, S, k)
    assert told == sorted(told)
    assert told[-1] == n
    whole = knn_exact(Y, k)
    assert (whole[0] == indices).all()
    assert (whole[1] == similarity).all()


@settings(deadline=None, max_examples=40)
@given(
    m=st.integers(0, 40),
    n=st.integers(1, 200),
    D=st.integers(1, 40),
    k=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_neighbours_in_another_set(m: int, n: int, D: int, k: int, seed: int) -> None:
    X, Y = unit_rows(m + 1, D, seed)[:m], unit_rows(n, D, seed + 1)
    indices, similarity = knn_against(X, Y, k)
    check(indices, similarity, X.astype(np.float64) @ Y.T.astype(np.float64), k)


def test_a_similarity_depends_on_its_two_rows_alone() -> None:
    Y = unit_rows(700, 33, 5)
    indices, similarity = knn_exact(Y, 9, block=256)
    S = chained(Y, Y)
    np.testing.assert_allclose(similarity, np.take_along_axis(S, indices, axis=1), rtol=1e-6)
    for i in range(0, 700, 7):
        for j, s in zip(indices[i], similarity[i], strict=True):
            (there,) = np.flatnonzero(indices[j] == i)[:1] if i in indices[j] else (None,)
            assert there is None or similarity[j, there] == s
    against, again = knn_against(Y[100:220], Y, 10)
    rows = np.arange(100, 220)
    assert (against[:, 0] == rows).all()
    assert (against[:, 1:] == indices[rows]).all()
    assert (again[:, 1:] == similarity[rows]).all()


def test_equal_rows_come_in_the_order_of_their_numbers() -> None:
    Y = np.repeat(unit_rows(3, 20, 1), 200, axis=0)
    for block in (64, 2048):
        indices, _ = knn_exact(Y, 16, block=block)
        for i in range(600):
            group = 200 * (i // 200)
            assert indices[i].tolist() == [j for j in range(group, group + 17) if j != i][:16]


@pytest.mark.parametrize("k", [1, 16, 31, 40])
def test_long_rows_and_many_blocks(k: int) -> None:
    # longer than what is packed at a time, with more columns than one floor covers
    Y = unit_rows(1500, 300, 2, copies=100)
    S = Y.astype(np.float64) @ Y.T.astype(np.float64)
    np.fill_diagonal(S, -np.inf)
    indices, similarity = knn_exact(Y, k, block=400)
    check(indices, similarity, S, k)


def test_zero_rows_are_neighbours_at_zero() -> None:
    indices, similarity = knn_exact(np.zeros((4, 3), np.float32), 2)
    assert indices.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
    assert (similarity == 0.0).all()


def test_no_rows() -> None:
    indices, similarity = knn_exact(np.empty((0, 3), np.float32), 2)
    assert indices.shape == similarity.shape == (0, 2)
