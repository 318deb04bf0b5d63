"""What LangChain's indexing remembers, committed together with the documents it is about."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from langchain_core.indexing import RecordManager
from langchain_core.runnables import run_in_executor

from oscillink_store import Record, Store
from oscillink_store.errors import InputError, QueryError
from oscillink_store.filters import And, Compare, Filter

from ..repeating import repeated

if TYPE_CHECKING:
    from .vector_store import OscillinkVectorStore

__all__ = ["OscillinkRecordManager", "as_read", "records_of", "records_with"]

_PREFIX = ("langchain", "records")


class OscillinkRecordManager(RecordManager):
    """Keys with a group and the time of their last indexing, as records of the store.

    Made for a vector store, it gets the record of a document in the very commit that writes the
    document, and loses it in the one that deletes it: after a crash there is a record exactly
    where there is a document. Of several managers of one vector store, a document's record goes
    to those that were asked whether they know it, as ``index`` does, or else to all.

    Args:
        namespace: Keeps the keys of one manager apart from those of others.
        vector_store: The vector store whose documents the records are about.
        store: For documents that are kept elsewhere: the store to keep the records in.
    """

    def __init__(
        self,
        namespace: str,
        vector_store: OscillinkVectorStore | None = None,
        *,
        store: Store | None = None,
    ) -> None:
        super().__init__(namespace)
        if vector_store is not None and store is None:
            self.store = vector_store.store
            vector_store.attend(self)
        elif store is not None and vector_store is None:
            self.store = store
        else:
            raise QueryError("pass either a vector store or an open store")
        self._names = (*_PREFIX, namespace)
        self._asked: set[str] = set()
        self._lock = threading.Lock()
        newest = self.store.records(self._names, exact=True, limit=1)
        self._last = max((float(record.value["time"]) for record in newest), default=-math.inf)

    def create_schema(self) -> None:
        """Nothing: the store holds records from the start."""

    async def acreate_schema(self) -> None:
        """As :meth:`create_schema`."""

    def get_time(self) -> float:
        """Seconds since 1970, later at every call and than every record's."""
        with self._lock:
            self._last = max(time.time(), math.nextafter(self._last, math.inf))
            return self._last

    async def aget_time(self) -> float:
        """As :meth:`get_time`."""
        return self.get_time()

    def update(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Set the time of keys to now, and their groups where they are given; one commit.

        Raises:
            InputError: there are not as many groups as keys, or ``time_at_least`` is yet to come.
        """
        if group_ids and len(keys) != len(group_ids):
            raise InputError(
                f"{len(group_ids)} group_ids for {len(keys)} keys: pass one for each, or none",
                field="group_ids",
            )
        now = self.get_time()
        if time_at_least is not None and time_at_least > now:
            raise InputError(
                f"time_at_least is {time_at_least}, {time_at_least - now:.3f} s ahead of the "
                "clock: set the clock right",
                field="time_at_least",
            )
        if group_ids:
            groups = zip(keys, group_ids, strict=True)
            self.store.write(put=[self._record(key, now, group) for key, group in groups])
        else:
            self._refresh(keys, now)
        self._asked.difference_update(keys)

    @repeated
    def _refresh(self, keys: Sequence[str], now: float) -> None:
        found = self._find(keys)
        self.store.write(
            put=[
                self._record(key, now, None if known is None else known.group)
                for key, known in zip(keys, found, strict=True)
            ],
            expect=[known or (self._names, key) for key, known in zip(keys, found, strict=True)],
        )

    async def aupdate(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """As :meth:`update`."""
        await run_in_executor(
            None, self.update, keys, group_ids=group_ids, time_at_least=time_at_least
        )

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Whether there is a record of each key."""
        self._asked.update(keys)
        return [known is not None for known in self._find(keys)]

    async def aexists(self, keys: Sequence[str]) -> list[bool]:
        """As :meth:`exists`."""
        return await run_in_executor(None, self.exists, keys)

    def list_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """The keys of records of an earlier or later time, or of some groups."""
        parts: list[Filter] = []
        if before is not None:
            parts.append(Compare(("time",), "lt", before))
        if after is not None:
            parts.append(Compare(("time",), "gt", after))
        found = self.store.records(
            self._names,
            exact=True,
            where=And(tuple(parts)) if parts else None,
            groups=list(group_ids) if group_ids else None,
            limit=limit,
        )
        return [record.key for record in reversed(found)]  # the oldest first

    async def alist_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """As :meth:`list_keys`."""
        return await run_in_executor(
            None, self.list_keys, before=before, after=after, group_ids=group_ids, limit=limit
        )

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Forget keys; those that are not there are ignored."""
        self.store.write(drop=[(self._names, key) for key in keys])

    async def adelete_keys(self, keys: Sequence[str]) -> None:
        """As :meth:`delete_keys`."""
        await run_in_executor(None, self.delete_keys, keys)

    def asked_of(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that were asked after and not updated since."""
        return self._asked.intersection(keys)

    def records(self, keys: Sequence[str]) -> list[Record]:
        """The records to write along with documents: those there are, or new ones."""
        return [
            known or self._record(key, self.get_time(), None)
            for key, known in zip(keys, self._find(keys), strict=True)
        ]

    def _record(self, key: str, time: float, group: str | None) -> Record:
        return Record(self._names, key, {"time": time}, group=group)

    def _find(self, keys: Sequence[str]) -> list[Record | None]:
        return self.store.find_records([(self._names, key) for key in keys])


def records_with(managers: Sequence[OscillinkRecordManager], ids: Sequence[str]) -> list[Record]:
    """The records to write along with documents."""
    asked = [manager.asked_of(ids) for manager in managers]
    rest = set(ids).difference(*asked)
    return [
        record
        for manager, own in zip(managers, asked, strict=True)
        for record in manager.records([key for key in ids if key in own or key in rest])
    ]


def as_read(record: Record) -> Record | tuple[tuple[str, ...], str]:
    """What to expect of a record to write along: it as it was read, or that there was none."""
    return record if record.updated else (record.namespace, record.key)


def records_of(store: Store, ids: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
    """What to drop along with documents: their records in every manager's namespace."""
    return [(names, key) for names in store.record_namespaces(_PREFIX) for key in ids]
