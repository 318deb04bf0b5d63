"""Records as rows of a segment: the schema of a run, and each row's way there and back.

A run is sorted by ``hash``, the 64-bit key of ``namespace`` and ``key`` one behind the other,
and holds each record once. The namespace stands there as the JSON text of its labels, so that
one begins with another exactly when its text does, and the two texts together can only be read
in one way. Times are microseconds since 1970 in UTC; ``place`` orders records of one commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pyarrow as pa

from oscillink_store.records import Record

__all__ = [
    "RECORDS",
    "RECORD_SCHEMA",
    "RecordRow",
    "from_micros",
    "is_record_run",
    "namespace_text",
    "record_of",
    "record_table",
    "run_name",
    "to_micros",
]

RECORDS = "records"

RECORD_SCHEMA = pa.schema(
    [
        pa.field("hash", pa.uint64(), nullable=False),
        pa.field("namespace", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("value", pa.large_binary(), nullable=False),
        pa.field("json", pa.bool_(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("ttl", pa.float64()),
        pa.field("created", pa.int64(), nullable=False),
        pa.field("updated", pa.int64(), nullable=False),
        pa.field("place", pa.int32(), nullable=False),
        pa.field("expires", pa.int64()),
        pa.field("gone", pa.bool_(), nullable=False),
    ]
)
"""``value`` is JSON text where ``json`` says so; a record that is ``gone`` has none."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class RecordRow(NamedTuple):
    """A row of :data:`RECORD_SCHEMA` but for its hash."""

    namespace: str
    key: str
    value: bytes
    json: bool
    group: str | None
    ttl: float | None
    created: int
    updated: int
    place: int
    expires: int | None
    gone: bool


def run_name(generation: int) -> str:
    """The segment that holds the records which a generation wrote, and older ones merged in."""
    return f"{RECORDS}/{generation:010d}"


def is_record_run(name: str) -> bool:
    """Whether a segment holds records."""
    return name.startswith(f"{RECORDS}/")


def namespace_text(labels: Sequence[str]) -> str:
    """A namespace as it is stored."""
    return json.dumps(labels, ensure_ascii=False, separators=(",", ":"))


def record_table(hashes: pa.Array, rows: Iterable[RecordRow]) -> pa.Table:
    """Rows and their hashes as a table."""
    names = RECORD_SCHEMA.names[1:]
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    arrays = [
        pa.array(column, RECORD_SCHEMA.field(name).type)
        for name, column in zip(names, columns, strict=True)
    ]
    return pa.Table.from_arrays([hashes, *arrays], schema=RECORD_SCHEMA)


def record_of(row: RecordRow) -> Record:
    """The record that a row tells.

    Raises:
        ValueError: the row is not what was written.
    """
    return Record(
        namespace=tuple(json.loads(row.namespace)),
        key=row.key,
        value=json.loads(row.value) if row.json else row.value,
        group=row.group,
        ttl=row.ttl,
        created=from_micros(row.created),
        updated=from_micros(row.updated),
        expires=None if row.expires is None else from_micros(row.expires),
    )


def to_micros(time: datetime) -> int:
    """Microseconds since 1970; a time without a zone is local, as Python has it."""
    try:
        return (time.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (OverflowError, ValueError):  # in UTC it would be in the year 0 or 10000
        return (time.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The time in UTC."""
    return _EPOCH + timedelta(microseconds=micros)
