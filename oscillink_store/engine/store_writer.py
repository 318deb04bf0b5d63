"""Everything that changes a store: each call a commit, or a job of several."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oscillink_store.engine.arguments import checked_ids, checked_options
from oscillink_store.engine.live import Live
from oscillink_store.engine.reader import Reader
from oscillink_store.errors import ClosedError, QueryError, ReadOnlyError
from oscillink_store.filters import Filter
from oscillink_store.model import Fields
from oscillink_store.reports import GateReport, IngestReport, JobReport, MaintenanceReport

if TYPE_CHECKING:
    import pyarrow as pa

    from oscillink_store.embed.protocol import Embedder
    from oscillink_store.records import Record

__all__ = ["Progress", "StoreWriter"]

Progress = Callable[[str, int, int | None], None]


class StoreWriter(Reader):
    """A reader of the live generation that makes new ones.

    What it writes with is the store's: its lock between threads, its embedder and fields.
    """

    read_only: bool
    _live: Live
    _ingesting: threading.RLock
    _lock_timeout: float
    _embedder: Embedder | None
    _fields: Fields | None

    def ingest(
        self,
        source: object,
        *,
        fields: Fields | None = None,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Add anchors; one call is one commit, all of it or nothing.

        Args:
            source: A path or glob (jsonl, csv, parquet, Arrow), an Arrow table or reader, a
                DuckDB relation, or an iterable of dicts.
            fields: Which columns play which part, when not as the store was created.
            progress: Called with (stage, done, total or None).

        A row whose id and content are in the store already is left alone; one whose id is
        there with other content replaces it. One that brings no gate keeps the anchor's.

        Raises:
            InputError: a row or field cannot be used; the message names it and the remedy.
            EmbedderError: vectors are missing and there is no embedder to make them.
            LockedError: another process is writing.
            IntegrityError: the live generation is damaged.
            DiskError, ReadOnlyError: the folder cannot take the batch.
        """
        from oscillink_store.engine.ingest import ingest  # compiles kernels that search needs not

        checked_options(fields)
        with self._writing("ingest"):
            report = ingest(
                self.path,
                source,
                fields=fields or self._fields,
                embedder=self._embedder,
                ledger=self.ledger,
                live=self._live,
                lock_timeout=self._lock_timeout,
                progress=progress,
            )
            self._fields = fields or self._fields
        return report

    def ingest_job(
        self,
        source: object,
        *,
        name: str,
        sync: bool = False,
        batch: int = 1000,
        on_error: Literal["stop", "skip"] = "stop",
        rejected: str | os.PathLike[str] | None = None,
        fields: Fields | None = None,
        progress: Progress | None = None,
    ) -> JobReport:
        """Ingest a source batch by batch, under a name by which a later run knows the job.

        Each batch is a commit that moves the job's ledger along, so a run that is interrupted
        anywhere goes on behind its last committed batch when it is started again on the same
        files (same sizes and times of change) or query; on anything else it starts over, which
        is cheap, since rows whose content is in the store are left alone. Other writers get
        their turn between batches.

        Args:
            source: As for :meth:`ingest`; also a :class:`~oscillink_store.engine.sources.Query`.
            name: The job's name: letters, digits and ``. + = @ _ -``.
            sync: At the end, delete what this job has brought in any run and the source does
                not hold any more, unless another job has brought it too.
            batch: Rows of the source per commit.
            on_error: ``"stop"`` raises at the first row that cannot be stored; the batches
                before it stay. ``"skip"`` leaves such rows out. What they stand for in the
                store stays, also under ``sync``: by their ids, and where one has no legible
                id, nothing is deleted.
            rejected: A file that gets a JSON line for each row left out: source, row, field,
                reason and data. A new run writes it anew.
            fields: Which columns play which part, when not as the store was created.
            progress: Called with (stage, done, total or None).

        Raises:
            InputError, EmbedderError: as for :meth:`ingest`.
            QueryError: an argument cannot be used.
            LockedError: another process is writing, or the job is running already.
            IntegrityError, DiskError, ReadOnlyError: as for :meth:`ingest`.
        """
        from oscillink_store.engine.jobs import JobOptions, run_job

        checked_options(fields)
        options = JobOptions(
            name=name,
            sync=sync,
            batch=batch,
            on_error=on_error,
            rejected=None if rejected is None else Path(rejected),
        )
        with self._writing("ingest"):
            wanted = fields or self._fields
        # other threads write between batches, as other processes do
        report = run_job(
            self.path,
            source,
            options,
            fields=wanted,
            embedder=self._embedder,
            ledger=self.ledger,
            live=self._live,
            lock_timeout=self._lock_timeout,
            guard=self._ingesting,
            progress=progress,
        )
        self._fields = wanted
        return report

    def take_over(self, rows: pa.Table, fields: Fields) -> IngestReport:
        """Add anchors of another store as they are there, except for ids that are here; one commit.

        Args:
            rows: What :func:`oscillink_store.engine.transfer.whole_rows` gives: embeddings, gates
                and digests come along, so that the rows' own source finds them unchanged.
            fields: The other store's.

        Raises:
            InputError: a metadata column cannot take the type that it has there.
            EmbedderError: the embeddings do not go with those that are here.
            LockedError, IntegrityError, DiskError, ReadOnlyError: as for :meth:`ingest`.
        """
        from oscillink_store.engine.transfer import take_over

        with self._writing("take_over"):
            return take_over(
                self.path,
                rows,
                fields,
                embedder=self._embedder,
                ledger=self.ledger,
                live=self._live,
                lock_timeout=self._lock_timeout,
            )

    def delete(
        self, ids: str | Sequence[str] | None = None, *, where: str | Filter | None = None
    ) -> IngestReport:
        """Delete anchors by id, or those that satisfy a filter or SQL predicate; one commit.

        Their edges go with them; links to them count as dangling.

        Raises:
            MissingError: an id is not in the store; nothing is deleted then.
            QueryError: neither or both of ``ids`` and ``where`` are given, or what is given
                cannot be used.
            LockedError, IntegrityError, DiskError, ReadOnlyError: as for :meth:`ingest`.
        """
        from oscillink_store.engine.ingest import delete

        if (ids is None) == (where is None):
            raise QueryError("delete: pass either ids or where")
        wanted = None if ids is None else checked_ids(ids)
        with self._writing("delete"):
            return delete(
                self.path,
                wanted,
                where,
                ledger=self.ledger,
                live=self._live,
                lock_timeout=self._lock_timeout,
            )

    def write(
        self,
        rows: object | None = None,
        *,
        delete: str | Sequence[str] | Filter | None = None,
        put: Iterable[Record] = (),
        drop: Iterable[tuple[Sequence[str], str]] = (),
        touch: Iterable[tuple[Sequence[str], str]] = (),
        expect: Iterable[Record | tuple[Sequence[str], str]] = (),
        fields: Fields | None = None,
    ) -> IngestReport:
        """Change anchors and records together; one call is one commit, all of it or nothing.

        Args:
            rows: Anchors to add or replace, as for :meth:`ingest`; an empty list is none.
            delete: The ids of anchors to delete, or a filter for them. Ids that are not there
                count for nothing. Rows come after it: what is deleted and comes again is
                replaced, or left alone when it is the same.
            put: Records to write; of those with one name the last counts. A record that is
                there is replaced and stays as old as it was.
            drop: Names (namespace, key) of records to drop before others are put; those that
                are not there count for nothing.
            touch: Names of records whose ``ttl`` begins anew; nothing else about them changes.
            expect: Records as they were read, and names of records that were not there: should
                one of them have been written, touched or dropped by anybody since, nothing is
                written.
            fields: Which columns of ``rows`` play which part, when not as the store was created.

        Nothing is committed when nothing changes, and a commit of records alone has no receipt:
        receipts tell what answers came from, and records are no part of any.

        Raises:
            InputError: a row, a record or a name cannot be used; the message names it.
            QueryError: ``delete`` or ``fields`` cannot be used.
            ConflictError: a record is not as expected; read again and repeat.
            EmbedderError, LockedError, IntegrityError, DiskError, ReadOnlyError: as for
                :meth:`ingest`.
        """
        from oscillink_store.engine.record_edits import record_edits
        from oscillink_store.engine.record_expect import expected
        from oscillink_store.engine.write import Edits, checked_delete, write

        checked_options(fields)
        edits = Edits(
            rows=None if isinstance(rows, list | tuple) and not rows else rows,
            delete=checked_delete(delete),
            records=record_edits(put, drop, touch),
            expect=expected(expect),
        )
        with self._writing("write"):
            report = write(
                self.path,
                edits,
                fields=fields or self._fields,
                embedder=self._embedder,
                ledger=self.ledger,
                live=self._live,
                lock_timeout=self._lock_timeout,
            )
            if edits.rows is not None:
                self._fields = fields or self._fields
        return report

    def set_gates(
        self,
        gates: float | Mapping[str, float] | object,
        *,
        ids: str | Sequence[str] | None = None,
        where: str | Filter | None = None,
        shards: str | Sequence[str] | None = None,
    ) -> GateReport:
        """Say how far anchors are to be trusted, from 0 to 1; one commit, all of it or nothing.

        An anchor's gate weighs the evidence for it and what flows through it to others. Nothing
        but the gates is written, however many they are.

        Args:
            gates: One gate for what ``ids``, ``where`` or ``shards`` choose; or a gate for each id,
                as a mapping or as a source with the columns ``id`` and ``gate``: a path, an Arrow
                table, a DuckDB relation, a DataFrame or an iterable of dicts.
            ids: The anchors that get the one gate.
            where: A filter or SQL predicate that chooses them.
            shards: Summary nodes, by their ids in :meth:`summaries`: of all that is below a node
                the gate is multiplied with the node's, now and whatever comes to it.

        What is set stays until it is set again, the anchor goes, or other content of it is
        ingested with a gate of its own.

        Raises:
            InputError: a gate is no number from 0 to 1, an id has two, or a source cannot be read.
            MissingError: an id or a shard is not in the store; no gate is changed then.
            QueryError: the arguments do not go together, or cannot be used.
            LockedError, IntegrityError, DiskError, ReadOnlyError: as for :meth:`ingest`.
        """
        from oscillink_store.engine.gates import checked_gate, checked_gating, set_gates
        from oscillink_store.engine.node_gates import set_node_gates

        if shards is not None:
            if ids is not None or where is not None:
                raise QueryError("set_gates: pass one of ids, where and shards")
            names = checked_ids(shards, "shards", "the ids of summary nodes")
            gate = checked_gate(gates)
            with self._writing("set_gates"):
                return set_node_gates(
                    self.path, names, gate, ledger=self.ledger, live=self._live,
                    lock_timeout=self._lock_timeout,
                )  # fmt: skip
        gating = checked_gating(gates, ids, where)
        with self._writing("set_gates"):
            return set_gates(
                self.path,
                gating,
                ledger=self.ledger,
                live=self._live,
                lock_timeout=self._lock_timeout,
            )

    def maintain(
        self, *, repair: bool = False, divide: bool = False, progress: Progress | None = None
    ) -> MaintenanceReport:
        """Tidy up: fold corrections, merge parts, settle summary nodes, drop what nobody needs.

        The content stays the same. Safe to interrupt. Readers go on meanwhile, and those of
        pinned generations keep them.

        Args:
            repair: First make the newest whole generation live, when files of the live one
                are damaged. What was committed after it is lost.
            divide: Divide the store into shards even if it is smaller than ``shards_from`` of its
                parameters.
            progress: Called with (stage, done, total or None).

        Raises:
            LockedError, IntegrityError, DiskError, ReadOnlyError: as for :meth:`ingest`.
        """
        from oscillink_store.engine.maintain import maintain

        with self._writing("maintain"):
            return maintain(
                self.path,
                ledger=self.ledger,
                live=self._live,
                lock_timeout=self._lock_timeout,
                repair=repair,
                divide=divide,
                progress=progress,
            )

    @contextmanager
    def _writing(self, action: str) -> Iterator[None]:
        if self._closed:
            raise ClosedError(f"{self.path}: the store is closed: connect to it again")
        if self.read_only:
            raise ReadOnlyError(
                f"{self.path}: {action} needs a writable store, this one was opened read-only: "
                "connect without read_only=True"
            )
        self.current()  # taking the lock would make the folder of a store that is gone
        with self._ingesting:
            yield
