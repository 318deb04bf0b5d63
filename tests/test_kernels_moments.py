"""Corpus moments and maximal marginal relevance against plain numpy."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.kernels.mmr import mmr
from oscillink_store.kernels.moments import moments, similarity_moments


def rows(n: int, D: int, seed: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, D)) + rng.standard_normal(D)).astype(np.float32)


@given(
    n=st.integers(1, 3000),
    D=st.integers(1, 30),
    scale=st.sampled_from([1e-6, 1.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_moments_are_those_of_all_rows(n: int, D: int, scale: float, seed: int) -> None:
    Y = (rows(n, D, seed) * np.float32(scale)).astype(np.float32)
    mean, covariance = moments(Y)
    wide = Y.astype(np.float64)
    size = float(np.abs(wide).max())
    np.testing.assert_allclose(mean, wide.mean(axis=0), atol=1e-6 * size)
    expected = np.cov(wide, rowvar=False, bias=True).reshape(D, D)
    np.testing.assert_allclose(covariance, expected, atol=2e-6 * size * size)
    assert (covariance == covariance.T).all()

    psi = Y[0] / np.float32(max(1e-20, float(np.linalg.norm(wide[0]))))
    center, deviation = similarity_moments(psi, mean, covariance)
    similarities = wide @ psi.astype(np.float64)
    assert center == pytest.approx(similarities.mean(), abs=1e-5 * size * D)
    assert deviation == pytest.approx(similarities.std(), abs=3e-3 * size * D)


def test_no_rows_and_rows_of_zeros_have_no_spread() -> None:
    for Y in (np.empty((0, 3), np.float32), np.zeros((5, 3), np.float32)):
        mean, covariance = moments(Y)
        assert (mean == 0.0).all()
        assert (covariance == 0.0).all()
        assert similarity_moments(np.ones(3, np.float32), mean, covariance) == (0.0, 0.0)


@given(
    n=st.integers(1, 1024),
    D=st.integers(1, 20),
    exponent=st.integers(-60, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_block_of_rows_is_summed_exactly(n: int, D: int, exponent: int, seed: int) -> None:
    # all near the largest value and of one sign: the largest sums there can be
    rng = np.random.default_rng(seed)
    Y = (rng.uniform(0.9, 1.0, (n, D)) * 2.0**exponent).astype(np.float32)
    unit = 2.0 ** (np.frexp(Y.max())[1] - 21)
    whole = np.rint(Y.astype(np.float64) / unit).astype(np.int64)
    mean = whole.sum(axis=0).astype(np.float64) * unit / n
    products = (whole.T @ whole).astype(np.float64)  # whole numbers: no rounding before this
    covariance = products * (unit * unit / n) - np.outer(mean, mean)
    for sign in (1.0, -1.0):
        found = moments(Y[rng.permutation(n)] * np.float32(sign))
        assert (found[0] == sign * mean).all()
        assert (found[1] == covariance).all()


PROGRAM = """
import hashlib, numpy as np
from oscillink_store.kernels.moments import moments
Y = np.random.default_rng(6).standard_normal((5000, 96)).astype(np.float32)
print(hashlib.sha256(b"".join(part.tobytes() for part in moments(Y))).hexdigest())
"""


def test_moments_have_the_same_bits_with_any_number_of_threads() -> None:
    told = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True
        )
        told.add(ran.stdout)
    assert len(told) == 1


def plain_mmr(
    Y: npt.NDArray[np.float32], relevance: npt.NDArray[np.float64], k: int, balance: float
) -> list[int]:
    S = Y.astype(np.float64) @ Y.T.astype(np.float64)
    chosen: list[int] = []
    while len(chosen) < min(k, len(Y)):
        values = balance * relevance
        if chosen:
            values = values - (1.0 - balance) * S[:, chosen].max(axis=1)
        values[chosen] = -np.inf
        chosen.append(int(np.argmax(values)))
    return chosen


@given(
    n=st.integers(0, 60),
    D=st.integers(1, 20),
    k=st.integers(1, 70),
    balance=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_mmr_is_the_greedy_choice(n: int, D: int, k: int, balance: float, seed: int) -> None:
    Y = rows(n, D, seed)
    Y /= np.maximum(np.linalg.norm(Y, axis=1, keepdims=True), 1e-6).astype(np.float32)
    relevance = np.random.default_rng(seed + 1).standard_normal(n)
    chosen = mmr(Y, relevance, k, balance)
    assert sorted(chosen) == sorted(set(chosen))
    # where two rows tie to the last bits either may come first: compare what was achieved
    S = Y.astype(np.float64) @ Y.T.astype(np.float64)

    def gains(order: list[int]) -> list[float]:
        return [
            balance * relevance[at]
            - ((1.0 - balance) * S[at, order[:place]].max() if place else 0.0)
            for place, at in enumerate(order)
        ]

    np.testing.assert_allclose(gains(chosen)[:1], gains(plain_mmr(Y, relevance, k, balance))[:1])
    for place in range(len(chosen)):
        left = [at for at in range(n) if at not in chosen[:place]]
        best = max(gains([*chosen[:place], at])[-1] for at in left)
        assert gains(chosen)[place] == pytest.approx(best, abs=1e-9)


def test_mmr_of_equal_rows_takes_the_lower_first() -> None:
    assert mmr(np.ones((4, 2), np.float32) / np.float32(2**0.5), np.zeros(4), 4, 0.5) == [
        0,
        1,
        2,
        3,
    ]
