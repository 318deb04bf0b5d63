"""Whether files are what was written: by a look at size and time, or by reading them.

A file whose size and time of change are those of its entry is taken as whole; any other is
read once and compared with its checksum. A copied folder, whose files have new times, is read
when it is first opened, and its files get their times back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from oscillink_store.errors import IntegrityError
from oscillink_store.storage.files import sha256
from oscillink_store.storage.manifest import FileEntry

__all__ = ["damage", "require_trusted", "require_whole"]

_REMEDY = "restore the folder from a backup"

# Files that this process has read and found whole: (path, inode, size, time).
_whole: set[tuple[str, int, int, int]] = set()
_guard = threading.Lock()


def damage(root: Path, entry: FileEntry) -> str | None:
    """What is wrong with a file, read whole; None when it is what was written."""
    path = root / entry.path
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"{path} has {size} bytes where {entry.bytes} were written"
        if sha256(path) != entry.sha256:
            return f"{path} is not what was written: its checksum differs"
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None


def require_whole(root: Path, entries: Iterable[FileEntry]) -> None:
    """Raise IntegrityError for the first file that is not what was written, reading all."""
    for entry in entries:
        if problem := damage(root, entry):
            raise IntegrityError(f"{problem}: {_REMEDY}")


def require_trusted(root: Path, entries: Iterable[FileEntry]) -> None:
    """Raise IntegrityError for the first file that is not what was written.

    Only files whose size or time of change differ from their entry are read.
    """
    folder = str(root)
    for entry in entries:
        path = f"{folder}/{entry.path}"
        try:
            status = os.stat(path)  # noqa: PTH116 - a path object takes longer than the call
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} is missing: {_REMEDY}") from error
        except OSError as error:
            raise IntegrityError(f"{path} cannot be read, {error.strerror}: {_REMEDY}") from error
        if status.st_size == entry.bytes and status.st_mtime_ns == entry.modified:
            continue
        identity = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        if identity in _whole:
            continue
        require_whole(root, [entry])
        with _guard:
            _whole.add(identity)
        with suppress(OSError):  # a folder that cannot be written is read by every process
            os.utime(path, ns=(status.st_atime_ns, entry.modified))
