"""A batch held against a generation, and its commit: rows that come, anchors that go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.embed.protocol import Embedder
from oscillink_store.engine.compact import compact, is_sparse, widened
from oscillink_store.engine.fold import ALONE_BYTES, Fold, prepare_fold
from oscillink_store.engine.live import Live
from oscillink_store.engine.plan import plan
from oscillink_store.engine.row_vectors import unit_vectors
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import EmbedderError, FormatError, InputError
from oscillink_store.model import KERNEL_VERSION, PARAMETER_VERSION, Fields
from oscillink_store.receipts.canonical import digest
from oscillink_store.receipts.content import ingest_content
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.reports import IngestReport
from oscillink_store.storage.commit import Change, commit
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import Manifest, read_current
from oscillink_store.storage.schemas import conform, merge_metadata, metadata_schema
from oscillink_store.storage.trust import require_whole
from oscillink_store.storage.wal import Ledger

__all__ = ["Batch", "Clock", "Progress", "Writer", "compare", "silent", "writing"]

Progress = Callable[[str, int, int | None], None]
Slots = npt.NDArray[np.int64]
Item = TypeVar("Item")

_EMBED_BATCH = 256


class Clock:
    """Wall seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()
        self._within = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage, but for that of the stages within."""
        started, before = time.perf_counter(), self._within
        self._within = 0.0
        yield
        taken = time.perf_counter() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + taken - self._within
        self._within = before + taken

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items, adding the time that it takes to get them to a stage."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def total(self) -> dict[str, float]:
        """Every stage, and the time since the clock was made."""
        whole = time.perf_counter() - self._started
        return {name: round(value, 4) for name, value in (*self.seconds.items(), ("total", whole))}


def silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Rows that are new to a generation, the anchors that they replace, and those deleted.

    ``replaced`` and ``deleted`` are slots, ascending.
    """

    fresh: pa.Table
    replaced: Slots
    deleted: Slots
    added: int = 0
    updated: int = 0
    unchanged: int = 0

    @property
    def changes(self) -> bool:
        """Whether anything comes or goes."""
        return self.fresh.num_rows > 0 or len(self.deleted) > 0


def compare(snapshot: Snapshot, incoming: pa.Table) -> Batch:
    """Find the rows that change something.

    A row whose id and content are in the store already is left alone; one whose id is there
    with other content replaces it, and keeps its gate unless it brings one.

    Raises:
        InputError: a metadata column of the store cannot take the batch's type or value.
    """
    metadata = incoming.select(metadata_schema(incoming.schema).names)
    # here, where rows still have the numbers that they have in their source
    conform(metadata, merge_metadata(metadata_schema(snapshot.schema), metadata.schema))
    slots = snapshot.find_ids(incoming["id"].to_pylist())
    known = np.flatnonzero(slots >= 0)
    digests = pa.array(snapshot.values("digest", slots[known]), pa.binary())
    given = incoming["digest"].cast(pa.binary()).take(pa.array(known)).combine_chunks()
    same = np.asarray(pc.equal(digests, given).to_numpy(zero_copy_only=False), np.bool_)
    fresh = np.ones(incoming.num_rows, np.bool_)
    fresh[known[same]] = False
    rows = incoming if fresh.all() else incoming.filter(pa.array(fresh))
    return Batch(
        fresh=_joined(_gated(snapshot, rows, slots[fresh])),
        replaced=np.sort(slots[known[~same]]),
        deleted=np.empty(0, np.int64),
        added=incoming.num_rows - len(known),
        updated=int((~same).sum()),
        unchanged=int(same.sum()),
    )


def _gated(snapshot: Snapshot, rows: pa.Table, slots: Slots) -> pa.Table:
    """The rows with a gate each: their own, or that of the anchor at their slot, or 1."""
    place = rows.schema.get_field_index("gate")
    if rows.column(place).null_count == 0:
        return rows
    gates = np.ones(len(slots), np.float32)
    known = slots >= 0
    if known.any():
        gates[known] = snapshot.gates[slots[known]]
    column = pc.coalesce(rows.column(place), pa.array(gates))
    return rows.set_column(place, rows.schema.field(place), column)


def _joined(rows: pa.Table) -> pa.Table:
    """The rows with their embeddings in one piece, of which arrays can be views."""
    place = rows.schema.get_field_index("vector")
    if place < 0 or rows.num_rows == 0:
        return rows
    column = pa.chunked_array([rows["vector"].combine_chunks()])
    return rows.set_column(place, rows.schema.field(place), column)


class Writer:
    """Whoever holds the writer's lock: turns batches into generations, one after another.

    Raises:
        FormatError: the store is of an earlier format, which must be migrated first.
    """

    def __init__(self, root: Path, ledger: Ledger, live: Live, *, clean: bool) -> None:
        self.root = root
        manifest = read_current(root)
        if manifest.outdated:
            raise FormatError(
                f"{root} has format version {manifest.format_version}, which this release reads "
                f"and does not write: run oscillink-store migrate {root}, or osc.migrate(path)"
            )
        # a damaged generation is none to build on, so it is not the one that `live` reads
        self.snapshot = Snapshot(root, manifest, live.last)
        self._ledger = ledger
        self._live = live
        self._clean = clean

    def apply(
        self,
        batch: Batch,
        *,
        fields: Fields,
        embedder: Embedder | None,
        report: Progress,
        clock: Clock,
        beside: Sequence[Change] = (),
    ) -> IngestReport:
        """Commit a batch; ``beside`` are changes of other tables in the same commit."""
        with clock.stage("embed"):
            batch = _with_vectors(batch, embedder, self.snapshot.manifest.dimension, report)
        removed = np.sort(np.concatenate([batch.replaced, batch.deleted]))
        schema = widened(self.snapshot, batch.fresh)
        if schema is not None:  # the old rows take their wider types in a commit of their own
            present = self.snapshot.alive_slots
            self._compact(schema)
            removed = np.searchsorted(present, removed)  # which closes the gaps between slots
        told: dict[str, Any] = {}
        planned = plan(
            self.snapshot,
            batch.fresh,
            removed,
            fields=fields,
            parameters=self.snapshot.parameters,
            embedder=_embedder_entry(self.snapshot.manifest, embedder, batch.fresh),
            progress=report,
            told=told,
        )

        def changes() -> Iterator[Change]:
            yield from clock.each("lattice", planned)
            report("commit", 0, None)
            yield from beside

        receipts: list[Receipt] = []
        with clock.stage("commit"):
            manifest = self.commit(
                changes(),
                # before the swap, so that no generation goes live without its receipt
                lambda manifest: receipts.append(
                    self._ledger.record(_content(manifest, batch, told))
                ),
            )
        if is_sparse(self.snapshot):
            with clock.stage("compact"):
                manifest = self._compact()
        return report_of(manifest, batch, clock, receipts[0])

    def _compact(self, schema: pa.Schema | None = None) -> Manifest:
        # the rows are worked on before the commit looks at their files
        require_whole(self.root, self.snapshot.manifest.segments.values())
        return self.commit([compact(self.snapshot, schema)])

    def commit(
        self,
        changes: Iterable[Change],
        before_swap: Callable[[Manifest], object] = lambda _: None,
    ) -> Manifest:
        """Make the next generation live, folding receipts along when that is due.

        Raises:
            IntegrityError: a segment that is rewritten or built on is damaged.
        """
        self._ledger.rotate()
        fold = prepare_fold(self.root, self.snapshot.manifest)
        return self._commit(changes, fold, before_swap)

    def fold(self) -> bool:
        """Fold receipts in a commit of their own, if any are to be; whether there were."""
        fold = prepare_fold(self.root, self.snapshot.manifest, ALONE_BYTES)
        if fold.files:
            self._commit([], fold, lambda _: None)
        return bool(fold.files)

    def _commit(
        self,
        changes: Iterable[Change],
        fold: Fold,
        before_swap: Callable[[Manifest], object],
    ) -> Manifest:
        manifest = commit(
            self.root,
            self.snapshot.manifest,
            chain(changes, [fold.change]),
            before_swap,
            clean=self._clean,
        )
        self._clean = True
        fold.finish(self.root)
        self.snapshot = Snapshot(self.root, manifest, self.snapshot)
        self._live.committed(self.snapshot)
        return manifest


@contextmanager
def writing(root: Path, ledger: Ledger, live: Live, lock_timeout: float) -> Iterator[Writer]:
    """Hold the writer's lock.

    Raises:
        LockedError: another process is writing.
        FormatError: the store is of an earlier format, which must be migrated first.
    """
    with writer_lock(root, lock_timeout) as clean:
        yield Writer(root, ledger, live, clean=clean)


def report_of(
    manifest: Manifest, batch: Batch, clock: Clock, receipt: Receipt | None
) -> IngestReport:
    """What a batch did, for the caller."""
    return IngestReport(
        generation=manifest.generation,
        added=batch.added,
        updated=batch.updated,
        unchanged=batch.unchanged,
        deleted=len(batch.deleted),
        anchors=manifest.statistics["anchors"],
        edges=manifest.statistics["edges"],
        dangling_links=manifest.statistics["dangling_links"],
        seconds=clock.total(),
        receipt=receipt,
    )


def _with_vectors(
    batch: Batch, embedder: Embedder | None, dimension: int | None, report: Progress
) -> Batch:
    # Only rows that are new to the store are embedded.
    fresh = batch.fresh
    if "vector" in fresh.schema.names or embedder is None or fresh.num_rows == 0:
        return batch
    texts = fresh["fulltext"].to_pylist()
    parts = []
    for start in range(0, len(texts), _EMBED_BATCH):
        parts.append(embedder.embed(texts[start : start + _EMBED_BATCH]))
        report("embed", min(start + _EMBED_BATCH, len(texts)), len(texts))
    vectors = np.concatenate(parts)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    try:
        unit = unit_vectors(column, dimension, _at)
    except InputError as error:
        raise EmbedderError(
            f"embedder {embedder.name!r}: the vector of text {error.row} {error}"
        ) from error
    column = pa.FixedSizeListArray.from_arrays(pa.array(unit.ravel()), unit.shape[1])
    return replace(batch, fresh=fresh.append_column("vector", column))


def _at(row: int | None, problem: str) -> InputError:
    return InputError(problem, row=row)


def _embedder_entry(
    manifest: Manifest, embedder: Embedder | None, fresh: pa.Table
) -> dict[str, Any] | None:
    if embedder is None:
        return None if manifest.embedder is None else dict(manifest.embedder)
    if "vector" in fresh.schema.names:
        dimension = fresh.schema.field("vector").type.list_size
    else:
        dimension = manifest.dimension or embedder.dimension
    return {"name": embedder.name, "dimension": dimension}


def _content(manifest: Manifest, batch: Batch, change: Mapping[str, Any]) -> dict[str, Any]:
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
        deleted=len(batch.deleted),
        anchors=manifest.statistics["anchors"],
        edges=manifest.statistics["edges"],
        embedder=None if manifest.embedder is None else manifest.embedder["name"],
        dimension=manifest.dimension,
        parameters=manifest.parameters,
        parameter_version=PARAMETER_VERSION,
        kernel_version=KERNEL_VERSION,
        knn_recall=manifest.statistics["knn"]["recall"],
        manifest=manifest.sha256,
        change=change,
    )
