"""Sources of rows: files, Arrow data, DataFrames, relations and dicts as Arrow batches.

:func:`open_source` turns whatever the caller has into a :class:`Source`, which yields batches
of bounded size. Nothing is validated here beyond what reading needs; that is the business of
:mod:`oscillink_store.engine.rows`.

File formats, by the end of the name (case does not matter):

- ``.jsonl``, ``.ndjson``, ``.json-lines``, ``.jsonlines``, also with ``.gz``: one JSON object
  per line, ended by a line feed;
- ``.csv``, ``.tsv``, also with ``.gz``: a header, then records. A column whose cells are all
  JSON numbers, or all ``true`` or ``false``, gets that type, every other one is text, whatever
  the order of the rows; an empty cell is null; vectors and links are JSON arrays, as in
  ``"[0.1, 0.2]"``;
- ``.parquet``, ``.pq``;
- ``.arrow``, ``.arrows``, ``.feather``, ``.ipc``: Arrow IPC, as a file or a stream.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from oscillink_store.engine import source_arrow
from oscillink_store.engine.source_csv import CsvFiles
from oscillink_store.engine.source_dicts import read_dicts
from oscillink_store.engine.source_jsonl import count_lines, read_jsonl
from oscillink_store.errors import InputError
from oscillink_store.model import Fields

__all__ = ["Batch", "Source", "open_source"]

_JSONL = (".jsonl", ".ndjson", ".json-lines", ".jsonlines")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".pq")
_IPC = (".arrow", ".arrows", ".feather", ".ipc")
_FORMATS = "use .jsonl, .csv, .tsv (each also with .gz), .parquet or .arrow"


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some rows of a source.

    ``source`` names the file or object they come from and ``row`` is the 0-based place of
    the first of them in it, for messages.
    """

    data: pa.RecordBatch
    source: str
    row: int


class Part(NamedTuple):
    """One file or object of a source: how to read it and how to count its rows."""

    name: str
    read: Callable[[], Iterator[pa.RecordBatch]]
    rows: Callable[[], int | None]


class Source:
    """Rows to ingest, in batches. Iterate once: readers and iterators are consumed."""

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self.name = name
        self._parts = tuple(parts)

    @cached_property
    def rows(self) -> int | None:
        """How many rows will come, for progress bars, or None when that is not known.

        For JSON Lines this is the number of lines, which counts blank ones.

        Raises:
            InputError: a CSV file, which has to be read for this, is malformed.
        """
        total = 0
        for part in self._parts:
            count = part.rows()
            if count is None:
                return None
            total += count
        return total

    def __iter__(self) -> Iterator[Batch]:
        for part in self._parts:
            row = 0
            for data in part.read():
                for piece in source_arrow.slices(data):
                    yield Batch(data=piece, source=part.name, row=row)
                    row += piece.num_rows


def open_source(source: Any, fields: Fields | None = None) -> Source:
    """Open anything that holds rows.

    Args:
        source: A path or glob, or a list of them; an Arrow table, record batch or reader; a
            DuckDB relation, a pandas or polars DataFrame, or whatever else exports an Arrow
            stream; an iterable of dicts.
        fields: Which columns play which part: those that are text by nature (ids, texts)
            are read from CSV as text even if they look like numbers.

    Raises:
        InputError: nothing can be read from it: an unknown kind of object or file, a missing
            or empty file, a pattern that matches nothing. Malformed content raises the same
            while it is read.
    """
    fields = fields or Fields()
    if isinstance(source, str | os.PathLike):
        return _open_files([source], fields)
    if isinstance(source, list | tuple) and any(isinstance(s, str | os.PathLike) for s in source):
        return _open_files(source, fields)
    name = f"the given {type(source).__name__}"
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    elif type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "iloc"):
        # the stream that pandas exports would add the frame's index as a column
        source = source_arrow.table_of_pandas(source, name)
    if isinstance(source, pa.Table):
        return Source(name, [Part(name, partial(_batches, source), lambda: source.num_rows)])
    if hasattr(source, "__arrow_c_stream__"):
        height = getattr(source, "height", None)  # polars; len() would run a DuckDB relation
        rows = height if isinstance(height, int) else None
        read = partial(source_arrow.read_stream, source, name)
        return Source(name, [Part(name, read, lambda: rows)])
    if isinstance(source, Mapping | bytes | bytearray) or not isinstance(source, Iterable):
        raise InputError(
            f"{name} holds no rows that can be read: give a path, an Arrow table, a DuckDB "
            "relation, a DataFrame or an iterable of dicts"
        )
    name = "the given rows"
    rows = len(source) if isinstance(source, list | tuple) else None
    return Source(name, [Part(name, partial(read_dicts, source, name, fields), lambda: rows)])


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from table.to_batches()


def _open_files(patterns: Sequence[Any], fields: Fields) -> Source:
    paths: list[Path] = []
    for pattern in patterns:
        if not isinstance(pattern, str | os.PathLike):
            raise InputError(
                f"a list that mixes paths and {type(pattern).__name__} cannot be read: give "
                "paths alone or dicts alone"
            )
        paths += _matching(os.fspath(pattern))
    delimited = {path: d for path in paths if (d := _DELIMITERS.get(_format(path))) is not None}
    tables = CsvFiles(delimited, fields)
    parts = [_part(path, tables, fields) for path in paths]
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    return Source(name, parts)


def _matching(pattern: str) -> list[Path]:
    """The files that a path or glob names, sorted, each known to exist and not to be empty."""
    pattern = os.path.expanduser(pattern)  # noqa: PTH111 - a pattern is no path yet
    if os.path.lexists(pattern) or not glob.has_magic(pattern):
        paths = [Path(pattern)]
    else:
        found = (Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
        paths = sorted(path for path in found if path.is_file())
        if not paths:
            raise InputError(f"{pattern!r} matches no file: check the pattern and the folder")
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder: name its files, as in {str(path / '*.jsonl')!r}")
        try:
            size = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None
        if not path.is_file():
            raise InputError(f"{path} is no regular file: save its content in a file first")
        _format(path)
        if not size:
            raise InputError(f"{path} is empty: it needs at least one row")
    return paths


def _format(path: Path) -> str:
    """The lower-case suffix that tells the format, without ``.gz``.

    Raises:
        InputError: the suffix is unknown, or its format cannot be read compressed.
    """
    plain, zipped = path.name.lower(), False
    if plain.endswith(".gz"):
        plain, zipped = plain.removesuffix(".gz"), True
    suffix = Path(plain).suffix
    if suffix not in (*_JSONL, *_DELIMITERS, *_PARQUET, *_IPC):
        raise InputError(f"{path} has no known format in its name: {_FORMATS}")
    if zipped and suffix in (*_PARQUET, *_IPC):
        raise InputError(f"{path} is compressed around {suffix!r}: unpack it first")
    return suffix


def _part(path: Path, tables: CsvFiles, fields: Fields) -> Part:
    suffix = _format(path)
    if suffix in _DELIMITERS:
        return Part(str(path), partial(tables.read, path), partial(tables.rows, path))
    if suffix in _JSONL:
        return Part(str(path), partial(read_jsonl, path, fields), partial(count_lines, path))
    if suffix in _PARQUET:
        count = partial(source_arrow.count_parquet, path)
        return Part(str(path), partial(source_arrow.read_parquet, path), count)
    return Part(
        str(path), partial(source_arrow.read_ipc, path), partial(source_arrow.count_ipc, path)
    )
