"""A generation that stays as it is, whatever writers do."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from oscillink_store.engine.reader import Reader
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import ClosedError, MissingError
from oscillink_store.storage import retention
from oscillink_store.storage.manifest import read_manifest

if TYPE_CHECKING:
    from oscillink_store.embed.protocol import Embedder

__all__ = ["Pinned"]


class Pinned(Reader):
    """A generation that stays as it is; made by ``Store.snapshot``."""

    def __init__(self, store: Reader, generation: int | None, *, read_only: bool) -> None:
        super().__init__(
            store.path, store.ledger, store.executor, store.parameters,
            detail=store.detail, payload=store.payload, margins=store.margins,
        )  # fmt: skip
        self._store = store
        self._pin: AbstractContextManager[None] | None = None
        snapshot, wanted = self._taken(generation, read_only=read_only)
        try:
            if wanted != snapshot.generation:
                snapshot = Snapshot(store.path, read_manifest(store.path, wanted))
            if snapshot.parts:
                snapshot.anchors  # noqa: B018 - open before a writer could take it away
        except BaseException:
            self.close()
            raise
        self._snapshot = snapshot

    def _taken(self, generation: int | None, *, read_only: bool) -> tuple[Snapshot, int]:
        """The live generation, and the number of the one that is pinned from now on."""
        while True:
            live = self._store.current()
            wanted = live.generation if generation is None else generation
            if read_only:
                return live, wanted
            pin = retention.pinned(self.path, wanted)
            try:
                pin.__enter__()
            except MissingError:
                if generation is None and self._store.current() is not live:
                    continue  # writers were quicker
                raise
            self._pin = pin
            return live, wanted

    def __enter__(self) -> Pinned:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Snapshot {self.path} generation={self._snapshot.generation}>"

    def current(self) -> Snapshot:
        """The pinned generation.

        Raises:
            ClosedError: the snapshot or its store has been closed.
        """
        if self._closed or self._store.closed:
            raise ClosedError(f"{self.path}: the snapshot is closed: take another one")
        return self._snapshot

    def close(self) -> None:
        """Let the generation go; further calls raise ClosedError."""
        self._closed = True
        if self._pin is not None:
            self._pin.__exit__(None, None, None)
            self._pin = None

    def embedder_for(self, snapshot: Snapshot) -> Embedder | None:
        """The embedder that goes with a generation."""
        return self._store.embedder_for(snapshot)
