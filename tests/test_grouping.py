"""Groups of rows: every row in one, none too large, and always the same ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice.grouping import (
    Grouping,
    Take,
    by_value,
    centre_of,
    grouped,
    most,
    nearest,
)

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def unit(vectors: npt.NDArray[np.float64]) -> Floats:
    return np.ascontiguousarray(
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32
    )


def taken(vectors: Floats) -> Take:
    """Rows as a store gives them: copies of what is asked for, nothing else."""
    return lambda rows: vectors[rows]


def check(found: Grouping, rows: Rows, vectors: Floats, size: int) -> None:
    sizes = np.bincount(found.own, minlength=len(found.centres))
    assert (len(found.own), found.own.dtype, found.own.min() >= 0) == (len(rows), np.int32, True)
    assert len(sizes) == len(found.centres)
    assert sizes.min() >= 1
    assert sizes.max() <= most(size)
    lengths = np.linalg.norm(found.centres.astype(np.float64), axis=1)
    assert (np.isclose(lengths, 1.0, atol=1e-5) | (lengths == 0.0)).all()


@given(
    n=st.integers(1, 120), size=st.integers(1, 40), kinds=st.integers(1, 30),
    dimension=st.integers(1, 5), seed=st.integers(0, 1 << 32),
)  # fmt: skip
def test_every_row_is_in_one_group_and_none_is_too_large(
    n: int, size: int, kinds: int, dimension: int, seed: int
) -> None:
    """Also when there are fewer kinds of rows than groups."""
    rng = np.random.default_rng(seed)
    some = unit(rng.standard_normal((kinds, dimension)))
    vectors = some[rng.integers(0, kinds, n + 20)]
    rows = np.sort(rng.choice(n + 20, n, replace=False))
    found = grouped(rows, taken(vectors), size)
    check(found, rows, vectors, size)
    again = grouped(rows, taken(vectors.copy()), size)
    assert np.array_equal(again.own, found.own)
    assert np.array_equal(again.centres, found.centres)


@pytest.mark.parametrize("count", [9, 10, 64])
def test_equal_rows_are_cut_as_they_come(count: int) -> None:
    vectors = np.tile(unit(np.ones((1, 3))), (count, 1))
    found = grouped(np.arange(count), taken(vectors), 4)
    check(found, np.arange(count), vectors, 4)
    assert (np.diff(found.own) >= 0).all()
    assert np.ptp(np.bincount(found.own)) <= 1
    np.testing.assert_allclose(found.centres, vectors[: len(found.centres)], atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_few_rows_are_one_group_around_their_mean(count: int) -> None:
    vectors = unit(np.random.default_rng(count).standard_normal((count, 7)))
    found = grouped(np.arange(count), taken(vectors), 10)
    assert found.own.tolist() == [0] * count
    mean = vectors.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(found.centres[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_no_rows_are_one_empty_group() -> None:
    found = grouped(np.empty(0, np.int64), taken(np.empty((0, 3), np.float32)), 10)
    assert (len(found.own), found.centres.tolist()) == (0, [[0.0, 0.0, 0.0]])


def test_rows_that_cancel_out_have_no_centre() -> None:
    assert centre_of(np.array([[1, 0], [-1, 0]], np.float32)).tolist() == [0.0, 0.0]


def test_what_is_planted_is_found() -> None:
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((12, 32)))
    kind = rng.integers(0, 12, 1200)
    vectors = unit(centres[kind] + 0.05 * rng.standard_normal((1200, 32)))
    found = grouped(np.arange(1200), taken(vectors), 100)
    check(found, np.arange(1200), vectors, 100)
    alike = sum(np.bincount(kind[found.own == group]).max() for group in range(len(found.centres)))
    assert alike >= 0.8 * 1200  # k-means finds no optimum
    assert np.array_equal(nearest(np.arange(1200), taken(vectors), centres), kind)


def test_a_few_strangers_are_no_group_of_their_own() -> None:
    """They go where they are nearest, so that there are no shards of single anchors."""
    rng = np.random.default_rng(1)
    vectors = unit(np.eye(8)[rng.integers(0, 2, 400)] + 0.1 * rng.standard_normal((400, 8)))
    vectors[[7, 90, 301]] = -np.eye(8, dtype=np.float32)[[0, 1, 4]]
    found = grouped(np.arange(400), taken(vectors), 64)
    check(found, np.arange(400), vectors, 64)
    assert np.bincount(found.own).min() > 64 // 8


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(6, 8))
def test_rows_of_a_value_are_one_group_whatever_their_number(codes: list[int], count: int) -> None:
    rng = np.random.default_rng(len(codes))
    vectors = unit(rng.standard_normal((len(codes) + 3, 4)))
    rows = np.arange(3, len(codes) + 3)
    own = np.array(codes, np.int32)
    found = by_value(own, count, rows, taken(vectors))
    assert found.own.tolist() == codes
    assert found.centres.shape == (count, 4)
    for value in range(count):
        wanted = centre_of(vectors[rows[own == value]])
        assert np.array_equal(found.centres[value], wanted)
        assert wanted.any() == (value in codes)
