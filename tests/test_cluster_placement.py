"""Placement: jump consistent hash, its published values, and how little moves."""

from __future__ import annotations

import jump
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.cluster.placement import homes, homes_of, placing_values
from oscillink_store.errors import InputError

KEYS = [f"tenant {number}" for number in range(20_000)]


@pytest.mark.parametrize(
    ("key", "buckets", "home"),
    # of the implementations for Go and Rust, which come from that of the paper
    [(1, 1, 0), (42, 57, 43), (0xDEAD10CC, 1, 0), (0xDEAD10CC, 666, 361), (256, 1024, 520)],
)
def test_published_values(key: int, buckets: int, home: int) -> None:
    assert jump.hash(key, buckets) == home


def test_a_value_has_the_same_home_in_every_release() -> None:
    values = ["ann", "bob", "", "Zürich", "7", "tenant 12"]
    assert homes_of(values, 8).tolist() == [6, 6, 0, 0, 5, 0]


@given(st.integers(1, 40), st.integers(1, 10))
def test_growing_moves_rows_to_new_shards_alone(shards: int, more: int) -> None:
    before, after = homes_of(KEYS[:500], shards), homes_of(KEYS[:500], shards + more)
    moved = before != after
    assert (after[moved] >= shards).all()
    assert after.max() < shards + more


@pytest.mark.parametrize("shards", [1, 2, 7, 8, 15])
def test_one_more_shard_takes_its_share_from_each(shards: int) -> None:
    before, after = homes_of(KEYS, shards), homes_of(KEYS, shards + 1)
    share = len(KEYS) / (shards + 1)
    sigma = np.sqrt(share * shards / (shards + 1))
    assert abs((before != after).sum() - share) < 4 * sigma
    # and all shards are equally full
    assert (np.abs(np.bincount(after, minlength=shards + 1) - share) < 4.5 * sigma).all()


def test_text_and_numbers_that_look_alike_are_one_value() -> None:
    texts = placing_values(pa.record_batch({"t": ["5", "17"]}), "t", "rows", range(2))
    numbers = placing_values(pa.record_batch({"t": [5, 17]}), "t", "rows", range(2))
    assert homes(texts, 9).tolist() == homes(numbers, 9).tolist()


@pytest.mark.parametrize(
    ("values", "row", "words"),
    [
        (["a", None], 8, "is missing or empty"),
        (["a", " "], 8, "is missing or empty"),
        ([1.5, 2.0], None, "text or whole numbers"),
        ([["a"], ["b"]], None, "text or whole numbers"),
    ],
)
def test_what_rows_cannot_be_placed_by(values: list[object], row: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        placing_values(pa.record_batch({"t": values}), "t", "notes.jsonl", [4, 8])
    assert caught.value.field == "t"
    assert caught.value.row == row
    assert "notes.jsonl" in str(caught.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(InputError, match=r"notes\.csv has no column 'tenant'"):
        placing_values(pa.record_batch({"id": ["a"]}), "tenant", "notes.csv", range(1))
