"""Vectors, metadata and digests of normalized rows, against independent arithmetic and Lance."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import math
from decimal import Decimal
from typing import Any, ClassVar

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_rows import BASE, normalize, numbered, refusal, table

from oscillink_store.engine import row_vectors
from oscillink_store.engine.row_digests import content_digests
from oscillink_store.errors import InputError
from oscillink_store.model import Fields
from oscillink_store.storage.schemas import conform


class TestVectors:
    @pytest.mark.parametrize(
        "column",
        [
            pa.array([[3, 4], [0, -2]]),
            pa.array([[3, 4], [0, -2]], pa.large_list(pa.int8())),
            pa.array([[3, 4], [0, -2]], pa.list_(pa.float16(), 2)),
            pa.array([[3, 4], [0, -2]], pa.list_(pa.float32(), 2)),
            pa.array([[3, 4], [0, -2]], pa.list_(pa.decimal128(5, 2))),
            pa.array(["[3, 4]", "[0, -2.0]"]),
            pa.array(["[3, 4]", "[0, -2.0]"], pa.string_view()),
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[3.0, 4.0], [0.0, -2.0]])),
        ],
        ids=lambda v: str(v.type)[:40],
    )
    def test_every_layout(self, column: pa.Array) -> None:
        out = normalize(table(vector=column), dimension=2)
        assert out.schema.field("vector").type == pa.list_(pa.float32(), 2)
        expected = np.array([[0.6, 0.8], [0.0, -1.0]], np.float32)
        np.testing.assert_array_equal(np.array(out["vector"].to_pylist(), np.float32), expected)

    def test_slices_of_longer_columns(self) -> None:
        for type_ in (pa.list_(pa.float64()), pa.list_(pa.float64(), 2)):
            column = pa.array([None, [1, 1], [0, 5], [7, 7]], type_)
            out = normalize(table(vector=column).slice(1, 2))
            np.testing.assert_allclose(out["vector"].to_pylist(), [[0.5**0.5] * 2, [0, 1]], 1e-7)

    @pytest.mark.parametrize(
        ("vectors", "words", "row"),
        [
            ([[1.0], [math.nan]], "row 1: 'vector' holds NaN or inf", 1),
            ([[1.0], [-math.inf]], "row 1: 'vector' holds NaN or inf", 1),
            ([[1.0, 2.0], [0.0, 0.0]], "row 1: 'vector' is all zeros", 1),
            ([[1.0], [1.0, 2.0]], "row 1: 'vector' has 2 numbers where 1 are expected", 1),
            ([[], []], "row 0: 'vector' has 0 numbers where at least 1", 0),
            ([[1.0], None], "row 1: 'vector' has no vector", 1),
            ([[1.0, 2.0], [1.0, None]], "row 1: 'vector' has a null among its numbers", 1),
            ([["a"], ["b"]], "'vector' holds lists of string", None),
            ([[True], [True]], "'vector' holds lists of bool", None),
            ([1.0, 2.0], "'vector' is of type double", None),
            (["[1]", "oops"], "row 1: 'vector' holds 'oops'", 1),
            (['["a"]', "[1]"], "'vector' mixes types", None),
        ],
    )
    def test_refusals(self, vectors: list[Any], words: str, row: int | None) -> None:
        error = refusal(numbered(vector=vectors))
        assert words in str(error)
        assert (error.field, error.row) == ("vector", row)

    def test_the_store_decides_the_dimension(self) -> None:
        error = refusal(numbered(vector=[[1.0, 2.0]] * 2), dimension=3)
        assert "row 0: 'vector' has 2 numbers where 3 are expected" in str(error)
        assert normalize(numbered(vector=[[1.0, 2.0]]), dimension=2).num_rows == 1

    def test_vectors_are_needed_without_an_embedder(self) -> None:
        assert refusal([BASE], needs=True).field == "vector"
        assert refusal([BASE | {"vector": None}], needs=True).field == "vector"
        assert refusal([BASE], Fields(vector="v"), needs=True).field == "v"

    def test_refusals_in_a_later_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(row_vectors, "_BLOCK_ROWS", 4)
        vectors = np.ones((11, 3))
        vectors[9] = 0
        assert refusal(numbered(vector=list(vectors))).row == 9
        vectors[6, 1] = np.nan
        assert refusal(numbered(vector=list(vectors))).row == 6

    @given(
        hnp.arrays(
            st.sampled_from([np.float64, np.float32, np.float16, np.int16]),
            st.tuples(st.integers(1, 7), st.integers(1, 5)),
        ).filter(lambda a: bool(np.isfinite(a).all() and (a != 0).any(axis=1).all()))
    )
    def test_unit_rows_against_long_doubles(self, given_rows: Any) -> None:
        column = pa.array(list(given_rows))
        unit = row_vectors.unit_vectors(column, None, _unexpected)
        exact = given_rows.astype(np.longdouble)
        exact /= np.abs(exact).max(axis=1, keepdims=True)
        exact /= np.sqrt((exact**2).sum(axis=1, keepdims=True))
        assert unit.dtype == np.float32
        np.testing.assert_allclose(unit, exact.astype(np.float64), rtol=3e-7, atol=1e-40)
        again = row_vectors.unit_vectors(pa.array(list(unit)), None, _unexpected)
        np.testing.assert_array_equal(again, unit)


def _unexpected(row: int | None, problem: str) -> InputError:
    raise AssertionError(f"row {row}: {problem}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


class TestMetadata:
    @given(
        data=st.data(),
        columns=st.dictionaries(
            st.text("abcxyzäß _-", min_size=1, max_size=6).filter(
                lambda name: name.strip() and not name.startswith("_")
            ),
            st.sampled_from(["text", "number", "list", "struct", "lists of structs"]),
            max_size=4,
        ),
    )
    def test_round_trip(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, columns: dict[str, str]
    ) -> None:
        words = st.none() | st.text(max_size=6)
        struct = st.fixed_dictionaries({"k": words, "ü v": st.none() | st.lists(words, max_size=2)})
        values = {
            "text": words,
            "number": st.none() | st.floats(allow_nan=False),
            "list": st.none() | st.lists(words, max_size=3),
            "struct": st.none() | struct,
            "lists of structs": st.none() | st.lists(st.none() | struct, max_size=2),
        }
        extra = data.draw(
            st.lists(st.fixed_dictionaries({n: values[k] for n, k in columns.items()}), min_size=1)
        )
        rows = [{"id": i, "text": "x", "gate": 1, **row} for i, row in enumerate(extra)]
        out = normalize(rows)
        assert out.select(list(columns)).to_pylist() == extra
        path = str(tmp_path_factory.mktemp("m") / "t.lance")
        lance.write_dataset(out, path)
        assert lance.dataset(path).to_table(columns=list(columns)).to_pylist() == extra

    @given(value=json_values)
    def test_any_json_value_is_stored_or_refused_by_name(
        self, tmp_path_factory: pytest.TempPathFactory, value: Any
    ) -> None:
        rows = [{"id": 1, "text": "x", "gate": 1, "m": value}]
        with contextlib.suppress(InputError):
            out = normalize(rows)
            path = str(tmp_path_factory.mktemp("m") / "t.lance")
            lance.write_dataset(out, path)
            assert lance.dataset(path).to_table(columns=["m"]) == out.select(["m"])
            return
        assert refusal(rows).field == "m"


class TestDigests:
    ROW: ClassVar[dict[str, Any]] = {
        "id": "a", "title": "T", "text": "Büchër", "sequence": "s", "position": 3, "gate": 0.5,
        "payload": {"k": [1]},
        "links": ["b"], "vector": [3.0, 4.0], "n": 5,
        "m": {"z": 1.0, "a": None, "l": [b"\x01", None]},
        "day": dt.date(1970, 1, 11), "price": Decimal("1.50"), "gone": None,
    }  # fmt: skip

    def digest(self, **changes: Any) -> bytes:
        return normalize([self.ROW | changes])["digest"][0].as_py()

    def test_documented_bytes(self) -> None:
        content = (
            '["T","Büchër","s",3,["b"],0.5,"{\\"k\\":[1]}",'
            '{"day":10,"m":{"l":["01",null],"z":1},"n":5,"price":"1.50"}]'
        )
        vector = np.array([0.6, 0.8], "<f4").tobytes()
        data = content.encode() + b"\0" + vector
        assert self.digest() == hashlib.blake2b(data, digest_size=16).digest()
        without = {name: value for name, value in self.ROW.items() if name != "vector"}
        found = normalize([without])["digest"][0].as_py()
        assert found == hashlib.blake2b(content.encode(), digest_size=16).digest()

    @pytest.mark.parametrize(
        "change",
        [
            {"title": None}, {"text": "Bücher"}, {"sequence": None}, {"position": 3.5},
            {"gate": 0.25}, {"links": ["b", "c"]}, {"vector": [4.0, 3.0]}, {"n": 6}, {"n": None},
            {"payload": {"k": [2]}}, {"payload": None},
            {"n": "5"}, {"m": {"z": 1.0, "l": [b"\x01"]}}, {"extra": 1}, {"price": Decimal("1.51")},
        ],
        ids=str,
    )  # fmt: skip
    def test_content_changes_it(self, change: dict[str, Any]) -> None:
        assert self.digest(**change) != self.digest()

    @pytest.mark.parametrize(
        "change",
        [
            {"id": "b"}, {"n": 5.0}, {"position": 3.0}, {"vector": [6, 8]}, {"gone": None},
            {"also gone": None}, {"m": {"l": [b"\x01", None], "z": 1, "more": None}},
            {"vector": np.array([0.6, 0.8], np.float32)},
        ],
        ids=str,
    )  # fmt: skip
    def test_form_does_not(self, change: dict[str, Any]) -> None:
        assert self.digest(**change) == self.digest()

    def test_it_depends_on_rows_not_on_layout(self) -> None:
        rows = [self.ROW | {"id": i, "n": i, "text": f"t{i}"} for i in range(9)]
        whole = normalize(rows)
        expected = whole["digest"].to_pylist()
        assert len(set(expected)) == 9
        assert content_digests(whole.slice(3, 4)).to_pylist() == expected[3:7]
        chunked = pa.concat_tables([whole.slice(0, 2), whole.slice(2, 5), whole.slice(7)])
        assert content_digests(chunked).to_pylist() == expected
        turned = whole.select(whole.schema.names[::-1])
        assert content_digests(turned).to_pylist() == expected
        schema = whole.schema.append(pa.field("new", pa.string()))
        schema = schema.set(schema.get_field_index("n"), pa.field("n", pa.float64()))
        assert content_digests(conform(whole, schema)).to_pylist() == expected

    @pytest.mark.parametrize(
        "column",
        [
            pa.array([1, 2], pa.timestamp("ns")),
            pa.array([[1], None], pa.list_(pa.timestamp("ns"))),
            pa.array([{"a": 1}, None], pa.struct([("a", pa.duration("ns"))])),
            pa.array([1, 2], pa.time64("ns")),
            pa.array([[("k", Decimal("1.5"))], []], pa.map_(pa.string(), pa.decimal128(5, 1))),
            pa.array([math.nan, math.inf]),
            pa.array([b"\xff", None]),
            pa.array([[2**64 - 1], []], pa.list_(pa.uint64())),
        ],
        ids=lambda v: str(v.type),
    )
    def test_every_metadata_type(self, column: pa.Array) -> None:
        rows = pa.table({"id": ["a", "b"], "text": ["x", "x"], "m": column})
        first, second = normalize(rows)["digest"].to_pylist()
        assert first != second
