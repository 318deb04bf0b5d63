"""Anchors on their way from one store to another, to the bit as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.embed.protocol import Embedder
from oscillink_store.engine.batch import Clock, compare, report_of, silent, writing
from oscillink_store.engine.live import Live
from oscillink_store.engine.opening import matching_embedder
from oscillink_store.engine.rows import full_text
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import EmbedderError
from oscillink_store.model import Fields
from oscillink_store.reports import IngestReport
from oscillink_store.storage.schemas import anchors_schema, conform, metadata_schema
from oscillink_store.storage.wal import Ledger

__all__ = ["take_over", "whole_rows"]


def whole_rows(snapshot: Snapshot, slots: npt.NDArray[np.int64]) -> pa.Table:
    """The anchors at some slots with all that a store holds of them, digests included."""
    rows = snapshot.rows.take(pa.array(slots))
    vectors = snapshot.vectors(slots)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    rows = rows.append_column("vector", column)
    rows = rows.append_column("fulltext", full_text(rows["title"], rows["text"]))
    return conform(rows, anchors_schema(vectors.shape[1], metadata_schema(snapshot.schema)))


def take_over(
    root: Path,
    rows: pa.Table,
    fields: Fields,
    *,
    embedder: Embedder | None,
    ledger: Ledger,
    live: Live,
    lock_timeout: float,
) -> IngestReport:
    """Add rows of :func:`whole_rows` as one commit; whatever has such an id here already stays.

    See :meth:`oscillink_store.engine.store_writer.StoreWriter.take_over`.
    """
    clock = Clock()
    with writing(root, ledger, live, lock_timeout) as writer:
        manifest = writer.snapshot.manifest
        given = rows.schema.field("vector").type.list_size
        if manifest.dimension not in (None, given):
            raise EmbedderError(
                f"{root}: the rows have vectors of {given} numbers, the store's have "
                f"{manifest.dimension}: move rows between stores of one embedder"
            )
        embedder = matching_embedder(root, manifest, embedder)
        # of two anchors of one id nobody here knows which is the newer
        new = writer.snapshot.find_ids(rows["id"].to_pylist()) < 0
        batch = compare(writer.snapshot, rows.filter(pa.array(new)))
        if not batch.changes:
            return report_of(manifest, batch, clock, None)
        return writer.apply(batch, fields=fields, embedder=embedder, report=silent, clock=clock)
