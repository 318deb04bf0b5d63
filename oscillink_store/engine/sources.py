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

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from oscillink_store.engine import source_arrow
from oscillink_store.engine.source_csv import CsvFiles
from oscillink_store.engine.source_dicts import read_dicts
from oscillink_store.engine.source_files import (
    DELIMITERS,
    JSONL,
    PARQUET,
    file_format,
    file_identity,
    matching,
)
from oscillink_store.engine.source_jsonl import count_lines, read_jsonl
from oscillink_store.engine.source_refusals import Refusals
from oscillink_store.engine.source_sql import Query, query_identity, read_query
from oscillink_store.engine.source_stream import Stream, read_pipe
from oscillink_store.errors import InputError
from oscillink_store.model import Fields

__all__ = ["Batch", "Gathered", "Part", "Query", "Source", "Stream", "open_source"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some rows of a source.

    ``source`` names the file or object they come from and ``row`` is the 0-based place of
    the first of them in it, for messages; ``numbers`` are the places of all of them where they
    do not follow one another. ``refused`` are rows that could not be read, by their place among
    these; they are all null.
    """

    data: pa.RecordBatch
    source: str
    row: int
    refused: Refusals = field(default_factory=dict)
    numbers: tuple[int, ...] | None = None

    @property
    def places(self) -> Sequence[int]:
        """The 0-based place of each row in its source."""
        return self.numbers or range(self.row, self.row + self.data.num_rows)

    def take(self, rows: Sequence[int]) -> Batch:
        """Some of the rows, copied, which keep their places; of batches without refused rows."""
        places = self.places
        numbers = tuple(places[row] for row in rows)
        data = self.data.take(pa.array(rows, pa.int64()))
        return Batch(data=data, source=self.source, row=numbers[0], numbers=numbers)

    def slice(self, start: int, count: int) -> Batch:
        """Some of the rows, zero-copy."""
        end = start + count
        refused = {
            place - start: why for place, why in self.refused.items() if start <= place < end
        }
        data = self.data.slice(start, count)
        return Batch(data=data, source=self.source, row=self.row + start, refused=refused)


class Part(NamedTuple):
    """One file or object of a source: how to read it and how to count its rows."""

    name: str
    read: Callable[[Refusals | None], Iterator[pa.RecordBatch]]
    rows: Callable[[], int | None]


class Source:
    """Rows to ingest, in batches. Iterate once: readers and iterators are consumed.

    Args:
        name: What it is called in messages.
        parts: Its files or objects.
        skip: Whether rows that cannot be read are refused one by one instead of raising.
        identity: What changes when its rows may have changed, or None when nobody can tell.
    """

    def __init__(
        self, name: str, parts: Sequence[Part], *, skip: bool = False, identity: str | None = None
    ) -> None:
        self.name = name
        self.identity = identity
        self._parts = tuple(parts)
        self._skip = skip
        self._batches = self._read()
        self._peeked: list[Batch] = []

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

    def peek(self) -> Batch | None:
        """The first batch, which stays to be iterated over; None when there are no rows."""
        if not self._peeked:
            self._peeked += [batch for batch in (next(self._batches, None),) if batch is not None]
        return self._peeked[0] if self._peeked else None

    def __iter__(self) -> Iterator[Batch]:
        peeked, self._peeked = self._peeked, []
        yield from peeked
        yield from self._batches

    def chunks(self, size: int, *, skip: int = 0) -> Generator[list[Batch]]:
        """The rows behind the first ``skip``, in groups of ``size``; the last may be smaller."""
        held: list[Batch] = []
        room = size
        for batch in self:
            count = batch.data.num_rows
            start = min(skip, count)
            skip -= start
            while start < count:
                taken = min(room, count - start)
                held.append(batch.slice(start, taken))
                start += taken
                room -= taken
                if not room:
                    yield held
                    held, room = [], size
        if held:
            yield held

    def _read(self) -> Iterator[Batch]:
        for part in self._parts:
            row = 0
            refused: Refusals = {}
            for data in part.read(refused if self._skip else None):
                for piece in source_arrow.slices(data):
                    end = row + piece.num_rows
                    mine = [place for place in refused if place < end] if refused else []
                    yield Batch(
                        data=piece,
                        source=part.name,
                        row=row,
                        refused={place - row: refused.pop(place) for place in mine},
                    )
                    row = end


class Gathered(Source):
    """Batches that were read before, as a source: rows keep their places in messages."""

    def __init__(self, name: str, batches: Sequence[Batch]) -> None:
        super().__init__(name, ())
        self._batches = iter(batches)
        self.rows = sum(batch.data.num_rows for batch in batches)


def open_source(source: Any, fields: Fields | None = None, *, skip: bool = False) -> Source:
    """Open anything that holds rows.

    Args:
        source: A path or glob, or a list of them; an Arrow table, record batch or reader; a
            DuckDB relation, a pandas or polars DataFrame, or whatever else exports an Arrow
            stream; a :class:`Query` or a :class:`Stream`; an iterable of dicts. A source that
            is open already is returned as it is.
        fields: Which columns play which part: those that are text by nature (ids, texts)
            are read from CSV as text even if they look like numbers.
        skip: Whether a row of text that cannot be read (no JSON, too many cells, another type
            than in earlier rows) is refused by itself, instead of ending the reading.

    Raises:
        InputError: nothing can be read from it: an unknown kind of object or file, a missing
            or empty file, a pattern that matches nothing. Malformed content raises the same
            while it is read.
    """
    fields = fields or Fields()
    if isinstance(source, Source):
        return source
    if isinstance(source, str | os.PathLike):
        return _open_files([source], fields, skip)
    if isinstance(source, list | tuple) and any(isinstance(s, str | os.PathLike) for s in source):
        return _open_files(source, fields, skip)
    if isinstance(source, Query):
        part = Part("the query", lambda _: read_query(source), lambda: None)
        return Source(part.name, [part], identity=query_identity(source))
    if isinstance(source, Stream):
        part = Part(source.name, partial(read_pipe, source, fields), lambda: None)
        return Source(source.name, [part], skip=skip)
    name = f"the given {type(source).__name__}"
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    elif type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "iloc"):
        # the stream that pandas exports would add the frame's index as a column
        source = source_arrow.table_of_pandas(source, name)
    if isinstance(source, pa.Table):
        return Source(name, [Part(name, lambda _: iter(source.to_batches()), lambda: len(source))])
    if hasattr(source, "__arrow_c_stream__"):
        height = getattr(source, "height", None)  # polars; len() would run a DuckDB relation
        rows = height if isinstance(height, int) else None
        return Source(
            name, [Part(name, lambda _: source_arrow.read_stream(source, name), lambda: rows)]
        )
    if isinstance(source, Mapping | bytes | bytearray) or not isinstance(source, Iterable):
        raise InputError(
            f"{name} holds no rows that can be read: give a path, an Arrow table, a DuckDB "
            "relation, a DataFrame or an iterable of dicts"
        )
    name = "the given rows"
    rows = len(source) if isinstance(source, list | tuple) else None
    part = Part(name, partial(read_dicts, source, name, fields), lambda: rows)
    return Source(name, [part], skip=skip)


def _open_files(patterns: Sequence[Any], fields: Fields, skip: bool) -> Source:
    paths: list[Path] = []
    for pattern in patterns:
        if not isinstance(pattern, str | os.PathLike):
            raise InputError(
                f"a list that mixes paths and {type(pattern).__name__} cannot be read: give "
                "paths alone or dicts alone"
            )
        paths += matching(os.fspath(pattern))
    delimited = {path: d for path in paths if (d := DELIMITERS.get(file_format(path))) is not None}
    tables = CsvFiles(delimited, fields, skip=skip)
    parts = [_part(path, tables, fields) for path in paths]
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    identity = json.dumps([file_identity(path) for path in paths])
    return Source(name, parts, skip=skip, identity=identity)


def _part(path: Path, tables: CsvFiles, fields: Fields) -> Part:
    suffix = file_format(path)
    if suffix in DELIMITERS:
        return Part(str(path), partial(tables.read, path), partial(tables.rows, path))
    if suffix in JSONL:
        return Part(str(path), partial(read_jsonl, path, fields), partial(count_lines, path))
    if suffix in PARQUET:
        count = partial(source_arrow.count_parquet, path)
        return Part(str(path), lambda _: source_arrow.read_parquet(path), count)
    count_ipc = partial(source_arrow.count_ipc, path)
    return Part(str(path), lambda _: source_arrow.read_ipc(path), count_ipc)
