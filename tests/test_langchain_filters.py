"""The dict dialect of filters, against an evaluation in plain Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_helpers import Hashing

from oscillink_store.errors import QueryError
from oscillink_store.filters import matches
from oscillink_store.integrations.langchain import OscillinkVectorStore
from oscillink_store.integrations.langchain.filters import to_filter

TEXTS = ["", "a", "ab", "B", "%", "_", "it's", '"]', "né", "$x", "1"]
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0, -0.0])
PLAIN = SCALARS | st.sampled_from(TEXTS)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2)
    ),
    max_leaves=4,
)
PATHS = ["a", "b", "a.x", "b.x.y", "a b'; DROP", "n.x"]
METADATA = st.dictionaries(
    st.sampled_from(["a", "b", "n", "a.x", "a b'; DROP"]), VALUES, max_size=4
)
ORDERED = st.integers(-2, 2) | st.sampled_from(["a", "ab", "b"])

OPERATIONS = st.one_of(
    st.fixed_dictionaries({"$eq": VALUES}),
    st.fixed_dictionaries({"$ne": VALUES}),
    st.fixed_dictionaries({"$gt": ORDERED, "$lte": ORDERED}),
    st.fixed_dictionaries({"$gte": ORDERED}),
    st.fixed_dictionaries({"$lt": ORDERED}),
    st.fixed_dictionaries({"$between": st.tuples(ORDERED, ORDERED)}),
    st.fixed_dictionaries({"$in": st.lists(VALUES, max_size=3)}),
    st.fixed_dictionaries({"$nin": st.lists(VALUES, max_size=3)}),
    st.fixed_dictionaries({"$all": st.lists(PLAIN, max_size=2)}),
    st.fixed_dictionaries({"$contains": PLAIN}),
    st.fixed_dictionaries({"$not_contains": PLAIN}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.sampled_from([{"$like": "%a%"}, {"$ilike": "%b%"}, {"$like": "%'%"}]),
)
CLAUSES = st.dictionaries(
    st.sampled_from(PATHS),
    VALUES | OPERATIONS | OPERATIONS.map(lambda inner: {"$not": inner}),
    max_size=2,
)
FILTERS = st.recursive(
    CLAUSES,
    lambda inner: st.one_of(
        st.sampled_from(["$and", "$or", "$nor"]).flatmap(
            lambda name: st.lists(inner, min_size=1, max_size=2).map(lambda parts: {name: parts})
        ),
        inner.map(lambda part: {"$not": part}),
    ),
    max_leaves=3,
)


def canonical(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return (str(value),)
    if isinstance(value, dict):
        return frozenset((key, canonical(item)) for key, item in value.items())
    return tuple(map(canonical, value)) if isinstance(value, list | tuple) else value


def same(first: Any, second: Any) -> bool:
    return canonical(first) == canonical(second)


def at(metadata: dict[str, Any], path: str) -> Any:
    if path in metadata:
        return metadata[path]
    value: Any = metadata
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def equal(value: Any, given_value: Any) -> bool:
    if given_value is None:
        return value is None
    return same(value, given_value) or (
        isinstance(value, list) and any(same(item, given_value) for item in value)
    )


def compared(value: Any, operator: str, bound: Any) -> bool:
    texts = isinstance(value, str) and isinstance(bound, str)
    if not texts and (isinstance(value, bool | str) or isinstance(bound, str)):
        return False
    if not isinstance(value, int | float | str):
        return False
    return {
        "$gt": value > bound, "$gte": value >= bound, "$lt": value < bound, "$lte": value <= bound,
    }[operator]  # fmt: skip


def operation(value: Any, operator: str, operand: Any) -> bool:
    match operator:
        case "$eq":
            return equal(value, operand)
        case "$in":
            return any(equal(value, item) for item in operand)
        case "$between":
            return compared(value, "$gte", operand[0]) and compared(value, "$lte", operand[1])
        case "$all":
            return isinstance(value, list) and all(
                any(same(item, wanted) for item in value) for wanted in operand
            )
        case "$contains":
            if isinstance(value, str):
                return isinstance(operand, str) and operand in value
            return isinstance(value, list) and any(same(item, operand) for item in value)
        case "$exists":
            return (value is not None) == operand
        case "$like":
            return isinstance(value, str) and operand.strip("%") in value
        case "$ilike":
            return isinstance(value, str) and operand.strip("%").casefold() in value.casefold()
        case "$ne":
            return not operation(value, "$eq", operand)
        case "$nin":
            return not operation(value, "$in", operand)
        case "$not_contains":
            return not operation(value, "$contains", operand)
        case "$not":
            return not clause(value, operand)
    return compared(value, operator, operand)


def clause(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict) and any(name.startswith("$") for name in wanted):
        return all(operation(value, name, operand) for name, operand in wanted.items())
    return equal(value, wanted)


def holds(filter_: dict[str, Any], metadata: dict[str, Any]) -> bool:
    def one(key: str, value: Any) -> bool:
        match key:
            case "$and":
                return all(holds(part, metadata) for part in value)
            case "$or":
                return any(holds(part, metadata) for part in value)
            case "$nor":
                return not any(holds(part, metadata) for part in value)
            case "$not":
                return not holds(value, metadata)
        return clause(at(metadata, key), value)

    return all(one(key, value) for key, value in filter_.items())


@settings(max_examples=400)
@given(FILTERS, METADATA)
def test_a_dict_means_what_it_says(filter_: dict[str, Any], metadata: dict[str, Any]) -> None:
    assert matches(to_filter(filter_), metadata) == holds(filter_, metadata)


@settings(max_examples=25)
@given(st.lists(METADATA, min_size=3, max_size=12), st.lists(FILTERS, min_size=4, max_size=8))
def test_a_search_finds_what_the_dict_allows(
    metadatas: list[dict[str, Any]], filters: list[dict[str, Any]]
) -> None:
    ids = [str(place) for place in range(len(metadatas))]
    with OscillinkVectorStore(Hashing()) as store:
        store.add_texts([f"text {name}" for name in ids], metadatas, ids=ids)
        for filter_ in filters:
            found = store.similarity_search("text", k=20, filter=filter_)
            expected = {
                name for name, each in zip(ids, metadatas, strict=True) if holds(filter_, each)
            }
            assert {document.id for document in found} == expected
            marginal = store.max_marginal_relevance_search("text", k=20, filter=filter_)
            assert {document.id for document in marginal} == expected


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ({"$foo": 1}, "\\$foo has no field"),
        ({"a": {"$foo": 1}}, "'\\$foo' of 'a' is no operator"),
        ({"a": {"$gt": 1, "b": 2}}, "'b' of 'a' is no operator"),
        ({"a": {"$like": "a_%"}}, "only '%text%'"),
        ({"a": {"$like": 3}}, "only '%text%'"),
        ({"a": {"$in": "abc"}}, "needs a list"),
        ({"a": {"$between": [1]}}, "needs two values"),
        ({"a": {"$exists": 1}}, "use True or False"),
        ({"a": {"$gt": [1]}}, "needs a number or a text"),
        ({"$or": []}, "at least one filter"),
        ({"$and": {"a": 1}}, "at least one filter"),
        ({"$not": [1]}, "filter is a list"),
        ({1: 2}, "the key 1 is no text"),
        ("year = 1", "filter is a str"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(filter_: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        to_filter(filter_)
