"""Ingest jobs: a source, batch by batch, each of them a commit from which a killed run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from oscillink_store.embed.adapters import known_dimension
from oscillink_store.embed.protocol import Embedder
from oscillink_store.engine import job_ledger
from oscillink_store.engine.batch import Batch as StoreBatch
from oscillink_store.engine.batch import Clock, Progress, Writer, compare, silent, writing
from oscillink_store.engine.job_rejects import SideFile, row_values, screen
from oscillink_store.engine.key_set import Keys, KeySet, contained
from oscillink_store.engine.live import Live
from oscillink_store.engine.opening import matching_embedder
from oscillink_store.engine.rows import Normalizer
from oscillink_store.engine.source_refusals import Refusal
from oscillink_store.engine.sources import Batch, Source, open_source
from oscillink_store.errors import InputError, QueryError
from oscillink_store.kernels.hashing import keys_of
from oscillink_store.model import Fields
from oscillink_store.reports import JobReport
from oscillink_store.storage.commit import Change
from oscillink_store.storage.job_table import (
    JOBS,
    JobRow,
    added,
    check_job_name,
    job_lock,
    replaced,
)
from oscillink_store.storage.schemas import anchors_schema, conform, metadata_schema
from oscillink_store.storage.wal import Ledger

__all__ = ["JobOptions", "run_job"]

# Rows in which nothing changed are gathered up to this number before the ledger is told.
_QUIET_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How a job runs; see :meth:`oscillink_store.engine.store.Store.ingest_job`.

    Raises:
        QueryError: a value cannot be used.
    """

    name: str
    sync: bool
    batch: int
    on_error: str
    rejected: Path | None

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        check_job_name(self.name)
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise QueryError(f"batch is {self.batch!r}: use a whole number of at least 1")
        if self.on_error not in ("stop", "skip"):
            raise QueryError(f"on_error is {self.on_error!r}: use 'stop' or 'skip'")
        if self.rejected is not None and self.on_error == "stop":
            raise QueryError("rejected: only on_error='skip' has rejected rows to write down")


def run_job(
    root: Path,
    source: object,
    options: JobOptions,
    *,
    fields: Fields | None,
    embedder: Embedder | None,
    ledger: Ledger,
    live: Live,
    lock_timeout: float,
    guard: AbstractContextManager[Any],
    progress: Progress | None,
) -> JobReport:
    """Run a job to its end; see :meth:`oscillink_store.engine.store.Store.ingest_job`.

    ``guard`` is held with the writer's lock, batch by batch.
    """

    @contextmanager
    def turn() -> Iterator[Writer]:
        with guard, writing(root, ledger, live, lock_timeout) as writer:
            yield writer

    started = time.perf_counter()
    with job_lock(root, options.name):
        snapshot = live.snapshot()
        fields = fields or snapshot.fields
        opened = open_source(source, fields, skip=options.on_error == "skip")
        run = _Run(
            opened,
            options,
            fields=fields,
            embedder=embedder,
            live=live,
            turn=turn,
            root=root,
            progress=progress or silent,
        )
        return run.finished(started)


@dataclass(kw_only=True)
class _Counts:
    """What happened since the last commit, or in the whole run."""

    rows: int = 0
    added: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    rejected: int = 0
    illegible: int = 0
    batches: int = 0
    ids: list[Keys] = field(default_factory=list)
    spared_ids: list[Keys] = field(default_factory=list)

    def add(self, other: _Counts | JobRow) -> None:
        """Add the numbers of a batch."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_NUMBERS = ("added", "updated", "deleted", "unchanged", "rejected", "illegible")


class _Run:
    """One run of a job over its source."""

    def __init__(
        self,
        source: Source,
        options: JobOptions,
        *,
        fields: Fields,
        embedder: Embedder | None,
        live: Live,
        turn: Callable[[], AbstractContextManager[Writer]],
        root: Path,
        progress: Progress,
    ) -> None:
        self._source = source
        self._options = options
        self._fields = fields
        self._given_embedder = embedder
        self._live = live
        self._turn = turn
        self._root = root
        self._progress = progress
        snapshot = live.snapshot()
        self._identity = job_ledger.identity_of(source.identity, fields)
        self._history = job_ledger.history(live.snapshot, options.name, self._identity)
        embedder = matching_embedder(root, snapshot.manifest, embedder)
        dimension = snapshot.manifest.dimension
        self._normalizer = Normalizer(
            fields,
            dimension=known_dimension(embedder) if dimension is None and embedder else dimension,
            needs_vector=embedder is None,
            known=snapshot.fields if len(snapshot) else None,
            metadata=metadata_schema(snapshot.schema),
        )
        # the run so far, and what the ledger does not know of it yet
        self._whole, self._pending = _Counts(), _Counts()
        self._position = 0
        self._spared = KeySet()
        length = 0
        path = None if options.rejected is None else str(options.rejected.absolute())
        for row in self._history.done:
            self._whole.add(row)
            self._whole.batches += 1
            self._normalizer.seen.add(row.ids)
            self._spared.add(row.spared_ids)
            self._position = row.position
            length = row.side_bytes if row.side_file == path else 0
        self._side_path = path
        self._side = SideFile(options.rejected, length)

    def finished(self, started: float) -> JobReport:
        """Read the source from where the last commit left off, to its end."""
        resumed = bool(self._history.done)
        with closing(self._side):
            total = self._source.rows if self._progress is not silent else None
            self._look_at_columns()
            for pieces in self._source.chunks(self._options.batch, skip=self._position):
                self._take(pieces)
                self._progress("read", self._position, total)
            if not self._position:
                raise InputError(
                    f"{self._source.name} has no rows: give a source with at least one"
                )
            withheld = self._end()
        return JobReport(
            name=self._options.name,
            run=self._history.run,
            withheld=withheld,
            batches=self._whole.batches,
            generation=self._live.last.generation,
            resumed=resumed,
            seconds=time.perf_counter() - started,
            **{name: getattr(self._whole, name) for name in _NUMBERS if name != "illegible"},
        )

    def _look_at_columns(self) -> None:
        """Refuse a source whose first rows lack a column that is named for the first time.

        All rows are not known before the first of them are committed.
        """
        first = None if self._history.done else self._source.peek()
        if first is not None:
            rows = f"none of the first {first.data.num_rows} rows of {first.source}"
            self._normalizer.require_columns(first.data.schema.names, rows)

    # a batch

    def _take(self, pieces: Sequence[Batch]) -> None:
        tables = [table for piece in pieces for table in self._normalized(piece)]
        rows = sum(piece.data.num_rows for piece in pieces)
        self._position += rows
        self._pending.rows += rows
        if tables:
            table = self._joined(tables)
            self._pending.ids.append(keys_of(table["id"].to_pylist()))
            snapshot = self._live.snapshot()
            batch = compare(snapshot, table)
            if batch.changes or self._fields.declared != snapshot.fields.declared:
                with self._turn() as writer:
                    # held against what is live now that nobody else writes
                    self._commit(writer, compare(writer.snapshot, table))
                return
            self._pending.unchanged += batch.unchanged
        if self._pending.rows >= _QUIET_ROWS:
            with self._turn() as writer:
                self._commit(writer, None)

    def _normalized(self, piece: Batch) -> list[pa.Table]:
        places: Sequence[int] = range(piece.row, piece.row + piece.data.num_rows)
        if self._options.on_error == "stop":
            return [self._normalizer.normalize(piece.data, source=piece.source, places=places)]
        data = piece.data
        for index, refusal in sorted(piece.refused.items()):
            self._reject(piece, index, refusal)
        if piece.refused:
            kept = [index for index in range(data.num_rows) if index not in piece.refused]
            data = data.take(pa.array(kept, pa.int64()))
            places = [piece.row + index for index in kept]
        if not data.num_rows:
            return []
        unusable: list[InputError] = []

        def reject(place: int, error: InputError) -> None:
            unusable.append(error)
            values = row_values(piece.data, place - piece.row)
            self._reject(piece, place - piece.row, Refusal.of(error, values))

        def normalize(some: pa.RecordBatch, where: Sequence[int]) -> pa.Table:
            return self._normalizer.normalize(some, source=piece.source, places=where)

        keep = frozenset({self._fields.id, self._fields.text, self._fields.vector})
        tables = screen(normalize, data, places, reject, keep)
        nothing_yet = not (tables or self._whole.batches or self._pending.ids)
        if nothing_yet and all(error.row is None for error in unusable):
            raise unusable[0]  # it is not the rows: a column is missing or has another name
        return tables

    def _reject(self, piece: Batch, index: int, refusal: Refusal) -> None:
        self._side.write(piece.source, piece.row + index, refusal)
        self._pending.rejected += 1
        data = refusal.data
        value = data.get(self._fields.id) if isinstance(data, Mapping) else None
        if isinstance(value, str | int) and not isinstance(value, bool):
            key = keys_of([str(value)])
            self._spared.add(key)
            self._pending.spared_ids.append(key)
        else:
            self._pending.illegible += 1

    def _joined(self, tables: Sequence[pa.Table]) -> pa.Table:
        metadata = [*self._normalizer.metadata]
        # a facet may come with a later batch
        names = {column.name for column in metadata}
        metadata += [pa.field(name, pa.null()) for name in self._fields.facets if name not in names]
        given = "vector" in tables[0].schema.names
        schema = anchors_schema(self._normalizer.dimension if given else None, metadata)
        return pa.concat_tables([conform(table, schema) for table in tables])

    # commits

    def _commit(self, writer: Writer, batch: StoreBatch | None, *, last: bool = False) -> None:
        """Commit a batch, if there is one, and the ledger's row about everything since."""
        pending = self._pending
        if batch is not None:
            pending.added += batch.added
            pending.updated += batch.updated
            pending.unchanged += batch.unchanged
            pending.deleted += len(batch.deleted)
        beside = Change(tables={JOBS: self._row_change(writer, last=last)})
        declared = writer.snapshot.fields.declared
        if batch is not None and (batch.changes or self._fields.declared != declared):
            manifest = writer.snapshot.manifest
            writer.apply(
                batch,
                fields=self._fields,
                embedder=matching_embedder(self._root, manifest, self._given_embedder),
                report=silent,
                clock=Clock(),
                beside=[beside],
            )
        else:
            writer.commit([beside])
        self._whole.add(pending)
        self._whole.batches += not last
        self._pending = _Counts()

    def _row_change(self, writer: Writer, *, last: bool) -> Any:
        counts = self._pending
        ids = np.concatenate([np.empty(0, np.uint64), *counts.ids])
        spared = np.concatenate([np.empty(0, np.uint64), *counts.spared_ids])
        numbers = {name: getattr(counts, name) for name in _NUMBERS}
        if last:
            numbers = {name: numbers[name] + getattr(self._whole, name) for name in _NUMBERS}
            ids, spared = self._claims(), np.empty(0, np.uint64)
        row = JobRow(
            job=self._options.name,
            run=self._history.run,
            batch=self._whole.batches,
            finished=last,
            source=self._source.name,
            identity=self._identity,
            position=self._position,
            side_file=self._side_path,
            side_bytes=self._side.sync(),
            ids=ids,
            spared_ids=spared,
            **numbers,
        )
        if last:
            return replaced(writer.snapshot.table(JOBS), row)
        return added(row)

    # the end of the source

    def _claims(self) -> Keys:
        """The keys of all ids that are the job's when the run has ended."""
        earlier = self._history.earlier
        if self._options.sync and not self._illegible:
            earlier = earlier[contained(earlier, self._spared.sorted())]
        return np.union1d(self._normalizer.seen.sorted(), earlier)

    @property
    def _illegible(self) -> int:
        return self._whole.illegible + self._pending.illegible

    def _doomed(self) -> Keys:
        """The keys of ids that the job brought before and that the source lacks now."""
        earlier = self._history.earlier
        here = contained(earlier, self._normalizer.seen.sorted())
        return earlier[~here & ~contained(earlier, self._spared.sorted())]

    def _end(self) -> int:
        """Delete what left the source, and close the run; how many anchors were spared."""
        doomed = self._doomed() if self._options.sync else np.empty(0, np.uint64)
        withheld, deleted = 0, 0
        while True:
            with self._turn() as writer:
                snapshot = writer.snapshot
                slots = np.empty(0, np.int64)
                if len(doomed):
                    others = job_ledger.claims_of_others(snapshot, self._options.name)
                    mine = doomed[~contained(doomed, others)]
                    slots = job_ledger.slots_of_keys(snapshot, mine)
                if self._illegible:
                    withheld, slots = len(slots), slots[:0]
                now = slots[: self._options.batch]
                last = len(now) == len(slots)
                batch = StoreBatch(
                    fresh=snapshot.schema.empty_table(),
                    replaced=np.empty(0, np.int64),
                    deleted=now,
                )
                self._commit(writer, batch, last=last)
            deleted += len(now)
            self._progress("delete", deleted, deleted + len(slots) - len(now))
            if last:
                return withheld
