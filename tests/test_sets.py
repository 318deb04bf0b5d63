"""Sets of whole numbers, against Python's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice.sets import differing, distinct, pairs, unpaired

numbers = st.lists(st.integers(0, 9) | st.integers(0, 2**31 - 1), max_size=20)


@given(numbers, numbers)
def test_distinct_and_differing(values: list[int], others: list[int]) -> None:
    left, right = np.array(values, np.int64), np.array(others, np.int64)
    assert distinct(left).tolist() == sorted(set(values))
    assert differing(left, right).tolist() == sorted(set(values) ^ set(others))


def test_distinct_keys_need_all_of_their_bits() -> None:
    keys = np.array([2**64 - 1, 2**63, 2**64 - 1, 0], np.uint64)
    assert distinct(keys).tolist() == [0, 2**63, 2**64 - 1]


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), max_size=20))
def test_pairs_are_numbers_in_the_order_of_the_pairs(given_pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(given_pairs, np.int64).reshape(-1, 2).T
    joined = pairs(first, second)
    assert list(zip(*(half.tolist() for half in unpaired(joined)), strict=True)) == given_pairs
    order = np.argsort(joined, kind="stable").tolist()
    assert [given_pairs[place] for place in order] == sorted(given_pairs)
