"""Neighbours by cells against the exact ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscillink_store.kernels import partition
from oscillink_store.kernels.cells import make_cells, spread
from oscillink_store.kernels.knn import knn_against, knn_exact
from oscillink_store.kernels.knn_upkeep import recall
from oscillink_store.kernels.partition import knn_partitioned

Float32 = npt.NDArray[np.float32]


def unit(Y: npt.NDArray[np.float64]) -> Float32:
    return (Y / np.linalg.norm(Y, axis=1, keepdims=True)).astype(np.float32)


def grouped(n: int, D: int, groups: int, seed: int, copies: int = 0) -> Float32:
    """Rows around some centres, in shuffled order."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, D))
    Y = unit(centres[rng.integers(groups, size=n)] + 0.4 * rng.standard_normal((n, D)))
    for _ in range(copies):
        Y[rng.integers(n)] = Y[rng.integers(n)]
    return Y


@settings(deadline=None, max_examples=20)
@given(
    n=st.integers(2, 400),
    D=st.integers(1, 40),
    k=st.integers(1, 30),
    groups=st.integers(1, 9),
    copies=st.integers(0, 200),
    task=st.integers(20, 150),
    seed=st.integers(0, 2**32 - 1),
)
def test_all_cells_together_give_the_exact_neighbours(
    n: int, D: int, k: int, groups: int, copies: int, task: int, seed: int
) -> None:
    Y = grouped(n, D, groups, seed, copies)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "WORTHWHILE", np.inf)
        patch.setattr(partition, "AUDITED", 20)
        patch.setattr(partition, "TASK", task)
        # more than everything: no number of cells is enough, and the last rounds take them all
        found = knn_partitioned(Y, k, wanted=2.0, exact_below=0)
    indices, similarities = knn_exact(Y, k)
    assert found.probes == found.cells
    assert (found.indices == indices).all()
    assert (found.similarities == similarities).all()
    assert (found.floors == similarities[:, -1]).all()
    assert found.recall == 1.0


def test_few_cells_hold_most_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    Y, k = grouped(6000, 48, 150, 3), 12
    told: list[int] = []
    found = knn_partitioned(Y, k, wanted=0.9, exact_below=0, progress=told.append)
    assert 1 <= found.probes < found.cells / 4
    exact = knn_exact(Y, k)
    rows = spread(len(Y), partition.AUDITED, 0.75)
    audited = recall(found.indices[rows], found.similarities[rows], *(e[rows] for e in exact))
    assert found.audited == len(rows) > 290
    assert found.recall == audited >= 0.9
    over_all = recall(found.indices, found.similarities, *exact)
    assert over_all == pytest.approx(audited, abs=0.03)
    assert over_all < 1.0  # else this tests nothing
    assert (found.floors == found.similarities[:, -1]).all()
    # what is in a list is true, in order, and nobody is there twice
    some = np.arange(0, len(Y), 100)
    every, similar = knn_against(Y[some], Y, len(Y))
    S = np.empty((len(some), len(Y)), np.float32)
    np.put_along_axis(S, every, similar, axis=1)
    for row, listed, values in zip(
        some, found.indices[some], found.similarities[some], strict=True
    ):
        there = listed >= 0
        assert (values[there] == S[row // 100, listed[there]]).all()
        assert (values[~there] == -np.inf).all()
        assert (np.lexsort((listed[there], -values[there])) == np.arange(there.sum())).all()
        assert row not in listed
        assert len(set(listed[there].tolist())) == there.sum() > 0
    assert told == sorted(set(told))
    assert told[-1] == len(Y)
    # neither threads nor the size of the work they share have a say
    monkeypatch.setattr(partition, "TASK", 100)
    again = knn_partitioned(Y, k, wanted=0.9, exact_below=0)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_more_cells_until_the_recall_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    Y = grouped(3000, 24, 40, 8)
    monkeypatch.setattr(partition._Join, "holding", lambda self, share: 1)
    poor = knn_partitioned(Y, 10, wanted=0.0, exact_below=0)
    good = knn_partitioned(Y, 10, wanted=0.98, exact_below=0)
    assert poor.probes == 1
    assert poor.recall < 0.9
    assert good.probes > 2
    assert good.recall >= 0.98
    assert (good.floors >= poor.floors).all()


def test_rows_without_structure_are_compared_one_and_all() -> None:
    Y = unit(np.random.default_rng(2).standard_normal((2500, 100)))
    told: list[int] = []
    found = knn_partitioned(Y, 9, exact_below=0, progress=told.append)
    assert found[3:] == (1.0, 0, 1, 1, 100)
    assert all((a == b).all() for a, b in zip(found[:2], knn_exact(Y, 9), strict=True))
    assert told[-1] == 2500


def low_rank(n: int, D: int, rank: int, noise: float, seed: int) -> Float32:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, D))
    return unit(Y + noise * rng.standard_normal((n, D)))


@pytest.mark.parametrize("worthwhile", [2.0, 0.1])
def test_rows_of_low_rank_meet_along_few_axes(
    monkeypatch: pytest.MonkeyPatch, worthwhile: float
) -> None:
    # by cells, or one and all
    monkeypatch.setattr(partition, "WORTHWHILE", worthwhile)
    Y = low_rank(3000, 120, 18, 0.3, 5)
    found = knn_partitioned(Y, 10, exact_below=0)
    assert found.axes == 20
    assert (found.cells == 1) == (found.probes == 1) == (worthwhile < 1.0)
    exact = knn_exact(Y, 10)
    rows = spread(len(Y), partition.AUDITED, 0.75)
    lists = found.indices, found.similarities
    audited = recall(*(part[rows] for part in lists), *(part[rows] for part in exact))
    assert found.recall == audited >= 0.95
    assert recall(*lists, *exact) == pytest.approx(audited, abs=0.03)
    # the similarities are those of the rows as they are
    S = {
        (i, j): s
        for i, js, ss in zip(range(3000), *exact, strict=True)
        for j, s in zip(js, ss, strict=True)
    }
    assert all(
        S.get((i, j), s) == s
        for i, js, ss in zip(range(3000), *lists, strict=True)
        for j, s in zip(js, ss, strict=True)
    )
    assert (np.diff(found.similarities, axis=1) <= 0.0).all()


def test_axes_that_lose_neighbours_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "WORTHWHILE", 2.0)
    found = knn_partitioned(low_rank(2500, 96, 60, 0.1, 6), 10, exact_below=0)
    assert found.axes == 96
    assert found.recall >= 0.95


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_few_rows_are_compared_one_and_all(n: int) -> None:
    Y = grouped(max(n, 1), 7, 2, 4)[:n]
    for exact_below in (0, 51):
        found = knn_partitioned(Y, 5, exact_below=exact_below)
        indices, similarities = knn_exact(Y, 5)
        assert found.indices.shape == (n, 5)
        assert found.recall == 1.0 or exact_below == 0
        if exact_below:
            assert (found.indices == indices).all()
            assert (found.similarities == similarities).all()


def test_equal_rows_tie_to_the_lower_index() -> None:
    Y = np.repeat(grouped(30, 20, 30, 1), 60, axis=0)
    found = knn_partitioned(Y, 16, exact_below=0)
    assert found.probes < found.cells
    for i in range(0, 1800, 7):
        group = 60 * (i // 60)
        assert found.indices[i].tolist() == [j for j in range(group, group + 17) if j != i][:16]


def test_cells_hold_every_row_once_at_its_nearest_centre() -> None:
    Y = grouped(3000, 31, 50, 6)
    cells = make_cells(Y, 70)
    assert cells.centres.shape == (70, 31)
    assert np.sort(cells.order).tolist() == list(range(3000))
    nearest, _ = knn_against(Y, cells.centres, 1)
    for c in range(70):
        rows = cells.order[cells.starts[c] : cells.starts[c + 1]]
        assert (np.diff(rows) > 0).all()
        assert (nearest[rows, 0] == c).all()
    np.testing.assert_allclose(np.linalg.norm(cells.centres, axis=1), 1.0, rtol=1e-6)
    # neighbouring cells are more alike than any two
    following = (cells.centres[1:] * cells.centres[:-1]).sum(axis=1).mean()
    assert following > (cells.centres @ cells.centres.T).mean() + 0.1


@given(n=st.integers(0, 5000), count=st.integers(0, 400), phase=st.floats(0.0, 1.0))
def test_spread_numbers_cover_their_range(n: int, count: int, phase: float) -> None:
    chosen = spread(n, count, phase)
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) <= min(n, count)
    if len(chosen):
        assert 0 <= chosen[0] <= chosen[-1] < n
    if 10 <= count <= n:
        assert len(chosen) > 0.9 * count or n < 4 * count
        gaps = np.diff(np.concatenate([[0], chosen, [n]]))
        assert gaps.max() <= 3.0 * n / count + 2
