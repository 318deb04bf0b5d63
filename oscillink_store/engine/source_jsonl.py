"""JSON Lines: one object per line, read in blocks of bounded size.

The first block is parsed in Python, which also infers its types. Later blocks are parsed by
Arrow against the types seen so far, two to three times as fast; a block that does not fit
them (a new column, another type, an error) is parsed in Python again, which either widens
the types or says exactly what is wrong and where.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
from pyarrow import json as arrow_json

from oscillink_store.engine.source_arrow import BATCH_ROWS, one_line
from oscillink_store.engine.source_dicts import dict_batch
from oscillink_store.engine.source_refusals import Refusal, Refusals
from oscillink_store.errors import InputError
from oscillink_store.model import Fields
from oscillink_store.storage.schemas import unify_types

__all__ = ["count_lines", "read_jsonl"]

_HEAD_BYTES = 256 << 10
_BLOCK_BYTES = 8 << 20
_BOM = b"\xef\xbb\xbf"

_Numbered = list[tuple[int, bytes]]


def read_jsonl(
    source: Path | IO[bytes],
    fields: Fields,
    refused: Refusals | None = None,
    *,
    name: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Batches of JSON Lines; only a line feed ends a line, blank lines are skipped.

    Args:
        source: A file's path, or a binary file that is open.
        fields: Which columns play which part.
        refused: Takes the lines that cannot be used.
        name: What the source is called in messages, when not by its path.

    Raises:
        InputError: the file is empty, or, unless there is ``refused`` to say so, not UTF-8, or
            a line is no JSON object, with the line's 1-based number; or a column mixes types,
            with the 0-based row.
    """
    name = name or str(source)
    schema: pa.Schema | None = None
    row = 0
    for block in _blocks(source, name):
        batch = None if schema is None else _parse_as(block, schema)
        if batch is None:
            batch = dict_batch(_parse(block, name, row, refused), name, row, fields, refused)
            schema = _widened(schema, batch.schema)
        yield batch
        row += batch.num_rows
    if not row:
        raise InputError(f"{name} is empty: it needs at least one row")


def count_lines(path: Path) -> int | None:
    """The number of lines, or None for a compressed file."""
    if path.suffix.lower() == ".gz":
        return None
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            lines += part.count(b"\n")
            last = part[-1:]
    return lines + (last != b"\n")


@contextmanager
def _opened(source: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if not isinstance(source, Path):
        yield source
        return
    zipped = source.suffix.lower() == ".gz"
    with cast("IO[bytes]", gzip.open(source)) if zipped else source.open("rb") as file:
        yield file


def _blocks(source: Path | IO[bytes], name: str) -> Iterator[_Numbered]:
    """Lines that are not blank with their 1-based numbers, in bounded blocks."""
    number, size = 1, _HEAD_BYTES
    try:
        with _opened(source) as file:
            while lines := file.readlines(size):
                if number == 1:
                    lines[0] = lines[0].removeprefix(_BOM)
                for start in range(0, len(lines), BATCH_ROWS):
                    part = lines[start : start + BATCH_ROWS]
                    block = [(n, line) for n, line in enumerate(part, number) if not line.isspace()]
                    number += len(part)
                    if block:
                        yield block
                size = _BLOCK_BYTES
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{name} cannot be read ({one_line(error)}): check that it is complete"
        ) from error


def _parse(
    block: _Numbered, name: str, first: int, refused: Refusals | None
) -> list[dict[str, Any]]:
    rows = []
    for place, (number, line) in enumerate(block, first):
        try:
            rows.append(_parse_line(line, number, name, place))
        except InputError as error:
            if refused is None:
                raise
            refused[place] = Refusal.of(error, line.decode("utf-8", "replace").rstrip("\r\n"))
            rows.append({})
    return rows


def _parse_line(line: bytes, number: int, name: str, place: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {number}: byte {error.start + 1} is not UTF-8: save it as UTF-8",
            row=place,
        ) from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{name}, line {number} is not JSON ({error.msg} at column {error.colno}): "
            "write one object per line",
            row=place,
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{name}, line {number} cannot be parsed ({one_line(error)}): write long numbers "
            "as text and nest less deeply",
            row=place,
        ) from None
    if not isinstance(row, dict):
        raise InputError(
            f"{name}, line {number} holds {ascii(row)[:40]}, not an object: "
            "write one object per line",
            row=place,
        )
    return row


def _parse_as(block: _Numbered, schema: pa.Schema) -> pa.RecordBatch | None:
    """The block parsed against ``schema``, or None when anything in it does not fit."""
    data = b"".join(line for _, line in block)
    try:
        data.decode("utf-8")
        table = arrow_json.read_json(
            pa.BufferReader(data),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="error"
            ),
        )
    except (pa.ArrowException, ValueError, OverflowError):
        return None
    if table.num_rows != len(block):  # two objects on one line
        return None
    return table.combine_chunks().to_batches()[0]


def _widened(known: pa.Schema | None, found: pa.Schema) -> pa.Schema:
    """The types to expect from now on; where the two have none in common, the new one."""
    types: dict[str, pa.DataType] = (
        {} if known is None else {field.name: field.type for field in known}
    )
    for field in found:
        common = unify_types(types[field.name], field.type) if field.name in types else None
        types[field.name] = field.type if common is None else common
    return pa.schema(list(types.items()))
