"""The one way a generation comes to be: prepare everything, sync it, swap ``CURRENT``.

An error before the swap leaves the previous generation and none of the new files; a crash
leaves unreferenced files too, which the next writer removes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.errors import OscillinkError
from oscillink_store.storage.files import disk_errors, panics_as_errors, sync_directory
from oscillink_store.storage.manifest import (
    Manifest,
    TableEntry,
    manifests_on_disk,
    publish,
    read_current,
)
from oscillink_store.storage.retention import sweep, sweep_orphans
from oscillink_store.storage.segments import Segments, write_segments
from oscillink_store.storage.tables import OvertakenError, TableChange, write_table

__all__ = ["Change", "RowIds", "commit", "create"]

ANCHORS = "anchors"
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
    changes: Sequence[Change],
    before_swap: Callable[[Manifest], object],
    *,
    clean: bool = True,
) -> Manifest:
    """Write the next generation and make it live. The writer's lock must be held.

    ``before_swap`` is called with the new manifest when all is on the disk but ``CURRENT``.
    Whatever is raised, there or here, ``parent`` stays live and what was written is removed.
    ``clean`` says that the last writer ended well, so that there is nothing of it to remove.

    Raises:
        DiskError: the disk is full or failed.
        ReadOnlyError: the folder cannot be written.
        IntegrityError: files of ``parent`` that this one builds on are damaged.
    """
    with disk_errors(root, "the commit"):
        if not clean:
            sweep_orphans(root, parent)
        draft = replace(
            parent,
            # a number that no generation had, be it live or given up as damaged
            generation=max([parent.generation, *manifests_on_disk(root)]) + 1,
            parent=parent.generation,
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        try:
            draft = _written(root, draft, changes)
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


def _written(root: Path, draft: Manifest, changes: Sequence[Change]) -> Manifest:
    for attempt in (1, 2):
        try:
            written = draft
            for change in changes:
                written = _write(root, written, change)
        except OvertakenError:
            if attempt == 2:
                raise
            # another program wrote to a table; what no generation names is not the store's
            sweep_orphans(root, read_current(root))
        else:
            return written
    raise AssertionError("unreachable")


def _write(root: Path, draft: Manifest, change: Change) -> Manifest:
    # Tables and segments are written beside each other: each mostly waits for the disk.
    pending = {
        name: _pool().submit(_write_table, root, name, draft.tables.get(name), table_change)
        for name, table_change in change.tables.items()
    }
    last = None if change.row_ids is None else change.row_ids.segment
    now, later = change.segments.parted(last)
    try:
        segments = write_segments(root, draft.generation, now)
    finally:
        wait(pending.values())  # nobody writes any more when an error is dealt with
    tables = {name: future.result() for name, future in pending.items()}
    if change.row_ids is not None:
        later = _with_row_ids(later, change.row_ids, tables[ANCHORS].row_ids)
        segments |= write_segments(root, draft.generation, later)
    kept = {name: entry for name, entry in draft.segments.items() if name not in change.dropped}
    return replace(
        draft,
        tables={**draft.tables, **{name: done.entry for name, done in tables.items()}},
        segments=kept | segments,
        **change.manifest,
    )


class _WrittenTable(NamedTuple):
    entry: TableEntry
    row_ids: npt.NDArray[np.uint64]


def _write_table(
    root: Path, name: str, before: TableEntry | None, change: TableChange
) -> _WrittenTable:
    with panics_as_errors():
        written = write_table(root, name, before, change)
        entry = written.table.entry(root, before.files if before else ())
    return _WrittenTable(entry, written.row_ids)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="oscillink-commit")


def _with_row_ids(segments: Segments, which: RowIds, appended: npt.NDArray[np.uint64]) -> Segments:
    row_ids = np.concatenate([which.before, appended])
    arrays = dict(segments.arrays)
    arrays[which.segment] = {**arrays[which.segment], "row_ids": row_ids}
    return replace(segments, arrays=arrays)
