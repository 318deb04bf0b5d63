"""What a reader tells of records, live or pinned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from oscillink_store.engine.record_names import stored_names
from oscillink_store.engine.record_view import Selection
from oscillink_store.errors import InputError, QueryError
from oscillink_store.filters import Filter
from oscillink_store.records import Record, checked_name
from oscillink_store.storage.record_rows import namespace_text

if TYPE_CHECKING:
    from oscillink_store.engine.snapshot import Snapshot

__all__ = ["RecordReader"]


class RecordReader(ABC):
    """Reads the records of one generation after another."""

    @abstractmethod
    def current(self) -> Snapshot:
        """The generation to read."""

    def record(self, namespace: Iterable[str], key: str) -> Record | None:
        """The record of a namespace and key; None where there is none.

        Raises:
            QueryError: a label or the key cannot be used.
        """
        labels, key = checked_name(namespace, key, QueryError)
        return self.current().records.find([(namespace_text(labels), key)])[0]

    def find_records(self, names: Iterable[tuple[Iterable[str], str]]) -> list[Record | None]:
        """The record of each (namespace, key) pair, at once; None where there is none.

        Raises:
            QueryError: a name cannot be used; says which.
        """
        try:
            wanted = stored_names(names, "names")
        except InputError as error:
            raise QueryError(str(error)) from None
        return self.current().records.find(wanted)

    def records(
        self,
        prefix: Iterable[str] = (),
        *,
        where: Filter | None = None,
        groups: Iterable[str | None] | None = None,
        updated_before: datetime | None = None,
        updated_after: datetime | None = None,
        expired_by: datetime | None = None,
        limit: int | None = None,
        offset: int = 0,
        exact: bool = False,
    ) -> list[Record]:
        """Records, the last written first; those of one commit in the order put, backwards.

        Args:
            prefix: The namespace, with all below it.
            where: What the ``value`` must satisfy; in one that is no object, every path is
                absent. ``Ids`` are the keys.
            groups: The groups to list; None among them stands for records without one.
            updated_before: List what was last written before this time.
            updated_after: List what was last written after this time.
            expired_by: List what has expired by this time.
            limit: How many at most.
            offset: How many of the first to leave out.
            exact: List the namespace ``prefix`` alone.

        Raises:
            QueryError: an argument cannot be used.
        """
        selection = Selection(
            prefix=prefix, exact=exact, where=where, groups=groups,
            updated_before=updated_before, updated_after=updated_after, expired_by=expired_by,
            limit=limit, offset=offset,
        )  # fmt: skip
        return self.current().records.select(selection)

    def record_namespaces(self, prefix: Iterable[str] = ()) -> list[tuple[str, ...]]:
        """The namespaces from ``prefix`` down that hold a record, sorted.

        Raises:
            QueryError: the prefix cannot be used.
        """
        return self.current().records.namespaces(prefix)
