"""Bytes by key, beside the documents: for caches of embeddings, parent documents and the like."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from langchain_core.stores import ByteStore

from oscillink_store import Record, Store, connect

__all__ = ["OscillinkByteStore"]

_PREFIX = ("langchain", "bytes")


class OscillinkByteStore(ByteStore):
    """Bytes by key, as records of a store; one commit per call.

    Args:
        store: An open store, or the path of one.
        namespace: Keeps these keys apart from those of others.
    """

    def __init__(self, store: Store | str | os.PathLike[str], namespace: str = "default") -> None:
        self.store = store if isinstance(store, Store) else connect(store)
        self._names = (*_PREFIX, namespace)

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The value of each key, None where there is none."""
        found = self.store.find_records([(self._names, key) for key in keys])
        return [None if record is None else record.value for record in found]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Set values; of several for one key the last counts."""
        self.store.write(put=[Record(self._names, key, value) for key, value in key_value_pairs])

    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete keys; those that are not there are ignored."""
        self.store.write(drop=[(self._names, key) for key in keys])

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """The keys that begin with a prefix, or all."""
        for record in self.store.records(self._names, exact=True):
            if record.key.startswith(prefix or ""):
                yield record.key
