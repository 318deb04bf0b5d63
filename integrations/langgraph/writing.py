"""Writes, one after another on a thread of their own; those that wait share a commit.

A commit costs the same for one item or a hundred, so whatever comes in while one is under way
goes into the next together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import oscillink_store as osc

from ..repeating import repeated
from .layout import (
    ROOT,
    Place,
    Text,
    anchors_of,
    record_of,
    row_of,
)

__all__ = ["Change", "Put", "Writer"]

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Put:
    """A value to store, with its indexed texts; ``ttl`` is in seconds.

    ``filterable`` says whether each of the anchors gets a copy of the value.
    """

    value: Mapping[str, Any]
    texts: Sequence[Text]
    ttl: float | None
    filterable: bool


@dataclass(kw_only=True)
class Change:
    """What becomes of some items: new values, or None for deletion; and whose time starts anew."""

    items: dict[Place, Put | None] = field(default_factory=dict)
    touched: set[Place] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.items or self.touched)

    def put(self, place: Place, put: Put | None) -> None:
        """Store or delete; the last word on an item counts, and stands last."""
        self.items.pop(place, None)
        self.items[place] = put

    def add(self, other: Change) -> None:
        """Take another change as the later one."""
        for place, put in other.items.items():
            self.put(place, put)
        self.touched |= other.touched


class Writer:
    """The only writer of one adapter."""

    def __init__(self, store: osc.Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="oscillink-langgraph")
        self._lock = threading.Lock()
        self._waiting: list[tuple[Change, Future[None]]] = []

    def submit(self, change: Change) -> Future[None]:
        """Write, in the order of the calls; done when it is on the disk."""
        future: Future[None] = Future()
        with self._lock:
            self._waiting.append((change, future))
        self._do(self._write_waiting)
        return future

    def sweep(self) -> Future[int]:
        """Delete what has expired; gives the number of items."""
        return self._do(self._sweep)

    def close(self) -> None:
        """Finish what has been submitted."""
        self._thread.shutdown()

    def _do(self, what: Callable[[], Result]) -> Future[Result]:
        try:
            return self._thread.submit(what)
        except RuntimeError as error:
            raise ValueError("the store is closed: open it again") from error

    def _write_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        # a caller that was cancelled before its turn writes nothing
        waiting = [each for each in waiting if each[1].set_running_or_notify_cancel()]
        if not self._write(waiting) and len(waiting) > 1:
            for each in waiting:  # what is wrong with one of them is not the others' fault
                self._write([each])

    def _write(self, waiting: Sequence[tuple[Change, Future[None]]]) -> bool:
        """Commit changes together; False if their own content forbids it and there are several."""
        whole = Change()
        for change, _ in waiting:
            whole.add(change)
        try:
            self._commit(whole)
        except ValueError as error:
            if len(waiting) > 1:
                return False
            waiting[0][1].set_exception(error)
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            for _, future in waiting:
                future.set_exception(error)
        else:
            for _, future in waiting:
                future.set_result(None)
        return True

    @repeated
    def _commit(self, change: Change) -> None:
        rows, records, drops = [], [], []
        fields = self._store.fields
        names = [_name(place) for place in change.items]
        before = self._store.find_records(names)
        stale = {id_ for record in before for id_ in anchors_of(record)}
        for place, put in change.items.items():
            if put is None:
                drops.append(_name(place))
            else:
                value = put.value if put.filterable else None
                rows += [row_of(place, text, fields, value) for text in put.texts]
                records.append(record_of(place, put.value, put.texts, put.ttl))
        stale.difference_update(row[fields.id] for row in rows)
        self._store.write(
            rows or None,
            delete=sorted(stale) or None,
            put=records,
            drop=drops,
            touch=[_name(place) for place in change.touched.difference(change.items)],
            expect=[record or name for record, name in zip(before, names, strict=True)],
        )

    @repeated
    def _sweep(self) -> int:
        # on this thread, so that nothing is deleted whose time has just been started anew
        expired = self._store.records((ROOT,), expired_by=datetime.now(UTC))
        if expired:
            self._store.write(
                delete=[id_ for record in expired for id_ in anchors_of(record)] or None,
                drop=[(record.namespace, record.key) for record in expired],
                expect=expired,  # whoever puts an item again, here or elsewhere, keeps it
            )
        return len(expired)


def _name(place: Place) -> Place:
    """The namespace and the key of an item's record."""
    namespace, key = place
    return (ROOT, *namespace), key
