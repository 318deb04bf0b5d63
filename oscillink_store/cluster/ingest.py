"""The way of a source into a cluster: read, place, and one ingest per shard and batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from oscillink_store.cluster import tasks
from oscillink_store.cluster.placement import homes, placing_values
from oscillink_store.cluster.shard import Shard
from oscillink_store.cluster.summaries import Summary
from oscillink_store.engine.key_set import KeySet
from oscillink_store.engine.row_columns import identifiers
from oscillink_store.engine.rows import columns_of, refused
from oscillink_store.engine.sources import Batch, Source
from oscillink_store.errors import InputError
from oscillink_store.kernels.hashing import keys_of
from oscillink_store.model import Fields
from oscillink_store.reports import ClusterReport, IngestReport

__all__ = ["Counts", "gathered", "ingest_source"]

Progress = Callable[[str, int, int | None], None]
T = TypeVar("T")


@dataclass(kw_only=True)
class Counts:
    """What was done so far, and what the shards are like now."""

    rows: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    moved: int = 0
    summaries: dict[str, Summary] = field(default_factory=dict)
    receipts: dict[str, list[str]] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def report(self) -> ClusterReport:
        """All of it, for the caller."""
        return ClusterReport(
            rows=self.rows,
            added=self.added,
            updated=self.updated,
            unchanged=self.unchanged,
            deleted=self.deleted,
            moved=self.moved,
            anchors={name: summary.anchors for name, summary in sorted(self.summaries.items())},
            receipts={name: tuple(hashes) for name, hashes in sorted(self.receipts.items())},
            seconds=time.perf_counter() - self.started,
        )

    def add(self, done: tasks.Done) -> None:
        """Add what a task did."""
        name = done.summary.shard
        self.summaries[name] = done.summary
        report = done.report
        if report is None:
            return
        for kind in ("added", "updated", "unchanged", "deleted"):
            setattr(self, kind, getattr(self, kind) + getattr(report, kind))
        self._note(name, report)

    def add_strays(self, done: tasks.Done) -> None:
        """Add a task that deleted what has moved to another shard."""
        self.summaries[done.summary.shard] = done.summary
        if done.report is not None:
            self.moved += done.report.deleted
            self._note(done.summary.shard, done.report)

    def _note(self, name: str, report: IngestReport) -> None:
        if report.receipt is not None:
            self.receipts.setdefault(name, []).append(report.receipt.hash)


@dataclass
class _Share:
    """The rows of a batch that one shard gets, and the ids of all others."""

    batches: list[Batch] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def ingest_source(
    source: Source,
    shards: Sequence[Shard],
    *,
    by: str,
    fields: Fields,
    batch: int,
    executor: Executor,
    counts: Counts,
    before_removal: Callable[[], object],
    progress: Progress,
) -> None:
    """Read a source to its end and ingest it, ``batch`` rows at a time.

    While the shards work on one batch, the next one is read and placed. A row whose id another
    shard holds has moved: it is deleted there once it is in its new home. ``counts`` always says
    what has been done, also where this raises.

    Raises:
        InputError: a row cannot be used. What was committed before stays, so that running the
            ingest again costs no more than comparisons up to there.
        WorkerError: a worker was killed, and killed again.
    """
    seen = KeySet()
    running: list[Future[tasks.Done]] = []
    with closing(source.chunks(batch)) as chunks:
        try:
            for pieces in chunks:
                shares = _placed(pieces, by, len(shards), fields, seen)
                done, running = running, []
                _finish(done, shards, executor, counts, before_removal)
                running = [
                    executor.submit(
                        tasks.ingest, shard, source.name, share.batches, share.others, fields
                    )
                    for shard, share in zip(shards, shares, strict=True)
                ]
                counts.rows += sum(piece.data.num_rows for piece in pieces)
                progress("ingest", counts.rows, source.rows)
        finally:
            # what is under way is finished and counted, whatever became of the rows behind it
            _finish(running, shards, executor, counts, before_removal)
    if not counts.rows:
        raise InputError(f"{source.name} has no rows: give a source with at least one")


def _finish(
    running: Sequence[Future[tasks.Done]],
    shards: Sequence[Shard],
    executor: Executor,
    counts: Counts,
    before_removal: Callable[[], object],
) -> None:
    """Wait for the tasks of a batch, and delete what has moved to other shards."""
    strays = {}
    for shard, done in gathered(dict(zip(shards, running, strict=False)), counts.add):
        if done.strays:
            strays[shard] = list(done.strays)
    if strays:
        before_removal()
        removals = {
            shard: executor.submit(tasks.delete, shard, ids, None) for shard, ids in strays.items()
        }
        for _ in gathered(removals, counts.add_strays):
            pass


def gathered(
    futures: dict[Shard, Future[T]], each: Callable[[T], object] = lambda _: None
) -> list[tuple[Shard, T]]:
    """The results of all tasks, in the order of the shards, once the last of them has ended.

    ``each`` is called with every result before an error of any task is raised.
    """
    wait(futures.values())
    results, first = [], None
    for shard, future in futures.items():
        error = future.exception()
        if error is None:
            each(future.result())
            results.append((shard, future.result()))
        first = first or error
    if first is not None:
        raise first
    return results


def _placed(
    pieces: Sequence[Batch], by: str, shards: int, fields: Fields, seen: KeySet
) -> list[_Share]:
    """What each shard gets of some rows.

    Raises:
        InputError: a row has no usable id or placing value, or the source has had its id before.
    """
    shares = [_Share() for _ in range(shards)]
    for piece in pieces:
        ids = _ids(piece, fields, seen)
        values = placing_values(piece.data, by, piece.source, piece.places)
        home = homes(values, shards)
        for number, share in enumerate(shares):
            mine = np.flatnonzero(home == number)
            if len(mine):
                share.batches.append(piece.take(mine.tolist()))
            share.others += ids.filter(pa.array(home != number)).to_pylist()
    return shares


def _ids(piece: Batch, fields: Fields, seen: KeySet) -> Any:
    columns = columns_of(piece.data, piece.source)
    places = piece.places

    def refuse(row: int | None, problem: str) -> InputError:
        return refused(piece.source, places, fields.id, row, problem)

    if fields.id not in columns:
        raise InputError(
            f"{piece.source} has no column {fields.id!r}: add it, or name the column of ids with "
            "Fields(id=...)",
            field=fields.id,
        )
    ids = identifiers(columns[fields.id], refuse)
    keys = keys_of(ids.to_pylist())
    order = np.argsort(keys, kind="stable")
    again = seen.holds(keys)
    again[order[1:]] |= keys[order[1:]] == keys[order[:-1]]
    if again.any():
        row = int(np.flatnonzero(again)[0])
        raise refuse(row, f"{ids[row].as_py()!r} stands in the source before: make ids unique")
    seen.add(keys)
    return ids
