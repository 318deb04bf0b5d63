"""Durable file operations: fsync, atomic replacement, checksums, and what an OSError means."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from oscillink_store.errors import DiskError, IntegrityError, OscillinkError, ReadOnlyError

__all__ = [
    "disk_errors",
    "is_damage",
    "panics_as_errors",
    "plain_words",
    "replace_durably",
    "replacing",
    "sha256",
    "sync_all",
    "sync_directory",
]

_AT_ONCE = 8

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
# Lance reports what the system said in words only, numpy a short write likewise
_FULL_WORDS = re.compile(
    r"no space left|file too large|quota exceeded|os error (?:27|28|122)\b|"
    r"^\d+ requested and \d+ written",
    re.I,
)
_FORBIDDEN_WORDS = re.compile(
    r"permission denied|not permitted|read-only file|os error (?:1|13|30)\b", re.I
)
_DAMAGED_WORDS = re.compile(
    r"not found:|no such file|failed to fill whole buffer|file size is too small|"
    r"failed to decode|invalid magic|corrupt file|flat buffer|os error \d+",
    re.I,
)
# where in its sources Lance raised an error
_SOURCE_LINE = re.compile(r",? ?/\S+\.rs:\d+:\d+")


def sync_all(paths: Iterable[Path]) -> None:
    """Force the bytes of files and the entries of directories to the disk.

    Several at a time, since a file system writes its journal once for all that wait for it.
    """
    for _ in _pool().map(_sync, paths):
        pass


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="oscillink-sync")


def sync_directory(path: Path) -> None:
    """Force a directory's entries to the disk."""
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path, content: bytes) -> Iterator[None]:
    """Write a file so that a crash leaves either its old bytes or its new ones.

    The new bytes are on the disk when the block begins and take their place when it ends; if
    the block raises, the old ones stay.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def replace_durably(path: Path, content: bytes) -> None:
    """Write a file as :func:`replacing` does, with nothing in between."""
    with replacing(path, content):
        pass


def sha256(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_words(error: BaseException) -> str:
    """The first line of an error's message, without Lance's own source lines."""
    return _SOURCE_LINE.sub("", (str(error).splitlines() or [type(error).__name__])[0])


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Turn a panic in Lance's Rust code, which it has on some damaged files, into an OSError.

    Its class is no Exception and cannot be imported.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise OSError(f"failed to decode: {plain_words(error)}") from error


def is_damage(words: str) -> bool:
    """Whether an error of Lance tells that a file is gone, cut short or garbled."""
    return _DAMAGED_WORDS.search(words) is not None


@contextmanager
def disk_errors(path: Path, action: str) -> Iterator[None]:
    """Turn errors of the operating system and of Lance into the package's own, with a remedy.

    Raises:
        DiskError: the disk is full, over quota, or failed.
        ReadOnlyError: the folder may not be written.
        IntegrityError: a file that was to be read is damaged.
    """
    try:
        with panics_as_errors():
            yield
    except OscillinkError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        words = plain_words(error)
        number = error.errno if isinstance(error, OSError) else None
        if number in _FULL or _FULL_WORDS.search(words):
            raise DiskError(
                f"{path}: the disk is full, {action} was not done and the previous "
                "generation stays live: free some space and run it again"
            ) from error
        if number in _FORBIDDEN or _FORBIDDEN_WORDS.search(words):
            raise ReadOnlyError(
                f"{path}: the folder cannot be written, {action} was not done: "
                "change its permissions, or open it with read_only=True to search only"
            ) from error
        if is_damage(words):
            raise IntegrityError(
                f"{path}: {action} was not done, a file is damaged ({words}): verify the store "
                "and restore the folder from a backup"
            ) from error
        if isinstance(error, OSError):
            raise DiskError(f"{path}: {action} failed: {words}") from error
        raise
