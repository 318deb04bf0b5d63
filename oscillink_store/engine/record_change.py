"""From edits of records to what a commit writes, as pure data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from oscillink_store.engine.parts import tail
from oscillink_store.engine.record_edits import RecordEdits
from oscillink_store.engine.record_runs import StoredName, merged_runs, run_of
from oscillink_store.engine.record_view import Spot
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.storage.commit import Change
from oscillink_store.storage.record_rows import RecordRow, run_name
from oscillink_store.storage.segments import Segments
from oscillink_store.storage.trust import require_whole

__all__ = ["merge_records", "record_change"]

FEATURE = "records"
"""In a manifest's features: a release that does not know records would lose them."""


def record_change(snapshot: Snapshot, edits: RecordEdits) -> Change | None:
    """Plan the commit of what is to be done to records; None when there is nothing to do.

    Raises:
        IntegrityError: rows that are to be written again may not be what was written.
    """
    names = list(dict.fromkeys([*edits.put, *edits.drop, *edits.touch]))
    if not names:
        return None
    spots = dict(zip(names, snapshot.records.spots(names), strict=True))
    now = max(time.time_ns() // 1000, int(snapshot.manifest.records.get("time", 0)) + 1)
    dropped = {name for name in edits.drop if spots[name] is not None}
    rows = {name: _tombstone(name, now) for name in dropped}
    kept = {name: spot for name, spot in spots.items() if spot is not None and name not in dropped}
    before = _rows_at(
        snapshot, {name: s for name, s in kept.items() if name in edits.put or name in edits.touch}
    )
    for name in edits.touch:
        row = before.get(name)
        if row is not None and row.ttl is not None:
            rows[name] = row._replace(expires=_end(now, row.ttl))
    for name, row in edits.put.items():
        created = before[name].created if name in before else now
        rows[name] = row._replace(created=created, updated=now, expires=_end(now, row.ttl))
    if not rows:
        return None
    fresh = sum(1 for name in edits.put if spots[name] is None)
    gone = len(dropped - edits.put.keys())
    count = int(snapshot.manifest.records.get("count", 0)) + fresh - gone
    return _change(snapshot, list(rows.values()), {"count": count, "time": now})


def merge_records(snapshot: Snapshot) -> Change | None:
    """Plan one run of all records, without what is gone; None when there is nothing to gain."""
    runs = snapshot.records.runs
    if len(runs) < 2 and not any(run.gone.any() for run in runs):
        return None
    return _change(snapshot, [], snapshot.manifest.records, everything=True)


def _change(
    snapshot: Snapshot,
    rows: Sequence[RecordRow],
    state: Any,
    *,
    everything: bool = False,
) -> Change:
    """Write a run of fresh rows, into which the last ones go when they are not much longer."""
    runs = snapshot.records.runs
    names = snapshot.record_runs
    count = len(runs) if everything else tail([run.size for run in runs], len(rows))
    taken = len(runs) - count
    for number in range(taken, len(runs)):
        _require_whole(snapshot, number)
    tables = [*(run.table for run in runs[taken:]), *([run_of(rows)] if rows else [])]
    merged = merged_runs(tables, whole=taken == 0)
    written = {run_name(snapshot.generation + 1): merged} if merged.num_rows else {}
    return Change(
        segments=Segments(rows=written),
        dropped=frozenset(names[taken:]) - written.keys(),
        manifest={
            "records": dict(state),
            "features": {**snapshot.manifest.features, FEATURE: True},
        },
    )


def _rows_at(snapshot: Snapshot, spots: dict[StoredName, Spot]) -> dict[StoredName, RecordRow]:
    """Rows that are to be written again, of which nothing may be wrong."""
    found: dict[StoredName, RecordRow] = {}
    for number in sorted({spot.run for spot in spots.values()}):
        _require_whole(snapshot, number)
        run = snapshot.records.runs[number]
        mine = [name for name, spot in spots.items() if spot.run == number]
        rows = run.rows(np.array([spots[name].row for name in mine]))
        found.update(zip(mine, rows, strict=True))
    return found


def _require_whole(snapshot: Snapshot, number: int) -> None:
    """Check a run that is written again, once: what is read from then on is mapped."""
    run = snapshot.records.runs[number]
    if not run.checked:
        require_whole(snapshot.root, [snapshot.manifest.segments[snapshot.record_runs[number]]])
        run.checked = True


def _tombstone(name: StoredName, now: int) -> RecordRow:
    return RecordRow(*name, b"", False, None, None, now, now, 0, None, True)


def _end(now: int, ttl: float | None) -> int | None:
    return None if ttl is None else now + round(ttl * 1_000_000)
