"""Filters: one semantics in Python, over payloads and over metadata columns."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from functools import reduce
from operator import and_, or_
from typing import Any
from weakref import ref

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oscillink_store as osc
from oscillink_store.engine import coded
from oscillink_store.errors import QueryError
from oscillink_store.filters import And, Compare, Filter, Ids, Not, Or, matches

KEYS = ["a", "b", "a.b", "", "a/b", "a~1", "0", "01", "-", "é'\"", "$", "x' OR '1'='1", "\0"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([0.0, 1.0, -1.5, 1e300, 2.0**53])
    | st.sampled_from(["", "a", "A", "b", "1", "true", "ü", "x'; --", "\0", "a b"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)
payloads = st.none() | st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
paths = st.sampled_from(KEYS) | st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(tuple)
lists = st.lists(values, max_size=3)


def compares() -> st.SearchStrategy[Filter]:
    return st.one_of(
        st.builds(Compare, paths, st.sampled_from(["eq", "ne", "contains"]), values),
        st.builds(
            Compare,
            paths,
            st.sampled_from(["in", "nin", "contains_any", "contains_all", "prefix"]),
            lists,
        ),
        st.builds(
            Compare,
            paths,
            st.sampled_from(["gt", "gte", "lt", "lte"]),
            st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "a", "b"]),
        ),
        st.builds(Compare, paths, st.sampled_from(["text", "itext"]), st.sampled_from("aAü'")),
        st.builds(Compare, paths, st.sampled_from(["exists", "empty"])),
        st.builds(Ids, st.lists(st.sampled_from(["r0", "r1", "r9", "' OR 1"]), max_size=2)),
    )


filters = st.recursive(
    compares(),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, max_size=3).map(tuple))
    ),
    max_leaves=4,
)


@pytest.fixture
def fresh(make_store: Callable[..., osc.Store]) -> Callable[[], osc.Store]:
    counter = iter(range(10**6))
    return lambda: make_store(f"{next(counter)}.osc")


def test_payloads_are_filtered_as_python_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    @given(st.lists(payloads, min_size=1, max_size=5), st.lists(filters, min_size=4, max_size=4))
    def check(objects: list[dict[str, Any] | None], wheres: list[Filter]) -> None:
        rows = [
            {"id": f"r{i}", "text": f"text {i}", "payload": value}
            for i, value in enumerate(objects)
        ]
        with osc.connect(tmp_path_factory.mktemp("f") / "s.osc", embedder="hash") as store:
            store.ingest(rows[: len(rows) // 2 + 1])
            for row in rows[len(rows) // 2 + 1 :]:  # several parts
                store.ingest([row])
            assert [row["payload"] for row in store.get([r["id"] for r in rows])] == objects
            for where in wheres:
                expected = [
                    f"r{i}"
                    for i, value in enumerate(objects)
                    if matches(where, value or {}, f"r{i}")
                ]
                assert store.to_arrow(["id"], where=where)["id"].to_pylist() == expected
                hits = store.search("text", where=where, k=9, ranking="dense")
                assert sorted(hits.ids) == expected

    check()


@given(filters)
def test_equal_filters_are_known_by_one_text(where: Filter) -> None:
    same = And((Or((where,)), Not(where)))
    assert same == And((Or((where,)), Not(where)))
    assert len({same, And((Or((where,)), Not(where))), where}) == 2
    assert json.loads(where.text) == json.loads(json.dumps(where.to_json()))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Compare("n", "eq", 1.0), ["a"]),
        (Compare("n", "eq", True), []),
        (Compare("n", "eq", "1"), []),
        (Compare("n", "gte", 1), ["a", "b"]),
        (Compare("n", "gte", "1"), []),
        (Compare("flag", "eq", True), ["a"]),
        (Compare("flag", "eq", 1), []),
        (Compare("flag", "ne", True), ["b"]),
        (Compare("flag", "eq", None), ["c"]),
        (Compare("who.name", "eq", "Ann"), ["a"]),
        (Compare(("who", "name"), "itext", "B"), ["b"]),
        (Compare("who", "eq", {"name": "Ann", "age": None}), ["a"]),
        (Compare("tags", "contains", "x"), ["a", "b"]),
        (Compare("tags", "prefix", ["x"]), ["a"]),
        (Compare(("tags", "1"), "eq", "y"), ["a"]),
        (Compare("log.seen.0.by", "eq", "Cy"), ["b"]),
        (Compare(("tags", "x"), "exists"), []),
        (Compare(("n", "0"), "exists"), []),
        (Compare("day", "gt", dt.date(2024, 1, 1)), ["b"]),
        (Compare("day", "lte", "2024-01-01"), ["a"]),
        (Compare("id", "eq", "a"), []),  # the store's own columns are no metadata
        (Ids(["c", "nobody"]), ["c"]),
    ],
    ids=lambda value: value.text if isinstance(value, Filter) else None,
)
def test_metadata_columns(
    make_store: Callable[..., osc.Store], where: Filter, expected: list[str]
) -> None:
    store = make_store()
    store.ingest(
        [
            {"id": "a", "text": "one", "n": 1, "flag": True, "who": {"name": "Ann"},
             "tags": ["x", "y"], "day": dt.date(2024, 1, 1)},
            {"id": "b", "text": "two", "n": 2, "flag": False, "who": {"name": "Bob", "age": 7},
             "tags": ["y", "x"], "day": dt.date(2024, 6, 1), "log": {"seen": [{"by": "Cy"}]}},
            {"id": "c", "text": "three"},
        ]
    )  # fmt: skip
    assert store.to_arrow(["id"], where=where)["id"].to_pylist() == expected


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pa.array([dt.datetime(2024, 1, 1, 12), None]), "2024-01-01T12:00:00"),
        (pa.array([dt.time(1, 2, 3), None]), "01:02:03"),
        (pa.array([Decimal("1.50"), None]), 1.5),
        (pa.array([Decimal(10**20), None]), 10**20),
        (pa.array([dt.timedelta(seconds=90), None]), 90),
        (pa.array([b"\x01\xff", None]), "01ff"),
        (pa.array([2**53 + 1, None]), 2**53 + 1),
        (pa.array([[Decimal("0.5"), None], None]), [0.5, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_columns_of_other_types_than_json_has(
    make_store: Callable[..., osc.Store], column: pa.Array, value: Any
) -> None:
    store = make_store()
    store.ingest(pa.table({"id": ["a", "b"], "text": ["one", "two"], "c": column}))
    assert store.to_arrow(["id"], where=Compare("c", "eq", value))["id"].to_pylist() == ["a"]
    assert store.to_arrow(["id"], where=Compare("c", "empty"))["id"].to_pylist() == ["b"]


def test_a_payload_comes_before_a_column(make_store: Callable[..., osc.Store]) -> None:
    store = make_store()
    store.ingest(
        [
            {"id": "a", "text": "one", "lang": "en", "payload": {"lang": "de"}},
            {"id": "b", "text": "two", "lang": "en", "payload": {"other": 1}},
            {"id": "c", "text": "three", "lang": "de", "payload": {"lang": None}},
        ]
    )
    assert store.search("one", where=Compare("lang", "eq", "en")).ids == ["b"]
    assert store.search("one", where=Compare("lang", "eq", "de")).ids == ["a"]
    assert store.search("one", where=Compare("lang", "empty")).ids == ["c"]


def test_a_dotted_name_is_a_key_first(make_store: Callable[..., osc.Store]) -> None:
    store = make_store()
    store.ingest(
        [
            {"id": "a", "text": "one", "payload": {"x.y": 1, "x": {"y": 2}}},
            {"id": "b", "text": "two", "payload": {"x": {"y": 1}}},
        ]
    )
    assert sorted(store.search("one", where=Compare("x.y", "eq", 1)).ids) == ["a", "b"]
    assert store.search("one", where=Compare("x.y", "eq", 2)).ids == []
    assert store.search("one", where=Compare(("x", "y"), "eq", 2)).ids == ["a"]


def test_long_chains_of_filters(store: osc.Store) -> None:
    any_of = reduce(or_, [Compare("lang", "eq", f"l{i}") for i in range(3000)])
    assert store.search("paper", where=any_of | Compare("lang", "eq", "de")).ids == ["zeitung"]
    none_of = reduce(and_, [Compare("lang", "ne", f"l{i}") for i in range(3000)])
    assert len(store.search("paper", where=none_of)) == 6
    assert not matches(any_of, {"lang": "en"})


def test_what_filters_have_looked_at_is_not_kept_without_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coded, "_VALUES_KEPT", 250)
    rows = [json.dumps({"a": i, "b": i, "c": i, "few": 1}) for i in range(100)]
    part = coded.PartValues(pa.table({"payload": rows}))
    first, second = (ref(part.of(Compare(key, "exists"))) for key in "ab")
    assert first() is not None
    assert part.of(Compare("few", "exists")).satisfying(Compare("few", "eq", 1)).all()
    part.of(Compare("c", "exists"))
    assert first() is None
    assert second() is not None


def test_deletion_and_change(make_store: Callable[..., osc.Store]) -> None:
    store = make_store()
    store.ingest([{"id": f"r{i}", "text": f"t{i}", "payload": {"n": i}} for i in range(6)])
    store.ingest([{"id": "r1", "text": "t1", "payload": {"n": 100}}])
    assert store.ingest([{"id": "r1", "text": "t1", "payload": {"n": 100}}]).unchanged == 1
    small = Compare("n", "lt", 3)
    assert sorted(store.search("t1", where=small).ids) == ["r0", "r2"]
    assert store.delete(where=small).deleted == 2
    assert store.search("t1", where=small).ids == []
    assert store.search("t1", where=~small, k=9).ids[0] == "r1"
    with store.snapshot(generation=store.generation - 1) as before:
        assert sorted(before.search("t1", where=small).ids) == ["r0", "r2"]


def test_receipts_tell_filters_apart(store: osc.Store) -> None:
    first = store.search("paper", where=Compare("lang", "eq", "en")).receipt
    again = store.search("paper", where=Compare("lang", "eq", "en")).receipt
    other = store.search("paper", where=Compare("lang", "eq", "de")).receipt
    assert first.content["where"] == again.content["where"]
    assert first.content["where"] != other.content["where"]


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: Compare((), "eq", 1), "path"),
        (lambda: Compare(3, "eq", 1), "path"),
        (lambda: Compare("a\ud800", "eq", 1), "surrogate"),
        (lambda: Compare("a", "like", 1), "op"),
        (lambda: Compare("a", "in", "abc"), "list"),
        (lambda: Compare("a", "exists", 1), "no value"),
        (lambda: Compare("a", "gt", None), "number or a text"),
        (lambda: Compare("a", "gt", True), "number or a text"),
        (lambda: Compare("a", "text", 1), "text"),
        (lambda: Compare("a", "eq", object()), "object"),
        (lambda: Compare("a", "eq", "\ud800"), "surrogate"),
        (lambda: And(("lang = 'en'",)), "combine Filters"),
        (lambda: Not("lang = 'en'"), "combine Filters"),
        (lambda: Ids("abc"), "list of ids"),
        (lambda: Ids([1]), "strings"),
        (lambda: Ids(5), "list of ids"),
        (lambda: And(5), "tuple of Filters"),
        (lambda: Compare("a", "eq", 1) | "b", "combine Filters"),
        (lambda: Compare("a", "eq", 10**5000), "thousands of digits"),
        (lambda: Compare("a", "in", {1, 10**5000}), "thousands of digits"),
    ],
)
def test_what_cannot_be_asked(build: Callable[[], Filter], problem: str) -> None:
    with pytest.raises(QueryError, match=problem):
        build()
