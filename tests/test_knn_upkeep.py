"""Upkeep of nearest-neighbour lists against sorted dense products."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscillink_store.kernels import knn_upkeep
from oscillink_store.kernels.knn import knn_against, knn_exact
from oscillink_store.kernels.knn_upkeep import (
    Block,
    block_neighbors,
    gather,
    insert_each,
    merge_lists,
    recall,
    research,
)

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Parts = list[tuple[int, Float32]]


def unit_rows(n: int, D: int, seed: int, copies: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, D)).astype(np.float32)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    for _ in range(copies if n else 0):
        Y[rng.integers(n)] = Y[rng.integers(n)]
    return Y


def in_parts(Y: Float32, cuts: list[int]) -> Parts:
    edges = sorted({0, len(Y), *(cut % (len(Y) + 1) for cut in cuts)})
    return [(low, Y[low:high].copy()) for low, high in pairwise(edges)]


def products(X: Float32, Y: Float32) -> Float32:
    """The similarities that ``knn_against`` finds: those of every pair, to the bit."""
    S = np.empty((len(X), len(Y)), np.float32)
    if len(X) and len(Y):
        indices, similarity = knn_against(X, Y, len(Y))
        np.put_along_axis(S, indices, similarity, axis=1)
    return S


def best(S: Float32, allowed: npt.NDArray[np.bool_], k: int) -> tuple[Int32, Float32]:
    """The k largest allowed values of each row, by plain sorting, ties to the lower column."""
    indices = np.full((len(S), k), -1, np.int32)
    values = np.full((len(S), k), -np.inf, np.float32)
    for i, row in enumerate(S):
        (columns,) = np.nonzero(allowed[i])
        chosen = columns[np.lexsort((columns, -row[columns]))][:k]
        indices[i, : len(chosen)] = chosen
        values[i, : len(chosen)] = row[chosen]
    return indices, values


def check_block(block: Block, S: Float32, first_own: int, alive: Float32, floors: Float32) -> None:
    there = np.broadcast_to(alive != 0, S.shape)
    indices, values = best(S, there, block.indices.shape[1])
    assert block.indices.tolist() == indices.tolist()
    assert block.similarities.tolist() == values.tolist()
    told = [
        (slot, new, S[new, slot])
        for slot in range(S.shape[1])
        if alive[slot]
        for new in sorted(range(len(S)), key=lambda new: (-S[new, slot], new))
        if S[new, slot] > floors[slot]
    ]
    assert block.slots.tolist() == [slot for slot, _, _ in told]
    assert block.arrived.tolist() == [first_own + new for _, new, _ in told]
    assert block.values.tolist() == [value for _, _, value in told]
    assert block.slots.dtype == block.arrived.dtype == block.indices.dtype == np.int32
    assert block.values.dtype == block.similarities.dtype == np.float32


shapes = {
    "n": st.integers(0, 90),
    "D": st.integers(1, 40),
    "k": st.integers(1, 30),
    "cuts": st.lists(st.integers(0, 90), max_size=5),
    "dead": st.floats(0.0, 1.0),
    "copies": st.integers(0, 40),
    "seed": st.integers(0, 2**32 - 1),
}


@settings(deadline=None, max_examples=80)
@given(m=st.integers(0, 50), empty=st.integers(0, 90), **shapes)
def test_a_block_is_that_of_the_dense_product(
    m: int, empty: int, n: int, D: int, k: int, cuts: list[int], dead: float, copies: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    Y = unit_rows(n + m, D, seed, copies)
    X, Y = Y[n:].copy(), Y[:n].copy()
    S = products(X, Y)
    alive = (rng.random(n) >= dead).astype(np.uint8)
    floors = rng.uniform(-1.0, 1.0, n).astype(np.float32)
    if m and n:  # a floor that is exactly reached is not exceeded
        floors[: n // 2] = S[rng.integers(m), : n // 2]
    floors[rng.permutation(n)[: empty % (n + 1)]] = -np.inf
    parts = in_parts(Y, cuts)
    check_block(block_neighbors(X, n, parts, alive, floors, k), S, n, alive, floors)
    everyone = np.ones(n, np.uint8)
    check_block(block_neighbors(X, n, parts, None, floors, k), S, n, everyone, floors)


@settings(deadline=None, max_examples=60)
@given(count=st.integers(0, 40), **shapes)
def test_rows_searched_anew_find_all_others(
    count: int, n: int, D: int, k: int, cuts: list[int], dead: float, copies: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    Y = unit_rows(n, D, seed, copies)
    parts = in_parts(Y, cuts)
    rows = rng.integers(0, n, count if n else 0)
    assert gather(rows, parts).tolist() == (Y[rows].tolist() if n else [])
    alive = (rng.random(n) >= dead).astype(np.uint8)
    allowed = np.broadcast_to(alive != 0, (len(rows), n)).copy()
    allowed[np.arange(len(rows)), rows] = False
    indices, values = best(products(Y[rows], Y), allowed, k)
    found = research(rows, parts, alive, k)
    assert found[0].tolist() == indices.tolist()
    assert found[1].tolist() == values.tolist()


def test_new_rows_in_blocks_make_the_lists_of_all_rows() -> None:
    # more new rows than are packed at a time, more arrivals than are held at a time
    Y = unit_rows(2600, 300, 3, copies=300)
    old, k = 1100, 20
    parts = in_parts(Y[:old], [13, 700, 701])
    lists, values = knn_exact(Y[:old], k)
    block = block_neighbors(Y[old:].copy(), old, parts, None, values[:, -1].copy(), k)
    among = knn_exact(Y[old:].copy(), k)
    own = merge_lists(block.indices, block.similarities, among[0] + np.int32(old), among[1], k)
    whole = knn_exact(Y, k)
    assert (own[0] == whole[0][old:]).all()
    assert (own[1] == whole[1][old:]).all()
    more = np.full((old, 2600), -1, np.int32)
    more_values = np.full((old, 2600), -np.inf, np.float32)
    places = np.arange(len(block.slots)) - np.searchsorted(block.slots, block.slots)
    more[block.slots, places] = block.arrived
    more_values[block.slots, places] = block.values
    kept = merge_lists(lists, values, more, more_values, k)
    assert (kept[0] == whole[0][:old]).all()
    assert (kept[1] == whole[1][:old]).all()
    floors = np.full(old, -np.inf, np.float32)
    everything = block_neighbors(Y[old:].copy(), old, parts, None, floors, k)
    assert len(everything.slots) == old * 1500 > knn_upkeep.HELD
    assert (np.bincount(everything.slots) == 1500).all()
    assert (everything.indices == block.indices).all()


def test_small_parts_and_large_parts_are_one_store() -> None:
    Y, X = unit_rows(1500, 24, 8), unit_rows(5, 24, 9)
    floors = np.full(1500, 0.3, np.float32)
    cuts = [1, 2, 3, 300, 301, 302, 900, 1499]
    block = block_neighbors(X, 1500, in_parts(Y, cuts), None, floors, 24)
    check_block(block, products(X, Y), 1500, np.ones(1500, np.uint8), floors)


def test_dead_neighbours_are_passed_over_in_whole_tiles() -> None:
    Y, X = unit_rows(400, 16, 4), unit_rows(3, 16, 5)
    alive = np.zeros(400, np.uint8)
    alive[[7, 90, 399]] = 1
    floors = np.full(400, -np.inf, np.float32)
    block = block_neighbors(X, 400, in_parts(Y, [120]), alive, floors, 5)
    check_block(block, products(X, Y), 400, alive, floors)
    assert sorted(block.indices[0, :3].tolist()) == [7, 90, 399]


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12), min_size=1, max_size=5
    ),
    k=st.integers(1, 9),
)
def test_merged_lists_are_the_best_of_both(rows: list[list[tuple[int, bool]]], k: int) -> None:
    width = max(map(len, rows))
    sides = [
        (np.full((len(rows), width), -1, np.int32), np.full((len(rows), width), -np.inf, "f4"))
        for _ in range(2)
    ]
    expected = []
    for i, row in enumerate(rows):
        entries = [(-value, place, side) for place, (value, side) in enumerate(row)]
        for side in (False, True):
            for at, (value, place, _) in enumerate(sorted(e for e in entries if e[2] == side)):
                sides[side][0][i, at], sides[side][1][i, at] = place, -value
        expected.append([place for _, place, _ in sorted(entries)][:k])
    merged, values = merge_lists(*sides[0], *sides[1], k)
    for i, want in enumerate(expected):
        assert merged[i].tolist() == want + [-1] * (k - len(want))
        assert values[i].tolist() == [rows[i][j][0] for j in want] + [-np.inf] * (k - len(want))


@given(
    entries=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 3)),
        max_size=40, unique_by=lambda entry: entry[:2],
    ),
    k=st.integers(1, 9),
)  # fmt: skip
def test_entries_in_any_order_make_the_best_lists(
    entries: list[tuple[int, int, int]], k: int
) -> None:
    indices, values = np.full((3, k), -1, np.int32), np.full((3, k), -np.inf, np.float32)
    row, slot, value = np.array(entries, np.int64).reshape(-1, 3).T
    insert_each(row.copy(), slot.astype(np.int32), value.astype(np.float32), indices, values)
    for i in range(3):
        best = sorted((-value, slot) for row, slot, value in entries if row == i)[:k]
        assert indices[i].tolist() == [slot for _, slot in best] + [-1] * (k - len(best))
        assert values[i].tolist() == [-least for least, _ in best] + [-np.inf] * (k - len(best))


def test_recall_counts_neighbours_and_their_equals() -> None:
    exact = np.array([[3, 4, 5], [1, -1, -1]], np.int32)
    similar = np.array([[0.9, 0.8, 0.7], [0.5, -np.inf, -np.inf]], np.float32)
    assert recall(exact, similar, exact, similar) == 1.0
    tie = np.array([[3, 9, 8], [-1, -1, -1]], np.int32)
    values = np.array([[0.9, 0.7, 0.6], [-np.inf] * 3], np.float32)
    assert recall(tie, values, exact, similar) == pytest.approx(2 / 4)
    nobody = np.full((2, 3), -1, np.int32), np.full((2, 3), -np.inf, np.float32)
    assert recall(*nobody, exact, similar) == 0.0
    assert recall(exact, similar, *nobody) == 1.0
    extra = np.array([[9, 3, 4, 5, 8]], np.int32), np.array([[0.7] * 5], np.float32)
    assert recall(*extra, exact[:1], similar[:1]) == 1.0


def test_a_store_without_rows_and_a_block_without_rows() -> None:
    nothing = np.empty(0, np.float32)
    block = block_neighbors(unit_rows(3, 5, 1), 0, [], None, nothing, 2)
    assert block.indices.tolist() == [[-1, -1]] * 3
    assert len(block.slots) == 0
    block = block_neighbors(unit_rows(0, 5, 1), 4, [(0, unit_rows(4, 5, 2))], None, nothing, 2)
    assert block.indices.shape == (0, 2)
