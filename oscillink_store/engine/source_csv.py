"""CSV and TSV files, read twice: once to find the types of the columns, once for the rows.

Types do not depend on the order of the rows or on which file of several comes first, because
all cells of all files are looked at: a column is whole numbers, numbers or booleans only if
every cell is, in JSON's notation. Text that merely starts like a number (``007``, ``1_000``,
``2024-05-01``, 19 digits) stays text, so nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from oscillink_store.engine.source_arrow import one_line
from oscillink_store.engine.source_refusals import Refusal, Refusals
from oscillink_store.errors import InputError
from oscillink_store.model import Fields

__all__ = ["CsvFiles"]

_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_NUMBER = r"^-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_TYPES = {
    "empty": pa.null(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
}
_BLOCK_BYTES = 4 << 20
_MAX_BLOCK_BYTES = (1 << 31) - 1
_RECORD = re.compile(r"Row #(\d+): (.*)")


class _Scan(NamedTuple):
    kinds: dict[str, str]
    rows: int
    block_bytes: int


class _RecordTooLongError(Exception):
    """A record does not fit into a block."""


class CsvFiles:
    """CSV files whose columns get common types."""

    def __init__(
        self, delimiters: Mapping[Path, str], fields: Fields, *, skip: bool = False
    ) -> None:
        """Open files; with ``skip``, malformed records do not end the reading."""
        self._delimiters = delimiters
        self._skip = skip
        self._texts = {fields.id, fields.text, fields.title, fields.vector, fields.links}
        self._sequences = set(fields.sequence_columns) - self._texts

    def rows(self, path: Path) -> int:
        """The number of records in one of the files.

        Raises:
            InputError: one of the files is malformed.
        """
        return self._scans[path].rows

    def read(self, path: Path, refused: Refusals | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of one of the files.

        Raises:
            InputError: one of the files is empty, not UTF-8 or malformed, with the 0-based
                row where it is known.
        """
        scan = self._scans[path]
        types = {name: _TYPES[self._kinds[name]] for name in scan.kinds}
        odd: Refusals = {}

        def skip(record: csv.InvalidRow) -> str:
            place = record.number - 2  # the header is record 1
            reason = f"{path}, row {place}: " + (
                f"Expected {record.expected_columns} columns, got {record.actual_columns}: "
                "quote cells that hold the delimiter"
            )
            odd[place] = Refusal(reason, None, record.text)
            return "skip"

        handler = skip if self._skip else None
        end = 0
        with (
            _reading(path),
            _open(path, self._delimiters[path], scan.block_bytes, types, handler) as file,
        ):
            for batch in file:
                whole = _with_gaps(batch, end, odd)
                end += whole.num_rows
                if refused is not None:
                    refused.update({place: odd.pop(place) for place in list(odd) if place < end})
                yield whole
            if odd and refused is not None:
                refused.update(odd)
                nulls = [pa.nulls(len(odd), field.type) for field in file.schema]
                yield pa.RecordBatch.from_arrays(nulls, schema=file.schema)

    @cached_property
    def _scans(self) -> dict[Path, _Scan]:
        return {path: self._scan(path) for path in self._delimiters}

    @cached_property
    def _kinds(self) -> dict[str, str]:
        kinds: dict[str, str] = {}
        for scan in self._scans.values():
            for name, kind in scan.kinds.items():
                kinds[name] = _common(kinds.get(name, "empty"), kind)
        for name in kinds:
            # a sequence is named by whole numbers or text; as text, 1.50 keeps its last digit
            if name in self._texts or (name in self._sequences and kinds[name] != "integer"):
                kinds[name] = "text"
        return kinds

    def _scan(self, path: Path) -> _Scan:
        block_bytes = _BLOCK_BYTES
        while True:
            try:
                with _reading(path):
                    return self._scan_blocks(path, block_bytes)
            except _RecordTooLongError:
                if block_bytes == _MAX_BLOCK_BYTES:
                    raise InputError(
                        f"{path} holds a record beyond 2 GiB: check its quotes"
                    ) from None
                block_bytes = min(8 * block_bytes, _MAX_BLOCK_BYTES)

    def _scan_blocks(self, path: Path, block_bytes: int) -> _Scan:
        delimiter = self._delimiters[path]
        skipped: list[int] = []

        def skip(record: csv.InvalidRow) -> str:
            skipped.append(record.number)
            return "skip"

        handler = skip if self._skip else None
        with _open(path, delimiter, block_bytes, {}, handler) as file:
            names = file.schema.names
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            name = min(twice)
            raise InputError(
                f"{path}: column {name!r} stands twice in the header: rename one", field=name
            )
        kinds = dict.fromkeys(names, "empty")
        rows = 0
        skipped.clear()
        texts = dict.fromkeys(names, pa.string())
        with _open(path, delimiter, block_bytes, texts, handler) as file:
            for batch in file:
                rows += batch.num_rows
                for name, column in zip(names, batch.columns, strict=True):
                    if kinds[name] != "text" and name not in self._texts:
                        kinds[name] = _common(kinds[name], _kind(column))
        return _Scan(kinds, rows + len(skipped), block_bytes)


def _with_gaps(batch: pa.RecordBatch, first: int, odd: Refusals) -> pa.RecordBatch:
    """A batch whose first row has the place ``first``, with nulls at places that are odd."""
    places: list[int | None] = []
    good = 0
    while good < batch.num_rows:
        if first + len(places) in odd:
            places.append(None)
        else:
            places.append(good)
            good += 1
    return batch if len(places) == good else batch.take(pa.array(places, pa.int64()))


def _open(
    path: Path,
    delimiter: str,
    block_bytes: int,
    types: Mapping[str, pa.DataType],
    handler: Callable[[csv.InvalidRow], str] | None,
) -> csv.CSVStreamingReader:
    # one thread: only then do messages carry row numbers
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False, block_size=block_bytes),
        parse_options=csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=handler
        ),
        convert_options=csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            check_utf8=handler is None,  # who skips records looks at them one by one
            true_values=_TRUE,
            false_values=_FALSE,
        ),
    )


def _kind(cells: pa.Array) -> str:
    cells = cells.drop_null()
    if not len(cells):
        return "empty"
    for kind in ("integer", "number", "boolean"):
        # a look at one cell spares most text columns the patterns
        if _fits(cells.slice(0, 1), kind) and _fits(cells, kind):
            return kind
    return "text"


def _fits(cells: pa.Array, kind: str) -> bool:
    if kind == "boolean":
        fits = pc.is_in(cells, pa.array([*_TRUE, *_FALSE]))
    else:
        fits = pc.match_substring_regex(cells, _INTEGER if kind == "integer" else _NUMBER)
    return bool(pc.all(fits).as_py())


def _common(first: str, second: str) -> str:
    if "empty" in (first, second):
        return second if first == "empty" else first
    if first == second:
        return first
    return "number" if {first, second} == {"integer", "number"} else "text"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise InputError(f"{path}: the header is not UTF-8: save the file as UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        message = one_line(error)
        if "straddl" in message:
            raise _RecordTooLongError from None
        if "Empty CSV" in message:
            raise InputError(f"{path} is empty: it needs a header and rows") from None
        record = _RECORD.search(message)
        if record is None:
            raise InputError(
                f"{path} cannot be read as CSV ({message}): check that it is complete"
            ) from error
        row, problem = int(record[1]) - 2, record[2]  # the header is record 1
        if "UTF8" in problem:
            raise InputError(f"{path}, row {row} is not UTF-8: save it as UTF-8", row=row) from None
        raise InputError(
            f"{path}, row {row}: {problem}: quote cells that hold the delimiter", row=row
        ) from None
