"""The way of a batch: read, validate, embed, plan, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from oscillink_store.embed.protocol import Embedder
from oscillink_store.engine.fold import prepare_fold
from oscillink_store.engine.opening import matching_embedder
from oscillink_store.engine.plan import CARRIED, Comparison, compare, plan
from oscillink_store.engine.row_vectors import unit_vectors
from oscillink_store.engine.rows import Normalizer, read_rows
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.sources import open_source
from oscillink_store.errors import EmbedderError, InputError
from oscillink_store.model import KERNEL_VERSION, PARAMETER_VERSION, Fields, IngestReport
from oscillink_store.receipts.canonical import digest
from oscillink_store.receipts.content import ingest_content
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.commit import commit
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import Manifest, read_current, require_whole
from oscillink_store.storage.wal import Ledger

__all__ = ["ingest"]

Progress = Callable[[str, int, int | None], None]

_EMBED_BATCH = 256


class _Clock:
    """Wall seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def total(self) -> dict[str, float]:
        whole = time.perf_counter() - self._started
        return {name: round(value, 4) for name, value in (*self.seconds.items(), ("total", whole))}


def ingest(
    root: Path,
    source: object,
    *,
    fields: Fields | None,
    embedder: Embedder | None,
    ledger: Ledger,
    lock_timeout: float,
    progress: Progress | None,
) -> IngestReport:
    """Ingest a source as one commit; see :meth:`oscillink_store.engine.store.Store.ingest`."""
    report = progress or _silent
    clock = _Clock()
    with writer_lock(root, lock_timeout):
        snapshot = Snapshot(root, read_current(root))
        fields = fields or snapshot.fields
        embedder = matching_embedder(root, snapshot.manifest, embedder)
        with clock.stage("read"):
            incoming = _read(source, fields, snapshot, embedder, report)
        batch = compare(snapshot, incoming)
        if batch.fresh.num_rows == 0 and set(fields.facets) == set(snapshot.fields.facets):
            return _report(snapshot.manifest, batch, clock, None)
        # what is damaged must not be copied into a generation with checksums of its own
        segments = snapshot.manifest.segments
        require_whole(root, [segments[name] for name in CARRIED if name in segments])
        with clock.stage("embed"):
            batch = _with_vectors(batch, embedder, report)
        with clock.stage("lattice"):
            change = plan(
                snapshot,
                batch,
                fields=fields,
                parameters=snapshot.parameters,
                embedder=_embedder_entry(snapshot.manifest, embedder),
                progress=report,
            )
        with clock.stage("commit"):
            report("commit", 0, None)
            ledger.rotate()
            fold = prepare_fold(root, snapshot.manifest)
            receipts: list[Receipt] = []
            manifest = commit(
                root,
                snapshot.manifest,
                change,
                fold.change if fold else None,
                # before the swap, so that no generation goes live without its receipt
                lambda manifest: receipts.append(ledger.record(_content(manifest, batch))),
            )
            if fold is not None:
                fold.finish()
    return _report(manifest, batch, clock, receipts[0])


def _read(
    source: object,
    fields: Fields,
    snapshot: Snapshot,
    embedder: Embedder | None,
    report: Progress,
) -> pa.Table:
    reader = open_source(source, fields)
    dimension = snapshot.manifest.dimension
    if dimension is None and embedder is not None:
        dimension = embedder.dimension
    normalizer = Normalizer(fields, dimension=dimension, needs_vector=embedder is None)
    table = read_rows(reader, normalizer, lambda rows: report("read", rows, reader.rows))
    if not table.num_rows:
        raise InputError(f"{reader.name} has no rows: give a source with at least one")
    return table


def _with_vectors(batch: Comparison, embedder: Embedder | None, report: Progress) -> Comparison:
    # Only rows that are new to the store are embedded.
    fresh = batch.fresh
    if "vector" in fresh.schema.names or embedder is None or fresh.num_rows == 0:
        return batch
    texts = fresh["fulltext"].to_pylist()
    vectors = np.empty((len(texts), embedder.dimension), np.float32)
    for start in range(0, len(texts), _EMBED_BATCH):
        part = texts[start : start + _EMBED_BATCH]
        vectors[start : start + len(part)] = embedder.embed(part)
        report("embed", start + len(part), len(texts))
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), embedder.dimension)
    try:
        unit = unit_vectors(column, embedder.dimension, _at)
    except InputError as error:
        raise EmbedderError(
            f"embedder {embedder.name!r}: the vector of text {error.row} {error}"
        ) from error
    column = pa.FixedSizeListArray.from_arrays(pa.array(unit.ravel()), embedder.dimension)
    return replace(batch, fresh=fresh.append_column("vector", column))


def _at(row: int | None, problem: str) -> InputError:
    return InputError(problem, row=row)


def _embedder_entry(manifest: Manifest, embedder: Embedder | None) -> dict[str, Any] | None:
    if embedder is None:
        return None if manifest.embedder is None else dict(manifest.embedder)
    return {"name": embedder.name, "dimension": embedder.dimension}


def _content(manifest: Manifest, batch: Comparison) -> dict[str, Any]:
    written = {
        "tables": {name: [file.sha256 for file in table.files]
                   for name, table in manifest.tables.items() if name != "receipts"},
        "segments": {name: file.sha256 for name, file in manifest.segments.items()},
    }  # fmt: skip
    return ingest_content(
        generation=manifest.generation,
        parent=manifest.parent,
        batch=digest(written),
        added=batch.added,
        updated=batch.updated,
        unchanged=batch.unchanged,
        deleted=0,
        anchors=manifest.statistics["anchors"],
        edges=manifest.statistics["edges"],
        embedder=None if manifest.embedder is None else manifest.embedder["name"],
        dimension=manifest.dimension,
        parameters=manifest.parameters,
        parameter_version=PARAMETER_VERSION,
        kernel_version=KERNEL_VERSION,
    )


def _report(
    manifest: Manifest, batch: Comparison, clock: _Clock, receipt: Receipt | None
) -> IngestReport:
    return IngestReport(
        generation=manifest.generation,
        added=batch.added,
        updated=batch.updated,
        unchanged=batch.unchanged,
        anchors=manifest.statistics["anchors"],
        edges=manifest.statistics["edges"],
        dangling_links=manifest.statistics["dangling_links"],
        seconds=clock.total(),
        receipt=receipt,
    )


def _silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
