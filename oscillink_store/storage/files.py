"""Durable file operations: fsync, atomic replacement, checksums, and what an OSError means."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oscillink_store.errors import DiskError, ReadOnlyError

__all__ = ["disk_errors", "replace_durably", "sha256", "sync_directory", "sync_file"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# Lance reports what the system said in words only
_FULL_WORDS = re.compile(r"no space left|os error 28\b|quota exceeded|os error 122\b", re.I)
_FORBIDDEN_WORDS = re.compile(r"permission denied|os error 13\b|read-only file|os error 30\b", re.I)


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Force a directory's entries to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_durably(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either its old bytes or its new ones."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sha256(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_errors(path: Path, action: str) -> Iterator[None]:
    """Turn operating system errors below into the package's own, with a remedy.

    Raises:
        DiskError: the disk is full, over quota, or failed.
        ReadOnlyError: the folder may not be written.
    """
    try:
        yield
    except (DiskError, ReadOnlyError):
        raise
    except OSError as error:
        words = str(error)
        if error.errno in _FULL or _FULL_WORDS.search(words):
            raise DiskError(
                f"{path}: the disk is full, {action} was not done and the previous "
                "generation stays live: free some space and run it again"
            ) from error
        if error.errno in _FORBIDDEN or _FORBIDDEN_WORDS.search(words):
            raise ReadOnlyError(
                f"{path}: the folder cannot be written, {action} was not done: "
                "change its permissions, or open it with read_only=True to search only"
            ) from error
        raise DiskError(f"{path}: {action} failed: {words.splitlines()[0]}") from error
