"""The cluster: a folder with a catalogue, opened. It delegates; the work is done by tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from oscillink_store.cluster import tasks
from oscillink_store.cluster.catalogue import Catalogue, Placement
from oscillink_store.cluster.executors import make_executor
from oscillink_store.cluster.ingest import Counts, gathered, ingest_source
from oscillink_store.cluster.inspection import judged, rule_of, statistics
from oscillink_store.cluster.placement import homes_of, shard_name
from oscillink_store.cluster.resize import copy_to_new_homes, drop_from_old_homes
from oscillink_store.cluster.shard import NamedEmbedder, Shard, close_stores
from oscillink_store.cluster.summaries import (
    Summary,
    read_summaries,
    summary_table,
    table_bytes,
)
from oscillink_store.engine.arguments import checked_ids, checked_options
from oscillink_store.engine.sources import open_source
from oscillink_store.errors import (
    ClosedError,
    IntegrityError,
    MissingError,
    QueryError,
    StoreError,
)
from oscillink_store.model import Fields
from oscillink_store.receipts.key import Key
from oscillink_store.reports import ClusterReport, ClusterVerifyReport
from oscillink_store.storage.lock import writer_lock

if TYPE_CHECKING:
    from oscillink_store.filters import Filter

__all__ = ["Cluster"]

Progress = Callable[[str, int, int | None], None]
T = TypeVar("T")

_BATCH = 20_000


class Cluster:
    """An open cluster; made by :func:`oscillink_store.create_cluster` and ``connect_cluster``.

    Use it as a context manager, or call :meth:`close`.
    """

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
        self.path = root
        own = Path.home() / ".cache" / "oscillink-store" / "mirrors"
        self._cache = os.fspath(own if cache is None else cache)
        given = catalogue.embedder if embedder is None else embedder
        # a name is the same in every process, whatever else it is gets a token
        token = {"token": given} if isinstance(given, str) else {}
        self._embedder = None if given is None else NamedEmbedder(given, **token)
        self._key = key if key is None or isinstance(key, Key) else Key.from_file(key)
        self._lock_timeout = lock_timeout
        self._catalogue = catalogue
        self._executor, self._own_executor = make_executor(executor)
        self._closed = False

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"shards={len(self._catalogue.stores)}"
        return f"<Cluster {self.path} {state}>"

    def close(self) -> None:
        """End the workers that were started for this cluster; further calls raise ClosedError."""
        if self._closed:
            return
        shards = self.shards()
        self._closed = True
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

    # what changes it

    def ingest(
        self,
        source: object,
        *,
        fields: Fields | None = None,
        batch: int = _BATCH,
        progress: Progress | None = None,
    ) -> ClusterReport:
        """Add anchors, each to the shard that its placing column says.

        The source is read ``batch`` rows at a time, and each shard's share of them is one commit
        of its store: embedding, relations and nearest neighbours are the shard's own work. Ids are
        unique in the whole cluster: a row whose placing value has changed moves to another shard.
        When this is interrupted, or raises, what was committed stays, and running it again leaves
        that alone.

        Args:
            source: As for :meth:`oscillink_store.Store.ingest`.
            fields: Which columns play which part, when not as the cluster was created.
            batch: How many rows are placed at a time.
            progress: Called with ("ingest", rows, total or None).

        Raises:
            InputError: a row or field cannot be used; the message names it and the remedy.
            QueryError: an argument cannot be used, or other programs fill these stores.
            LockedError: another process is filling the cluster.
            WorkerError: a worker was killed, and killed again.
            EmbedderError, IntegrityError, DiskError, ReadOnlyError: as for a store.
        """
        checked_options(fields)
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise QueryError(f"batch is {batch!r}: use a whole number of at least 1")
        with self._changing("ingest") as (catalogue, counts):
            placement = self._placement(catalogue, "ingest")
            fields = fields or catalogue.fields
            ingest_source(
                open_source(source, fields),
                self.shards(catalogue),
                by=placement.by,
                fields=fields,
                batch=batch,
                executor=self._executor,
                counts=counts,
                before_removal=self._next_epoch,
                progress=progress or _silent,
            )
        return counts.report()

    def delete(
        self, ids: str | Sequence[str] | None = None, *, where: str | Filter | None = None
    ) -> ClusterReport:
        """Delete anchors by id, or those that satisfy a filter; one commit in each shard.

        Raises:
            MissingError: an id is in no shard; nothing is deleted then.
            QueryError: neither or both of ``ids`` and ``where`` are given, or cannot be used.
            LockedError, WorkerError, IntegrityError, DiskError, ReadOnlyError: as for
                :meth:`ingest`.
        """
        if (ids is None) == (where is None):
            raise QueryError("delete: pass either ids or where")
        wanted = None if ids is None else checked_ids(ids)
        with self._changing("delete") as (catalogue, counts):
            self._placement(catalogue, "delete")
            shards = self.shards(catalogue)
            if wanted is not None:
                found = self._each(catalogue, tasks.find, wanted)
                held = {id_ for _, ids_ in found for id_ in ids_}
                missing = [id_ for id_ in wanted if id_ not in held]
                if missing:
                    raise MissingError(
                        f"id {missing[0]!r} is in no shard: check it, or ingest it first"
                    )
            gathered(
                {s: self._executor.submit(tasks.delete, s, wanted, where) for s in shards},
                counts.add,
            )
        return counts.report()

    def resize(self, shards: int) -> ClusterReport:
        """Share the rows out anew over another number of shards.

        Jump hash moves no row that need not move: of n shards that become n + 1 each gives up
        1/(n + 1) of its rows. Others may search meanwhile, and see a row that is under way once
        or twice, never not at all. Safe to interrupt: run it again. Stores that no shard uses any
        more stay on the disk, empty.

        Raises:
            QueryError: the number cannot be used, or a resize to another one was interrupted.
            LockedError, WorkerError, IntegrityError, DiskError, ReadOnlyError: as for
                :meth:`ingest`.
        """
        if isinstance(shards, bool) or not isinstance(shards, int) or shards < 1:
            raise QueryError(f"shards is {shards!r}: use a whole number of at least 1")
        with self._changing("resize", resizing=shards) as (catalogue, counts):
            placement = self._placement(catalogue, "resize")
            most = max(shards, len(catalogue.stores))
            places = dict(catalogue.stores)
            for number in range(len(places), most):
                places[shard_name(number)] = f"{shard_name(number)}.osc"
            catalogue = replace(
                catalogue, stores=places, placement=replace(placement, target=shards)
            )
            everyone = self.shards(catalogue)
            for shard in everyone[len(self._catalogue.stores) :]:
                shard.connect().close()
            self._write(catalogue)
            rule = rule_of(catalogue)
            assert rule is not None
            if copy_to_new_homes(everyone, rule, self._executor):
                catalogue = self._next_epoch()
            drop_from_old_homes(everyone, rule, self._executor, counts)
            self._write(
                replace(
                    catalogue,
                    stores={name: places[name] for name in list(places)[:shards]},
                    placement=replace(placement, shards=shards, target=None),
                )
            )
        return counts.report()

    # what reads it

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
        return summary_table(self._summaries(self.catalogue()))

    def refresh(self) -> None:
        """Ask every shard for its summary again, as when others have filled the stores."""
        with self._changing("refresh", resizing=None) as (catalogue, counts):
            counts.summaries.update(self._fresh(catalogue))

    def verify(
        self, *, keys: Sequence[Key | str | os.PathLike[str]] | None = None
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
        given = ([self._key] if self._key else []) if keys is None else list(keys)
        known = [key if isinstance(key, Key) else Key.from_file(key) for key in given]
        found = self._each(catalogue, tasks.check, rule_of(catalogue), known)
        return judged(self.path, catalogue, dict(found))

    # within

    def _placement(self, catalogue: Catalogue, action: str) -> Placement:
        if catalogue.placement is None:
            raise QueryError(
                f"{self.path}: {action} needs a cluster that places rows itself; others fill the "
                "stores of this one"
            )
        return catalogue.placement

    @contextmanager
    def _changing(
        self, action: str, *, resizing: int | None = None
    ) -> Iterator[tuple[Catalogue, Counts]]:
        """Hold the lock; whatever comes of the block, the catalogue learns what it changed."""
        self.catalogue()  # taking the lock would make the folder of a cluster that is gone
        with writer_lock(self.path, self._lock_timeout):
            catalogue = self.catalogue()
            placement = catalogue.placement
            target = None if placement is None else placement.target
            if target is not None and target != resizing and action != "refresh":
                raise StoreError(
                    f"{self.path}: a resize to {target} shards was interrupted: run "
                    f"resize({target}) first, then {action}"
                )
            counts = Counts()
            try:
                yield catalogue, counts
            finally:
                if counts.summaries:
                    self._keep(counts.summaries)

    def _keep(self, fresh: Mapping[str, Summary]) -> None:
        """Put the summaries of shards into the catalogue."""
        catalogue = self.catalogue()
        known: dict[str, Summary] = {}
        try:
            known = self._summaries(catalogue)
        except IntegrityError:  # a damaged file is made anew, of all shards
            known = self._fresh(catalogue)
        known |= fresh
        table = summary_table({name: known[name] for name in catalogue.stores if name in known})
        catalogue = catalogue.with_summaries(self.path, table_bytes(table))
        self._write(catalogue)
        catalogue.sweep(self.path)

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

    def _next_epoch(self) -> Catalogue:
        """Tell searches that are under way that rows are about to leave their old homes."""
        catalogue = self.catalogue()
        return self._write(replace(catalogue, epoch=catalogue.epoch + 1))

    def _write(self, catalogue: Catalogue) -> Catalogue:
        catalogue.write(self.path)
        self._catalogue = catalogue
        return catalogue


def _silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
