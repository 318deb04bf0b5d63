"""A shard as a value that every worker can open, and the stores that a worker keeps open."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from oscillink_store.embed.resolve import resolve
from oscillink_store.engine.store import Store, connect
from oscillink_store.errors import NotAStoreError
from oscillink_store.model import Fields, Parameters
from oscillink_store.receipts.key import Key
from oscillink_store.storage.manifest import is_store
from oscillink_store.storage.mirror import is_uri, local_copy

if TYPE_CHECKING:
    from oscillink_store.embed.protocol import Embedder

__all__ = ["NamedEmbedder", "Shard", "close_stores", "opened"]

_STORES_AT_ONCE = 32


@dataclass(frozen=True)
class NamedEmbedder:
    """An embedder, told from others by a token that its copies in other processes share."""

    given: object = field(compare=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


@lru_cache(maxsize=4)
def _resolved(embedder: NamedEmbedder) -> Embedder:
    return resolve(embedder.given)  # a model is loaded once in a process, not once per shard


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One store of a cluster, and how it is opened; ``number`` is its place among the shards.

    ``path`` may be the URI of a mirror: it is pulled into a folder below ``cache``, wherever the
    worker is, and opened to be read alone.
    """

    name: str
    number: int
    path: str
    embedder: NamedEmbedder | None = None
    fields: Fields | None = None
    parameters: Parameters | None = None
    key: Key | None = None
    cache: str | None = None
    lock_timeout: float = 300.0

    def folder(self) -> Path:
        """Where the store is on this machine; what a mirror holds is brought up to date."""
        return local_copy(self.path, self.cache)

    def create(self) -> None:
        """Make the store, unless it is there already."""
        self._connected(self.folder()).close()

    def connect(self) -> Store:
        """Open the store.

        Raises:
            NotAStoreError: there is none. An empty one in its place would hide that its anchors
                are gone.
        """
        root = self.folder()
        if not is_store(root):
            raise NotAStoreError(
                f"{root}, where {self.name} should be, holds no store: mount the disk that it is "
                "on, or restore the folder from a backup"
            )
        return self._connected(root)

    def _connected(self, root: Path) -> Store:
        return connect(
            root,
            embedder=None if self.embedder is None else _resolved(self.embedder),
            fields=self.fields,
            parameters=self.parameters,
            read_only=is_uri(self.path),
            key=self.key,
            lock_timeout=self.lock_timeout,
        )


class _Stores:
    """The stores that this process has open, at most so many, the last used last."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: OrderedDict[Shard, Store] = OrderedDict()
        self._users: dict[Store, int] = {}

    @contextmanager
    def borrowed(self, shard: Shard) -> Iterator[Store]:
        store = self._taken(shard)
        try:
            yield store
        except BaseException:
            self.drop(shard)  # whatever is the matter, the next task looks anew
            raise
        finally:
            self._given_back(store)

    def _taken(self, shard: Shard) -> Store:
        with self._guard:
            store = self._open.get(shard)
            if store is None or store.closed:
                store = self._open[shard] = shard.connect()
            elif is_uri(shard.path):
                shard.folder()  # somebody may have pushed another generation
            self._open.move_to_end(shard)
            self._users[store] = self._users.get(store, 0) + 1
            oldest = None
            if len(self._open) > _STORES_AT_ONCE:
                _, oldest = self._open.popitem(last=False)
            idle = oldest is not None and oldest not in self._users
        if oldest is not None and idle:
            oldest.close()
        return store

    def _given_back(self, store: Store) -> None:
        with self._guard:
            self._users[store] -= 1
            unused = self._users[store] == 0
            if unused:
                del self._users[store]
            forgotten = unused and store not in self._open.values()
        if forgotten:
            store.close()

    def drop(self, shard: Shard) -> None:
        with self._guard:
            store = self._open.pop(shard, None)
            idle = store is not None and store not in self._users
        if store is not None and idle:
            store.close()


_stores = _Stores()


def opened(shard: Shard) -> AbstractContextManager[Store]:
    """The open store of a shard, for the time of a ``with`` block."""
    return _stores.borrowed(shard)


def close_stores(shards: list[Shard]) -> None:
    """Close what this process has open of these shards, once nobody uses it."""
    for shard in shards:
        _stores.drop(shard)
