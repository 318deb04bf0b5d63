"""One commit for anchors and records: deletes, then rows, and what becomes of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oscillink_store.embed.protocol import Embedder
from oscillink_store.engine.arguments import checked_ids
from oscillink_store.engine.batch import Batch, Clock, compare, report_of, silent, writing
from oscillink_store.engine.ingest import read_source
from oscillink_store.engine.live import Live
from oscillink_store.engine.opening import matching_embedder
from oscillink_store.engine.record_change import record_change
from oscillink_store.engine.record_edits import RecordEdits
from oscillink_store.engine.record_expect import Expected, check_expected
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.filters import Filter
from oscillink_store.model import Fields
from oscillink_store.reports import IngestReport
from oscillink_store.storage.wal import Ledger

__all__ = ["Edits", "checked_delete", "write"]

Slots = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Edits:
    """What one write does to anchors and records, and what it expects of records."""

    rows: object | None
    delete: tuple[str, ...] | Filter
    records: RecordEdits
    expect: Sequence[Expected]


def write(
    root: Path,
    edits: Edits,
    *,
    fields: Fields | None,
    embedder: Embedder | None,
    ledger: Ledger,
    live: Live,
    lock_timeout: float,
) -> IngestReport:
    """Write as one commit; see :meth:`oscillink_store.engine.store.Store.write`."""
    clock = Clock()
    with writing(root, ledger, live, lock_timeout) as writer:
        snapshot = writer.snapshot
        check_expected(snapshot, edits.expect)
        fields = fields or snapshot.fields
        if edits.rows is not None:
            embedder = matching_embedder(root, snapshot.manifest, embedder)
        with clock.stage("read"):
            batch = _batch(snapshot, edits, fields, embedder)
            change = record_change(snapshot, edits.records)
        beside = [] if change is None else [change]
        declared = edits.rows is not None and fields.declared != snapshot.fields.declared
        if batch.changes or declared:
            return writer.apply(
                batch,
                fields=fields if edits.rows is not None else snapshot.fields,
                embedder=embedder if edits.rows is not None else None,
                report=silent,
                clock=clock,
                beside=beside,
            )
        manifest = snapshot.manifest
        if beside:
            with clock.stage("commit"):
                manifest = writer.commit(beside)
        return report_of(manifest, batch, clock, None)


def _batch(snapshot: Snapshot, edits: Edits, fields: Fields, embedder: Embedder | None) -> Batch:
    deleted = _deleted(snapshot, edits.delete)
    if edits.rows is None:
        nothing = snapshot.schema.empty_table()
        return Batch(fresh=nothing, replaced=np.empty(0, np.int64), deleted=deleted)
    incoming = read_source(edits.rows, fields, snapshot, embedder, silent)
    batch = compare(snapshot, incoming)
    if len(deleted):  # what is deleted and comes again is replaced, or stays as it is
        deleted = np.setdiff1d(deleted, snapshot.find_ids(incoming["id"].to_pylist()))
    return replace(batch, deleted=deleted)


def _deleted(snapshot: Snapshot, which: tuple[str, ...] | Filter) -> Slots:
    if isinstance(which, Filter):
        return np.flatnonzero(snapshot.allowed(which))
    slots = np.unique(snapshot.find_ids(which))
    return slots[slots >= 0]


def checked_delete(given: Any) -> tuple[str, ...] | Filter:
    """Ids as a tuple, or a filter.

    Raises:
        QueryError: they are neither.
    """
    if given is None or isinstance(given, Filter):
        return () if given is None else given
    return tuple(checked_ids(given, "delete", "ids or a Filter"))
