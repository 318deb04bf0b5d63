"""Records: what goes in comes out, in one commit with anchors, in every generation."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oscillink_store as osc
from oscillink_store.engine import parts, record_change, record_runs
from oscillink_store.errors import (
    InputError,
    IntegrityError,
    IntegrityWarning,
    QueryError,
    ReadOnlyError,
)
from oscillink_store.filters import Compare, Filter, Ids
from oscillink_store.storage.manifest import read_current

Make = Callable[..., osc.Store]

VALUES: list[Any] = [
    None, True, False, 0, -1, 2**63, -(2**200), 0.1, -0.0, 1e308, 5e-324, "", "Grüße 🌊",
    "\x00\n\"\\", [], {}, [[], {}, None], {"a": {"b": [1, 2.5, {"c": None}]}, "": "", "ä": "ö"},
    [[[[[["deep"]]]]]],
    b"", b"\x00\xff", bytes(range(256)) * 50,
]  # fmt: skip

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


def shown(records: list[osc.Record]) -> list[tuple[tuple[str, ...], str, Any]]:
    return [(record.namespace, record.key, record.value) for record in records]


def keys(records: list[osc.Record]) -> list[str]:
    return [record.key for record in records]


def exactly(value: Any) -> Any:
    """A value that is equal only to one of the same types all through."""
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exactly(item) for item in value]
    return type(value), math.copysign(1, value) if value == 0.0 else None, value


# values and names


def test_every_value_comes_back_as_it_went_in(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record(("v",), f"k{i}", value) for i, value in enumerate(VALUES)])
    for i, value in enumerate(VALUES):
        record = store.record(("v",), f"k{i}")
        assert record is not None
        assert exactly(record.value) == exactly(value)
    assert store.stats()["records"] == len(store.records()) == len(VALUES)


def test_tuples_are_lists_and_byte_buffers_are_bytes(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record((), "t", (1, (2,))), osc.Record((), "b", bytearray(b"xy"))])
    assert {record.key: record.value for record in store.records()} == {"t": [1, [2]], "b": b"xy"}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osc.Store]:
    """A store for all examples of a property, each of which drops what the last one put."""
    with osc.connect(tmp_path_factory.mktemp("records") / "store.osc") as store:
        yield store


@given(st.dictionaries(st.tuples(st.lists(labels, max_size=3).map(tuple), labels), json_values))
def test_any_name_finds_its_own_value_and_any_prefix_what_lies_below(
    one: osc.Store, table: dict[tuple[tuple[str, ...], str], Any]
) -> None:
    one.write(
        put=[osc.Record(*name, value) for name, value in table.items()],
        drop=[(record.namespace, record.key) for record in one.records()],
    )
    for name, value in table.items():
        record = one.record(*name)
        assert record is not None
        assert exactly(record.value) == exactly(value)
    asked = [*table, (("none",), ""), *table]
    assert one.find_records(asked) == [one.record(*name) for name in asked]
    prefixes = {namespace[:n] for namespace, _ in table for n in range(len(namespace) + 1)}
    for prefix in prefixes | {("x",)}:
        below = [name for name in table if name[0][: len(prefix)] == prefix]
        found = [(record.namespace, record.key) for record in one.records(prefix)]
        assert found == below[::-1]
        found = [(record.namespace, record.key) for record in one.records(prefix, exact=True)]
        assert found == [name for name in reversed(below) if name[0] == prefix]
        assert one.record_namespaces(prefix) == sorted({namespace for namespace, _ in below})


def test_a_namespace_is_no_path(make_store: Make) -> None:
    store = make_store()
    names = [
        ("a", "b"), ("a.b",), ("a/b",), ('a","b',), ("a",), ("ab",), (), ('["a"]',),
        ("",), ("", ""), ("a", ""), ("", "a"),
    ]  # fmt: skip
    store.write(put=[osc.Record(name, "b", i) for i, name in enumerate(names)])
    for i, name in enumerate(names):
        assert [record.value for record in store.records(name, exact=True)] == [i]
    assert {record.namespace for record in store.records(("a",))} == {("a",), ("a", "b"), ("a", "")}
    assert {record.namespace for record in store.records(("",))} == {("",), ("", ""), ("", "a")}
    assert store.record(("a",), "b") != store.record(("a", "b"), "b")
    assert store.record(("a", "b"), "c") is store.record(("b",), "b") is None
    assert store.record_namespaces() == sorted(names)


def test_names_that_share_a_hash_are_told_apart(
    make_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        record_runs, "keys_of", lambda names: np.array([len(n) % 2 for n in names], np.uint64)
    )
    monkeypatch.setattr(parts, "_FACTOR", 0)  # no run takes in another
    for factor in (0, 3):
        monkeypatch.setattr(parts, "_FACTOR", factor)
        store = make_store(f"{factor}.osc")
        for step in range(4):
            store.write(put=[osc.Record(("n",), f"k{i}", (step, i)) for i in range(step, 9)])
            store.write(drop=[(("n",), f"k{i}") for i in (step, 8)])
        held = {key: [3, int(key[1])] for key in ("k4", "k5", "k6", "k7")}
        for _ in range(2):
            assert {record.key: record.value for record in store.records()} == held
            assert store.stats()["records"] == 4
            assert store.record(("n",), "k8") is store.record(("n",), "k0") is None
            store.maintain()


def test_an_empty_text_names_like_any_other(make_store: Make) -> None:
    store = make_store()
    ours = [osc.Record(("",), "", 1, group=""), osc.Record((), "", 2), osc.Record((), "k", 3)]
    store.write(put=ours)
    found = store.find_records([(("",), ""), ((), ""), ((), "x")])
    assert [record and record.value for record in found] == [1, 2, None]
    assert shown(store.records(groups=[""])) == [(("",), "", 1)]
    assert shown(store.records(("",))) == [(("",), "", 1)]
    store.write(drop=[((), "")])
    assert keys(store.records()) == ["k", ""]


def test_records_are_found_at_once_in_the_order_asked_for(make_store: Make) -> None:
    store = make_store()
    for step in range(6):  # several runs
        store.write(put=[osc.Record(("n",), f"k{i}", [step, i]) for i in range(0, 60, step + 1)])
    store.write(drop=[(("n",), "k30")])
    asked = [(["n"], f"k{i}") for i in (59, 30, 2, 99, 2, 0, 45)]
    found = store.find_records(iter(asked))
    assert found == [store.record(*name) for name in asked]
    values = [None if record is None else record.value for record in found]
    assert values == [[0, 59], None, [1, 2], None, [1, 2], [5, 0], [4, 45]]
    assert store.find_records([]) == []
    with store.snapshot() as pinned:
        store.write(put=[osc.Record(("n",), "k2", "new")])
        assert pinned.find_records(asked) == found


# times


def test_a_record_stays_as_old_as_it_was_until_it_is_dropped(make_store: Make) -> None:
    store = make_store()
    before = datetime.now(UTC)
    store.write(put=[osc.Record((), "k", 1)])
    first = store.record((), "k")
    store.write(put=[osc.Record((), "k", 2, created=before, updated=before, expires=before)])
    second = store.record((), "k")
    assert first is not None
    assert second is not None
    assert (second.value, second.created, second.expires) == (2, first.created, None)
    assert before <= first.created == first.updated < second.updated <= datetime.now(UTC)
    store.write(drop=[((), "k")], put=[osc.Record((), "k", 3)])
    third = store.record((), "k")
    assert third is not None
    assert third.created == third.updated > second.updated
    assert store.stats()["records"] == 1


def test_times_ascend_even_when_the_clock_steps_back(
    make_store: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = []
    clock = 2_000_000_000_000_000_000
    store = make_store()
    for step in (0, -3_600_000_000_000, 0, 500, 7_200_000_000_000):
        clock += step
        monkeypatch.setattr(record_change.time, "time_ns", lambda: clock)  # noqa: B023
        store.write(put=[osc.Record((), f"k{len(times)}", step), osc.Record(("n",), "other", step)])
        times.append(store.record((), f"k{len(times)}").updated)
        if len(times) == 2:
            store.write(drop=[(("n",), "other")])
            store.close()
            store = make_store()
    assert times == sorted(set(times))
    assert keys(store.records(exact=True)) == ["k4", "k3", "k2", "k1", "k0"]


def test_a_touch_begins_the_ttl_anew_and_changes_nothing_else(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record((), "k", 1, ttl=2.5, group="g"), osc.Record((), "forever", 1)])
    first = store.record((), "k")
    assert first is not None
    assert first.expires == first.updated + timedelta(seconds=2.5)
    generation = store.generation
    store.write(touch=[((), "forever"), ((), "nobody")])
    assert store.generation == generation
    store.write(touch=[((), "k"), ((), "forever")])
    second = store.record((), "k")
    assert second is not None
    assert second.expires > first.expires
    assert (second.updated, second.created, second.value) == (first.updated, first.created, 1)
    assert (second.group, second.ttl) == ("g", 2.5)
    assert keys(store.records()) == ["forever", "k"]


def test_what_has_expired_stays_until_it_is_dropped(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record((), f"k{t}", t, ttl=t) for t in (1, 60, 3600)])
    store.write(put=[osc.Record((), "forever", 0)])
    now = store.record((), "k1").updated
    assert now is not None
    assert store.records(expired_by=now) == []
    assert keys(store.records(expired_by=now + timedelta(seconds=1))) == ["k1"]
    gone = store.records(expired_by=now + timedelta(seconds=100))
    assert keys(gone) == ["k60", "k1"]
    assert store.record((), "k1") is not None
    store.maintain()
    assert store.stats()["records"] == 4
    store.write(drop=[(record.namespace, record.key) for record in gone])
    assert keys(store.records(expired_by=datetime.max.replace(tzinfo=UTC))) == ["k3600"]


# lists


@pytest.fixture
def listed(make_store: Make) -> osc.Store:
    """Six records in three commits: k5, k4; k3, k2; k1, k0, the newest first."""
    store = make_store()
    for commit in ((0, 1), (2, 3), (4, 5)):
        store.write(
            put=[
                osc.Record(("even",) if i % 2 == 0 else ("odd", f"n{i}"), f"k{i}",
                           {"n": i, "tags": ["x"] * i}, group=[None, "a", "b"][i % 3])
                for i in commit
            ]
        )  # fmt: skip
    return store


def test_the_last_written_comes_first(listed: osc.Store) -> None:
    assert keys(listed.records()) == ["k5", "k4", "k3", "k2", "k1", "k0"]
    listed.write(put=[osc.Record(("even",), "k2", 0), osc.Record(("even",), "k0", 0)])
    assert keys(listed.records()) == ["k0", "k2", "k5", "k4", "k3", "k1"]
    # of one name the last counts, where it stands
    listed.write(put=[osc.Record((), "x", 1), osc.Record((), "y", 2), osc.Record((), "x", 3)])
    assert shown(listed.records(limit=2)) == [((), "x", 3), ((), "y", 2)]


def test_limit_and_offset_count_what_satisfies_all_else(listed: osc.Store) -> None:
    assert keys(listed.records(limit=2)) == ["k5", "k4"]
    assert keys(listed.records(limit=2, offset=5)) == ["k0"]
    assert keys(listed.records(offset=4)) == ["k1", "k0"]
    assert listed.records(limit=0) == listed.records(offset=6) == []
    where = Compare("n", "lt", 4)
    assert keys(listed.records(where=where, limit=2, offset=1)) == ["k2", "k1"]
    assert keys(listed.records(("odd",), where=where)) == ["k3", "k1"]


def test_groups_and_times_select(listed: osc.Store) -> None:
    assert keys(listed.records(groups=["a"])) == ["k4", "k1"]
    assert keys(listed.records(groups=["b", None])) == ["k5", "k3", "k2", "k0"]
    assert keys(listed.records(groups=["a"], prefix=["even"])) == ["k4"]
    assert listed.records(groups=[]) == listed.records(groups=["c"]) == []
    middle = listed.record(("even",), "k2")
    assert middle is not None
    assert keys(listed.records(updated_before=middle.updated)) == ["k1", "k0"]
    assert keys(listed.records(updated_after=middle.updated)) == ["k5", "k4"]
    zone = middle.updated.astimezone()
    assert keys(listed.records(updated_after=zone, updated_before=zone)) == []


@pytest.mark.parametrize(
    "zone", [None, UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))]
)
def test_any_datetime_is_a_time(listed: osc.Store, zone: timezone | None) -> None:
    first, last = datetime.min.replace(tzinfo=zone), datetime.max.replace(tzinfo=zone)
    assert len(listed.records(updated_after=first, updated_before=last)) == 6
    assert listed.records(updated_after=last) == listed.records(updated_before=first) == []
    assert listed.records(expired_by=last) == []


def test_a_filter_looks_into_the_value(listed: osc.Store) -> None:
    assert keys(listed.records(where=~Compare("tags", "contains", "x"))) == ["k0"]
    assert keys(listed.records(where=Ids(["k1", "k9"]))) == ["k1"]
    listed.write(put=[osc.Record((), "list", [1]), osc.Record((), "bytes", b'{"n": 1}')])
    assert keys(listed.records(where=Compare("n", "empty"))) == ["bytes", "list"]
    assert keys(listed.records(where=Compare("n", "eq", 1.0))) == ["k1"]


def test_namespaces_are_those_that_hold_something(listed: osc.Store) -> None:
    assert listed.record_namespaces() == [("even",), ("odd", "n1"), ("odd", "n3"), ("odd", "n5")]
    listed.write(drop=[(("odd", "n3"), "k3"), (("even",), "k0")])
    assert listed.record_namespaces() == [("even",), ("odd", "n1"), ("odd", "n5")]
    assert listed.record_namespaces(["odd"]) == [("odd", "n1"), ("odd", "n5")]
    assert listed.record_namespaces(("od",)) == listed.record_namespaces(("even", "x")) == []


# one commit with anchors


def anchor(name: str, text: str = "Blue House", **other: Any) -> dict[str, Any]:
    return {"id": name, "text": text, **other}


def test_anchors_and_records_come_in_one_commit(store: osc.Store) -> None:
    before = store.generation
    report = store.write(
        [anchor("new"), anchor("cake", "A cake of stone")],
        delete=["dallas", "nobody"],
        put=[osc.Record((), "k", 1)],
    )
    assert report.generation == store.generation == before + 1
    assert (report.added, report.updated, report.deleted, report.anchors) == (1, 1, 1, 6)
    assert report.receipt is not None
    assert report.receipt.content["generation"] == before + 1
    assert store.get("cake")[0]["text"] == "A cake of stone"
    assert store.record((), "k") is not None
    assert store.verify().ok


def test_what_is_deleted_and_comes_again_is_replaced_or_left_alone(store: osc.Store) -> None:
    same = store.to_arrow(["id", "title", "text", "lang"]).to_pylist()[0]
    report = store.write(
        [same, anchor("cake", "Another cake"), anchor("new")],
        delete=Compare("lang", "exists"),
    )
    assert (report.unchanged, report.updated, report.added, report.deleted) == (1, 1, 1, 4)
    assert sorted(store.to_arrow(["id"])["id"].to_pylist()) == ["cake", "collegian", "new"]


def test_deletes_alone_are_those_of_delete(store: osc.Store) -> None:
    report = store.write(delete="cake")
    assert (report.deleted, report.anchors) == (1, 5)
    assert report.receipt is not None
    assert store.write(delete=Compare("lang", "eq", "de")).deleted == 1
    assert store.search("marble cake").ids


def test_no_change_is_no_commit(store: osc.Store) -> None:
    store.write(put=[osc.Record((), "k", 1)])
    rows = store.to_arrow(["id", "title", "text", "lang"])
    before = store.generation, store.receipts().num_rows
    calls: list[dict[str, Any]] = [
        {}, {"rows": []}, {"rows": rows}, {"delete": ["nobody"]}, {"delete": []},
        {"drop": [((), "x")]}, {"touch": [((), "k"), (("n",), "x")]},
    ]  # fmt: skip
    for call in calls:
        assert store.write(**call).receipt is None
        assert (store.generation, store.receipts().num_rows) == before


def test_records_alone_leave_no_receipt_and_touch_no_table(store: osc.Store) -> None:
    manifest = read_current(store.path)
    receipts = store.receipts().num_rows
    report = store.write(put=[osc.Record((), "k", 1)])
    after = read_current(store.path)
    assert report.receipt is None
    assert store.receipts().num_rows == receipts
    assert after.tables == manifest.tables
    assert {*after.segments} - {*manifest.segments} == {f"records/{report.generation:010d}"}
    assert (report.anchors, report.edges) == (6, manifest.statistics["edges"])


def test_records_go_along_when_columns_take_wider_types(make_store: Make) -> None:
    store = make_store()
    store.write([anchor("a", n=1)], put=[osc.Record((), "a", 1)])
    store.write([anchor("b", n=1.5)], put=[osc.Record((), "b", 2)])
    store.write(put=[osc.Record((), "c", 3)])
    assert shown(store.records()) == [((), "c", 3), ((), "b", 2), ((), "a", 1)]
    assert store.to_arrow(["n"])["n"].to_pylist() == [1.0, 1.5]


def test_a_facet_is_declared_along_with_records(store: osc.Store) -> None:
    rows = store.to_arrow(["id", "title", "text", "lang"])
    store.write(rows, fields=osc.Fields(facets=["lang"]), put=[osc.Record((), "k", 1)])
    assert store.stats()["facets"] == {"lang": 2}
    assert store.record((), "k") is not None


# bad input

BAD: dict[str, tuple[type[Exception], str, Callable[[osc.Store], Any]]] = {
    "no list": (InputError, "put is a Record", lambda s: s.write(put=osc.Record((), "k", 1))),
    "no record": (InputError, r"put\[1\] is a dict", lambda s: s.write(put=[GOOD, {"key": 1}])),
    "set": (
        InputError, r"put\[1\], key 'k': its value holds a set at \['a'\]\[0\]",
        lambda s: s.write(put=[GOOD, osc.Record((), "k", {"a": [{1}]})]),
    ),
    "nan": (InputError, "holds nan at", lambda s: put(s, {"a": float("nan")})),
    "infinity": (InputError, "holds -inf,", lambda s: put(s, float("-inf"))),
    "key": (InputError, "the key 1 at", lambda s: put(s, {"a": {1: 2}})),
    "surrogate": (InputError, r"surrogate at \['a'\]", lambda s: put(s, {"a": "\ud800"})),
    "surrogate key": (InputError, "surrogate", lambda s: put(s, {"\ud800": 1})),
    "numpy": (InputError, "holds a int64", lambda s: put(s, np.int64(1))),
    "deep": (InputError, "nested too deeply", lambda s: put(s, nested(70))),
    "digits": (InputError, "thousands of digits", lambda s: put(s, 10**5000)),
    "label type": (InputError, r"namespace\[0\] is a int", lambda s: osc.Record((1,), "k", 1)),
    "namespace": (InputError, "namespace is 'abc'", lambda s: osc.Record("abc", "k", 1)),
    "no namespace": (InputError, "namespace is None", lambda s: osc.Record(None, "k", 1)),
    "key type": (InputError, "key is a int", lambda s: osc.Record((), 7, 1)),
    "key text": (InputError, "key holds a lone", lambda s: osc.Record((), "\udc00", 1)),
    "group": (InputError, "group is a int", lambda s: osc.Record((), "k", 1, group=1)),
    "drop": (InputError, r"drop\[0\] is 'k'", lambda s: s.write(put=[GOOD], drop=["k"])),
    "drop name": (
        InputError, r"drop\[1\]: key is a NoneType",
        lambda s: s.write(put=[GOOD], drop=[((), "k"), ((), None)]),
    ),
    "touch": (InputError, "touch is a str", lambda s: s.write(put=[GOOD], touch="k")),
    "row": (InputError, "row 1", lambda s: s.write([anchor("a"), {"id": "b"}], put=[GOOD])),
    "delete": (QueryError, "id 7", lambda s: s.write(put=[GOOD], delete=[7])),
    "delete type": (QueryError, "delete is a int", lambda s: s.write(put=[GOOD], delete=7)),
    "delete text": (QueryError, "surrogate", lambda s: s.write(put=[GOOD], delete=["\ud800"])),
    "prefix": (QueryError, r"namespace\[0\]", lambda s: s.records((None,))),
    "prefix text": (QueryError, "namespace is 'a'", lambda s: s.record_namespaces("a")),
    "get": (QueryError, "key is a int", lambda s: s.record((), 7)),
    "find": (
        QueryError, r"names\[1\]: key is a int", lambda s: s.find_records([GOOD_NAME, ((), 7)])
    ),
    "find one": (QueryError, r"names\[0\] is \('good',\)", lambda s: s.find_records(GOOD_NAME)),
    "find text": (QueryError, "names is a str", lambda s: s.find_records("k")),
    "expect": (
        InputError, r"expect\[1\], key 'k', has no times of a store: pass the Record",
        lambda s: s.write(put=[GOOD], expect=[GOOD_NAME, GOOD]),
    ),
    "expect time": (
        InputError, r"expect\[0\], key 'k', has no times",
        lambda s: s.write(expect=[replace(s.record(("there",), "k"), expires=1.0)]),
    ),
    "expect none": (
        InputError, r"expect\[0\] is None: use \(namespace, key\) pairs",
        lambda s: s.write(put=[GOOD], expect=[None]),
    ),
    "expect one": (
        InputError, "expect is a Record: pass a list of Records and",
        lambda s: s.write(put=[GOOD], expect=s.record(("there",), "k")),
    ),
    "expect name": (
        InputError, r"expect\[0\]: namespace\[0\] is a int",
        lambda s: s.write(put=[GOOD], expect=[((1,), "k")]),
    ),
    "where": (QueryError, "where is a str", lambda s: s.records(where="n > 1")),
    "groups": (QueryError, "groups is the text", lambda s: s.records(groups="abc")),
    "groups type": (QueryError, "groups: use", lambda s: s.records(groups=[1])),
    "groups number": (QueryError, "groups is a int", lambda s: s.records(groups=1)),
    "groups text": (QueryError, "groups: one holds", lambda s: s.records(groups=["\ud800"])),
    "no filter": (QueryError, "pass a Filter", lambda s: s.records(where=Strange())),
    "limit": (QueryError, "limit is -1", lambda s: s.records(limit=-1)),
    "offset": (QueryError, "offset is True", lambda s: s.records(offset=True)),
    "time": (QueryError, "expired_by is a float", lambda s: s.records(expired_by=1.0)),
}  # fmt: skip


class Strange(Filter):
    """None that the store knows."""

    def to_json(self) -> Any:
        return ["strange"]


GOOD = osc.Record(("good",), "k", 1)
GOOD_NAME = (("good",), "k")


def put(store: osc.Store, value: Any) -> None:
    store.write([anchor("never")], put=[GOOD, osc.Record((), "k", value)])


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_leaves_the_store_as_it_was(store: osc.Store, name: str) -> None:
    store.write(put=[osc.Record(("there",), "k", 1)])
    before = read_current(store.path), len(store)
    error, message, call = BAD[name]
    with pytest.raises(error, match=message):
        call(store)
    assert (read_current(store.path), len(store)) == before
    assert shown(store.records()) == [(("there",), "k", 1)]


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, True, "1", 1e12])
def test_a_ttl_is_a_positive_number_of_seconds(ttl: Any) -> None:
    with pytest.raises(InputError, match="use a positive number of seconds"):
        osc.Record((), "k", 1, ttl=ttl)


def test_the_largest_ttl_ends_some_day(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record((), "k", 1, ttl=1e11)])
    record = store.record((), "k")
    assert record is not None
    assert record.expires == record.updated + timedelta(seconds=1e11)


# generations


def test_a_pinned_generation_keeps_its_records(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record((), f"k{i}", 0) for i in range(5)])
    store.tag("early")
    with store.snapshot() as pinned:
        for i in range(1, 30):
            store.write(put=[osc.Record((), f"k{i}", i)], drop=[((), f"k{i - 1}")])
        store.maintain()
        for early in (pinned, store.snapshot(tag="early")):
            assert keys(early.records()) == ["k4", "k3", "k2", "k1", "k0"]
            assert early.record((), "k0") is not None
            assert early.record_namespaces() == [()]
            assert early.stats()["records"] == 5
    assert shown(store.records()) == [((), "k29", 29)]


def test_maintenance_keeps_records_and_forgets_what_is_gone(store: osc.Store) -> None:
    for i in range(12):
        store.write(put=[osc.Record((), f"k{i}", i)], drop=[((), f"k{i - 3}")])
    store.delete(["cake", "dallas"])
    held = store.records()
    assert keys(held) == ["k11", "k10", "k9"]
    store.maintain()
    (run,) = store.current().records.runs
    assert run.size == 3
    assert store.records() == held
    assert store.stats()["records"] == 3
    generation = store.generation
    store.maintain()
    assert store.generation == generation
    store.write(drop=[((), key) for key in keys(held)])
    assert store.records() == store.record_namespaces() == []
    store.maintain()
    assert store.current().records.runs == ()
    store.write(put=[osc.Record((), "again", 1)])
    assert store.record((), "again").updated > held[0].updated


def test_runs_stay_few(make_store: Make) -> None:
    store = make_store()
    for i in range(100):
        store.write(put=[osc.Record((), f"k{i % 70}", i)])
        sizes = [run.size for run in store.current().records.runs]
        assert len(sizes) <= 5
        assert sizes == sorted(sizes, reverse=True)
    assert [record.value for record in store.records()] == list(range(99, 29, -1))


def test_what_a_small_write_leaves_alone_stays_open(make_store: Make) -> None:
    """So that a read after it costs what is new, whatever the store holds."""
    store = make_store()
    store.write(put=[osc.Record(("many",), f"k{i}", i) for i in range(1000)])
    (large,) = store.current().records.runs
    store.write(put=[osc.Record(("many",), "k7", "new")])
    one, other = store.current().records.runs
    assert one is large
    assert (large.size, other.size) == (1000, 1)
    assert keys(store.records(limit=2)) == ["k7", "k999"]
    assert len(store.records()) == 1000


def test_a_store_may_hold_records_alone(make_store: Make) -> None:
    store = make_store(embedder=None)
    store.write(put=[osc.Record(("a",), "k", {"n": 1})])
    store.maintain()
    with store.snapshot() as pinned:
        assert pinned.record(("a",), "k") == store.record(("a",), "k")
    assert (len(store), store.stats()["records"]) == (0, 1)
    assert store.search("anything").ids == []
    again = make_store(read_only=True)
    assert again.records() == store.records()
    with pytest.raises(ReadOnlyError, match="write needs a writable store"):
        again.write(put=[GOOD])


def test_damage_falls_back_on_a_generation_of_records_alone(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record((), "first", 0)])
    store.write(put=[osc.Record((), f"k{i}", i) for i in range(20)])
    store.write(put=[osc.Record((), "last", 1)])
    store.close()
    newest = read_current(store.path).segments
    path = store.path / newest[max(newest)].path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(IntegrityWarning):
        old = make_store()
    assert old.record((), "last") is None
    assert old.record((), "k19") is not None
    with pytest.raises(IntegrityError, match="restore"):
        old.write(put=[GOOD])


@pytest.mark.parametrize("call", [{"touch": [((), "k3")]}, {"put": [osc.Record((), "k3", 1)]}])
def test_what_has_rotted_is_not_written_again(make_store: Make, call: dict[str, Any]) -> None:
    store = make_store()
    store.write(put=[osc.Record((), f"k{i}", "x" * 1000, ttl=9) for i in range(20)])
    store.close()
    (entry,) = read_current(store.path).segments.values()
    path = store.path / entry.path
    content = bytearray(path.read_bytes())
    content[content.index(b"x" * 1000) + 500] ^= 1
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    store = make_store()
    generation = store.generation
    with pytest.raises(IntegrityError, match=f"{path} is not what was written"):
        store.write(**call)
    assert store.generation == generation
    assert not store.verify().ok


def test_releases_that_know_no_records_refuse_the_store(make_store: Make) -> None:
    store = make_store()
    assert read_current(store.path).features == {}
    store.write(put=[GOOD])
    assert read_current(store.path).features == {"records": True}
    store.write([anchor("a")])
    assert read_current(store.path).features == {"records": True}


# processes

OTHER = """
import sys, oscillink_store as osc
with osc.connect(sys.argv[1], embedder="hash") as store:
    seen = store.record(("from",), "parent")
    store.write([{"id": "theirs", "text": "of a child"}],
                put=[osc.Record(("from",), "child", seen.value + 1)], drop=[(("from",), "parent")])
"""


def test_processes_see_what_others_commit(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record(("from",), "parent", 41)])
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(store.path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert shown(store.records()) == [(("from",), "child", 42)]
    assert len(store) == 1
    store.write(put=[osc.Record(("from",), "child", 43)])
    assert shown(store.records()) == [(("from",), "child", 43)]


def test_threads_lose_nothing(make_store: Make) -> None:
    store = make_store()

    def work(thread: int) -> bool:
        for i in range(12):
            name = (("t",), f"{thread}-{i}")
            store.write(put=[osc.Record(*name, i), osc.Record(("last",), "k", thread)])
            found = store.record(*name)
            if found is None or found.value != i or len(store.records(("last",))) != 1:
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert store.stats()["records"] == len(store.records()) == 4 * 12 + 1
    times = {record.updated for record in store.records(("t",))}
    assert len(times) == 4 * 12


def test_a_segment_of_records_is_a_plain_arrow_file(make_store: Make) -> None:
    store = make_store()
    store.write(put=[osc.Record(("a", "b"), "k", {"ä": 1}, ttl=1)])
    (entry,) = read_current(store.path).segments.values()
    (row,) = pa.ipc.open_file(str(store.path / entry.path)).read_all().to_pylist()
    assert json.loads(row["namespace"]) == ["a", "b"]
    assert json.loads(row["value"]) == {"ä": 1}
    assert row["expires"] - row["updated"] == 1_000_000
