"""Every kind of source read through real files and objects, and everything that is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from oscillink_store.engine import source_arrow, source_dicts
from oscillink_store.engine.sources import open_source
from oscillink_store.errors import InputError
from oscillink_store.model import Fields

ROWS: list[dict[str, Any]] = [
    {"id": f"a{i}", "text": f"Text número {i} – ünï\u2028code", "year": 1990 + i, "score": i / 3}
    for i in range(30)
]


def read(source: Any, fields: Fields | None = None) -> list[dict[str, Any]]:
    return [row for batch in open_source(source, fields) for row in batch.data.to_pylist()]


def refusal(source: Any, fields: Fields | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        read(source, fields)
    message = str(caught.value)
    assert "\n" not in message
    assert ": " in message  # the remedy
    return caught.value


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv_text(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_ipc(path: Path, table: pa.Table, *, stream: bool = False) -> None:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


class TestFormats:
    @pytest.mark.parametrize(
        "name",
        [
            "r.jsonl", "r.NDJSON", "r.json-lines", "r.jsonlines", "r.jsonl.gz", "r.csv", "r.csv.gz",
            "r.tsv", "r.parquet", "r.pq", "r.arrow", "r.feather", "r.ipc", "r.arrows",
        ],
    )  # fmt: skip
    def test_same_rows_from_every_format(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        table = pa.Table.from_pylist(ROWS)
        kind = name.lower().removesuffix(".gz").rpartition(".")[2]
        if kind in ("parquet", "pq"):
            parquet.write_table(table, path, row_group_size=11)
        elif kind in ("arrow", "feather", "ipc", "arrows"):
            write_ipc(path, table, stream=kind == "arrows")
        else:
            delimiter = "\t" if kind == "tsv" else ","
            text = csv_text(ROWS, delimiter) if kind in ("csv", "tsv") else jsonl(ROWS)
            write(path, gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        source = open_source(path)
        assert read(path) == ROWS
        assert source.name == str(path)
        assert source.rows in (len(ROWS), None)
        assert (source.rows is None) == (name in ("r.jsonl.gz", "r.arrows"))

    def test_table_batch_and_reader(self) -> None:
        table = pa.Table.from_pylist(ROWS)
        reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=4))
        assert read(table) == read(table.to_batches()[0]) == read(reader) == ROWS
        assert open_source(table).rows == len(ROWS)
        assert open_source(reader).rows is None

    def test_duckdb_relation(self) -> None:
        with duckdb.connect() as con:
            relation = con.sql(
                "SELECT i AS id, 'text ' || i AS text, [i, i + 1.5] AS vector "
                "FROM range(20000) t(i)"
            )
            source = open_source(relation)
            batches = list(source)
        assert source.rows is None
        assert sum(batch.data.num_rows for batch in batches) == 20_000
        assert batches[0].data.slice(1, 1).to_pylist()[0]["text"] == "text 1"

    def test_any_exporter_of_an_arrow_stream(self) -> None:
        table = pa.Table.from_pylist(ROWS)

        class Exporter:
            def __arrow_c_stream__(self, requested_schema: object = None) -> object:
                return table.__arrow_c_stream__(requested_schema)

        assert read(Exporter()) == ROWS

    def test_a_stream_without_columns(self) -> None:
        assert "named columns" in str(refusal(pa.chunked_array([[1, 2]])))

    def test_a_stream_that_fails_midway(self) -> None:
        def failing() -> Iterator[pa.RecordBatch]:
            yield pa.RecordBatch.from_pylist([{"id": "a"}])
            raise OSError("the line went dead")

        reader = pa.RecordBatchReader.from_batches(pa.schema([("id", pa.string())]), failing())
        assert "the line went dead" in str(refusal(reader))

    def test_pandas_without_its_index(self) -> None:
        import pandas as pd

        frame = pd.DataFrame(ROWS, index=range(100, 130))
        frame["vector"] = [np.arange(3.0)] * len(ROWS)
        assert read(frame) == [{**row, "vector": [0.0, 1.0, 2.0]} for row in ROWS]
        frame["mixed"] = [1, "a"] * 15
        assert "mixed" in str(refusal(frame))

    def test_polars(self) -> None:
        import polars as pl

        frame = pl.DataFrame(ROWS)
        assert read(frame) == ROWS
        assert open_source(frame).rows == len(ROWS)

    def test_dicts_with_arrays_and_missing_keys(self) -> None:
        rows = [{"id": 1, "vector": np.ones(3, np.float32)}, {"id": "b", "n": 2}, {"n": 2.5}]
        assert read(iter(rows)) == [
            {"id": "1", "vector": [1.0, 1.0, 1.0], "n": None},
            {"id": "b", "vector": None, "n": 2.0},
            {"id": None, "vector": None, "n": 2.5},
        ]
        assert open_source(rows).rows == 3
        assert open_source(iter(rows)).rows is None
        assert read([]) == []

    def test_uuids_become_text(self) -> None:
        name = "12345678-1234-5678-1234-567812345678"
        assert read([{"id": UUID(name)}]) == [{"id": name}]


class TestPaths:
    def test_glob_and_list_keep_names_and_row_numbers(self, tmp_path: Path) -> None:
        write(tmp_path / "b.jsonl", jsonl(ROWS[:2]))
        write(tmp_path / "a.csv", csv_text(ROWS[2:5]))
        (tmp_path / "z.jsonl.d").mkdir()
        source = open_source(str(tmp_path / "*.[jc]s*"))
        seen = [(Path(b.source).name, b.row, b.data.num_rows) for b in source]
        assert seen == [("a.csv", 0, 3), ("b.jsonl", 0, 2)]
        assert source.rows == 5
        paths = [tmp_path / "b.jsonl", str(tmp_path / "a.csv")]
        assert read(paths) == ROWS[:2] + ROWS[2:5]
        assert "and 1 more" in open_source(paths).name

    def test_a_name_with_brackets_is_a_path_if_it_exists(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / "notes[1].jsonl", jsonl(ROWS))) == ROWS

    def test_what_cannot_be_opened(self, tmp_path: Path) -> None:
        empty = write(tmp_path / "empty.jsonl", b"")
        write(tmp_path / "notes.json", b"{}")
        write(tmp_path / "notes", b"{}")
        write(tmp_path / "t.parquet.gz", b"{}")
        for source, words in [
            (tmp_path / "missing.jsonl", "No such file"),
            (str(tmp_path / "*.parquet"), "matches no file"),
            (tmp_path, "is a folder"),
            (empty, "is empty"),
            (tmp_path / "notes.json", "no known format"),
            (tmp_path / "notes", "no known format"),
            (tmp_path / "t.parquet.gz", "unpack it"),
            ("/dev/null", "no regular file"),
            ([empty.with_name("notes.json"), {"id": 1}], "no known format"),
            ([{"id": 1}, "x.csv"], "mixes paths and dict"),
        ]:
            assert words in str(refusal(source))

    @pytest.mark.parametrize("source", [7, None, {"id": "a", "text": "b"}, b"id,text", object()])
    def test_what_is_no_source(self, source: object) -> None:
        assert type(source).__name__ in str(refusal(source))

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("t.parquet", b"PAR1 but not really PAR1"),
            ("t.arrow", b"ARROW1 but not really"),
            ("t.arrow", b"something else entirely"),
            ("t.jsonl.gz", gzip.compress(b'{"id": "a"}\n' * 99, mtime=0)[:-9]),
            ("t.jsonl.gz", b'{"id": "a"}\n'),
            ("t.csv.gz", gzip.compress(b"id,text\n" + b"a,b\n" * 99, mtime=0)[:-9]),
            ("t.csv.gz", b"id,text\na,b\n"),
        ],
    )
    def test_damaged_files(self, tmp_path: Path, name: str, data: bytes) -> None:
        assert "check that it is complete" in str(refusal(write(tmp_path / name, data)))

    def test_a_parquet_footer_that_lies(self, tmp_path: Path) -> None:
        path = write(tmp_path / "t.parquet", b"not Parquet at all")
        with pytest.raises(InputError, match="Parquet"):
            open_source(path).rows  # noqa: B018


class TestBatches:
    def test_batches_are_bounded_in_rows_and_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_arrow, "BATCH_ROWS", 8)
        batches = list(open_source(pa.Table.from_pylist(ROWS)))
        assert [(b.row, b.data.num_rows) for b in batches] == [(0, 8), (8, 8), (16, 8), (24, 6)]
        monkeypatch.setattr(source_arrow, "BATCH_BYTES", 300)
        assert max(b.data.num_rows for b in open_source(pa.Table.from_pylist(ROWS))) < 8
        assert read(pa.Table.from_pylist(ROWS)) == ROWS

    def test_dicts_are_read_lazily(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_dicts, "BATCH_ROWS", 4)
        taken = []

        def rows() -> Iterator[dict[str, Any]]:
            for row in ROWS:
                taken.append(row)
                yield row

        batches = iter(open_source(rows()))
        first = next(batches)
        assert len(taken) == first.data.num_rows == 4
        assert next(batches).row == 4

    def test_long_texts_close_a_batch_of_dicts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_dicts, "BATCH_BYTES", 100)
        rows = [{"id": i, "text": "x" * 60} for i in range(4)]
        assert [b.data.num_rows for b in open_source(rows)] == [2, 2]

    @pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.parquet"])
    def test_ten_megabytes_in_one_text(self, tmp_path: Path, name: str) -> None:
        long = "ein Wort, " * (1 << 20)
        rows = [{"id": "a", "text": "short"}, {"id": "b", "text": long}, {"id": "c", "text": "x"}]
        path = tmp_path / name
        if name.endswith("parquet"):
            parquet.write_table(pa.Table.from_pylist(rows), path)
        else:
            write(path, csv_text(rows) if name.endswith("csv") else jsonl(rows))
        assert read(path) == rows
        assert read(rows) == rows


class TestDicts:
    @pytest.mark.parametrize(
        ("rows", "words", "row"),
        [
            ([{"a": 1}, ("a", 1)], "row 1 is of type tuple", 1),
            ([{"a": 1}, {"a": None}, {"a": "x"}], "row 2: 'a' holds string where", 2),
            ([{"a": "x"}, {"a": 2}], "row 1: 'a' holds int64 where earlier rows hold string", 1),
            ([{"a": [1]}, {"a": 1}], "row 1: 'a' holds int64 where", 1),
            ([{"a": Path("x")}], "row 0: 'a' holds a value that no column can hold", 0),
            ([{"a": np.ones((2, 2))}], "row 0: 'a' holds a value that no column can hold", 0),
            ([{"a": 2**64}], "row 0: 'a' holds a whole number beyond 64 bits", 0),
            ([{1: "x"}], "the key 1 is no column name", None),
        ],
    )
    def test_refusals(self, rows: list[Any], words: str, row: int | None) -> None:
        error = refusal(rows)
        assert words in str(error)
        assert error.row == row

    def test_row_numbers_count_over_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_dicts, "BATCH_ROWS", 4)
        assert refusal([{"a": i} for i in range(9)] + [{"a": 1}, {"a": "x"}]).row == 10
        assert refusal([{"a": i} for i in range(9)] + [5]).row == 9

    def test_sequence_columns_may_mix_numbers_and_text(self) -> None:
        rows = [{"doc": 7, "chapter": "a"}, {"doc": "x", "chapter": 2}]
        assert read(rows, Fields(sequence=["doc", "chapter"])) == [
            {"doc": "7", "chapter": "a"},
            {"doc": "x", "chapter": "2"},
        ]
        assert refusal(rows).field == "doc"

    def test_empty_dicts_are_null(self) -> None:
        rows = [{"a": {}, "b": {"c": {}}}, {"a": None, "b": {"c": {"d": [{}]}}}]
        assert read(rows) == [
            {"a": None, "b": {"c": None}},
            {"a": None, "b": {"c": {"d": [None]}}},
        ]
