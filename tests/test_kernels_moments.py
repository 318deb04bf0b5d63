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
from oscillink_store.kernels.moments import BITS, moments, similarity_moments, sums


def rows(n: int, D: int, seed: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, D)) + rng.standard_normal(D)).astype(np.float32)


def unit_rows(n: int, D: int, seed: int) -> npt.NDArray[np.float32]:
    Y = rows(n, D, seed)
    return (Y / np.linalg.norm(Y, axis=1, keepdims=True)).astype(np.float32)


@given(n=st.integers(1, 3000), D=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_moments_are_those_of_all_rows(n: int, D: int, seed: int) -> None:
    Y = unit_rows(n, D, seed)
    mean, covariance = moments(sums(Y), n)
    wide = Y.astype(np.float64)
    # a value is rounded by at most half a unit, a product of two values by at most one
    unit = 2.0**-BITS
    np.testing.assert_allclose(mean, wide.mean(axis=0), atol=0.51 * unit)
    expected = np.cov(wide, rowvar=False, bias=True).reshape(D, D)
    np.testing.assert_allclose(covariance, expected, atol=2 * unit)
    assert (covariance == covariance.T).all()

    psi = Y[0]
    center, deviation = similarity_moments(psi, mean, covariance)
    similarities = wide @ psi.astype(np.float64)
    assert center == pytest.approx(similarities.mean(), abs=unit * D)
    assert deviation**2 == pytest.approx(similarities.var(), abs=2 * unit * D)


def test_no_rows_and_rows_of_zeros_have_no_spread() -> None:
    for Y in (np.empty((0, 3), np.float32), np.zeros((5, 3), np.float32)):
        mean, covariance = moments(sums(Y), len(Y))
        assert (mean == 0.0).all()
        assert (covariance == 0.0).all()
        assert similarity_moments(np.ones(3, np.float32), mean, covariance) == (0.0, 0.0)


@given(n=st.integers(1, 2500), D=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_rows_are_summed_exactly(n: int, D: int, seed: int) -> None:
    # all near the largest value and of one sign: the largest sums there can be
    rng = np.random.default_rng(seed)
    Y = rng.uniform(0.9, 1.0, (n, D)).astype(np.float32)
    whole = np.rint(Y.astype(np.float64) * 2**BITS).astype(np.int64)
    for sign in (1, -1):
        found = sums(Y[rng.permutation(n)] * np.float32(sign))
        assert (found.total == sign * whole.sum(axis=0)).all()
        assert (found.products == whole.T @ whole).all()


@given(n=st.integers(0, 2500), m=st.integers(0, 1500), seed=st.integers(0, 2**32 - 1))
def test_rows_come_and_go_in_any_order(n: int, m: int, seed: int) -> None:
    Y, Z = unit_rows(n, 7, seed), unit_rows(m, 7, seed + 1)
    both = sums(Z).plus(sums(Y))
    for found, wanted in (
        (both, sums(np.concatenate([Y, Z]))), (both.minus(sums(Z)), sums(Y)),
        (both.minus(sums(Y)), sums(Z)),
    ):  # fmt: skip
        assert (found.total == wanted.total).all()
        assert (found.products == wanted.products).all()


PROGRAM = """
import hashlib, numpy as np
from oscillink_store.kernels.moments import moments, sums
Y = np.random.default_rng(6).standard_normal((5000, 96)).astype(np.float32)
Y /= np.linalg.norm(Y, axis=1, keepdims=True)
print(hashlib.sha256(b"".join(part.tobytes() for part in moments(sums(Y), 5000))).hexdigest())
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
