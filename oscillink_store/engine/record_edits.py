"""Records to put, drop and touch, as a caller gives them and as they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from oscillink_store.engine.json_text import json_text
from oscillink_store.engine.record_names import listed, stored_names
from oscillink_store.engine.record_runs import StoredName
from oscillink_store.errors import InputError
from oscillink_store.records import Record
from oscillink_store.storage.record_rows import RecordRow, namespace_text

__all__ = ["RecordEdits", "record_edits"]


@dataclass(frozen=True, kw_only=True)
class RecordEdits:
    """What to do to records: to drop some, then to put some, then to touch some.

    ``put`` are rows whose times are still to be filled in, by name in the order given.
    """

    put: dict[StoredName, RecordRow] = field(default_factory=dict)
    drop: set[StoredName] = field(default_factory=set)
    touch: set[StoredName] = field(default_factory=set)


def record_edits(
    put: Iterable[Record],
    drop: Iterable[tuple[Sequence[str], str]],
    touch: Iterable[tuple[Sequence[str], str]],
) -> RecordEdits:
    """Look at what is given before anything is done.

    Raises:
        InputError: a name or a value cannot be used; names its place in what was given.
    """
    rows: dict[StoredName, RecordRow] = {}
    for place, record in enumerate(listed(put, "put", "records")):
        row = _row_of(record, place)
        rows.pop((row.namespace, row.key), None)  # the last one counts, in its place
        rows[row.namespace, row.key] = row
    return RecordEdits(
        put=rows,
        drop=set(stored_names(drop, "drop")),
        touch=set(stored_names(touch, "touch")),
    )


def _row_of(record: Any, place: int) -> RecordRow:
    if not isinstance(record, Record):
        raise InputError(
            f"put[{place}] is a {type(record).__name__}: pass Records", field="put", row=place
        )
    is_bytes = isinstance(record.value, bytes | bytearray | memoryview)
    try:
        value = bytes(record.value) if is_bytes else json_text(record.value).encode()
    except InputError as error:
        name = f"put[{place}], key {record.key!r:.80}"
        raise InputError(f"{name}: its value {error}", field="value", row=place) from None
    return RecordRow(
        namespace=namespace_text(record.namespace),
        key=record.key,
        value=value,
        json=not is_bytes,
        group=record.group,
        ttl=None if record.ttl is None else float(record.ttl),
        created=0,
        updated=0,
        place=place,
        expires=None,
        gone=False,
    )
