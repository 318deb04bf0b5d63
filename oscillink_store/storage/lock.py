"""The single writer's lock. Readers never take it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from oscillink_store.errors import LockedError
from oscillink_store.storage.files import disk_errors

__all__ = ["HOLDER_NAME", "LOCK_NAME", "writer_lock"]

LOCK_NAME = "LOCK"
HOLDER_NAME = "LOCK.holder"


def _holder(root: Path) -> str:
    try:
        held = json.loads((root / HOLDER_NAME).read_text(encoding="utf-8"))
        return f"process {held['pid']} ({held['command']}) since {held['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


@contextmanager
def writer_lock(root: Path, timeout: float) -> Iterator[bool]:
    """Hold the store's writer lock, waiting up to ``timeout`` seconds for it.

    The lock is an flock, so it ends with its process however that ends. The block is told
    whether the writer before ended well; if not, files of it may lie about.

    Raises:
        LockedError: another process still holds it after ``timeout`` seconds.
        DiskError, ReadOnlyError: the lock's file cannot be made or opened.
    """
    lock = FileLock(root / LOCK_NAME, timeout=timeout, thread_local=False)
    with disk_errors(root, "taking the writer's lock"):
        try:
            lock.acquire()
        except Timeout as error:
            raise LockedError(
                f"{root}: {_holder(root)} is writing and did not finish within {timeout:g} s: "
                "wait for it, or pass a longer lock_timeout"
            ) from error
    clean = not (root / HOLDER_NAME).exists()
    try:
        # beside the lock, whose own file the library empties whenever somebody tries it
        holder = {
            "pid": os.getpid(),
            "command": Path(sys.argv[0] or "python").name,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # only a courtesy: what is written next tells of a full disk
            (root / HOLDER_NAME).write_text(json.dumps(holder), encoding="utf-8")
        yield clean
    finally:
        with suppress(OSError):
            (root / HOLDER_NAME).unlink(missing_ok=True)
        lock.release()
