"""A cluster as it is read: its catalogue, searches of all shards, figures and verification."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pyarrow as pa

from oscillink_store.cluster import tasks
from oscillink_store.cluster.catalogue import Catalogue, Placement
from oscillink_store.cluster.executors import SerialExecutor, make_executor
from oscillink_store.cluster.ingest import gathered
from oscillink_store.cluster.inspection import judged, rule_of, statistics
from oscillink_store.cluster.placement import homes_of, shard_name
from oscillink_store.cluster.shard import NamedEmbedder, Shard, close_stores
from oscillink_store.cluster.summaries import (
    Summary,
    read_summaries,
    summary_table,
)
from oscillink_store.errors import (
    ClosedError,
    IntegrityError,
    QueryError,
)
from oscillink_store.many.result import ManyReplay, ManyResult
from oscillink_store.many.stores import ManyStores, checked_timeout, connect_many
from oscillink_store.model import Detail, Parameters, Ranking
from oscillink_store.receipts.key import Key, keys_by_id
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.reports import ClusterVerifyReport

if TYPE_CHECKING:
    import numpy.typing as npt

    from oscillink_store.filters import Filter

__all__ = ["ClusterReader"]

T = TypeVar("T")


class ClusterReader:
    """An open cluster, but for what changes it."""

    def __init__(
        self,
        root: Path,
        catalogue: Catalogue,
        *,
        embedder: object | None,
        executor: Executor | str | None,
        key: Key | str | os.PathLike[str] | None,
        cache: str | os.PathLike[str] | None,
        lock_timeout: float,
    ) -> None:
        self.path = root.absolute()  # tasks may run in other folders
        self._cache = None if cache is None else os.fspath(cache)
        given = catalogue.embedder if embedder is None else embedder
        # a name is the same in every process, whatever else it is gets a token
        token = {"token": given} if isinstance(given, str) else {}
        self._embedder = None if given is None else NamedEmbedder(given, **token)
        self._key = key if key is None or isinstance(key, Key) else Key.from_file(key)
        self._lock_timeout = lock_timeout
        self._catalogue = catalogue
        self._executor, self._own_executor = make_executor(executor)
        self._searched: tuple[Mapping[str, str], ManyStores] | None = None
        self._guard = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"shards={len(self._catalogue.stores)}"
        return f"<{type(self).__name__} {self.path} {state}>"

    def close(self) -> None:
        """End the workers that were started for this cluster; further calls raise ClosedError."""
        if self._closed:
            return
        shards = self.shards()
        self._closed = True
        if self._searched is not None:
            self._searched[1].close()
        close_stores(shards)
        if self._own_executor:
            self._executor.shutdown()

    # the catalogue

    def catalogue(self) -> Catalogue:
        """The catalogue as it is now on the disk."""
        if self._closed:
            raise ClosedError(f"{self.path}: the cluster is closed: connect to it again")
        self._catalogue = Catalogue.read(self.path)
        return self._catalogue

    def shards(self, catalogue: Catalogue | None = None) -> list[Shard]:
        """The shards, as tasks take them; of the catalogue as it was read last."""
        catalogue = catalogue or self._catalogue
        return [
            Shard(
                name=name,
                number=number,
                path=catalogue.place(self.path, name),
                embedder=self._embedder,
                fields=catalogue.fields,
                parameters=catalogue.parameters,
                key=self._key,
                cache=self._cache,
            )
            for number, name in enumerate(catalogue.stores)
        ]

    def shard_of(self, value: str | int) -> str:
        """The name of the shard that rows with this value of the placing column are in."""
        placement = self._placement(self.catalogue(), "shard_of")
        return shard_name(int(homes_of([str(value)], placement.shards)[0]))

    def __len__(self) -> int:
        """How many anchors all shards hold."""
        return sum(summary.anchors for summary in self._fresh(self.catalogue()).values())

    # what reads it

    def search(
        self,
        text: str | None = None,
        *,
        vector: npt.ArrayLike | None = None,
        k: int = 10,
        where: str | Filter | None = None,
        ranking: Ranking | None = None,
        label: str | None = None,
        parameters: Parameters | None = None,
        detail: Detail | None = None,
        route: bool | None = None,
        timeout: float | None = None,
    ) -> ManyResult:
        """The ranked coherent set of all shards, as if they were one store.

        The arguments are those of ``ManyStores.search``, and so is the result: each hit names its
        shard, shards that failed or did not answer in ``timeout`` seconds are named in
        ``missing``, and the receipt is composed of theirs. It is recorded in the cluster's folder,
        the parts in the shards'.

        The shards are searched by the cluster's executor, or with ``"serial"`` by threads. When
        rows have moved between shards meanwhile it is searched again, so that none is missed.

        Raises:
            QueryError, EmbedderError, UnansweredError: as there.
            ClosedError: the cluster has been closed.
            IntegrityError: the catalogue cannot be read.
        """
        seconds = checked_timeout(timeout)
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            catalogue = self.catalogue()
            left = None if until is None else max(until - time.monotonic(), 0.05)
            result = self._stores(catalogue).search(
                text, vector=vector, k=k, where=where, ranking=ranking, label=label,
                parameters=parameters, detail=detail, route=route, timeout=left,
            )  # fmt: skip
            late = until is not None and time.monotonic() >= until
            if late or self.catalogue().epoch == catalogue.epoch:
                return result

    def replay(self, receipt: Receipt | ManyResult | str, text: str | None = None) -> ManyReplay:
        """Replay a search of this cluster, the whole and each shard's part by itself.

        Args:
            receipt: The composed receipt, its id, or the result.
            text: The question, where the receipt keeps its digest alone.

        Raises:
            IntegrityError, MissingError, QueryError: as of ``ManyStores.replay``.
        """
        return self._stores(self.catalogue()).replay(receipt, text)

    def _stores(self, catalogue: Catalogue) -> ManyStores:
        """The shards as stores to be searched together."""
        with self._guard:
            if self._searched is None or self._searched[0] != catalogue.stores:
                # those before are closed by nobody here: another thread may be searching them
                serial = isinstance(self._executor, SerialExecutor)
                many = connect_many(
                    {name: catalogue.place(self.path, name) for name in catalogue.stores},
                    embedder=None if self._embedder is None else self._embedder.given,
                    ledger=self.path,
                    executor=None if serial else self._executor,
                    key=self._key,
                    cache=self._cache,
                )
                self._searched = (catalogue.stores, many)
            return self._searched[1]

    def stats(self) -> dict[str, Any]:
        """Counts and sizes of all shards together and of each, as plain JSON values."""
        catalogue = self.catalogue()
        found = self._each(catalogue, tasks.figures)
        return {"path": str(self.path.resolve()), **statistics(catalogue, dict(found))}

    def summaries(self) -> pa.Table:
        """What each shard is like: its anchors, mean gate and mean embedding, and its neighbours.

        ``edges`` are those of the graph between the shards, each at both of its ends. As of the
        last ingest, deletion, resize or :meth:`refresh` through the cluster.
        """
        catalogue = self.catalogue()
        return summary_table(self._summaries(catalogue), catalogue.parameters)

    def verify(
        self,
        *,
        keys: Key | str | os.PathLike[str] | Iterable[Key | str | os.PathLike[str]] | None = None,
    ) -> ClusterVerifyReport:
        """Verify every shard, and that each anchor is in the shard that it belongs to, once.

        Args:
            keys: Keys, or files of keys, to check the macs of receipts with; unless told
                otherwise the one that the cluster was opened with.

        Raises:
            IntegrityError: the catalogue itself is damaged; all else is told in the report.
            InputError: a file holds no key.
        """
        catalogue = self.catalogue()
        if isinstance(keys, str | os.PathLike | Key):
            keys = [keys]
        given = ([self._key] if self._key else []) if keys is None else list(keys)
        known = keys_by_id(*given) or None
        found = self._each(catalogue, tasks.check, rule_of(catalogue), known)
        chains = self._stores(catalogue).ledger.verify(known)
        return judged(self.path, catalogue, dict(found), *chains)

    # within

    def _placement(self, catalogue: Catalogue, action: str) -> Placement:
        if catalogue.placement is None:
            raise QueryError(
                f"{self.path}: {action} needs a cluster that places rows itself; others fill the "
                "stores of this one"
            )
        return catalogue.placement

    def _summaries(self, catalogue: Catalogue) -> dict[str, Summary]:
        try:
            content = catalogue.summary_bytes(self.path)
        except IntegrityError:
            later = self.catalogue()  # somebody may have replaced them meanwhile
            if later.summaries == catalogue.summaries:
                raise
            return self._summaries(later)
        return {} if content is None else read_summaries(content)

    def _fresh(self, catalogue: Catalogue) -> dict[str, Summary]:
        return dict(self._each(catalogue, tasks.summarize))

    def _each(
        self, catalogue: Catalogue, task: Callable[..., T], *arguments: object
    ) -> list[tuple[str, T]]:
        """What a task gives for every shard."""
        futures = {s: self._executor.submit(task, s, *arguments) for s in self.shards(catalogue)}
        return [(shard.name, result) for shard, result in gathered(futures)]
