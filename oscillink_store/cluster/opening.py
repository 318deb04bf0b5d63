"""Making and opening a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path

from oscillink_store.cluster.catalogue import CATALOGUE_NAME, Catalogue, Placement
from oscillink_store.cluster.cluster import Cluster
from oscillink_store.cluster.placement import checked_by, shard_name
from oscillink_store.engine.arguments import checked_options
from oscillink_store.errors import QueryError
from oscillink_store.model import Fields, Parameters
from oscillink_store.receipts.key import Key
from oscillink_store.storage.files import disk_errors
from oscillink_store.storage.lock import writer_lock

__all__ = ["connect_cluster", "create_cluster"]


def create_cluster(
    path: str | os.PathLike[str],
    *,
    shards: int = 8,
    by: str | None = None,
    stores: Mapping[str, str | os.PathLike[str]] | None = None,
    embedder: object | None = None,
    fields: Fields | None = None,
    parameters: Parameters | None = None,
    executor: Executor | str | None = None,
    key: Key | str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    lock_timeout: float = 10.0,
) -> Cluster:
    """Make a cluster: a folder with a catalogue and ``shards`` empty stores, and open it.

    Args:
        path: The cluster's folder.
        shards: How many stores rows are placed in.
        by: The column that places a row, such as a tenant or a document: rows with one value are
            in one store, and so are the lattice's edges between them. Unless told otherwise the
            id. Its values are text or whole numbers, and every row has one.
        stores: In place of shards, stores that exist already, by name: paths, those that are not
            absolute relative to ``path``, or URIs of object stores. They are searched and
            verified together; others fill them.
        embedder: As for :func:`oscillink_store.connect`; a name is recorded in the catalogue.
        fields: Which columns of a source play which part; recorded.
        parameters: Constants of lattice and ranking; recorded.
        executor: Where shards are worked on, as for :func:`connect_cluster`.
        key: What seals the shards' receipts, likewise.
        cache: The folder for local copies of stores that URIs name, on every worker's machine; by
            default one in the home directory.
        lock_timeout: Seconds that an ingest waits for another one.

    Raises:
        QueryError: an argument cannot be used, or there is a cluster at ``path`` already.
        DiskError, ReadOnlyError: the folder cannot be written.
    """
    root = Path(path)
    checked_options(fields, parameters)
    fields = fields or Fields()
    placement = None
    if stores is None:
        if isinstance(shards, bool) or not isinstance(shards, int) or shards < 1:
            raise QueryError(f"shards is {shards!r}: use a whole number of at least 1")
        placement = Placement(by=checked_by(by or fields.id, fields), shards=shards)
        places = {shard_name(number): f"{shard_name(number)}.osc" for number in range(shards)}
    elif by is not None:
        raise QueryError("by: stores that exist already are filled by others, leave it out")
    else:
        places = {str(name): os.fspath(place) for name, place in stores.items()}
        if not places:
            raise QueryError("stores names none: name at least one")
    catalogue = Catalogue(
        stores=places,
        placement=placement,
        fields=fields,
        parameters=parameters or Parameters(),
        embedder=embedder if isinstance(embedder, str) else None,
    )
    with disk_errors(root, "creating the cluster"):
        root.mkdir(parents=True, exist_ok=True)
    with writer_lock(root, lock_timeout):
        if (root / CATALOGUE_NAME).exists():
            raise QueryError(f"{root} holds a cluster already: open it with connect_cluster")
        made = Cluster(
            root, catalogue, embedder=embedder, executor=executor, key=key,
            lock_timeout=lock_timeout, cache=cache,
        )  # fmt: skip
        try:
            if placement is not None:
                for shard in made.shards():
                    shard.create()
            catalogue.write(root)
        except BaseException:
            made.close()
            raise
    return made


def connect_cluster(
    path: str | os.PathLike[str],
    *,
    embedder: object | None = None,
    executor: Executor | str | None = None,
    key: Key | str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    lock_timeout: float = 10.0,
) -> Cluster:
    """Open a cluster.

    Args:
        path: The cluster's folder.
        embedder: What turns texts into vectors, as for :func:`oscillink_store.connect`; unless
            told otherwise the one that the catalogue names. It runs in the workers, so for other
            executors than ``"serial"`` it must be a name, or an object that can be pickled.
        executor: Where shards are worked on: ``"serial"``, one after another in this process;
            ``"processes"`` or ``"processes:4"``, in that many processes of this machine, by
            default one per processor; ``"ray"``, in a Ray cluster, the one that this process is
            connected to or else a new one on this machine; or any
            :class:`concurrent.futures.Executor`, which stays open.
        key: A key, or the file of one, that seals the shards' receipts.
        cache: The folder for local copies of stores that URIs name, on every worker's machine; by
            default one in the home directory.
        lock_timeout: Seconds that an ingest waits for another one.

    Raises:
        NotAStoreError: there is no cluster at ``path``.
        IntegrityError, FormatError: its catalogue cannot be read.
        QueryError, DependencyError: the executor cannot be used.
    """
    root = Path(path)
    catalogue = Catalogue.read(root)
    return Cluster(
        root, catalogue, embedder=embedder, executor=executor, key=key, cache=cache,
        lock_timeout=lock_timeout,
    )  # fmt: skip
