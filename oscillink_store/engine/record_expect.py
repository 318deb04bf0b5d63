"""What a write expects of records: that they still are as they were read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from oscillink_store.engine.record_names import listed, stored_name
from oscillink_store.engine.record_runs import StoredName
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import ConflictError, InputError
from oscillink_store.records import Record
from oscillink_store.storage.record_rows import namespace_text, to_micros

__all__ = ["Expected", "check_expected", "expected"]


class _Version(NamedTuple):
    """What every write of a record changes, in microseconds."""

    updated: int
    expires: int | None


class Expected(NamedTuple):
    """A record as it was read; None where there was none."""

    name: StoredName
    version: _Version | None


def expected(given: Iterable[Record | tuple[Sequence[str], str]]) -> list[Expected]:
    """Look at what is given before anything is done.

    Raises:
        InputError: a name cannot be used, or a record was not read from a store.
    """
    kind = "Records and (namespace, key) pairs"
    all_ = enumerate(listed(given, "expect", kind))
    return list(dict.fromkeys(_expected(each, place) for place, each in all_))


def _expected(given: Record | tuple[Sequence[str], str], place: int) -> Expected:
    if not isinstance(given, Record):
        return Expected(stored_name(given, "expect", place), None)
    updated, expires = given.updated, given.expires
    if not isinstance(updated, datetime) or not isinstance(expires, datetime | None):
        raise InputError(
            f"expect[{place}], key {given.key!r:.80}, has no times of a store: pass the Record as "
            "it was read, or its (namespace, key) where there was none",
            field="expect",
            row=place,
        )
    version = _Version(to_micros(updated), None if expires is None else to_micros(expires))
    return Expected((namespace_text(given.namespace), given.key), version)


def check_expected(snapshot: Snapshot, wanted: Sequence[Expected]) -> None:
    """Hold what is expected against what there is.

    Raises:
        ConflictError: some record is not as expected.
    """
    if not wanted:
        return
    found = _versions(snapshot, [each.name for each in wanted])
    other = [
        (each, version)
        for each, version in zip(wanted, found, strict=True)
        if each.version != version
    ]
    if not other:
        return
    names = [(tuple(json.loads(each.name[0])), each.name[1]) for each, _ in other]
    (first, version), (namespace, key) = other[0], names[0]
    if first.version is None:
        problem = "is there, where none was"
    elif version is None:
        problem = "is not there any more"
    else:
        problem = "was written or touched since it was read"
    more = f", and {len(other) - 1} more are not as expected" if len(other) > 1 else ""
    raise ConflictError(
        f"record {key!r:.80} of namespace {namespace!r:.80} {problem}{more}; nothing was written: "
        "read again and repeat",
        names=names,
    )


def _versions(snapshot: Snapshot, names: Sequence[StoredName]) -> list[_Version | None]:
    spots = snapshot.records.spots(names)
    versions: list[_Version | None] = [None] * len(names)
    for number, run in enumerate(snapshot.records.runs):
        mine = {place: spot.row for place, spot in enumerate(spots) if spot and spot.run == number}
        held = run.take(np.array([*mine.values()], np.int64), _Version._fields)
        for place, *times in zip(
            mine, *(column.to_pylist() for column in held.columns), strict=True
        ):
            versions[place] = _Version(*times)
    return versions
