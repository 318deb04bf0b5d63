"""Head files: which entry of a writer's chain is on the disk for certain.

Beside its write-ahead files each writer keeps ``receipts/<writer>.head``, one line of
canonical JSON in a block of fixed length that is overwritten in place once entries have been
synced. An end that is cut off the write-ahead files is missed by it, and once the writer has
closed its ledger, so is an end that is added. The writer holds an flock on it for as long as it
lives.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from oscillink_store.errors import InputError
from oscillink_store.receipts.canonical import Json, canonical, digest, parse
from oscillink_store.receipts.chain import Head
from oscillink_store.receipts.key import Key, Keys

__all__ = [
    "HeadFile",
    "KnownHead",
    "has_head",
    "head_files",
    "head_path",
    "read_head",
    "remove_head",
    "writer_of",
]

_BLOCK = 512
_ATTEMPTS, _PAUSE = 5, 0.002
_MEMBERS = {"check", "closed", "hash", "key_id", "mac", "sequence", "writer"}


def head_path(directory: Path, writer: str) -> Path:
    """Where a writer's head file lies."""
    return directory / f"{writer}.head"


def head_files(directory: Path) -> list[Path]:
    """The head files of all writers."""
    return sorted(directory.glob("*.head"))


def has_head(directory: Path, writer: str) -> bool:
    """Whether a writer has a head file; one that was killed while it made it left it empty."""
    try:
        return head_path(directory, writer).stat().st_size > 0
    except FileNotFoundError:
        return False


def writer_of(path: Path) -> str:
    """The writer that a head file or a write-ahead file belongs to."""
    return path.name.partition(".")[0]


class HeadFile:
    """The head file of a living writer, locked until it is closed."""

    def __init__(self, directory: Path, writer: str, key: Key | None, head: Head) -> None:
        """Make the file, naming ``head``; the directory is to be synced by the caller."""
        self._writer, self._key = writer, key
        path = head_path(directory, writer)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._written = -1
        self._guard = threading.Lock()
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            self.write(head)
            # a power cut must not leave it empty beside entries that it should tell of
            os.fsync(self._handle)
        except OSError:  # a full disk: the next entry makes it again
            path.unlink()
            os.close(self._handle)
            raise

    def write(self, head: Head) -> None:
        """Name an entry that is on the disk; an earlier one than before counts for nothing."""
        with self._guard:
            if head.sequence > self._written:
                self._put(_block(self._writer, head, self._key))
                self._written = head.sequence

    def finish(self, head: Head) -> None:
        """Name the last entry that there will ever be."""
        with self._guard:
            self._put(_block(self._writer, head, self._key, closed=True))

    def _put(self, block: bytes) -> None:
        if os.pwrite(self._handle, block, 0) < len(block):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)


class KnownHead(NamedTuple):
    """The head that a file names, whether it is the last, and what is wrong with the file."""

    head: Head | None
    closed: bool
    problem: str | None


def read_head(path: Path, keys: Keys | None = None) -> KnownHead:
    """Read a head file, checking its mac when there are keys.

    Raises FileNotFoundError when it is gone.
    """
    for attempt in range(_ATTEMPTS):
        with path.open("rb") as file:  # no more than it should have, whatever it became
            found = _parsed(file.read(_BLOCK + 1), writer_of(path), keys)
        if found.problem is None or attempt == _ATTEMPTS - 1:
            break
        time.sleep(_PAUSE)  # its writer may be just writing it
    return found if found.problem is None else found._replace(problem=f"{path} {found.problem}")


def remove_head(path: Path) -> None:
    """Remove a head file unless its writer lives; its entries must be kept elsewhere."""
    with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _block(writer: str, head: Head, key: Key | None, *, closed: bool = False) -> bytes:
    mac = None if key is None else key.mac(_message(writer, head, closed))
    return _rendered(writer, head, closed, None if key is None else key.id, mac)


def _rendered(writer: str, head: Head, closed: bool, key_id: str | None, mac: str | None) -> bytes:
    members: dict[str, Json] = {
        "closed": closed,
        "hash": head.hash,
        "key_id": key_id,
        "mac": mac,
        "sequence": head.sequence,
        "writer": writer,
    }
    line = canonical({**members, "check": digest(members)})
    return line.ljust(_BLOCK - 1) + b"\n"


def _message(writer: str, head: Head, closed: bool) -> str:
    return f"{'end' if closed else 'head'} {writer} {head.sequence} {head.hash}"


def _parsed(content: bytes, writer: str, keys: Keys | None) -> KnownHead:
    damaged = KnownHead(None, False, "is not what was written")
    try:
        value = parse(content)
    except (ValueError, RecursionError):
        return damaged
    if not isinstance(value, dict) or value.keys() != _MEMBERS:
        return damaged
    hash_, sequence, key_id, mac = (value[n] for n in ("hash", "sequence", "key_id", "mac"))
    closed = value["closed"]
    if (
        not isinstance(hash_, str)
        or not isinstance(closed, bool)
        or type(sequence) is not int
        or not isinstance(key_id, str | None)
        or not isinstance(mac, str | None)
    ):
        return damaged
    head = Head(sequence=sequence, hash=hash_)
    try:
        if content != _rendered(writer, head, closed, key_id, mac):
            return damaged
    except InputError:
        return damaged
    if keys and mac is not None:
        key = keys.get(key_id or "")
        if key is None:
            return KnownHead(
                head, closed, f"was sealed with key {key_id!r:.80}, which is not given"
            )
        if not key.holds(_message(writer, head, closed), mac):
            return KnownHead(head, closed, f"has a mac that is not that of key {key.id!r}")
    return KnownHead(head, closed, None)
