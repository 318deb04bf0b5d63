"""Filters of the LangGraph store, against a second opinion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.store.base import PutOp

from oscillink_store.integrations.langgraph import OscillinkStore

KEYS = ("n", "name", "a", "b", "a.b", 'it\'s "odd"', "ключ", "x')--")
VALUES = st.sampled_from(
    [None, True, False, 0, 1, 1.0, 2.5, -3, 10**30, "", "x", "1", "o'b\" OR 1=1", [], ["x"], [1, 2]]
)
FIELDS = st.dictionaries(
    st.sampled_from(KEYS), VALUES | st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2)
)
PLAIN = VALUES.map(lambda value: ("$eq", value))
OPERATORS = st.tuples(st.sampled_from(["$eq", "$ne"]), VALUES) | st.tuples(
    st.sampled_from(["$gt", "$gte", "$lt", "$lte"]),
    st.sampled_from([0, 1, 2.5, float("inf"), float("-inf"), "", "x", "o'b"]),
)


@pytest.fixture(scope="module")
def memory() -> Iterator[OscillinkStore]:
    with OscillinkStore.from_conn_string(":memory:", index={"embed": "hash"}) as store:
        yield store


def same(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    return bool(first == second)


def meets(value: dict[str, Any], key: str, operator: str, given: Any) -> bool:
    """What a filter asks, said once more in other words."""
    found: Any = value
    for piece in [key] if key in value else key.split("."):
        found = found.get(piece) if isinstance(found, dict) else None
    if operator == "$eq":
        return same(found, given)
    if operator == "$ne":
        return found is not None and not same(found, given)
    texts = isinstance(found, str) and isinstance(given, str)
    numbers = isinstance(found, int | float) and isinstance(given, int | float)
    if isinstance(found, bool) or not (texts or numbers):
        return False
    return {
        "$gt": found > given,
        "$gte": found >= given,
        "$lt": found < given,
        "$lte": found <= given,
    }[operator]


@given(
    values=st.lists(FIELDS, min_size=1, max_size=5),
    asked=st.dictionaries(st.sampled_from([*KEYS, "n.a", "a.c"]), OPERATORS, max_size=2),
    plainly=st.booleans(),
)
def test_filters_select_what_they_say(
    memory: OscillinkStore, values: list[Any], asked: dict[str, Any], plainly: bool
) -> None:
    held = memory.search((), limit=100)
    memory.batch(
        [PutOp(("f",), item.key, None) for item in held]
        + [PutOp(("f",), str(number), value) for number, value in enumerate(values)]
    )
    filters = {
        key: given if plainly and operator == "$eq" else {operator: given}
        for key, (operator, given) in asked.items()
    }
    expected = {
        str(number) for number, value in enumerate(values)
        if all(meets(value, key, operator, given) for key, (operator, given) in asked.items())
    }  # fmt: skip
    for query in (None, "anything"):
        found = memory.search(("f",), query=query, filter=filters, limit=100)
        assert {item.key for item in found} == expected


def test_objects_agree_field_by_field(memory: OscillinkStore) -> None:
    memory.put(("o",), "k", {"user": {"name": "Ann", "age": 30, "tags": ["x"]}})
    for asked, found in [
        ({"user": {"name": "Ann"}}, True),
        ({"user": {"name": "Ann", "age": {"$gt": 40}}}, False),
        ({"user": {"name": {"$ne": "Bob"}, "tags": ["x"]}}, True),
        ({"user.age": {"$gte": 30, "$lt": 31}}, True),
        ({"user": {}}, False),
        ({"user": {"$eq": {"name": "Ann", "age": 30, "tags": ["x"]}}}, True),
        ({"user": {"$eq": {"name": "Ann"}}}, False),
    ]:
        assert bool(memory.search(("o",), filter=asked)) is found, asked


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"a..b": 1}, "Invalid filter key"),
        ({"a.": 1}, "Invalid filter key"),
        ({"": 1}, "Invalid filter key"),
        ({"a": {"$regex": "x"}}, "Unsupported operator: '\\$regex'"),
        ({"a": {"$gt": 1, "b": 2}}, "Unsupported operator: 'b'"),
        ({"a": {"$gt": [1]}}, "needs a number or a text"),
        ({"a": object()}, "is a object"),
    ],
)
def test_filters_that_mean_nothing_are_refused(
    memory: OscillinkStore, asked: dict[str, Any], message: str
) -> None:
    for query in (None, "anything"):
        with pytest.raises(ValueError, match=message):
            memory.search((), query=query, filter=asked)
