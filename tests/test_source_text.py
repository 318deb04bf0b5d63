"""JSON Lines and CSV: types, bounds and everything malformed, with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from test_sources import ROWS, csv_text, jsonl, read, refusal, write

from oscillink_store.engine import source_csv, source_jsonl
from oscillink_store.engine.sources import open_source
from oscillink_store.model import Fields


class TestJsonl:
    def test_only_line_feeds_end_a_line(self, tmp_path: Path) -> None:
        rows = [{"id": "a", "text": "one\u2028two\u0085three\x0bfour"}, {"id": "b", "text": "c"}]
        path = write(tmp_path / "t.jsonl", "\ufeff" + jsonl(rows).replace("\n", "\r\n") + "\n\n")
        assert read(path) == rows

    def test_types_widen_within_a_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "t.jsonl", '{"n": 1, "l": [1]}\n{"n": 2.5, "l": [0.5, 1]}\n{}\n')
        assert read(path) == [
            {"n": 1.0, "l": [1.0]},
            {"n": 2.5, "l": [0.5, 1.0]},
            {"n": None, "l": None},
        ]

    @pytest.mark.parametrize(
        ("data", "words", "row"),
        [
            (b'{"id": "a"}\n\n{"id": "\xe4"}\n', "line 3: byte 9 is not UTF-8", 1),
            (b"\xff\xfe{\x00}\x00", "line 1: byte 1 is not UTF-8", 0),
            (b'{"id": "a"}\n{"id": "b"', "line 2 is not JSON", 1),
            (b'{\n  "id": "a"\n}\n', "line 1 is not JSON", 0),
            (b'{"id": "a"}{"id": "b"}\n', "line 1 is not JSON", 0),
            (b'{"id": "a"}\n["b"]\n', "line 2 holds ['b'], not an object", 1),
            (b"\n \n\t\n", "is empty", None),
            (b'{"n": ' + b"1" * 5000 + b"}\n", "line 1 cannot be parsed", 0),
            (b'{"n": ' + b"[" * 99999 + b"\n", "line 1 cannot be parsed", 0),
            (b'{"n": ' + b"[" * 700 + b"{}" + b"]" * 700 + b"}\n", "nested too deeply", None),
            (b'{"n": 1}\n{"n": 99999999999999999999}\n', "row 1: 'n' holds a whole number", 1),
            (b'{"n": 1}\n{"n": "x"}\n', "row 1: 'n' holds string where earlier rows hold int64", 1),
            (b'{"n": null}\n{"n": "\\ud800"}\n', "row 1: 'n' holds a lone surrogate", 1),
            (b'{"\\ud800": 1}\n', "column name is no Unicode", None),
        ],
    )
    def test_refusals(self, tmp_path: Path, data: bytes, words: str, row: int | None) -> None:
        path = write(tmp_path / "t.jsonl", data)
        error = refusal(path)
        assert words in str(error)
        assert str(path) in str(error)
        assert error.row == row

    @pytest.mark.parametrize(
        ("tail", "words"),
        [
            (b'{"id": "\xe4", "n": 1}\n', "line 502: byte 9 is not UTF-8"),
            (b'{"id": "x", "n": 1}{"id": "y", "n": 2}\n', "line 502 is not JSON (Extra data"),
            (b'{"id": "x", "n": "one"}\n', "row 501: 'n' holds string"),
            (b"3\n", "line 502 holds 3"),
        ],
    )
    def test_refusals_far_into_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: bytes, words: str
    ) -> None:
        monkeypatch.setattr(source_jsonl, "_HEAD_BYTES", 1000)
        lines = b"".join(b'{"id": "r%d", "n": %d}\n' % (i, i) for i in range(501))
        assert words in str(refusal(write(tmp_path / "t.jsonl", lines + tail)))

    @given(data=st.data())
    def test_blocks_equal_line_by_line_parsing(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        number = st.integers(-(2**53), 2**53)
        real = st.floats(allow_nan=False, allow_infinity=False)
        text = st.text(max_size=8) | st.just("2024-01-31 10:00:00")
        values = {
            "whole": number,
            "real": real,
            "either": number | real,
            "text": text,
            "flag": st.booleans(),
            "nothing": st.none(),
            "list": st.lists(number | real, max_size=3),
            "nested": st.fixed_dictionaries(
                {}, optional={"a": number, "b": st.lists(text, max_size=2)}
            ),
        }
        names = data.draw(st.lists(st.sampled_from(sorted(values)), unique=True, min_size=1))
        row = st.fixed_dictionaries({}, optional={n: st.none() | values[n] for n in names})
        rows = data.draw(st.lists(row, min_size=1, max_size=12))
        ascii_only = data.draw(st.booleans())
        content = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
        path = write(tmp_path_factory.mktemp("j") / "t.jsonl", content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(source_jsonl, "_HEAD_BYTES", data.draw(st.integers(1, 40)))
            patch.setattr(source_jsonl, "_BLOCK_BYTES", data.draw(st.integers(1, 200)))
            found = read(path)
        assert [_filled(row) for row in found] == [_filled(row) for row in rows]


def _filled(value: Any) -> Any:
    """A value without the nulls that a typed column adds, and without empty objects."""
    if isinstance(value, dict):
        kept = {key: _filled(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner is not None} or None
    if isinstance(value, list):
        return [_filled(inner) for inner in value]
    return value


class TestCsv:
    def test_types_come_from_all_cells(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(source_csv, "_BLOCK_BYTES", 64)
        rows = [
            {
                "id": f"{i:03d}", "text": "12", "whole": i, "real": i, "flag": "true",
                "zip": "0123", "late": i, "long": 10**18, "empty": "", "day": "2024-05-01",
                "gap": i or "",
            }
            for i in range(40)
        ]  # fmt: skip
        rows[39].update(real="-1.5e3", flag="FALSE", late="n/a")
        batch = pa.Table.from_batches(
            [b.data for b in open_source(write(tmp_path / "t.csv", csv_text(rows)))]
        )
        types = {field.name: str(field.type) for field in batch.schema}
        assert types == {
            "id": "string", "text": "string", "whole": "int64", "real": "double", "flag": "bool",
            "zip": "string", "late": "string", "long": "string", "empty": "null", "day": "string",
            "gap": "int64",
        }  # fmt: skip
        last = batch.to_pylist()[39]
        assert [last[name] for name in ("id", "real", "flag", "late")] == [
            "039",
            -1500.0,
            False,
            "n/a",
        ]
        assert batch["gap"].to_pylist() == [None, *range(1, 40)]

    def test_files_read_together_share_types(self, tmp_path: Path) -> None:
        write(tmp_path / "1.csv", "id,code\na,12\n")
        write(tmp_path / "2.tsv", "id\tcode\nb\tA7\n")
        assert read(str(tmp_path / "*.?sv")) == [
            {"id": "a", "code": "12"},
            {"id": "b", "code": "A7"},
        ]

    def test_renamed_text_columns_stay_text(self, tmp_path: Path) -> None:
        path = write(tmp_path / "t.csv", "key,body,doc,part,n\n1,2,3,1.50,4.0\n")
        fields = Fields(id="key", text="body", sequence=["doc", "part"])
        assert read(path, fields) == [
            {"key": "1", "body": "2", "doc": 3, "part": "1.50", "n": 4.0},
        ]

    def test_quotes_line_breaks_and_byte_order_mark(self, tmp_path: Path) -> None:
        rows = [{"id": "a", "text": 'say "hi",\nthen\r\ngo'}, {"id": "b", "text": "ü"}]
        path = tmp_path / "t.csv"
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            file.write(csv_text(rows))
        assert read(path) == rows

    def test_a_header_alone_holds_no_rows(self, tmp_path: Path) -> None:
        source = open_source(write(tmp_path / "t.csv", "id,text\n"))
        assert list(source) == []
        assert source.rows == 0

    def test_a_record_longer_than_a_block(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(source_csv, "_BLOCK_BYTES", 32)
        rows = [
            {"id": "a", "text": "x"},
            {"id": "b", "text": "y\n" * 500},
            {"id": "c", "text": "z"},
        ]
        assert read(write(tmp_path / "t.csv", csv_text(rows))) == rows

    @pytest.mark.parametrize(
        ("data", "words", "row", "field"),
        [
            (b"id,text\n" + b"a,b\n" * 30 + b"c\n", "row 30: Expected 2 columns, got 1", 30, None),
            (b"id,text\n" + b"a,b\n" * 30 + b"c,\xff\n", "row 30 is not UTF-8", 30, None),
            (b"id,te\xffxt\na,b\n", "the header is not UTF-8", None, None),
            (b"id,text,id\na,b,c\n", "'id' stands twice", None, "id"),
            (b"\n\n", "is empty", None, None),
        ],
    )
    def test_refusals(
        self,
        tmp_path: Path,
        monkeypatch: Any,
        data: bytes,
        words: str,
        row: int | None,
        field: str | None,
    ) -> None:
        monkeypatch.setattr(source_csv, "_BLOCK_BYTES", 40)
        path = write(tmp_path / "t.csv", data)
        error = refusal(path)
        assert words in str(error)
        assert str(path) in str(error)
        assert (error.row, error.field) == (row, field)

    def test_what_arrow_writes(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        arrow_csv.write_csv(pa.Table.from_pylist(ROWS), path)
        assert read(path) == ROWS
