"""Maintenance: fold, compact, and remove what no generation that stays needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from oscillink_store.engine.batch import Writer, silent
from oscillink_store.engine.compact import compact
from oscillink_store.engine.live import Live, last_whole
from oscillink_store.engine.record_change import merge_records
from oscillink_store.engine.shards import refreshed
from oscillink_store.engine.snapshot import ANCHORS, CORRECTIONS, Snapshot
from oscillink_store.errors import IntegrityError
from oscillink_store.reports import MaintenanceReport
from oscillink_store.storage.commit import Change
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import read_current
from oscillink_store.storage.retention import restore, sweep_orphans, untag_after
from oscillink_store.storage.tables import TableChange
from oscillink_store.storage.trust import require_whole
from oscillink_store.storage.wal import Ledger

__all__ = ["maintain"]

Progress = Callable[[str, int, int | None], None]


def maintain(
    root: Path,
    *,
    ledger: Ledger,
    live: Live,
    lock_timeout: float,
    repair: bool,
    divide: bool,
    progress: Progress | None,
) -> MaintenanceReport:
    """Tidy a store up; see :meth:`oscillink_store.engine.store.Store.maintain`."""
    report = progress or silent
    started = time.perf_counter()
    with writer_lock(root, lock_timeout) as clean:
        repaired = _repair(root) if repair else None
        if repaired is not None and read_current(root).outdated:  # to be migrated before more
            return _repaired_alone(repaired, started)
        writer = Writer(root, ledger, live, clean=clean)
        before = writer.snapshot
        report("fold", 0, None)
        loose, changes = _is_loose(before), _merged_tables(before)
        records = merge_records(before)
        changes += [records] if records else []
        if loose or changes:
            # what is written anew gets a checksum of its own, so nothing may be wrong with it
            require_whole(root, before.manifest.files())
            changes += [compact(before)] if loose else []
            report("commit", 0, None)
            writer.commit(changes)
        if (draft := refreshed(writer.snapshot, divide=divide)) is not None:
            report("summaries", 0, None)
            writer.commit([draft.finished()])
        while writer.fold():
            pass
        report("sweep", 0, None)
        removed = sweep_orphans(root, writer.snapshot.manifest)
    after = writer.snapshot
    return MaintenanceReport(
        generation=after.generation,
        corrections=sum(len(run.rows) for _, run in before.runs(CORRECTIONS)) // 2,
        slots=before.slots - after.slots,
        parts=len(before.parts) - len(after.parts),
        files=removed,
        bytes=_bytes(before) - _bytes(after),
        repaired=repaired,
        seconds=time.perf_counter() - started,
    )


def _repaired_alone(generation: int, started: float) -> MaintenanceReport:
    return MaintenanceReport(
        generation=generation,
        corrections=0,
        slots=0,
        parts=0,
        files=0,
        bytes=0,
        repaired=generation,
        seconds=time.perf_counter() - started,
    )


def _is_loose(snapshot: Snapshot) -> bool:
    return bool(
        len(snapshot.parts) > 1
        or len(snapshot.dead)
        or snapshot.runs(CORRECTIONS)
        or snapshot.runs("arrivals")
        or snapshot.gate_overlay is not None
        or (snapshot.parts and len(snapshot.anchors.fragments) > 1)
    )


def _merged_tables(snapshot: Snapshot) -> list[Change]:
    """Fragments of the tables that no other change of a maintenance merges."""
    merged = {}
    for name, entry in snapshot.manifest.tables.items():
        table = snapshot.table(name)
        if name not in (ANCHORS, CORRECTIONS) and table is not None and len(table.fragments) > 1:
            merged[name] = TableChange(compact=max(entry.rows, 1 << 20))
    return [Change(tables=merged)] if merged else []


def _repair(root: Path) -> int | None:
    """Make the newest whole generation live; its number, or None when the live one is whole."""
    try:
        Snapshot(root, read_current(root))
    except IntegrityError as error:
        found = last_whole(root)
        if found is None:
            raise IntegrityError(
                f"{root}: no generation is whole ({error}): restore the folder from a backup"
            ) from error
        untag_after(root, found.generation)
        restore(root, found.manifest)
        return found.generation
    return None


def _bytes(snapshot: Snapshot) -> int:
    return sum(entry.bytes for entry in snapshot.manifest.files())
