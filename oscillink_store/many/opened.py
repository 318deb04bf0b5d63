"""Stores as the tasks of one process have them open, the most recently used ones."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import Executor

from oscillink_store.engine.live import Live
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import NotAStoreError, ReadOnlyError
from oscillink_store.many.answers import Place
from oscillink_store.many.threads import DaemonThreads
from oscillink_store.storage.manifest import is_store, read_manifest
from oscillink_store.storage.mirror import is_uri, local_copy
from oscillink_store.storage.wal import Ledger

__all__ = ["Opened", "forget", "opened"]

_MOST_STORES = 256
_MOST_GENERATIONS = 2


class Opened:
    """A store that tasks search: its generations, its ledger, and a thread for full text.

    Unlike a :class:`~oscillink_store.engine.store.Store` it never lets an older generation stand
    in for a damaged one, as nobody would see the warning.

    Raises:
        NotAStoreError: there is no store; none is created.
        ReadOnlyError: its folder cannot be written.
        IntegrityError, FormatError, DiskError: it cannot be read.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.root = local_copy(place.path, place.cache)
        if not is_store(self.root):
            raise NotAStoreError(f"{self.root} holds no store: check the path")
        read_only = place.read_only or is_uri(place.path)
        if not read_only and not os.access(self.root, os.W_OK):
            raise ReadOnlyError(
                f"{self.root}: the folder cannot be written, so no receipt could be recorded: "
                "change its permissions, or connect with read_only=True"
            )
        self.live = Live(self.root, stand_in=False)
        self._recent: OrderedDict[int, Snapshot] = OrderedDict()
        self._guard = threading.Lock()
        directory = self.root / "receipts"
        durability = "off" if read_only else place.durability
        self.ledger = Ledger(directory, durability=durability, key=place.key)
        self.unrecorded = Ledger(directory, durability="off", key=place.key)
        """Seals receipts that nobody keeps."""
        self.executor = DaemonThreads(2, "oscillink-fulltext")
        weakref.finalize(self, _release, self.ledger, self.executor)

    def snapshot(self, generation: int | None = None) -> Snapshot:
        """A generation, the live one unless told otherwise.

        Raises:
            MissingError: it is not on disk any more.
            IntegrityError: it is damaged.
            DiskError: a mirror cannot be reached.
        """
        with self._guard:
            found = None if generation is None else self._recent.get(generation)
        if found is None:
            if generation is None:
                local_copy(self._place.path, self._place.cache)  # another may have been pushed
            found = self.live.snapshot() if generation is None else self._at(generation)
            with self._guard:
                self._recent[found.generation] = found
                self._recent.move_to_end(found.generation)
                while len(self._recent) > _MOST_GENERATIONS:
                    self._recent.popitem(last=False)
        return found

    def _at(self, generation: int) -> Snapshot:
        live = self.live.snapshot()
        if live.generation == generation:
            return live
        return Snapshot(self.root, read_manifest(self.root, generation), live)


_stores: OrderedDict[Place, Opened] = OrderedDict()
_guard = threading.Lock()


def opened(place: Place) -> Opened:
    """The store at a place, opened if this process has not got it open."""
    with _guard:
        found = _stores.get(place)
        if found is not None:
            _stores.move_to_end(place)
            return found
    made = Opened(place)  # beside others, as it may take long
    with _guard:
        found = _stores.setdefault(place, made)
        while len(_stores) > _MOST_STORES:
            _stores.popitem(last=False)
    return found


def forget(place: Place) -> None:
    """Let go of a store; it is closed once no task uses it any more."""
    with _guard:
        _stores.pop(place, None)


def _release(ledger: Ledger, executor: Executor) -> None:
    executor.shutdown(wait=False)
    ledger.close()
