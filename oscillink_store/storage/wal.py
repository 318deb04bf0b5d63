"""The ledger of a process: its chain of receipts, in write-ahead files.

A process that records receipts is a *writer* with an id of its own. Its lines go to
``receipts/<writer>.<first sequence>.wal``, one canonical JSON object each, and are folded
into ``receipts.lance`` later. The writer holds an flock on the file it is writing, so that
another process can see whether it still lives, however it ended. A file without a holder
never grows again: it can be folded, and removed (:mod:`oscillink_store.storage.wal_files`).

Which entries are on the disk for certain, the writer's head file tells
(:mod:`oscillink_store.storage.head_file`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from oscillink_store.errors import (
    ClosedError,
    DiskError,
    ReadOnlyError,
    StoreError,
)
from oscillink_store.receipts.chain import Head, extend
from oscillink_store.receipts.receipt import Payload, Receipt
from oscillink_store.storage.files import sync_directory
from oscillink_store.storage.head_file import HeadFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO
    from pathlib import Path

    from oscillink_store.model import Durability
    from oscillink_store.receipts.key import Key

__all__ = [
    "Ledger",
]

SYNC_SECONDS = 1.0
SYNC_ENTRIES = 256
ROTATE_BYTES = 4 << 20

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class Ledger:
    """The chain of receipts of one process, and the file that it grows in.

    ``durability`` says when :meth:`record` counts as done: with "sync" when the entry is on
    the disk; with "batch" when it is in the operating system's hands, which survives the
    process but not a power cut within the next second (or 256 entries); with "off" at once,
    nothing is ever written. The file is made by the first entry. ``key`` gives every entry its
    mac.

    Safe for several threads. After a fork the child is a writer of its own. Close it, or use
    it as a context manager.
    """

    def __init__(
        self, directory: Path, *, durability: Durability = "batch", key: Key | None = None
    ) -> None:
        self.durability = durability
        self._key = key
        self._directory = directory
        self._closed = False
        self._file: FileIO | None = None
        self._head_file: HeadFile | None = None
        self._state = (Head(), 0)  # the last entry, and where it ends in the file
        self._start()
        _ledgers.add(self)

    @property
    def writer(self) -> str:
        """The id of this chain: 16 hexadecimal characters, new in every process."""
        return self._writer

    @property
    def head(self) -> Head:
        """The last entry that was recorded."""
        return self._state[0]

    def record(
        self,
        content: Mapping[str, Any],
        *,
        label: str | None = None,
        payload: Payload = "minimal",
        seconds: float | None = None,
    ) -> Receipt:
        """Append the next receipt to the chain and return it.

        When this raises, nothing was recorded and the chain can go on. Raises InputError for
        a content that has no JSON form, DiskError, ReadOnlyError, and ClosedError.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("the store was closed: connect to it again")
            head, end = self._state
            receipt, line = extend(
                head, content, writer=self._writer, label=label, payload=payload,
                seconds=seconds, key=self._key,
            )  # fmt: skip
            synced = False
            if self.durability != "off":
                if end >= ROTATE_BYTES:
                    self._close_file()
                    self._state = (head, 0)
                    end = 0
                end, synced = self._append(line + b"\n", receipt.sequence, end)
            # one assignment, so that an interrupt cannot part the head from the file
            self._state = (Head(sequence=receipt.sequence, hash=receipt.hash), end)
            if synced:
                self._promise(self._state[0])
        return receipt

    def rotate(self) -> None:
        """Leave the current file to be folded; the next entry starts another."""
        with self._lock:
            self._close_file()
            self._state = (self._state[0], 0)

    def close(self) -> None:
        """Put everything on the disk and let go of the file; recording ends."""
        with self._lock:
            self._closed = True
            head_file = self._head_file
            try:
                self._close_file()
                if head_file is not None:
                    with suppress(OSError):
                        head_file.finish(self._state[0])
            finally:
                self._head_file = None
                if head_file is not None:
                    head_file.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._writer = secrets.token_hex(8)
        self._lock = threading.Lock()  # head, end and file change together
        self._syncing = threading.Lock()  # keeps the file open while the timer syncs it
        self._state = (Head(), 0)
        self._file = None
        self._head_file = None
        self._unsynced = 0
        self._timer: threading.Timer | None = None
        self._failure: OSError | None = None

    def restart_in_child(self) -> None:
        """Become a writer of its own, in a process that was just forked."""
        # The child's copies of the files would keep the parent's flocks after the parent's end.
        inherited = (self._file, self._head_file)
        self._start()
        for file in inherited:
            if file is not None:
                file.close()

    def _append(self, line: bytes, sequence: int, end: int) -> tuple[int, bool]:
        """Write a line; where it ends, and whether all is on the disk."""
        synced = False
        try:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            file = self._file
            if file is None:
                file = self._file = self._create(sequence)
            size = os.fstat(file.fileno()).st_size
            if size > end:  # an append that failed or was interrupted
                os.ftruncate(file.fileno(), end)
            start = min(size, end)
            self._write(file, line, start)
            self._unsynced += 1
            if self.durability == "sync" or self._unsynced >= SYNC_ENTRIES:
                self._unsynced = 0
                os.fdatasync(file.fileno())
                synced = True
            elif self._timer is None:
                self._timer = threading.Timer(SYNC_SECONDS, self._sync_later)
                self._timer.daemon = True
                self._timer.start()
        except OSError as error:
            raise ledger_error(self._directory, error) from error
        return start + len(line), synced

    def _promise(self, head: Head) -> None:
        """Name an entry in the head file as one that is on the disk."""
        if self._head_file is not None:
            with suppress(OSError):  # it tells less than is there then
                self._head_file.write(head)

    def _write(self, file: FileIO, line: bytes, start: int) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with suppress(OSError):  # the next append tries again
                os.ftruncate(file.fileno(), start)
            raise

    def _create(self, sequence: int) -> FileIO:
        if not self._directory.is_dir():
            self._directory.mkdir(exist_ok=True)
            sync_directory(self._directory.parent)
        if self._head_file is None:
            self._head_file = HeadFile(self._directory, self._writer, self._key, self._state[0])
        path = self._directory / f"{self._writer}.{sequence:012d}.wal"
        while True:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            file = open(handle, "ab", buffering=0)  # noqa: PTH123, SIM115 - kept, by descriptor
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                sync_directory(self._directory)
                return file
            file.close()  # taken for an abandoned file, and removed, before it was locked

    def _close_file(self) -> None:
        with self._syncing:
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            file, self._file = self._file, None
            if file is None:
                return
            head, end = self._state
            try:
                if os.fstat(file.fileno()).st_size > end:  # an append that failed at the very end
                    os.ftruncate(file.fileno(), end)
                if self._unsynced:
                    self._unsynced = 0
                    os.fdatasync(file.fileno())
                self._promise(head)
            except OSError as error:
                raise ledger_error(self._directory, error) from error
            finally:
                file.close()

    def _sync_later(self) -> None:
        with self._syncing:
            self._timer = None
            self._unsynced = 0
            head = self._state[0]  # written by now; what comes meanwhile may not be
            try:
                if self._file is not None:
                    os.fdatasync(self._file.fileno())
                    self._promise(head)
            except OSError as error:
                self._failure = error  # raised by the next append: nobody waits here


_ledgers: WeakSet[Ledger] = WeakSet()


def _after_fork_in_child() -> None:
    for ledger in _ledgers:
        ledger.restart_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def ledger_error(directory: Path, error: OSError) -> StoreError:
    if error.errno in _FULL:
        return DiskError(
            f"{directory}: the disk is full, the receipt was not written: free some space, or "
            'open the store with durability="off"'
        )
    if error.errno in _FORBIDDEN:
        return ReadOnlyError(
            f"{directory}: receipts cannot be written: change the folder's permissions, or open "
            'the store with durability="off"'
        )
    return DiskError(f"{directory}: a receipt could not be written: {error.strerror or error}")
