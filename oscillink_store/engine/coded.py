"""The values of one part's rows at a path, coded: what filters are evaluated on.

DuckDB takes a path out of all payloads at once; each different value is then looked at once,
however many rows have it.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, cached_property
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine.json_text import DAMAGED
from oscillink_store.errors import IntegrityError
from oscillink_store.filters import Compare, test_of, value_at
from oscillink_store.storage.schemas import FIXED_COLUMNS

if TYPE_CHECKING:
    import duckdb

__all__ = ["Coded", "PartValues"]

# What is kept of a part: so many paths, and fewer when there are more values at them.
_PATHS_KEPT = 64
_VALUES_KEPT = 1 << 22
_ORDERS = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}

Path = tuple[str, ...]
Codes = npt.NDArray[np.int32]


class Coded:
    """A value per row: ``values[codes[i]]``, absent where the code is −1."""

    def __init__(self, codes: Codes, values: list[Any]) -> None:
        self.codes = codes
        self.values = values

    def over(self, other: Coded) -> Coded:
        """These values, and the other ones where there are none."""
        gaps = self.codes < 0
        if not gaps.any() or not len(other.values):
            return self
        if not len(self.values):
            return other
        shifted = np.where(other.codes < 0, -1, other.codes + len(self.values))
        return Coded(
            np.where(gaps, shifted, self.codes).astype(np.int32), self.values + other.values
        )

    def satisfying(self, compare: Compare) -> npt.NDArray[np.bool_]:
        """Which rows satisfy a comparison, (n,)."""
        test = test_of(compare)
        answers = np.zeros(len(self.values) + 1, np.bool_)
        answers[-1] = test(None)  # where the code -1 points
        chosen = self._named(compare)
        if chosen is not None:
            refused = compare.op in ("ne", "nin")
            answers[:-1] = refused & self._present
            answers[chosen] = not refused
        elif compare.op in _ORDERS and _is_exact(compare.value) and self._numbers is not None:
            with np.errstate(invalid="ignore"):  # what is no number is NaN, below and above none
                answers[:-1] = _ORDERS[compare.op](self._numbers, float(compare.value))
        else:
            answers[:-1] = [test(value) for value in self.values]
        found: npt.NDArray[np.bool_] = answers[self.codes]
        return found

    def _named(self, compare: Compare) -> list[int] | None:
        """The codes of the values that are asked for, or refused, by name; None when others are."""
        if compare.op not in ("eq", "ne", "in", "nin"):
            return None
        given = compare.value if compare.op in ("in", "nin") else [compare.value]
        if not all(map(_is_scalar, given)):
            return None
        return [code for value in given for code in self._scalars.get(_key(value), ())]

    @cached_property
    def _present(self) -> npt.NDArray[np.bool_]:
        """Which of the values are not null."""
        return np.array([value is not None for value in self.values], np.bool_)

    @cached_property
    def _numbers(self) -> npt.NDArray[np.float64] | None:
        """The values as numbers, NaN where they are none; None when float64 cannot tell them."""
        numbers = [value if _is_number(value) else np.nan for value in self.values]
        return np.array(numbers, np.float64) if all(map(_is_exact, numbers)) else None

    @cached_property
    def _scalars(self) -> Mapping[Any, list[int]]:
        found: dict[Any, list[int]] = {}
        for code, value in enumerate(self.values):
            if _is_scalar(value):
                found.setdefault(_key(value), []).append(code)
        return found


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_exact(value: Any) -> bool:
    """Whether a number, or none, compares in float64 as it does in Python."""
    return isinstance(value, float) or (_is_number(value) and abs(value) <= 2**53)


def _key(value: Any) -> Any:
    return isinstance(value, bool), value


class PartValues:
    """The values of a part at any path, kept once they were asked for."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._kept: OrderedDict[Path, Coded] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, compare: Compare) -> Coded:
        """What a comparison looks at, row by row."""
        first, *others = map(self._at, compare.paths)
        for other in others:
            first = first.over(other)
        return first

    def _at(self, path: Path) -> Coded:
        with self._guard:
            known = self._kept.get(path)
            if known is not None:
                self._kept.move_to_end(path)
                return known
        found = self._in_payloads(path).over(self._in_column(path))
        with self._guard:
            self._kept[path] = found
            while len(self._kept) > 1 and self._is_full():
                self._kept.popitem(last=False)
        return found

    def _is_full(self) -> bool:
        values = sum(len(coded.values) for coded in self._kept.values())
        return len(self._kept) > _PATHS_KEPT or values > _VALUES_KEPT

    def _absent(self) -> Coded:
        return Coded(np.full(self._rows.num_rows, -1, np.int32), [])

    def _in_payloads(self, path: Path) -> Coded:
        column = self._rows["payload"]
        if column.null_count == len(column):
            return self._absent()
        pointer = "".join(f"/{key.replace('~', '~0').replace('/', '~1')}" for key in path)
        with _connection().cursor() as cursor:
            cursor.register("part", pa.table({"payload": column}))
            try:
                taken = cursor.sql(
                    "SELECT json_extract(payload, $1)::VARCHAR FROM part", params=[pointer]
                )
                texts = taken.to_arrow_table().column(0)
            except (_duckdb().InvalidInputException, UnicodeDecodeError) as error:
                raise IntegrityError(DAMAGED) from error
        return _encoded(texts, json.loads)

    def _in_column(self, path: Path) -> Coded:
        name, *keys = path
        if name in FIXED_COLUMNS or name not in self._rows.schema.names:
            return self._absent()
        column = self._rows[name]
        while keys and pa.types.is_struct(column.type):
            key = keys.pop(0)
            if column.type.get_field_index(key) < 0:
                return self._absent()
            column = pc.struct_field(column, key)
        if pa.types.is_nested(column.type):
            found = (value_at(_plain(value), keys) for value in column.to_pylist())
            texts = [None if value is None else json.dumps(value) for value in found]
            return _encoded(pa.chunked_array([pa.array(texts, pa.string())]), json.loads)
        if keys:
            return self._absent()
        return _encoded(column, _plain)


def _encoded(column: pa.ChunkedArray, read: Any) -> Coded:
    if pa.types.is_null(column.type):
        return Coded(np.full(len(column), -1, np.int32), [])
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    return Coded(codes.astype(np.int32), [read(value) for value in coded.dictionary.to_pylist()])


def _plain(value: Any) -> Any:
    """A value of a metadata column as JSON has it."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return _duckdb().connect()


def _duckdb() -> ModuleType:
    return import_module("duckdb")  # which takes longer to load than a search takes
