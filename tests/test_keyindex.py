"""Sorted indices of keys against dicts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice.keyindex import KeyIndex, find, key_index, merged, ranges, taken

keys = st.sampled_from([0, 1, 5, 2**63, 2**64 - 1])
columns = st.lists(st.lists(keys, max_size=3, unique=True), max_size=7)
"""The keys of each row of a part."""


def index_of(rows: list[list[int]], seed: int = 0) -> KeyIndex:
    pairs = [(key, row) for row, held in enumerate(rows) for key in held]
    pairs = [pairs[at] for at in np.random.default_rng(seed).permutation(len(pairs))]
    return key_index(
        np.array([key for key, _ in pairs], np.uint64),
        np.array([row for _, row in pairs], np.int64),
    )


def same(ours: KeyIndex, theirs: KeyIndex) -> None:
    assert [array.dtype for array in ours] == [np.uint64, np.int32]
    assert ours.keys.tolist() == theirs.keys.tolist()
    assert ours.rows.tolist() == theirs.rows.tolist()


@given(columns, st.integers(0, 9))
def test_an_index_is_sorted_by_key_and_row(rows: list[list[int]], seed: int) -> None:
    index = index_of(rows, seed)
    expected = sorted((key, row) for row, held in enumerate(rows) for key in held)
    assert list(zip(index.keys.tolist(), index.rows.tolist(), strict=True)) == expected
    same(index, index_of(rows))


@given(st.lists(columns, max_size=4), st.lists(keys, max_size=6))
def test_find_gives_every_slot_of_every_key(
    parts: list[list[list[int]]], wanted: list[int]
) -> None:
    rows = [held for part in parts for held in part]
    firsts = np.cumsum([0, *map(len, parts)]).tolist()
    indices = [(first, index_of(part)) for first, part in zip(firsts, parts, strict=False)]
    which, slots = find(indices, np.array(wanted, np.uint64))
    assert which.dtype == slots.dtype == np.int64
    assert list(zip(which.tolist(), slots.tolist(), strict=True)) == [
        (place, slot)
        for place, key in enumerate(wanted)
        for slot, held in enumerate(rows)
        if key in held
    ]


@given(st.lists(columns, min_size=1, max_size=4))
def test_a_merged_index_is_that_of_all_rows(parts: list[list[list[int]]]) -> None:
    firsts = np.cumsum([0, *map(len, parts)]).tolist()
    together = merged([(first, index_of(part)) for first, part in zip(firsts, parts, strict=False)])
    same(together, index_of([held for part in parts for held in part]))


@given(columns, st.lists(st.booleans(), min_size=7, max_size=7))
def test_a_thinned_index_is_that_of_the_rows_kept(rows: list[list[int]], keep: list[bool]) -> None:
    kept = np.array(keep[: len(rows)], np.bool_)
    index = taken(index_of(rows), kept)
    same(index, index_of([held for held, stays in zip(rows, kept, strict=True) if stays]))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=9))
def test_ranges_list_their_places(bounds: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in bounds], np.int64)
    ends = starts + np.array([count for _, count in bounds], np.int64)
    which, places = ranges(starts, ends)
    assert list(zip(which.tolist(), places.tolist(), strict=True)) == [
        (number, start + step)
        for number, (start, count) in enumerate(bounds)
        for step in range(count)
    ]
