"""The way of a batch: read, validate, embed, plan, commit; and the way of a deletion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from oscillink_store.embed.adapters import known_dimension
from oscillink_store.embed.protocol import Embedder
from oscillink_store.engine.batch import (
    Batch,
    Clock,
    Progress,
    compare,
    report_of,
    silent,
    writing,
)
from oscillink_store.engine.live import Live
from oscillink_store.engine.opening import matching_embedder
from oscillink_store.engine.rows import Normalizer, read_rows
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.sources import open_source
from oscillink_store.errors import InputError
from oscillink_store.filters import Filter
from oscillink_store.model import Fields
from oscillink_store.reports import IngestReport
from oscillink_store.storage.schemas import metadata_schema
from oscillink_store.storage.wal import Ledger

__all__ = ["delete", "ingest", "read_source"]


def ingest(
    root: Path,
    source: object,
    *,
    fields: Fields | None,
    embedder: Embedder | None,
    ledger: Ledger,
    live: Live,
    lock_timeout: float,
    progress: Progress | None,
) -> IngestReport:
    """Ingest a source as one commit; see :meth:`oscillink_store.engine.store.Store.ingest`."""
    report = progress or silent
    clock = Clock()
    with writing(root, ledger, live, lock_timeout) as writer:
        snapshot = writer.snapshot
        fields = fields or snapshot.fields
        embedder = matching_embedder(root, snapshot.manifest, embedder)
        with clock.stage("read"):
            # what was read is not kept beside what is new in it
            batch = compare(snapshot, read_source(source, fields, snapshot, embedder, report))
        if not batch.changes and fields.declared == snapshot.fields.declared:
            return report_of(snapshot.manifest, batch, clock, None)
        return writer.apply(batch, fields=fields, embedder=embedder, report=report, clock=clock)


def read_source(
    source: object,
    fields: Fields,
    snapshot: Snapshot,
    embedder: Embedder | None,
    report: Progress,
) -> pa.Table:
    """Every row of a source, as the anchors table holds them.

    Raises:
        InputError: a row or field cannot be used, or there are no rows.
    """
    reader = open_source(source, fields)
    dimension = snapshot.manifest.dimension
    if dimension is None and embedder is not None:
        dimension = known_dimension(embedder)
    normalizer = Normalizer(
        fields,
        dimension=dimension,
        needs_vector=embedder is None,
        known=snapshot.fields if len(snapshot) else None,
        metadata=metadata_schema(snapshot.schema),
    )
    table = read_rows(reader, normalizer, lambda rows: report("read", rows, reader.rows))
    if not table.num_rows:
        raise InputError(f"{reader.name} has no rows: give a source with at least one")
    return table


def delete(
    root: Path,
    ids: list[str] | None,
    where: str | Filter | None,
    *,
    ledger: Ledger,
    live: Live,
    lock_timeout: float,
) -> IngestReport:
    """Delete anchors as one commit; see :meth:`oscillink_store.engine.store.Store.delete`."""
    clock = Clock()
    with writing(root, ledger, live, lock_timeout) as writer:
        snapshot = writer.snapshot
        slots = np.empty(0, np.int64)
        if ids is not None:
            slots = np.unique(snapshot.slots_of_ids(ids))
        elif where is not None:
            slots = np.flatnonzero(snapshot.allowed(where))
        batch = Batch(
            fresh=snapshot.schema.empty_table(), replaced=np.empty(0, np.int64), deleted=slots
        )
        if not batch.changes:
            return report_of(snapshot.manifest, batch, clock, None)
        return writer.apply(
            batch, fields=snapshot.fields, embedder=None, report=silent, clock=clock
        )
