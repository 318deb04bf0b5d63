"""The stores: LangGraph's operations on one folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from tempfile import TemporaryDirectory
from typing import Any, Self

from langgraph.store.base import BaseStore, Embeddings, Op, Result, TTLConfig

import oscillink_store as osc

from .batching import Batcher
from .indexing import Index, own_embedder
from .opening import Opening
from .reading import Ranking, Reader
from .sweeping import Sweeper
from .writing import Writer

__all__ = ["AsyncOscillinkStore", "OscillinkStore"]

_SWEEP_MINUTES = 5.0


class OscillinkStore(BaseStore):
    """Long-term memory of agents in one folder, shared between threads and processes.

    Every method has its asynchronous twin, which works from any event loop and blocks none.
    Use it as a context manager, or call :meth:`close`.

    Args:
        store: The folder, made if it is not there; ``":memory:"`` is a temporary one that goes
            with the store; or an open :class:`oscillink_store.Store`, which stays open. Documents
            may be in the same folder: items and documents are told apart.
        index: What makes items searchable by meaning, as for LangGraph's other stores: ``embed``
            (an ``Embeddings``, a function, an asynchronous function, a name such as
            ``"openai:text-embedding-3-small"``, or one of the store's own such as ``"hash"``),
            ``dims`` and ``fields``. Without ``embed``, the embedder of an open store.
        ttl: When items expire, in minutes, as for LangGraph's other stores: ``default_ttl``,
            ``refresh_on_read``, ``omit_expired``, ``sweep_interval_minutes``.
        ranking: What orders the items that a query finds: ``"dense"``, whose scores are cosines,
            ``"lattice"`` or ``"hybrid"``.

    Within a batch all reads come before all writes, and of several writes to one item the last
    counts. An item and its embeddings are written in one commit, on the disk when the call
    returns; writes that wait for each other share one.

    Raises:
        ValueError: the index cannot be used.
        OscillinkError: the folder cannot be opened.
    """

    supports_ttl = True

    def __init__(
        self,
        store: str | os.PathLike[str] | osc.Store,
        *,
        index: Mapping[str, Any] | None = None,
        ttl: TTLConfig | None = None,
        ranking: Ranking = "dense",
    ) -> None:
        self.index_config = None if index is None else dict(index)
        self.ttl_config = ttl
        self._index = (
            None if index is None else Index.of(index, opened=isinstance(store, osc.Store))
        )
        self._own: osc.Store | None = None
        self._folder: TemporaryDirectory[str] | None = None
        if not isinstance(store, osc.Store):
            if store == ":memory:":
                self._folder = TemporaryDirectory(prefix="oscillink-", suffix=".osc")
                store = self._folder.name
            store = self._own = osc.connect(store, embedder=own_embedder(index))
        self._writer = Writer(store)
        self._batcher = Batcher(
            store,
            index=self._index,
            reader=Reader(
                view=store, ranking=ranking, omit_expired=bool((ttl or {}).get("omit_expired"))
            ),
            writer=self._writer,
            # as the SQLite store has it: unless the configuration speaks of it, no read refreshes
            refreshes="refresh_on_read" in (ttl or {}),
        )
        self._sweeper = Sweeper(lambda: self._writer.sweep().result())

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str | os.PathLike[str],
        *,
        index: Mapping[str, Any] | None = None,
        ttl: TTLConfig | None = None,
        ranking: Ranking = "dense",
    ) -> Opening[Self, AsyncOscillinkStore]:
        """Open for a ``with`` block, or as :class:`AsyncOscillinkStore` for ``async with``.

        The arguments are those of the class.
        """
        return Opening(
            lambda: cls(conn_string, index=index, ttl=ttl, ranking=ranking),
            lambda: AsyncOscillinkStore(conn_string, index=index, ttl=ttl, ranking=ranking),
        )

    @property
    def embeddings(self) -> Embeddings | None:
        """What embeds the items, unless the store's own embedder does."""
        return None if self._index is None else self._index.embeddings

    @property
    def last_receipt(self) -> osc.Receipt | None:
        """The receipt of the newest search by meaning, of whatever thread."""
        return self._batcher.last_receipt

    def setup(self) -> None:
        """Do nothing: a folder needs no setting up. Other stores have this method."""

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations; see the class for what they see of each other."""
        batch = self._batcher.prepare(ops)
        self._batcher.embed(batch)
        results, written = self._batcher.run(batch)
        if written is not None:
            written.result()
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations, as :meth:`batch`, without holding up the event loop."""
        batch = await asyncio.to_thread(self._batcher.prepare, list(ops))
        await self._batcher.aembed(batch)
        results, written = await asyncio.to_thread(self._batcher.run, batch)
        if written is not None:
            await asyncio.wrap_future(written)
        return results

    def sweep_ttl(self) -> int:
        """Delete the items that have expired; returns how many."""
        return self._writer.sweep().result()

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Delete expired items at intervals, on a thread of its own, if there is a ttl.

        The interval is the given one, else that of the configuration, else five minutes.
        Returns a future that is done when the thread ends; to cancel it stops the thread.
        """
        if not self.ttl_config:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        configured = self.ttl_config.get("sweep_interval_minutes")
        return self._sweeper.start(sweep_interval_minutes or configured or _SWEEP_MINUTES)

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop that thread, waiting at most ``timeout`` seconds; returns whether it has ended."""
        return self._sweeper.stop(timeout)

    def close(self) -> None:
        """Finish what is being written, and close the folder if this store has opened it."""
        self._sweeper.stop(None)
        self._writer.close()
        if self._own is not None:
            self._own.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)


class AsyncOscillinkStore(OscillinkStore):
    """The store for code on an event loop: what looks after expired items is asynchronous too.

    Synchronous calls on the loop that it was opened on would hold that loop up, and raise
    ``asyncio.InvalidStateError``; on other threads they work.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations, on any thread but that of the event loop."""
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not None and here is self._loop:
            raise asyncio.InvalidStateError(
                "a synchronous call would hold up the event loop: await the asynchronous method, "
                "as in store.aget for store.get"
            )
        return super().batch(ops)

    async def setup(self) -> None:  # type: ignore[override]
        """Do nothing: a folder needs no setting up. Other stores have this method."""

    async def sweep_ttl(self) -> int:  # type: ignore[override]
        """Delete the items that have expired; returns how many."""
        return await asyncio.wrap_future(self._writer.sweep())

    async def start_ttl_sweeper(  # type: ignore[override]
        self, sweep_interval_minutes: float | None = None
    ) -> asyncio.Future[None]:
        """Delete expired items at intervals, as of :meth:`OscillinkStore.start_ttl_sweeper`."""
        return asyncio.wrap_future(super().start_ttl_sweeper(sweep_interval_minutes))

    async def stop_ttl_sweeper(  # type: ignore[override]
        self,
        timeout: float | None = None,
    ) -> bool:
        """Stop that, waiting at most ``timeout`` seconds; returns whether it has ended."""
        return await asyncio.to_thread(super().stop_ttl_sweeper, timeout)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self
