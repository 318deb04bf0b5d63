"""Normalized rows: canonical columns, every refusal with field and row, vectors, digests."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from oscillink_store.engine.rows import Normalizer, read_rows
from oscillink_store.engine.sources import open_source
from oscillink_store.errors import InputError
from oscillink_store.model import Fields
from oscillink_store.storage.schemas import FIXED_COLUMNS, anchors_schema

BASE = {"id": "a", "text": "x"}


def normalize(
    rows: Any, fields: Fields | None = None, *, dimension: int | None = None, needs: bool = False
) -> pa.Table:
    fields = fields or Fields()
    normalizer = Normalizer(fields, dimension=dimension, needs_vector=needs)
    return read_rows(open_source(rows, fields), normalizer)


def refusal(rows: Any, fields: Fields | None = None, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        normalize(rows, fields, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert ": " in message  # the remedy
    return caught.value


def numbered(**columns: list[Any]) -> list[dict[str, Any]]:
    """Rows that are valid but for ``columns``."""
    length = len(next(iter(columns.values())))
    return [
        {"id": f"a{i}", "text": f"t{i}"} | {name: values[i] for name, values in columns.items()}
        for i in range(length)
    ]


def table(**columns: pa.Array) -> pa.Table:
    """An Arrow table that is valid but for ``columns``."""
    length = len(next(iter(columns.values())))
    valid = {"id": [f"a{i}" for i in range(length)], "text": [f"t{i}" for i in range(length)]}
    return pa.table({**valid, **columns})


class TestColumns:
    def test_all_parts(self) -> None:
        row = {
            "id": 7, "title": "Ärger", "text": "Body", "vector": [3, 4], "sequence": 12,
            "position": 2, "links": ["b", "c"], "gate": 0.5,
            "payload": {"k": [1.5, None]}, "lang": "de", "tags": {"n": [1]},
        }  # fmt: skip
        out = normalize([row])
        assert out.schema == anchors_schema(
            2, [pa.field("lang", pa.string()), pa.field("tags", pa.struct([("n", out_list())]))]
        )
        digest = out.column("digest")[0].as_py()
        assert out.to_pylist() == [
            {
                "id": "7", "title": "Ärger", "text": "Body",
                "vector": [np.float32(0.6), np.float32(0.8)], "sequence": "12", "position": 2.0,
                "links": ["b", "c"], "gate": 0.5, "payload": '{"k":[1.5,null]}',
                "fulltext": "Ärger\nBody", "digest": digest,
                "lang": "de", "tags": {"n": [1]},
            }
        ]  # fmt: skip
        assert len(digest) == 16

    def test_only_id_and_text(self) -> None:
        out = normalize([BASE]).to_pylist()[0]
        assert out.pop("digest")
        assert out == {
            "id": "a", "title": None, "text": "x", "sequence": None, "position": None,
            "links": None, "gate": None, "payload": None, "fulltext": "x",
        }  # fmt: skip

    def test_blank_titles_and_sequences_are_null(self) -> None:
        out = normalize(numbered(title=["", " \u00a0", "T", None], sequence=["", None, "s", " "]))
        assert out["title"].to_pylist() == [None, None, "T", None]
        assert out["sequence"].to_pylist() == [None, None, "s", None]
        assert out["fulltext"].to_pylist() == ["t0", "t1", "T\nt2", "t3"]

    def test_renamed_fields_leave_sequence_and_position_as_metadata(self) -> None:
        fields = Fields(
            id="key", text="body", title="head", vector="v", sequence="doc", position="day",
            links="refs", gate="trust", facets=["doc", "speaker"],
        )  # fmt: skip
        row = {
            "key": "k", "body": "b", "head": "h", "v": [1.0], "doc": "d", "refs": ["k2"],
            "day": dt.date(1970, 1, 2), "trust": 0, "speaker": "s",
        }  # fmt: skip
        out = normalize([row], fields)
        assert out.schema.names == [*FIXED_COLUMNS, "doc", "day", "speaker"]
        assert out.drop_columns(["digest", "vector"]).to_pylist() == [
            {
                "id": "k", "title": "h", "text": "b", "sequence": "d", "position": 86400.0,
                "links": ["k2"], "gate": 0.0, "payload": None, "fulltext": "h\nb", "doc": "d",
                "day": dt.date(1970, 1, 2), "speaker": "s",
            }
        ]  # fmt: skip

    def test_several_sequence_columns(self) -> None:
        rows = numbered(a=["x", "x,y", "x", "é"], b=["y,z", "z", None, "w"], c=[1, 1, 1, 2])
        out = normalize(rows, Fields(sequence=["a", "b", "c"]))
        assert out["sequence"].to_pylist() == [
            '["x", "y,z", "1"]',
            '["x,y", "z", "1"]',
            None,
            '["é", "w", "2"]',
        ]
        assert out.schema.names[-3:] == ["a", "b", "c"]
        assert out.schema.field("c").type == pa.int64()

    @pytest.mark.parametrize(
        ("column", "wanted"),
        [
            (pa.array([1, None], pa.uint8()), [1.0, None]),
            (pa.array([1.5, None], pa.float16()), [1.5, None]),
            (pa.array([Decimal("1.25"), None]), [1.25, None]),
            (pa.array([dt.date(1970, 1, 3), None]), [172800.0, None]),
            (pa.array([1500, None], pa.timestamp("ms")), [1.5, None]),
            (pa.array([1500, None], pa.timestamp("us", "UTC")), [0.0015, None]),
            (pa.array([2, None], pa.duration("s")), [2.0, None]),
            (pa.nulls(2), [None, None]),
        ],
        ids=lambda v: str(getattr(v, "type", "")),
    )
    def test_positions(self, column: pa.Array, wanted: list[float | None]) -> None:
        assert normalize(table(position=column))["position"].to_pylist() == wanted

    @pytest.mark.parametrize(
        ("column", "wanted"),
        [
            (pa.array([["a", "b"], [], None]), [["a", "b"], None, None]),
            (pa.array([[1, 2], [], None]), [["1", "2"], None, None]),
            (pa.array([["a"], [], None], pa.large_list(pa.large_string())), [["a"], None, None]),
            (pa.array([["a"], None, ["b"]], pa.list_(pa.string(), 1)), [["a"], None, ["b"]]),
            (pa.array(['["a", "b"]', "[]", None]), [["a", "b"], None, None]),
            (pa.array(["[]", "[]", None], pa.large_string()), [None, None, None]),
            (pa.array(["[1]", None, None]), [["1"], None, None]),
            (pa.nulls(3), [None, None, None]),
        ],
        ids=lambda v: str(getattr(v, "type", "")),
    )
    def test_links(self, column: pa.Array, wanted: list[list[str] | None]) -> None:
        out = normalize(table(links=column))
        assert out["links"].to_pylist() == wanted
        assert out.schema.field("links").type == pa.list_(pa.string())

    def test_text_of_every_layout(self) -> None:
        large = pa.array(["ä", "b"], pa.large_string())
        for column in (large, pa.array(["ä", "b"], pa.string_view()), large.dictionary_encode()):
            out = normalize(pa.table({"id": column, "text": column, "m": column}))
            assert out["id"].to_pylist() == out["text"].to_pylist() == ["ä", "b"]
            assert out.schema.field("m").type == pa.string()

    def test_no_rows(self) -> None:
        assert normalize([]).num_rows == 0
        assert normalize([], dimension=3).schema == anchors_schema(3)
        normalizer = Normalizer(Fields())
        empty = pa.RecordBatch.from_pylist([BASE]).slice(0, 0)
        assert normalizer.normalize(empty).schema == anchors_schema(None)

    def test_ten_megabytes_in_one_text(self) -> None:
        long = "ein Wort, " * (1 << 20)
        rows = [{"id": "a", "text": long, "title": "T", "vector": [1.0]}]
        assert normalize(rows)["fulltext"].to_pylist() == ["T\n" + long]


def out_list() -> pa.DataType:
    return pa.list_(pa.int64())


class TestRefusals:
    @pytest.mark.parametrize(
        ("rows", "words", "field", "row"),
        [
            ([{"text": "x"}], "no column 'id' among text", "id", None),
            ([{"id": "a", "body": "x"}], r"Fields(text=...)", "text", None),
            ([BASE, {"text": "x"}], "row 1: 'id' is missing", "id", 1),
            ([BASE, {"id": "", "text": "x"}], "row 1: 'id' is empty", "id", 1),
            ([BASE, {"id": " \t", "text": "x"}], "row 1: 'id' is empty", "id", 1),
            ([{"id": 1.5, "text": "x"}], "'id' is of type double", "id", None),
            ([{"id": b"a", "text": "x"}], "'id' is of type binary", "id", None),
            ([BASE, {"id": "b"}], "row 1: 'text' is missing", "text", 1),
            ([BASE, {"id": "b", "text": "\n \u2003"}], "row 1: 'text' is empty", "text", 1),
            ([{"id": "a", "text": 5}], "'text' is of type int64", "text", None),
            ([{"id": "a", "text": b"x"}], "'text' is of type binary", "text", None),
            ([BASE, BASE], "row 1: 'id' repeats 'a'", "id", 1),
            ([BASE | {"title": ["x"]}], "'title' is of type list", "title", None),
            ([BASE | {"sequence": 1.5}], "'sequence' is of type double", "sequence", None),
            ([BASE | {"position": "1"}], "'position' is of type string", "position", None),
            ([BASE | {"position": True}], "'position' is of type bool", "position", None),
            (numbered(position=[1, math.nan]), "row 1: 'position' is nan", "position", 1),
            (numbered(position=[math.inf, 1]), "row 0: 'position' is inf", "position", 0),
            (numbered(gate=[1, -0.1]), "row 1: 'gate' is -0.1", "gate", 1),
            (numbered(gate=[None, 1.1]), "row 1: 'gate' is 1.1", "gate", 1),
            (numbered(gate=[math.nan, 1.0]), "row 0: 'gate' is nan", "gate", 0),
            ([BASE | {"gate": "high"}], "'gate' is of type string", "gate", None),
            (numbered(links=[["a"], ["b", None]]), "row 1: 'links' holds a null", "links", 1),
            (numbered(links=[["a"], None, [""]]), "row 2: 'links' holds a null or", "links", 2),
            ([BASE | {"links": [1.5]}], "'links' holds lists of double", "links", None),
            ([BASE | {"links": 5}], "'links' is of type int64", "links", None),
            (numbered(links=["[]", "b"]), "row 1: 'links' holds 'b'", "links", 1),
            ([BASE | {"links": '["b", 1]'}], "'links' mixes types", "links", None),
            ([BASE | {"digest": "x"}], "'digest' is reserved", "digest", None),
            ([BASE | {"fulltext": "x"}], "'fulltext' is reserved", "fulltext", None),
            ([BASE | {"_rowid": 1}], "'_rowid' is reserved", "_rowid", None),
            ([BASE | {"a.b": 1}], "'a.b' holds a dot", "a.b", None),
            ([BASE | {"Title": "x"}], "name it in Fields", "Title", None),
            ([BASE | {"m": 1, "M": 1}], "differs only in case", "M", None),
        ],
    )
    def test_rows(
        self, rows: list[dict[str, Any]], words: str, field: str, row: int | None
    ) -> None:
        error = refusal(rows)
        assert words in str(error)
        assert (error.field, error.row) == (field, row)

    def test_text_that_is_not_utf8(self) -> None:
        for type_ in (pa.string(), pa.large_string()):
            bad = pa.array([b"a", b"b", b"\xff\xfe"]).cast(pa.large_binary())
            if type_ == pa.string():
                bad = bad.cast(pa.binary())
            text = pa.Array.from_buffers(type_, 3, bad.buffers())
            for field in ("text", "title", "lang"):
                error = refusal(table(**{field: text}).slice(1))
                assert f"row 1: {field!r} is not UTF-8" in str(error)
                assert (error.field, error.row) == (field, 1)
            lists = pa.ListArray.from_arrays(pa.array([0, 2, 3], pa.int32()), text)
            assert refusal(table(tags=lists)).row == 1

    def test_two_columns_of_one_name(self) -> None:
        twice = pa.table([["a"], ["x"], ["y"]], names=["id", "text", "text"])
        assert refusal(twice).field == "text"

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([pa.MonthDayNano([1, 2, 3])]),
            pa.array([[1]], pa.list_view(pa.int64())),
            pa.array([b"0" * 16], pa.uuid()),
        ],
        ids=lambda v: str(v.type),
    )
    def test_metadata_types_that_cannot_be_stored(self, column: pa.Array) -> None:
        error = refusal(table(m=column))
        assert "cannot be stored" in str(error)
        assert error.field == "m"

    def test_corrupt_arrays(self) -> None:
        no_midnight = pa.array([0, 86_400_001], pa.date64())
        error = refusal(table(m=no_midnight))
        assert "'m' is a corrupt Arrow array" in str(error)
        assert error.field == "m"

    def test_a_part_renamed_while_its_own_name_is_there_too(self) -> None:
        row = {"id": "a", "text": "old", "body": "new"}
        assert refusal([row], Fields(text="body")).field == "text"

    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            (Fields(title="head"), "head"),
            (Fields(vector="v"), "v"),
            (Fields(sequence="doc"), "doc"),
            (Fields(sequence=["doc", "lang"]), "doc"),
            (Fields(position="at"), "at"),
            (Fields(links="refs"), "refs"),
            (Fields(gate="trust"), "trust"),
            (Fields(facets=["speaker"]), "speaker"),
            (Fields(facets=["title"]), "title"),
        ],
    )
    def test_named_columns_must_exist(self, fields: Fields, name: str) -> None:
        error = refusal([BASE | {"lang": "en"}], fields)
        assert error.field == name
        assert repr(name) in str(error)

    def test_a_named_column_may_appear_late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("oscillink_store.engine.source_dicts.BATCH_ROWS", 2)
        rows = numbered(n=[1] * 5)
        rows[4] |= {"refs": ["a0"], "speaker": "s"}
        out = normalize(rows, Fields(links="refs", facets=["speaker"]))
        assert out["links"].to_pylist() == [None] * 4 + [["a0"]]
        assert out["speaker"].to_pylist() == [None] * 4 + ["s"]

    def test_files_are_named_with_their_own_rows(self, tmp_path: Path) -> None:
        for name, ids in (("1.jsonl", "abc"), ("2.jsonl", "dbe")):
            content = "".join(json.dumps({"id": i, "text": i}) + "\n" for i in ids)
            (tmp_path / name).write_text(content)
        error = refusal(str(tmp_path / "*.jsonl"))
        assert "2.jsonl, row 1: 'id' repeats 'b'" in str(error)
        assert error.row == 1


class TestBetweenBatches:
    @pytest.fixture(autouse=True)
    def _small_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("oscillink_store.engine.source_dicts.BATCH_ROWS", 3)

    def test_ids_repeat(self) -> None:
        rows = numbered(n=[1] * 8)
        rows[7]["id"] = "a1"
        error = refusal(rows)
        assert "row 7: 'id' repeats 'a1'" in str(error)

    def test_a_number_and_a_text_are_one_id(self) -> None:
        assert refusal([*numbered(n=[1] * 3), {"id": 5, "text": "x"}, {"id": "5", "text": "y"}])

    def test_metadata_widens(self) -> None:
        rows = numbered(n=[1, 2, 3, 4.5, None, 6, "x", "x", "x"][:6])
        rows[5]["late"] = {"deep": ["x"]}
        out = normalize(rows)
        assert out["n"].to_pylist() == [1.0, 2.0, 3.0, 4.5, None, 6.0]
        assert out["late"].to_pylist() == [None] * 5 + [{"deep": ["x"]}]

    def test_metadata_does_not_fit(self) -> None:
        error = refusal(numbered(n=[1, 2, 3, None, "x"]))
        assert "row 4: column 'n' holds int64 so far and string" in str(error)
        assert (error.field, error.row) == ("n", 4)

    def test_names_that_differ_in_case(self) -> None:
        rows = numbered(n=[1] * 4)
        rows[3]["N"] = 2
        assert refusal(rows).field == "N"

    def test_a_null_column_gets_its_type_later(self) -> None:
        out = normalize(numbered(n=[None, None, None, "x"], m=[None] * 4))
        assert out.schema.field("n").type == pa.string()
        assert out.schema.field("m").type == pa.null()

    def test_vectors_for_some_batches_only(self) -> None:
        rows = numbered(vector=[[1.0], [1.0], [1.0], None])
        assert "row 3: 'vector' has no vector" in str(refusal(rows))
        rows = numbered(vector=[None, None, None, [1.0]])
        assert "row 3: 'vector' has a vector but earlier rows none" in str(refusal(rows))

    def test_dimensions(self) -> None:
        error = refusal(numbered(vector=[[1.0, 0.0]] * 4 + [[1.0]]))
        assert "row 4: 'vector' has 1 numbers where 2 are expected" in str(error)

    def test_progress(self) -> None:
        seen: list[int] = []
        read_rows(open_source(numbered(n=[1] * 8)), Normalizer(Fields()), seen.append)
        assert seen == [3, 6, 8]
