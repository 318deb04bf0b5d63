"""The one way a generation comes to be: prepare everything, sync it, swap ``CURRENT``.

An error before the swap leaves the previous generation and none of the new files; a crash
leaves unreferenced files too, which the next writer removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from oscillink_store.errors import OscillinkError
from oscillink_store.storage.files import disk_errors, panics_as_errors, sync_directory
from oscillink_store.storage.manifest import (
    FileEntry,
    Manifest,
    TableEntry,
    publish,
    read_current,
)
from oscillink_store.storage.retention import last_number, sweep, sweep_orphans
from oscillink_store.storage.segments import Segments, sync_folder, write_segments
from oscillink_store.storage.tables import OvertakenError, TableChange, write_table
from oscillink_store.storage.trust import require_whole

__all__ = ["Change", "RowIds", "commit", "create"]

ANCHORS = "anchors"
_ACTION = "the commit"
_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class RowIds:
    """Which new segment gets the array ``row_ids``: ``before``, then those of appended anchors."""

    segment: str
    before: npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a commit does to a generation.

    ``tables`` change, ``segments`` are new or take the place of those of the same name,
    segments named in ``dropped`` are there no more, and ``manifest`` are new values for
    fields of the manifest.
    """

    tables: Mapping[str, TableChange] = field(default_factory=dict)
    segments: Segments = field(default_factory=Segments)
    dropped: frozenset[str] = frozenset()
    row_ids: RowIds | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def carried(self) -> set[str]:
        """The segments whose content goes into new ones, or that are there no more."""
        new = self.segments
        return {*self.dropped, *new.arrays, *new.rows, *new.values}


def create(root: Path, manifest: Manifest) -> None:
    """Make the folder a store whose first generation is ``manifest``, with no anchors."""
    with disk_errors(root, "creating the store"):
        root.mkdir(parents=True, exist_ok=True)
        sync_directory(root.parent)
        publish(root, manifest)


def commit(
    root: Path,
    parent: Manifest,
    changes: Iterable[Change],
    before_swap: Callable[[Manifest], object],
    *,
    clean: bool = True,
) -> Manifest:
    """Write the next generation and make it live. The writer's lock must be held.

    Each change is written while the next one is waited for, so that a generator of changes can
    work that one out beside. Changes of the same table are made one after another.

    ``before_swap`` is called with the new manifest when all is on the disk but ``CURRENT``.
    Whatever is raised, there or here, ``parent`` stays live and what was written is removed.
    ``clean`` says that the last writer ended well, so that there is nothing of it to remove.

    Raises:
        DiskError: the disk is full or failed.
        ReadOnlyError: the folder cannot be written.
        IntegrityError: files of ``parent`` that this one builds on are damaged.
    """
    with disk_errors(root, _ACTION):
        if not clean:
            sweep_orphans(root, parent)
        draft = replace(
            parent,
            generation=max(parent.generation, last_number(root)) + 1,
            parent=parent.generation,
            parent_sha256=parent.sha256,
        )
    try:
        draft = _written(root, parent, draft, changes)
        with disk_errors(root, _ACTION):
            publish(root, draft, lambda: before_swap(draft))
    except BaseException:
        # what CURRENT names decides, since an interrupt may come right after the swap
        with suppress(OscillinkError):
            sweep_orphans(root, read_current(root))
        raise
    # the generation is live, whatever becomes of old ones
    with suppress(OscillinkError, OSError):
        sweep(root, draft)
    return draft


def _written(root: Path, parent: Manifest, draft: Manifest, changes: Iterable[Change]) -> Manifest:
    known: list[Change] = []
    with _Writing(root, parent, draft) as writing:
        for change in changes:  # whatever is raised there has nothing to do with the disk
            known.append(change)
            writing.begin(change)
        with disk_errors(root, _ACTION), suppress(OvertakenError):
            return writing.done()
    with disk_errors(root, _ACTION):
        # another program wrote to a table; what no generation names is not the store's
        sweep_orphans(root, read_current(root))
        with _Writing(root, parent, draft) as writing:
            for change in known:
                writing.begin(change)
            return writing.done()


class _WrittenTable(NamedTuple):
    entry: TableEntry
    row_ids: npt.NDArray[np.uint64]


class _Writing:
    """The files of a generation, written beside each other: each mostly waits for the disk.

    When it is left nobody writes any more.
    """

    def __init__(self, root: Path, parent: Manifest, draft: Manifest) -> None:
        self._root, self._parent, self._draft = root, parent, draft
        self._tables: dict[str, Future[_WrittenTable]] = {}
        self._segments: dict[str, Future[dict[str, FileEntry]]] = {}
        self._checks: list[Future[None]] = []
        self._dropped: set[str] = set()
        self._fields: dict[str, Any] = {}

    def begin(self, change: Change) -> None:
        """Begin to write what a change brings."""
        root, parent = self._root, self._parent
        # tables come first: what waits for one must not take a thread from it
        for name, table in change.tables.items():
            earlier = self._tables.get(name)
            self._tables[name] = _pool().submit(self._write_table, name, table, earlier)
        # What is damaged must not be written again with a checksum of its own; nor may Arrow
        # work on it, which believes whatever offsets it reads.
        entries = [
            parent.segments[name] for name in sorted(change.carried() & parent.segments.keys())
        ]
        check = _pool().submit(require_whole, root, entries)
        self._checks.append(check)
        for name, segment in change.segments.each().items():
            self._segments[name] = _pool().submit(
                self._write_segment, segment, change.row_ids, check
            )
        self._dropped |= change.dropped
        self._fields |= change.manifest

    def done(self) -> Manifest:
        """The manifest of all that was written, when that is on the disk."""
        for check in self._checks:
            check.result()
        tables = {name: table.result().entry for name, table in self._tables.items()}
        segments = {
            name: entry
            for name, entry in self._parent.segments.items()
            if name not in self._dropped
        }
        for written in self._segments.values():
            segments |= written.result()
        if self._segments:
            sync_folder(self._root, self._draft.generation)
        return replace(
            self._draft,
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
            tables={**self._parent.tables, **tables},
            segments=segments,
            **self._fields,
        )

    def _write_segment(
        self, segment: Segments, row_ids: RowIds | None, check: Future[None]
    ) -> dict[str, FileEntry]:
        check.result()
        if row_ids is not None and row_ids.segment in segment.arrays:
            appended = self._tables[ANCHORS].result().row_ids
            segment = _with_row_ids(segment, row_ids, appended)
        return write_segments(self._root, self._draft.generation, segment)

    def _write_table(
        self, name: str, change: TableChange, earlier: Future[_WrittenTable] | None
    ) -> _WrittenTable:
        before = self._parent.tables.get(name) if earlier is None else earlier.result().entry
        with panics_as_errors():
            written = write_table(self._root, name, before, change)
            entry = written.table.entry(self._root, before.files if before else ())
        return _WrittenTable(entry, written.row_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pending: list[Future[Any]] = [*self._tables.values(), *self._segments.values()]
        wait([*pending, *self._checks])


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="oscillink-commit")


def _with_row_ids(segment: Segments, which: RowIds, appended: npt.NDArray[np.uint64]) -> Segments:
    row_ids = np.concatenate([which.before, appended])
    arrays = {**segment.arrays_of(which.segment), "row_ids": row_ids}
    return Segments(arrays={which.segment: arrays})
