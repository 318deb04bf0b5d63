"""Shortened rows against dense linear algebra."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscillink_store.kernels.knn import knn_against
from oscillink_store.kernels.reduced import principal_axes, project, rescore

Float32 = npt.NDArray[np.float32]


def unit_rows(n: int, D: int, seed: int, copies: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, D)).astype(np.float32)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    for _ in range(copies):
        Y[rng.integers(n)] = Y[rng.integers(n)]
    return Y


@pytest.mark.parametrize("count", [1, 4, 9, 30])
def test_axes_span_the_leading_eigenvectors(count: int) -> None:
    rng = np.random.default_rng(count)
    basis, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    sample = (rng.standard_normal((500, 30)) * 0.75 ** np.arange(30) @ basis).astype(np.float32)
    axes = principal_axes(sample, count)
    np.testing.assert_allclose(axes @ axes.T, np.eye(count), atol=1e-5)
    moments = sample.astype(float).T @ sample
    _, vectors = np.linalg.eigh(moments)
    leading = vectors[:, ::-1][:, :count]
    np.testing.assert_allclose(axes.T @ axes, leading @ leading.T, atol=1e-3)
    # each axis by itself, the most important first: fewer axes are a part of more
    np.testing.assert_allclose(np.abs(axes @ leading), np.eye(count), atol=0.02)


def test_axes_of_slowly_falling_spectra_keep_nearly_the_most() -> None:
    rng = np.random.default_rng(1)
    sample = (rng.standard_normal((800, 60)) * np.arange(1, 61) ** -0.5).astype(np.float32)
    axes = principal_axes(sample, 20)
    kept = np.square(sample @ axes.T).sum()
    most = np.square(np.linalg.svd(sample, compute_uv=False)[:20]).sum()
    assert kept > 0.98 * most


def test_axes_beyond_the_rank_are_zero() -> None:
    sample = np.outer(np.arange(1, 9), [1.0, 2.0, 2.0]).astype(np.float32)
    axes = principal_axes(sample, 3)
    np.testing.assert_allclose(axes[0], [1 / 3, 2 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(axes[1:] @ [1.0, 2.0, 2.0], 0.0, atol=1e-5)
    assert np.isfinite(axes).all()


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(0, 70), D=st.integers(1, 40), d=st.integers(1, 40), seed=st.integers(0, 2**32 - 1)
)
def test_projected_rows_are_products_with_the_axes(n: int, D: int, d: int, seed: int) -> None:
    X, axes = unit_rows(n, D, seed), unit_rows(d, D, seed + 1)
    np.testing.assert_allclose(project(X, axes), X @ axes.T, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 60),
    D=st.integers(1, 40),
    count=st.integers(0, 30),
    k=st.integers(1, 20),
    copies=st.integers(0, 40),
    gap=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_rescored_lists_are_the_best_of_the_candidates(
    n: int, D: int, count: int, k: int, copies: int, gap: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    Y = unit_rows(n, D, seed, copies)
    rows = rng.integers(0, n, 9)
    candidates = np.stack([rng.permutation(n + gap)[: min(count, n)] for _ in rows])
    candidates[candidates >= n] = -1
    every, similar = knn_against(Y[rows], Y, n)
    indices, values = rescore(Y, rows, candidates.astype(np.int32), k)
    assert indices.shape == values.shape == (9, k)
    for r in range(9):
        wanted = [(j, s) for j, s in zip(every[r], similar[r], strict=True) if j in candidates[r]]
        wanted = wanted[:k] + [(-1, -np.inf)] * (k - len(wanted))
        assert list(zip(indices[r], values[r], strict=True)) == wanted
