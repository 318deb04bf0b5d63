"""Migration: a store of an earlier format gets a generation of the present one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from oscillink_store.migrations import MIGRATIONS
from oscillink_store.reports import MigrationReport
from oscillink_store.storage.backup import back_up, require_new
from oscillink_store.storage.commit import Change, commit
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import Manifest, read_current
from oscillink_store.storage.migration import Migration
from oscillink_store.storage.retention import tag
from oscillink_store.storage.trust import require_whole

__all__ = ["migrate"]

Progress = Callable[[str, int, int | None], None]

_STEPS: tuple[Migration, ...] = MIGRATIONS


def migrate(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    backup: str | os.PathLike[str] | None = None,
    lock_timeout: float = 10.0,
    progress: Progress | None = None,
) -> MigrationReport:
    """Bring a store to the format that this release writes.

    A store of an earlier format can be opened, read and searched, and is written to only once
    it was migrated. Each step is one commit: interrupted anywhere, the store is as it was
    before that step or as after it, and another run goes on from there. What was committed
    earlier stays readable under the tag ``before-format-N``, until that tag is given up; only
    a backup can be opened by an earlier release.

    Args:
        path: The store's folder.
        dry_run: Look what would be done, and whether it can be: nothing is changed.
        backup: A folder, which is made, for a copy of the store as it was. Files that never
            change are hard links where the file system has them.
        lock_timeout: Seconds to wait for another writer.
        progress: Called with (stage, done, total or None).

    Raises:
        NotAStoreError: there is no store.
        FormatError: the store needs a newer release, or is from before the first one.
        IntegrityError: a file of the live generation is damaged; nothing is changed.
        QueryError: the backup exists already, or lies within the store.
        LockedError: another process is writing.
        DiskError, ReadOnlyError: the folder cannot take the new files.
    """
    root, report = Path(path), progress or _silent
    started = time.perf_counter()
    before = read_current(root)  # ahead of the lock, which makes a folder where there is none
    target = None if backup is None or not before.outdated else Path(backup)
    if target is not None:
        require_new(root, target)
    looking = dry_run or not before.outdated
    with nullcontext(True) if looking else writer_lock(root, lock_timeout) as clean:
        live = before = read_current(root)
        ahead = [step for step in _STEPS if before.format_version <= step.FROM]
        if ahead:
            _require_whole(root, before, report)
        if ahead and target is not None and not dry_run:
            report("backup", 0, None)
            back_up(root, target)
        rows = size = 0
        for step in ahead:
            change, more_rows, more_bytes = _planned(step, live, report)
            rows, size = rows + more_rows, size + more_bytes
            if dry_run:
                live = replace(live, **change.manifest)
            else:
                live = _committed(root, live, change, _tag_of(step), clean=clean)
    return MigrationReport(
        before=before.format_version,
        after=live.format_version,
        steps=tuple(step.DESCRIPTION for step in ahead),
        rows=rows,
        bytes=size,
        generation=live.generation,
        tags=tuple(map(_tag_of, ahead)),
        backup=None if target is None or dry_run else str(target),
        dry_run=dry_run,
        seconds=time.perf_counter() - started,
    )


def _planned(step: Migration, live: Manifest, report: Progress) -> tuple[Change, int, int]:
    """The change of a step, and of how many rows and bytes the tables are that it works on."""
    rows = 0

    def told(done: int) -> None:
        report("migrate", done, rows)

    change = step.change(live, told)
    entries = [live.tables[name] for name in change.tables]
    rows = sum(entry.rows for entry in entries)
    return change, rows, sum(file.bytes for entry in entries for file in entry.files)


def _committed(root: Path, live: Manifest, change: Change, name: str, *, clean: bool) -> Manifest:
    # tagged when all is on the disk but CURRENT: before the next generation is live, which
    # would let this one go, and not when there is none
    def keep(_: Manifest) -> None:
        tag(root, name, live.generation)

    return commit(root, live, [change], keep, clean=clean)


def _tag_of(step: Migration) -> str:
    return f"before-format-{step.TO}"


def _require_whole(root: Path, manifest: Manifest, report: Progress) -> None:
    """Read all files: what is worked on gets a checksum of its own, so nothing may be wrong."""
    files = manifest.files()
    total, read = sum(entry.bytes for entry in files), 0
    report("files", 0, total)
    for entry in files:
        require_whole(root, [entry])
        read += entry.bytes
        report("files", read, total)


def _silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
