"""Payloads: JSON objects that come back as they went in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oscillink_store as osc
from oscillink_store.engine.payloads import parse_payload, payload_text
from oscillink_store.engine.snapshot import rows_name
from oscillink_store.errors import InputError, IntegrityError
from oscillink_store.filters import Compare
from oscillink_store.storage.manifest import publish
from oscillink_store.storage.segments import Segments, open_rows, write_segments

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(texts, json_values))
def test_any_object_survives_its_text(value: dict[str, Any]) -> None:
    back = parse_payload(payload_text(value))
    assert back == value
    assert list(back) == list(value)
    assert _types(back) == _types(value)


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    return [_types(item) for item in value] if isinstance(value, list) else type(value)


def test_rows_need_not_agree_on_types(make_store: Callable[..., osc.Store]) -> None:
    values: list[Any] = [
        {"x": 1, "empty": {}}, {"x": "one"}, {"x": [1, "a", {"y": None}]}, {"x": {"deep": [[]]}},
        {}, None, {"id": 7, "text": "mine", "vector": [1], "_private": 2**70, "a.b`c": "ü"},
    ]  # fmt: skip
    store = make_store()
    store.ingest([{"id": str(i), "text": f"t{i}", "payload": v} for i, v in enumerate(values)])
    store.close()
    store = make_store()
    assert [row["payload"] for row in store.get([str(i) for i in range(7)])] == values
    assert {hit.id: hit.payload for hit in store.search("t1")} == {
        str(i): value for i, value in enumerate(values)
    }


@pytest.mark.parametrize("kind", ["text", "struct", "json lines"])
def test_sources(make_store: Callable[..., osc.Store], tmp_path: Any, kind: str) -> None:
    value = {"k": [1, 2], "s": {"t": "u"}}
    store = make_store()
    if kind == "json lines":
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps({"id": "a", "text": "one", "meta": value}))
        store.ingest(path, fields=osc.Fields(payload="meta"))
    else:
        column = pa.array([json.dumps(value, indent=2) if kind == "text" else value])
        store.ingest(pa.table({"id": ["a"], "text": ["one"], "payload": column}))
    assert store.get("a")[0]["payload"] == value
    with duckdb.connect() as con:
        osc.attach(con, store)
        taken = con.sql("SELECT payload->>'$.s.t' FROM coherent_search('one')").fetchall()
        assert taken == [("u",)]
        assert con.sql("SELECT payload->'k' FROM coherent_anchors").fetchall() == [("[1,2]",)]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [1, {"b": math.nan}]}, r"nan at \['a'\]\[1\]\['b'\]"),
        ({"a": math.inf}, "inf"),
        ({1: "a"}, "key 1"),
        ({"a": {1, 2}}, "a set at"),
        ({"a": np.int64(1)}, "int64"),
        ({"a": "\ud800"}, "surrogate"),
        ("[1]", "type list: give an object"),
        ("{", "is no JSON"),
        ('{"a": NaN}', "NaN"),
        ('{"a": ' + "1" * 5000 + "}", "thousands of digits"),
        (5, "type int64: give JSON objects"),
    ],
)
def test_what_is_no_payload(store: osc.Store, value: object, problem: str) -> None:
    generation = store.generation
    rows = [{"id": "x", "text": "fine", "payload": None if value == 5 else {}}]
    with pytest.raises(InputError, match=problem) as caught:
        store.ingest([*rows, {"id": "y", "text": "bad", "payload": value}])
    assert caught.value.field == "payload"
    assert caught.value.row in (1, None)
    assert store.generation == generation


def test_a_job_puts_bad_payloads_aside(store: osc.Store) -> None:
    rows = [
        {"id": "x", "text": "fine", "payload": {"n": 1}},
        {"id": "y", "text": "bad", "payload": {"n": math.nan}},
        {"id": "z", "text": "bad", "payload": "no object"},
    ]
    report = store.ingest_job(rows, name="j", on_error="skip")
    assert (report.added, report.rejected) == (1, 2)
    assert store.get("x")[0]["payload"] == {"n": 1}


def test_widening_and_maintenance_keep_them(make_store: Callable[..., osc.Store]) -> None:
    store = make_store()
    store.ingest([{"id": "a", "text": "one", "n": 1, "payload": {"k": 1}}])
    store.ingest([{"id": "b", "text": "two", "n": 0.5}])  # rows are written anew in wider types
    store.ingest([{"id": "c", "text": "three", "payload": {"k": [None]}}])
    store.delete("b")
    store.maintain()
    assert [row["payload"] for row in store.get(["a", "c"])] == [{"k": 1}, {"k": [None]}]
    assert store.verify().ok


def test_stores_from_before_there_were_payloads_are_read_and_written(
    store: osc.Store,
) -> None:
    manifest = store.current().manifest
    name = rows_name(0)
    rows = store.current().parts[0].rows.drop_columns(["payload"])
    before = replace(manifest, generation=manifest.generation + 1, parent=manifest.generation)
    written = write_segments(store.path, before.generation, Segments(rows={name: rows}))
    publish(store.path, replace(before, segments={**manifest.segments, **written}))
    assert "payload" not in open_rows(store.path, written[name]).schema.names

    tagged = Compare("tag", "exists")
    with osc.connect(store.path) as old:
        assert [hit.payload for hit in old.search("paper", k=1)] == [None]
        assert old.get("cake")[0]["payload"] is None
        assert old.to_arrow(["id"], where=tagged).num_rows == 0
        assert old.to_arrow(["id"], where=Compare("lang", "eq", "de")).num_rows == 1
        old.ingest([{"id": "new", "text": "New", "payload": {"tag": 1}}])
        assert old.search("new", where=tagged).ids == ["new"]
        assert old.to_arrow(["id"], where=~tagged).num_rows == 6


def test_what_has_rotted_is_told(store: osc.Store) -> None:
    store.ingest([{"id": "x", "text": "A lamp", "payload": {"price": 12}}])
    entry = store.current().manifest.segments[rows_name(6)]
    path = store.path / entry.path
    content = path.read_bytes()
    assert content.count(b'{"price":12}') == 1
    path.write_bytes(content.replace(b'{"price":12}', b'{"price\0:12}'))
    os.utime(path, ns=(entry.modified, entry.modified))
    with osc.connect(store.path) as opened:
        for read in (
            lambda: opened.get("x"),
            lambda: opened.search("lamp", k=1),
            lambda: opened.search("lamp", where=Compare("price", "lt", 20)),
            lambda: opened.to_arrow(["id"], where=Compare("price", "lt", 20)),
        ):
            with pytest.raises(IntegrityError, match="a payload is not what was written: verify"):
                read()
