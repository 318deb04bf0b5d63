"""Metadata types: what is storable in Lance, how types unify, how tables conform."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import lance
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.errors import InputError
from oscillink_store.storage.schemas import (
    FIXED_COLUMNS,
    anchors_schema,
    check_metadata_names,
    conform,
    first_failing,
    merge_metadata,
    metadata_schema,
    storable_type,
    unify_types,
)

DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime(2024, 2, 29, 12, 30)

STORABLE: list[tuple[pa.DataType, Any]] = [
    (pa.null(), None),
    (pa.bool_(), True),
    (pa.int8(), -5),
    (pa.uint64(), 2**64 - 1),
    (pa.float16(), 1.5),
    (pa.float32(), 0.25),
    (pa.float64(), 1e300),
    (pa.decimal32(5, 2), Decimal("1.25")),
    (pa.decimal128(38, 3), Decimal("1.250")),
    (pa.decimal256(30, 3), Decimal("1.250")),
    (pa.date32(), DAY),
    (pa.date64(), DAY),
    (pa.timestamp("s"), MOMENT),
    (pa.timestamp("us", "Europe/Berlin"), MOMENT.replace(tzinfo=dt.UTC)),
    (pa.time32("s"), dt.time(1, 2, 3)),
    (pa.time64("us"), dt.time(1, 2, 3, 4)),
    (pa.duration("ms"), dt.timedelta(seconds=5)),
    (pa.string(), "ünï\u2028"),
    (pa.large_string(), "ünï"),
    (pa.string_view(), "ünï"),
    (pa.binary(), b"\x00\xff"),
    (pa.large_binary(), b"\x00"),
    (pa.binary_view(), b"\x00"),
    (pa.binary(3), b"abc"),
    (pa.dictionary(pa.int8(), pa.string()), "word"),
    (pa.json_(), '{"a": 1}'),
    (pa.list_(pa.string()), ["a", None, ""]),
    (pa.list_(pa.null()), []),
    (pa.large_list(pa.large_string()), ["a"]),
    (pa.list_(pa.float32(), 2), [1.0, None]),
    (pa.list_(pa.list_(pa.field("element", pa.int64(), nullable=False))), [[1], []]),
    (pa.map_(pa.string(), pa.int64()), [("k", 1), ("l", None)]),
    (pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]), {"a": 1, "b": ["x"]}),
    (pa.list_(pa.struct([("a", pa.map_(pa.string(), pa.date64()))])), [{"a": [("k", DAY)]}]),
    (pa.struct([pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})]), {"a": 1}),
]


@pytest.mark.parametrize(("type_", "value"), STORABLE, ids=lambda v: str(v)[:40])
def test_storable_types_go_through_lance_and_duckdb(
    tmp_path: Path, type_: pa.DataType, value: Any
) -> None:
    stored = storable_type(type_)
    given_values = pa.array([value, None], type_)
    table = pa.table({"id": ["a", "b"], "m": given_values.cast(stored)})
    assert table["m"].type.equals(stored, check_metadata=True)
    assert storable_type(stored) == stored
    lance.write_dataset(table, str(tmp_path / "t.lance"))
    back = lance.dataset(str(tmp_path / "t.lance")).to_table()
    assert back["m"].type == stored
    assert back["m"].to_pylist() == given_values.to_pylist() == [value, None]
    with duckdb.connect() as con:
        con.register("back", back)
        assert con.sql("SELECT count(*), count(m) FROM back").fetchall() == [
            (2, 0 if value is None else 1)
        ]


def nested(depth: int) -> pa.DataType:
    return pa.list_(nested(depth - 1)) if depth else pa.int64()


@pytest.mark.parametrize(
    "type_",
    [
        pa.month_day_nano_interval(),
        pa.dense_union([pa.field("a", pa.int64())]),
        pa.list_view(pa.string()),
        pa.run_end_encoded(pa.int32(), pa.string()),
        pa.uuid(),
        pa.struct([]),
        pa.struct([("a", pa.struct([]))]),
        pa.struct([("a\0", pa.int64())]),
        pa.struct([("a", pa.int64()), ("a", pa.int64())]),
        pa.decimal256(50, 2),
        pa.list_(pa.month_day_nano_interval()),
        nested(40),
    ],
    ids=lambda v: str(v)[:40],
)
def test_types_without_a_plain_form(type_: pa.DataType) -> None:
    assert storable_type(type_) is None


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        (pa.null(), pa.date32(), pa.date32()),
        (pa.int8(), pa.int32(), pa.int32()),
        (pa.uint8(), pa.uint16(), pa.uint16()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint8(), pa.int64(), pa.int64()),
        (pa.uint64(), pa.int8(), pa.int64()),
        (pa.int64(), pa.float32(), pa.float64()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.decimal128(5, 1), pa.decimal128(4, 3), pa.decimal128(7, 3)),
        (pa.decimal128(38, 0), pa.decimal128(5, 5), None),
        (pa.timestamp("s", "UTC"), pa.timestamp("us", "UTC"), pa.timestamp("us", "UTC")),
        (pa.timestamp("s", "UTC"), pa.timestamp("s"), None),
        (pa.duration("s"), pa.duration("ns"), pa.duration("ns")),
        (pa.time64("us"), pa.time64("ns"), pa.time64("ns")),
        (pa.list_(pa.null()), pa.list_(pa.string()), pa.list_(pa.string())),
        (pa.list_(pa.int64()), pa.int64(), None),
        (pa.list_(pa.int64()), pa.list_(pa.string()), None),
        (
            pa.struct([("a", pa.int64()), ("b", pa.string())]),
            pa.struct([("c", pa.bool_()), ("a", pa.float64())]),
            pa.struct([("a", pa.float64()), ("b", pa.string()), ("c", pa.bool_())]),
        ),
        (pa.struct([("a", pa.int64())]), pa.struct([("a", pa.string())]), None),
        (
            pa.map_(pa.string(), pa.int64()),
            pa.map_(pa.string(), pa.float64()),
            pa.map_(pa.string(), pa.float64()),
        ),
        (pa.map_(pa.string(), pa.int64()), pa.map_(pa.int64(), pa.int64()), None),
        (pa.bool_(), pa.int64(), None),
        (pa.string(), pa.int64(), None),
        (pa.string(), pa.binary(), None),
        (pa.date32(), pa.timestamp("s"), None),
        (pa.decimal128(5, 1), pa.float64(), None),
    ],
    ids=str,
)
def test_unified_types(first: pa.DataType, second: pa.DataType, common: Any) -> None:
    assert unify_types(first, second) == common
    swapped = unify_types(second, first)
    if common is not None and pa.types.is_struct(common):
        assert {(f.name, f.type) for f in swapped} == {(f.name, f.type) for f in common}
    else:
        assert swapped == common


scalar_types = st.sampled_from(
    [pa.null(), pa.int8(), pa.uint8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(),
     pa.string(), pa.bool_(), pa.timestamp("s"), pa.timestamp("ns"), pa.decimal128(5, 2)]
)  # fmt: skip
types = st.recursive(
    scalar_types,
    lambda inner: st.one_of(
        inner.map(pa.list_),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(
            lambda fields: pa.struct(list(fields.items()))
        ),
    ),
    max_leaves=6,
)


@given(first=types, second=types)
def test_a_common_type_absorbs_both(first: pa.DataType, second: pa.DataType) -> None:
    common = unify_types(first, second)
    if common is None:
        assert unify_types(second, first) is None
    else:
        assert storable_type(common) == common
        assert unify_types(common, first) == unify_types(common, second) == common
        assert pa.nulls(2, first).cast(common).type == common


class TestMerge:
    def test_new_columns_and_wider_types(self) -> None:
        old = pa.table({"n": [1, 2], "s": [{"a": 1}, None]})
        new = pa.table({"lang": ["de"], "n": [0.5], "s": [{"b": "x"}]})
        merged = merge_metadata(old.schema, new.schema)
        assert merged.names == ["n", "s", "lang"]
        rows = pa.concat_tables([conform(old, merged), conform(new, merged)])
        assert rows.to_pylist() == [
            {"n": 1.0, "s": {"a": 1, "b": None}, "lang": None},
            {"n": 2.0, "s": None, "lang": None},
            {"n": 0.5, "s": {"a": None, "b": "x"}, "lang": "de"},
        ]

    def test_types_that_do_not_meet(self) -> None:
        with pytest.raises(InputError, match=r"'n' holds int64 so far and string") as caught:
            merge_metadata(pa.schema([("n", pa.int64())]), pa.schema([("n", pa.string())]))
        assert caught.value.field == "n"

    def test_fixed_columns_must_agree(self) -> None:
        assert merge_metadata(anchors_schema(3), anchors_schema(3)) == anchors_schema(3)
        with pytest.raises(InputError, match=r"'vector' holds .*\[3\] so far and .*\[4\]"):
            merge_metadata(anchors_schema(3), anchors_schema(4))

    def test_names_that_differ_in_case(self) -> None:
        with pytest.raises(InputError, match="differs only in case from the column 'lang'"):
            merge_metadata(pa.schema([("lang", pa.string())]), pa.schema([("Lang", pa.string())]))


class TestConform:
    def test_values_never_change(self) -> None:
        table = pa.table({"n": [1, 2**53 + 1, 3]})
        with pytest.raises(InputError, match="9007199254740993 in row 1") as caught:
            conform(table, pa.schema([("n", pa.float64())]))
        assert (caught.value.field, caught.value.row) == ("n", 1)
        with pytest.raises(InputError, match=r"1\.5 in row 0"):
            conform(pa.table({"n": [1.5]}), pa.schema([("n", pa.int64())]))
        assert conform(pa.table({"n": [1.0]}), pa.schema([("n", pa.int64())]))["n"].to_pylist() == [
            1
        ]

    @given(
        st.lists(
            st.none() | st.fixed_dictionaries({"a": st.none() | st.lists(st.none(), max_size=3)}),
            min_size=1,
        )
    )
    def test_lists_of_nothing_but_nulls(self, values: list[Any]) -> None:
        type_ = pa.struct([("a", pa.list_(pa.null()))])
        wider = pa.schema([("m", pa.struct([("a", pa.list_(pa.null())), ("b", pa.string())]))])
        rows = conform(pa.table({"m": pa.array(values, type_)}), wider)
        rows.validate(full=True)
        assert rows["m"].to_pylist() == [v and {**v, "b": None} for v in values]

    def test_columns_unknown_to_the_schema(self) -> None:
        with pytest.raises(InputError, match="'n' is unknown"):
            conform(pa.table({"n": [1]}), pa.schema([]))


class TestNames:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("fulltext", "reserved"),
            ("digest", "reserved"),
            ("_rowid", "reserved"),
            ("text", "would hide"),
            ("", "is empty"),
            ("a.b", "a dot"),
            ("a`b", "backtick"),
            ("a\x00b", "control character"),
            ("Title", "differs only in case from the field 'title'"),
        ],
    )
    def test_refused(self, name: str, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            check_metadata_names([name])
        assert caught.value.field == name
        assert "rename or drop it" in str(caught.value)

    def test_refused_together(self) -> None:
        with pytest.raises(InputError, match="differs only in case from the column 'a'"):
            check_metadata_names(["a", "A"])

    def test_accepted_names_work_in_lance(self, tmp_path: Path) -> None:
        names = ["lang", "two words", 'quo"ted', "apo'strophe", "ünï", "a/b", "0"]
        check_metadata_names(names)
        table = pa.table({name: [1, 2] for name in names})
        lance.write_dataset(table, str(tmp_path / "t.lance"))
        dataset = lance.dataset(str(tmp_path / "t.lance"))
        for name in names:
            assert dataset.to_table(columns=[name], filter=f"`{name}` = 2").num_rows == 1


def test_fixed_columns_come_first() -> None:
    schema = anchors_schema(4, [pa.field("lang", pa.string())])
    assert tuple(schema.names) == (*FIXED_COLUMNS, "lang")
    assert schema.field("vector").type == pa.list_(pa.float32(), 4)
    assert metadata_schema(schema).names == ["lang"]
    assert "vector" not in anchors_schema(None).names


@given(st.integers(0, 20), st.integers(1, 30))
def test_first_failing_element(bad: int, more: int) -> None:
    array = pa.array(["1"] * bad + ["x"] + ["x", "1"] * more)
    assert first_failing(array, lambda part: part.cast(pa.int64())) == bad
