"""Following the live generation of a store while writers, here or elsewhere, commit."""

from __future__ import annotations

import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import (
    FormatError,
    IntegrityError,
    IntegrityWarning,
    MissingError,
    NotAStoreError,
)
from oscillink_store.storage.manifest import (
    CURRENT_NAME,
    is_store,
    manifests_on_disk,
    read_current,
    read_manifest,
)

__all__ = ["Live", "last_whole"]


def last_whole(root: Path) -> Snapshot | None:
    """The newest generation on disk of which every file is what was written.

    One without anchors and records, as every store begins with, is no answer to a damaged one.
    """
    for generation in reversed(manifests_on_disk(root)):
        with suppress(IntegrityError, FormatError, MissingError):
            found = Snapshot(root, read_manifest(root, generation))
            if len(found) or len(found.records):
                return found
    return None


class _Seen(NamedTuple):
    """What ``CURRENT`` looked like, and the generation that it named."""

    stamp: tuple[int, int]
    snapshot: Snapshot


class Live:
    """The live generation, opened anew only when another has taken its place.

    When it is damaged the newest whole one stands in for it, unless ``stand_in`` is False.
    """

    def __init__(self, root: Path, *, stand_in: bool = True) -> None:
        self._root = root
        self._stand_in = stand_in
        self._guard = threading.Lock()
        self._seen = self._look(None)

    @property
    def last(self) -> Snapshot:
        """The generation that was live at the last look."""
        return self._seen.snapshot

    def snapshot(self) -> Snapshot:
        """The live generation.

        Raises:
            NotAStoreError: the store is gone.
            IntegrityError, FormatError, DiskError: its manifest cannot be used.
        """
        seen = self._seen
        if seen.stamp != self._stamp():
            with self._guard:
                seen = self._seen
                if seen.stamp != self._stamp():  # no other thread was here first
                    seen = self._seen = self._look(seen.snapshot)
        return seen.snapshot

    def committed(self, snapshot: Snapshot) -> None:
        """Take over the generation that this process has just made live."""
        with self._guard:
            stamp = self._stamp()
            # another writer may have been quicker, so CURRENT has the last word
            if read_current(self._root).generation == snapshot.generation:
                self._seen = _Seen(stamp, snapshot)

    def _look(self, before: Snapshot | None) -> _Seen:
        while True:
            # the stamp first: a commit in between is then seen at the next look
            stamp = self._stamp()
            try:
                return _Seen(stamp, Snapshot(self._root, read_current(self._root), before))
            except IntegrityError as error:
                if stamp != self._stamp():  # its files went while they were being opened
                    continue
                if not self._stand_in:
                    raise
                return _Seen(stamp, self._whole(error))

    def _whole(self, error: IntegrityError) -> Snapshot:
        found = last_whole(self._root)
        if found is None:
            raise error
        warnings.warn(
            IntegrityWarning(
                f"{error}. Meanwhile generation {found.generation} of {found.manifest.created} "
                "is read, and nothing can be written. If there is no backup, accept the loss of "
                "what came later with maintain(repair=True)"
            ),
            stacklevel=5,
        )
        return found

    def _stamp(self) -> tuple[int, int]:
        # CURRENT is replaced by a rename, which changes its inode or at least its time
        try:
            status = (self._root / CURRENT_NAME).stat()
        except OSError as error:
            if is_store(self._root):  # a damaged one, which another generation stands in for
                return 0, 0
            raise NotAStoreError(
                f"{self._root} is no store any more, its {CURRENT_NAME} cannot be read "
                f"({error.strerror}): restore the folder and connect again"
            ) from error
        return status.st_ino, status.st_mtime_ns
