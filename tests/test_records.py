"""Runs of records against dicts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice.records import (
    IN,
    MAX_SLOTS,
    OUT,
    RELATION_MASK,
    Records,
    empty_records,
    merge_runs,
    sort_records,
)

slots = st.one_of(st.integers(0, 4), st.integers(MAX_SLOTS - 3, MAX_SLOTS - 1))
entries = st.dictionaries(
    st.tuples(slots, slots, st.integers(0, 4)),
    st.tuples(st.sampled_from([0, OUT, IN, OUT | IN]), st.sampled_from([0.0, 0.5, -1.0, -np.inf])),
    max_size=12,
)


def records_of(table: dict[tuple[int, int, int], tuple[int, float]], seed: int = 0) -> Records:
    keys = [list(table)[at] for at in np.random.default_rng(seed).permutation(len(table))]
    return sort_records(
        np.array([row for row, _, _ in keys], np.int64),
        np.array([column for _, column, _ in keys], np.int64),
        np.array([code | table[row, column, code][0] for row, column, code in keys], np.uint8),
        np.array([table[key][1] for key in keys], np.float32),
    )


def table_of(records: Records) -> dict[tuple[int, int, int], tuple[int, float]]:
    assert [array.dtype for array in records] == [np.int32, np.int32, np.uint8, np.float32]
    codes = records.relation & RELATION_MASK
    keys = list(zip(records.rows.tolist(), records.columns.tolist(), codes.tolist(), strict=True))
    assert keys == sorted(set(keys))
    flags = (records.relation & ~np.uint8(RELATION_MASK)).tolist()
    return dict(zip(keys, zip(flags, records.weights.tolist(), strict=True), strict=True))


@given(entries, st.integers(0, 9))
def test_records_are_sorted_by_row_column_and_relation(
    table: dict[tuple[int, int, int], tuple[int, float]], seed: int
) -> None:
    assert table_of(records_of(table, seed)) == table


@given(st.lists(entries, max_size=5))
def test_the_newest_run_wins(
    tables: list[dict[tuple[int, int, int], tuple[int, float]]],
) -> None:
    expected: dict[tuple[int, int, int], tuple[int, float]] = {}
    for table in tables:
        expected |= table
    runs = [records_of(table) for table in tables]
    assert table_of(merge_runs(runs)) == expected
    # however they are merged before
    half = len(runs) // 2
    assert table_of(merge_runs([merge_runs(runs[:half]), merge_runs(runs[half:])])) == expected


def test_nothing_merges_to_nothing() -> None:
    assert table_of(merge_runs([])) == table_of(empty_records()) == {}
    assert table_of(merge_runs([empty_records(), empty_records()])) == {}
