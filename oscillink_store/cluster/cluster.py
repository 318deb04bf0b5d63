"""The cluster: a folder with a catalogue, opened. It delegates; the work is done by tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from oscillink_store.cluster import tasks
from oscillink_store.cluster.catalogue import Catalogue
from oscillink_store.cluster.ingest import Counts, gathered, ingest_source
from oscillink_store.cluster.inspection import rule_of
from oscillink_store.cluster.placement import shard_name
from oscillink_store.cluster.reader import ClusterReader
from oscillink_store.cluster.resize import copy_to_new_homes, drop_from_old_homes
from oscillink_store.cluster.summaries import (
    Summary,
    summary_table,
    table_bytes,
)
from oscillink_store.engine.arguments import checked_ids, checked_options
from oscillink_store.engine.sources import open_source
from oscillink_store.errors import (
    IntegrityError,
    MissingError,
    QueryError,
    StoreError,
)
from oscillink_store.model import Fields
from oscillink_store.reports import ClusterReport
from oscillink_store.storage.lock import writer_lock

if TYPE_CHECKING:
    from oscillink_store.cluster.shard import Shard
    from oscillink_store.filters import Filter

__all__ = ["Cluster"]

Progress = Callable[[str, int, int | None], None]

_BATCH = 20_000


class Cluster(ClusterReader):
    """An open cluster; made by :func:`oscillink_store.create_cluster` and ``connect_cluster``.

    Use it as a context manager, or call :meth:`close`.
    """

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
            QueryError: neither or both of ``ids`` and ``where`` are given, or cannot be used, like
                SQL that names a column which one of the shards has not; nothing is deleted.
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
            if where is not None:
                self._look_at(catalogue, where)
            gathered(
                {s: self._executor.submit(tasks.delete, s, wanted, where) for s in shards},
                counts.add,
            )
        return counts.report()

    def _look_at(self, catalogue: Catalogue, where: str | Filter) -> None:
        try:
            self._each(catalogue, tasks.look_at, where)
        except QueryError as error:
            raise QueryError(
                f"{error}. Nothing was deleted. A shard has the columns of its own rows alone: "
                "the filters of oscillink_store.filters take what one has not for absent"
            ) from error

    def resize(self, shards: int) -> ClusterReport:
        """Share the rows out anew over another number of shards.

        Jump hash moves no row that need not move: of n shards that become n + 1 each gives up
        1/(n + 1) of its rows. Others may search meanwhile, and see a row that is under way once
        or twice, never not at all. Safe to interrupt: run it again, to this number or to another,
        such as the one before. Stores that no shard uses any more stay on the disk, empty.

        Raises:
            QueryError: the number cannot be used.
            InputError: a column has types in two shards that do not go together, so that its rows
                cannot be in one.
            StoreError: a store that is to go still holds anchors, of ids that others hold too.
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
                shard.create()
            self._write(catalogue)
            rule = rule_of(catalogue)
            assert rule is not None
            if copy_to_new_homes(everyone, rule, self._executor):
                catalogue = self._next_epoch()
            drop_from_old_homes(everyone, rule, self._executor, counts)
            self._require_empty(everyone[shards:], counts)
            self._write(
                replace(
                    catalogue,
                    stores={name: places[name] for name in list(places)[:shards]},
                    placement=replace(placement, shards=shards, target=None),
                )
            )
        return counts.report()

    def _require_empty(self, leaving: Sequence[Shard], counts: Counts) -> None:
        for shard in leaving:
            if held := counts.summaries[shard.name].anchors:
                raise StoreError(
                    f"{self.path}: {shard.name} would leave the cluster with {held} anchors whose "
                    "ids other shards hold with another content: resize to a number that keeps "
                    "it, and ingest these rows again, or delete them"
                )

    def refresh(self) -> None:
        """Ask every shard for its summary again, as when others have filled the stores."""
        with self._changing("refresh", resizing=None) as (catalogue, counts):
            counts.summaries.update(self._fresh(catalogue))

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
            if target is not None and resizing is None and action != "refresh":
                raise StoreError(
                    f"{self.path}: a resize to {target} shards was interrupted: run "
                    f"resize({target}) first, or to another number, then {action}"
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
        known = {name: known[name] for name in catalogue.stores if name in known}
        table = summary_table(known, catalogue.parameters)
        catalogue = catalogue.with_summaries(self.path, table_bytes(table))
        self._write(catalogue)
        catalogue.sweep(self.path)

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
