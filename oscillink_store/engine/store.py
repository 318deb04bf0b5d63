"""The store: a folder, opened. It delegates; the work is in the modules beside it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.embed.resolve import resolve
from oscillink_store.engine.ask import build_query
from oscillink_store.engine.live import Live
from oscillink_store.engine.opening import matching_embedder, new_manifest, open_folder
from oscillink_store.engine.predicate import predicate
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import ClosedError, QueryError, ReadOnlyError
from oscillink_store.model import Durability, Fields, IngestReport, Parameters, SearchResult
from oscillink_store.storage.schemas import RESERVED_COLUMNS, anchors_schema
from oscillink_store.storage.wal import Ledger

if TYPE_CHECKING:
    from oscillink_store.embed.protocol import Embedder
    from oscillink_store.model import VerifyReport

__all__ = ["Store", "connect"]

Progress = Callable[[str, int, int | None], None]


def connect(
    path: str | os.PathLike[str],
    *,
    embedder: object | None = None,
    fields: Fields | None = None,
    parameters: Parameters | None = None,
    read_only: bool = False,
    durability: Durability = "batch",
    lock_timeout: float = 10.0,
) -> Store:
    """Open a store, or create it when the path does not exist or is an empty folder.

    Args:
        path: The store's folder.
        embedder: What turns texts into vectors: a callable ``list[str] -> array``, a
            LangChain ``Embeddings``, a LlamaIndex ``BaseEmbedding``, or a name such as
            ``"hash"`` or ``"sentence-transformers:all-MiniLM-L6-v2"``. Not needed when you
            bring your own vectors. A store that was filled with a built-in embedder opens
            it by itself.
        fields: Which columns of a source play which part; recorded in a new store.
        parameters: Constants of lattice and ranking; recorded in a new store.
        read_only: Search only: nothing is written, receipts are returned but not recorded.
        durability: When a receipt counts as written: ``"sync"`` after its own fdatasync,
            ``"batch"`` at once for a killed process and within about a second for a power
            cut, ``"off"`` never.
        lock_timeout: Seconds that a write waits for another writer.

    Raises:
        NotAStoreError: the path is a file, or a folder with other things in it.
        FormatError: the store was written by a newer release.
        IntegrityError: the store is damaged.
        EmbedderError: the embedder is not the one that the store was filled with.
        ReadOnlyError: the store would have to be created in a folder that cannot be written.
    """
    if durability not in get_args(Durability):
        raise QueryError(f"durability is {durability!r}: use 'sync', 'batch' or 'off'")
    root = Path(path)
    open_folder(root, new_manifest(fields, parameters), read_only=read_only)
    return Store(
        root,
        embedder=embedder,
        fields=fields,
        parameters=parameters,
        read_only=read_only,
        durability=durability,
        lock_timeout=lock_timeout,
    )


class Store:
    """An open store; made by :func:`connect`. Safe to share between threads.

    Use it as a context manager, or call :meth:`close`.
    """

    def __init__(
        self,
        root: Path,
        *,
        embedder: object | None,
        fields: Fields | None,
        parameters: Parameters | None,
        read_only: bool,
        durability: Durability,
        lock_timeout: float,
    ) -> None:
        self.path = root
        self.read_only = read_only
        self._lock_timeout = lock_timeout
        self._ingesting = threading.RLock()
        self._live = Live(root)
        snapshot = self._live.last
        self._embedder = None if embedder is None else resolve(embedder)
        self._matched = _Matched(snapshot, self._match(snapshot))
        self._fields = fields
        self.parameters = parameters or snapshot.parameters
        self._ledger = Ledger(root / "receipts", durability="off" if read_only else durability)
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="oscillink-fulltext")
        self._closed = False
        # the process may end without close(): the last receipts are synced all the same
        self._finalizer = weakref.finalize(self, _release, self._ledger, self._executor)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return f"<Store {self.path} closed>"
        snapshot = self._live.last
        return f"<Store {self.path} generation={snapshot.generation} anchors={len(snapshot)}>"

    def __len__(self) -> int:
        return len(self.current())

    def close(self) -> None:
        """Sync the receipts and release everything; further calls raise ClosedError."""
        self._closed = True
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    @property
    def generation(self) -> int:
        """The live generation's number."""
        return self.current().generation

    @property
    def dimension(self) -> int | None:
        """D of the embeddings; None in a store without anchors."""
        return self.current().manifest.dimension

    @property
    def has_embedder(self) -> bool:
        """Whether texts can be turned into vectors."""
        return self._embedder_for(self.current()) is not None

    @property
    def fields(self) -> Fields:
        """Which columns play which part in the next ingest, unless it is told otherwise."""
        return self._fields or self.current().fields

    def current(self) -> Snapshot:
        """The live generation; picks up what another process has committed.

        Raises:
            ClosedError: the store has been closed.
        """
        if self._closed:
            raise ClosedError(f"{self.path}: the store is closed: connect to it again")
        return self._live.snapshot()

    def _match(self, snapshot: Snapshot) -> Embedder | None:
        return matching_embedder(self.path, snapshot.manifest, self._embedder)

    def _embedder_for(self, snapshot: Snapshot) -> Embedder | None:
        # checked once per generation, as another process may have filled the store meanwhile
        matched = self._matched
        if matched.snapshot is not snapshot:
            matched = self._matched = _Matched(snapshot, self._match(snapshot))
        return matched.embedder

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
        there with other content replaces it.

        Raises:
            InputError: a row or field cannot be used; the message names it and the remedy.
            EmbedderError: vectors are missing and there is no embedder to make them.
            LockedError: another process is writing.
            DiskError, ReadOnlyError: the folder cannot take the batch.
        """
        from oscillink_store.engine.ingest import ingest  # compiles kernels that search needs not

        self._writable("ingest")
        self.current()  # taking the lock would make the folder of a store that is gone
        with self._ingesting:
            report = ingest(
                self.path,
                source,
                fields=fields or self._fields,
                embedder=self._embedder,
                ledger=self._ledger,
                lock_timeout=self._lock_timeout,
                progress=progress,
            )
            self._fields = fields or self._fields
        return report

    def search(
        self,
        text: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        where: str | None = None,
        label: str | None = None,
        parameters: Parameters | None = None,
    ) -> SearchResult:
        """The ranked coherent set for a question, with its receipt.

        Args:
            text: The question. With an embedder it is searched by meaning and by words;
                without one, and without ``vector``, by words alone.
            vector: The question's embedding (D,); any length but zero, it is normalized.
            k: How many hits at most.
            where: A SQL predicate over the metadata; anchors that fail it neither rank nor
                carry evidence.
            label: A note of yours, kept in the receipt.
            parameters: Ranking constants for this search, in place of the store's.

        Raises:
            QueryError: an argument cannot be used.
            ClosedError: the store has been closed.
        """
        from oscillink_store.engine.search import answer  # compiled kernels, on first use

        snapshot = self.current()
        query = build_query(
            snapshot, self._embedder_for(snapshot), text, vector, k=k, where=where, label=label,
            parameters=parameters or self.parameters,
        )  # fmt: skip
        return self._answered(lambda: answer(snapshot, query, self._ledger, self._executor))

    def rerank(
        self,
        ids: str | Sequence[str],
        text: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        label: str | None = None,
    ) -> SearchResult:
        """Rank exactly the anchors named by ``ids``; the lattice is theirs alone.

        Raises:
            MissingError: an id is not in the store.
            QueryError: an argument cannot be used.
        """
        from oscillink_store.engine.search import answer  # compiled kernels, on first use

        snapshot = self.current()
        rows = np.unique(snapshot.rows_of_ids([ids] if isinstance(ids, str) else list(ids)))
        query = build_query(
            snapshot, self._embedder_for(snapshot), text, vector, k=k, where=None, label=label,
            parameters=self.parameters, only=rows,
        )  # fmt: skip
        return self._answered(lambda: answer(snapshot, query, self._ledger, self._executor))

    def _answered(self, answer: Callable[[], SearchResult]) -> SearchResult:
        try:
            return answer()
        except RuntimeError as error:  # the executor refuses once another thread closed it
            if self._closed:
                raise ClosedError(
                    f"{self.path}: the store is closed: connect to it again"
                ) from error
            raise

    def get(self, ids: str | Sequence[str]) -> list[dict[str, Any]]:
        """Anchors by id, in the order asked for, vectors included.

        Raises:
            MissingError: an id is not in the store.
        """
        snapshot = self.current()
        rows = snapshot.rows_of_ids([ids] if isinstance(ids, str) else list(ids))
        columns = {
            name: snapshot.values(name, rows)
            for name in snapshot.rows.schema.names
            if name != "digest"
        }
        return [
            {name: values[place] for name, values in columns.items()}
            | {"vector": np.array(snapshot.vectors[row])}
            for place, row in enumerate(rows.tolist())
        ]

    def to_arrow(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Anchors as an Arrow table, all of them or those that satisfy ``where``.

        Raises:
            QueryError: a column is unknown or the predicate cannot be used.
        """
        snapshot = self.current()
        schema = (
            snapshot.anchors.schema
            if len(snapshot)
            else anchors_schema(snapshot.manifest.dimension)
        )
        names = [name for name in schema.names if name not in RESERVED_COLUMNS]
        for name in columns or ():
            if name not in names:
                raise QueryError(f"columns: {name!r} is not among {', '.join(names)}")
        wanted = names if columns is None else list(columns)
        condition = None if where is None else predicate(where)
        if len(snapshot) == 0:
            return schema.empty_table().select(wanted)
        return snapshot.anchors.read(wanted, condition)

    def edges(self) -> pa.Table:
        """The lattice as a table: source, target (ids), relation and raw weight.

        Each undirected edge stands once, its source the anchor that was stored first.
        """
        from oscillink_store.engine.views import edge_table

        return edge_table(self.current())

    def summaries(self) -> pa.Table:
        """The summary nodes; a flat lattice has none."""
        from oscillink_store.engine.views import summary_table

        self.current()  # a closed store answers nothing
        return summary_table()

    def receipts(self) -> pa.Table:
        """Every recorded receipt of every writer, folded or not, as an Arrow table."""
        from oscillink_store.engine.fold import all_receipts

        return all_receipts(self.path, self.current)

    def stats(self) -> dict[str, Any]:
        """Counts and sizes of the live generation, as plain JSON values."""
        from oscillink_store.engine.views import statistics

        return statistics(self.current())

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Check every checksum of the live generation and every chain of receipts.

        Raises:
            IntegrityError: the manifest itself is damaged; all else is told in the report.
        """
        from oscillink_store.engine.verify import verify

        return verify(self.path, self.current, progress)

    def _writable(self, action: str) -> None:
        if self._closed:
            raise ClosedError(f"{self.path}: the store is closed: connect to it again")
        if self.read_only:
            raise ReadOnlyError(
                f"{self.path}: {action} needs a writable store, this one was opened read-only: "
                "connect without read_only=True"
            )


class _Matched(NamedTuple):
    """A generation and the embedder that goes with it."""

    snapshot: Snapshot
    embedder: Embedder | None


def _release(ledger: Ledger, executor: ThreadPoolExecutor) -> None:
    executor.shutdown(wait=False)
    ledger.close()
