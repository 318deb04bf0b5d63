"""Content digests, by which an ingest tells changed rows from unchanged ones."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.storage.schemas import DIGEST_BYTES, metadata_schema

__all__ = ["content_digests"]

_CONTENT = ("title", "text", "sequence", "position", "links", "gate", "payload")


def content_digests(table: pa.Table) -> pa.Array:
    """One 16-byte BLAKE2b digest per row of everything but its id.

    The digest covers, in this order, the JSON array ``[title, text, sequence, position,
    links, gate, payload, {metadata}]`` (UTF-8, keys sorted, no blanks; nulls in structs and null
    metadata left out, whole numbers without a fraction whatever their type, times as the
    integers that Arrow stores, decimals as text, binaries in hexadecimal, no gate as 1) and, if
    the table has a ``vector`` column, a zero byte and the row's float32 numbers, little-endian.
    So it depends neither on Arrow's layout, nor on the order of the columns, nor on whether a
    column was widened or filled with nulls for other rows' sake.

    Args:
        table: Normalized rows; ``fulltext`` and ``digest`` are not looked at.

    Returns:
        ``binary(16)``, one per row.
    """
    encode = json.JSONEncoder(
        ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=bytes.hex
    ).encode
    metadata = metadata_schema(table.schema).names
    content = zip(*(_plain_values(_column(table, name)) for name in _CONTENT), strict=True)
    extras = [_plain_values(table.column(name)) for name in metadata]
    rows = zip(*extras, strict=True) if extras else iter([()] * table.num_rows)
    vectors, width = _vector_bytes(table)
    digests = bytearray()
    for place, (fixed, values) in enumerate(zip(content, rows, strict=True)):
        named = {n: v for n, v in zip(metadata, values, strict=True) if v is not None}
        digest = hashlib.blake2b(encode((*fixed, named)).encode("utf-8"), digest_size=DIGEST_BYTES)
        if width:
            digest.update(b"\0")
            digest.update(vectors[place * width : (place + 1) * width])
        digests += digest.digest()
    type_ = pa.binary(DIGEST_BYTES)
    return pa.Array.from_buffers(type_, table.num_rows, [None, pa.py_buffer(bytes(digests))])


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    column = table.column(name)
    return pc.fill_null(column, 1.0) if name == "gate" else column


def _vector_bytes(table: pa.Table) -> tuple[memoryview, int]:
    """All vectors as bytes, and the bytes per row: 0 if there are none."""
    index = table.schema.get_field_index("vector")
    if index < 0:
        return memoryview(b""), 0
    column = table.column(index)
    parts = [np.asarray(chunk.flatten(), "<f4").tobytes() for chunk in column.chunks]
    return memoryview(b"".join(parts)), 4 * column.type.list_size


def _plain_values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as what JSON can hold."""
    type_ = _plain_type(column.type)
    if type_ != column.type:
        column = column.cast(type_)
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(type_) or pa.types.is_nested(type_):
        return [_plain(value) for value in values]
    return values


def _plain_type(type_: pa.DataType) -> pa.DataType:
    is_ = pa.types
    if is_.is_date32(type_):
        return pa.int32()
    if is_.is_temporal(type_):
        return pa.int64()
    if is_.is_decimal(type_):
        return pa.string()
    if is_.is_list(type_):
        return pa.list_(_plain_type(type_.value_type))
    if is_.is_map(type_):
        return pa.map_(_plain_type(type_.key_type), _plain_type(type_.item_type))
    if is_.is_struct(type_):
        return pa.struct([(child.name, _plain_type(child.type)) for child in type_])
    return type_


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2.0**63 else value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
