"""Rows that a job leaves out: which of a batch are bad, and the file that tells of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from oscillink_store.engine.source_refusals import Refusal
from oscillink_store.errors import InputError
from oscillink_store.storage.files import disk_errors

__all__ = ["SideFile", "row_values", "screen"]

_PATIENCE = 8

Normalize = Callable[[pa.RecordBatch, Sequence[int]], pa.Table]
Reject = Callable[[int, InputError], object]


def screen(
    normalize: Normalize,
    data: pa.RecordBatch,
    places: Sequence[int],
    reject: Reject,
    keep: frozenset[str],
    patience: int = _PATIENCE,
) -> list[pa.Table]:
    """Normalize the good rows of a batch, in order.

    The first few bad rows are left out as the errors name them, more are found by bisection,
    so b bad ones among n cost about b log n smaller batches. Columns that are null in all rows
    of a smaller batch are left out there, but for those to ``keep``, so that a column of a
    wrong type is held against the rows that have a value in it.

    Args:
        normalize: Takes rows and their places in the source; remembers nothing of rows that
            it refuses.
        data: The rows, n ≥ 1.
        places: Their places in the source, ascending.
        reject: Told the index of each bad row and what is wrong with it.
        keep: Columns that a row must have.
        patience: How many bad rows are left out one by one before bisection.
    """
    try:
        return [normalize(data, places)]
    except InputError as error:
        count = data.num_rows
        if count == 1:
            reject(int(places[0]), error)
            return []
        if error.row is None or not patience:
            cuts = [(0, count // 2), (count // 2, count)]
            bad = None
        else:
            bad = int(np.searchsorted(np.asarray(places), error.row))
            cuts = [(0, bad), (bad + 1, count)]
        problem = error
    tables: list[pa.Table] = []
    for turn, (start, end) in enumerate(cuts):
        if turn and bad is not None:
            reject(int(places[bad]), problem)
        if start < end:
            part = _without_nulls(data.slice(start, end - start), keep)
            left = patience - 1 if bad is not None else 0
            tables += screen(normalize, part, places[start:end], reject, keep, left)
    return tables


def _without_nulls(data: pa.RecordBatch, keep: frozenset[str]) -> pa.RecordBatch:
    empty = [
        name
        for name, column in zip(data.schema.names, data.columns, strict=True)
        if column.null_count == len(column) and name not in keep
    ]
    return data.drop_columns(empty) if empty else data


def row_values(data: pa.RecordBatch, index: int) -> dict[str, Any]:
    """The values of a row that can be read at all, by column."""
    values = {}
    for name, column in zip(data.schema.names, data.columns, strict=True):
        with suppress(ValueError, pa.ArrowException):  # not UTF-8, for one
            values[name] = column[index].as_py()
    return values


class SideFile:
    """A file of JSON lines about rows that were left out, or no file when it has no path.

    What it held beyond ``length`` bytes is cut off: rows that are read again come again.
    """

    def __init__(self, path: Path | None, length: int) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        if path is None:
            return
        with disk_errors(path, "writing down rejected rows"):
            self._file = path.open("ab")
            self._file.truncate(min(length, self._file.tell()))
            self._file.seek(0, os.SEEK_END)

    def write(self, source: str, row: int, refusal: Refusal) -> None:
        """Add a line: source, row, field, reason and the row's data."""
        if self._file is None:
            return
        line = {
            "source": source, "row": row, "field": refusal.field, "reason": refusal.reason,
            "data": _plain(refusal.data),
        }  # fmt: skip
        text = json.dumps(line, ensure_ascii=False, default=str) + "\n"
        with disk_errors(self._path or Path(), "writing down rejected rows"):
            self._file.write(text.encode("utf-8", "backslashreplace"))

    def sync(self) -> int:
        """Force everything to the disk; returns the length in bytes."""
        if self._file is None:
            return 0
        with disk_errors(self._path or Path(), "writing down rejected rows"):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; what it cannot is left to ``str``."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
