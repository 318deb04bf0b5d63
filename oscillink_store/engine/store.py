"""The store: a folder, opened. It delegates; the work is in the modules beside it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

import pyarrow as pa

from oscillink_store.embed.resolve import resolve
from oscillink_store.engine.arguments import checked_detail, checked_options
from oscillink_store.engine.live import Live
from oscillink_store.engine.margins import Margins
from oscillink_store.engine.opening import matching_embedder, new_manifest, open_folder
from oscillink_store.engine.pinned import Pinned
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.store_writer import Progress, StoreWriter
from oscillink_store.errors import ClosedError, MissingError, QueryError
from oscillink_store.model import Detail, Durability, Fields, Parameters
from oscillink_store.receipts.key import Key, keys_by_id
from oscillink_store.receipts.receipt import Payload, Receipt
from oscillink_store.reports import JobStatus, ReplayReport
from oscillink_store.storage import retention
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import read_manifest
from oscillink_store.storage.wal import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from oscillink_store.embed.protocol import Embedder
    from oscillink_store.filters import Filter
    from oscillink_store.reports import VerifyReport

__all__ = ["Store", "connect"]


def connect(
    path: str | os.PathLike[str],
    *,
    embedder: object | None = None,
    fields: Fields | None = None,
    parameters: Parameters | None = None,
    read_only: bool = False,
    durability: Durability = "batch",
    detail: Detail = "full",
    payload: Payload = "extended",
    key: Key | str | os.PathLike[str] | None = None,
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
        detail: How much a search finds out for its receipt: ``"full"`` with the candidates'
            ids, coherence, null points and contested twins, ``"light"`` without.
        payload: Whether receipts keep the question itself (text, embedding, filter), so that
            they can be replayed by themselves (``"extended"``), or its digests alone
            (``"minimal"``).
        key: A key, or the file of one, that seals this process's receipts with HMAC-SHA256.
        lock_timeout: Seconds that a write waits for another writer.

    When files of the live generation are damaged, the newest whole one is opened with an
    :class:`~oscillink_store.errors.IntegrityWarning`; writes then fail until the damage is
    repaired.

    Raises:
        NotAStoreError: the path is a file, or a folder with other things in it.
        FormatError: the store was written by a newer release.
        IntegrityError: the store is damaged and no whole generation is left.
        EmbedderError: the embedder is not the one that the store was filled with.
        ReadOnlyError: the store would have to be created in a folder that cannot be written.
        InputError: the file of the key holds none.
        QueryError: an argument is something else than it should be.
    """
    if durability not in get_args(Durability):
        raise QueryError(f"durability is {durability!r}: use 'sync', 'batch' or 'off'")
    checked_detail(detail)
    if payload not in get_args(Payload):
        raise QueryError(f"payload is {payload!r}: use 'minimal' or 'extended'")
    sealing = key if key is None or isinstance(key, Key) else Key.from_file(key)
    checked_options(fields, parameters)
    root = Path(path)
    open_folder(root, new_manifest(fields, parameters), read_only=read_only)
    return Store(
        root,
        embedder=embedder,
        fields=fields,
        parameters=parameters,
        read_only=read_only,
        durability=durability,
        detail=detail,
        payload=payload,
        key=sealing,
        lock_timeout=lock_timeout,
    )


class Store(StoreWriter):
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
        detail: Detail,
        payload: Payload,
        key: Key | None,
        lock_timeout: float,
    ) -> None:
        self.read_only = read_only
        self._key = key
        self._lock_timeout = lock_timeout
        self._ingesting = threading.RLock()
        self._live = Live(root)
        snapshot = self._live.last
        ledger = Ledger(root / "receipts", durability="off" if read_only else durability, key=key)
        executor = ThreadPoolExecutor(2, thread_name_prefix="oscillink-fulltext")
        constants = parameters or snapshot.parameters
        super().__init__(
            root, ledger, executor, constants, detail=detail, payload=payload,
            margins=Margins(root),
        )  # fmt: skip
        # the process may end without close(): the last receipts are synced all the same
        self._finalizer = weakref.finalize(self, _release, ledger, executor)
        self._embedder = None if embedder is None else resolve(embedder)
        self._matched = _Matched(snapshot, self._match(snapshot))
        self._fields = fields

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return f"<Store {self.path} closed>"
        snapshot = self._live.last
        return f"<Store {self.path} generation={snapshot.generation} anchors={len(snapshot)}>"

    def close(self) -> None:
        """Sync the receipts and release everything; further calls raise ClosedError."""
        self._closed = True
        self._finalizer()

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

    def refresh(self) -> int:
        """Pick up what another process has committed, as every search does by itself.

        Returns the live generation's number.
        """
        return self.current().generation

    def _match(self, snapshot: Snapshot) -> Embedder | None:
        return matching_embedder(self.path, snapshot.manifest, self._embedder)

    def embedder_for(self, snapshot: Snapshot) -> Embedder | None:
        """The embedder that goes with a generation."""
        # checked once per generation, as another process may have filled the store meanwhile
        matched = self._matched
        if matched.snapshot is not snapshot:
            matched = self._matched = _Matched(snapshot, self._match(snapshot))
        return matched.embedder

    # generations

    def tag(self, name: str, generation: int | None = None) -> int:
        """Keep a generation, the live one unless told otherwise, under a name.

        A tag of the same name moves. Returns the generation.

        Raises:
            QueryError: the name cannot be used.
            MissingError: the generation is not on disk any more.
        """
        with self._writing("tag"), writer_lock(self.path, self._lock_timeout):
            wanted = self.generation if generation is None else generation
            read_manifest(self.path, wanted)
            retention.tag(self.path, name, wanted)
            return wanted

    def untag(self, name: str) -> None:
        """Give a tag up; its generation goes with the next maintenance.

        Raises:
            MissingError: there is no such tag.
        """
        with self._writing("untag"), writer_lock(self.path, self._lock_timeout):
            retention.remove_tag(self.path, name)

    def tags(self) -> dict[str, int]:
        """Every tag and its generation, by name."""
        self.current()
        return retention.tags(self.path)

    def snapshot(self, *, generation: int | None = None, tag: str | None = None) -> Pinned:
        """A generation, the live one unless told otherwise, that stays as it is until closed.

        Use it as a context manager. Whatever writers do meanwhile, it answers the same.

        Raises:
            MissingError: there is no such tag, or the generation is not on disk any more.
            QueryError: both ``generation`` and ``tag`` are given.
        """
        if generation is not None and tag is not None:
            raise QueryError("snapshot: pass either generation or tag")
        if tag is not None:
            known = self.tags()
            if tag not in known:
                raise MissingError(f"tag {tag!r} is not in {self.path}: it has {sorted(known)}")
            generation = known[tag]
        return Pinned(self, generation, read_only=self.read_only)

    # reports

    def jobs(self) -> list[JobStatus]:
        """The newest run of every ingest job, by name."""
        from oscillink_store.engine.job_ledger import statuses

        return statuses(self.current)

    def receipts(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Every recorded receipt of every writer, folded or not, as an Arrow table.

        All columns unless told otherwise; ``body`` is the whole receipt as JSON.

        Raises:
            QueryError: there is no such column.
        """
        from oscillink_store.engine.fold import all_receipts

        return all_receipts(self.path, self.current, columns)

    def receipt(self, id: str) -> Receipt:  # noqa: A002 - what it is called everywhere
        """A recorded receipt by its id, its whole hash, or any 8 or more characters it begins with.

        Raises:
            MissingError: there is none, or more than one.
            QueryError: it is no beginning of a hash.
        """
        from oscillink_store.engine.fold import find_receipt

        return find_receipt(self.path, self.current, id)

    def replay(
        self,
        receipt: Receipt | str,
        text: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        where: str | Filter | None = None,
    ) -> ReplayReport:
        """Run the search of a receipt again on the generation that it names, and compare.

        Nothing is recorded. A receipt whose generation is not on disk any more is "not
        replayable"; :meth:`tag` keeps generations.

        Args:
            receipt: A receipt or its id.
            text: The question, where the receipt keeps its digest alone.
            vector: The question's embedding, likewise.
            where: The filter or predicate, likewise.

        Raises:
            IntegrityError: the receipt is not authentic, or its generation is damaged.
            MissingError: there is no such receipt.
            QueryError: it is no receipt, or not that of a search; or the question is not told, or
                another one.
        """
        from oscillink_store.engine.replay import Asked, obstacle, replay

        told = receipt if isinstance(receipt, Receipt) else self.receipt(receipt)
        told.verify(self._key if self._key and told.key_id == self._key.id else None)
        asked = Asked(text=text, vector=vector, where=where)
        reason = obstacle(told)
        if reason is None:
            try:
                pinned = self.snapshot(generation=told.generation)
            except MissingError:
                reason = f"generation {told.generation} has been dropped"
            else:
                with pinned:
                    snapshot = pinned.current()
                    embedder = self.embedder_for(snapshot)
                    return replay(snapshot, told, asked, embedder, self.executor)
        return ReplayReport(receipt=told, status="not replayable", reason=reason, differences=())

    def verify(
        self,
        progress: Progress | None = None,
        *,
        keys: Key | str | os.PathLike[str] | Iterable[Key | str | os.PathLike[str]] | None = None,
    ) -> VerifyReport:
        """Check every checksum of the live generation, every manifest and chain of receipts.

        Args:
            progress: Called with (stage, done, total or None).
            keys: Keys, or files of keys, one or several, to check the macs of receipts with;
                unless told otherwise the one that the store was opened with.

        Raises:
            IntegrityError: the manifest itself is damaged; all else is told in the report.
            InputError: a file holds no key.
        """
        from oscillink_store.engine.verify import verify

        self.current()  # a closed store answers nothing
        if isinstance(keys, str | os.PathLike | Key):
            keys = [keys]
        given = ([self._key] if self._key else []) if keys is None else list(keys)
        return verify(self.path, progress, keys_by_id(*given) or None)


class _Matched(NamedTuple):
    """A generation and the embedder that goes with it."""

    snapshot: Snapshot
    embedder: Embedder | None


def _release(ledger: Ledger, executor: ThreadPoolExecutor) -> None:
    executor.shutdown(wait=False)
    ledger.close()
