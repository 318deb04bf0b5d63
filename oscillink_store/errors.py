"""Every error that the package raises on purpose, one tree under :class:`OscillinkError`.

A message is one sentence that names what is wrong, followed by the remedy. Where a
builtin exception fits, the class mixes it in, so ``except ValueError`` keeps working::

    OscillinkError
    ├── InputError        (ValueError)   a row, a field or a source that cannot be ingested
    ├── QueryError        (ValueError)   a search argument or a predicate that cannot be used
    ├── EmbedderError     (ValueError)   an embedder that is missing, wrong or misbehaves
    ├── MissingError      (LookupError)  an id, a generation or a receipt that is not there
    ├── DependencyError   (ImportError)  an optional package that is not installed
    ├── WorkerError       (RuntimeError) a task's worker was killed, and killed again
    └── StoreError
        ├── NotAStoreError   (ValueError)        the folder is no store
        ├── FormatError      (ValueError)        the store needs another release, or to be migrated
        ├── ClosedError      (ValueError)        the store has been closed
        ├── ReadOnlyError    (PermissionError)   a write on a store that cannot be written
        ├── LockedError      (TimeoutError)      another process is writing
        ├── ConflictError    (RuntimeError)      records are not as a write expects them
        ├── DiskError        (OSError)           the disk is full or failed
        ├── UnansweredError  (TimeoutError)      none of several stores answered
        └── IntegrityError                       bytes on disk are not what was written

:class:`IntegrityWarning` is no error: an older, whole generation is read in place of a
damaged one.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ClosedError",
    "ConflictError",
    "DependencyError",
    "DiskError",
    "EmbedderError",
    "FormatError",
    "InputError",
    "IntegrityError",
    "IntegrityWarning",
    "LockedError",
    "MissingError",
    "NotAStoreError",
    "OscillinkError",
    "QueryError",
    "ReadOnlyError",
    "StoreError",
    "UnansweredError",
    "WorkerError",
]


class OscillinkError(Exception):
    """The root: catch it to catch everything that this package raises on purpose."""


class InputError(OscillinkError, ValueError):
    """A row, a field or a source cannot be ingested.

    ``field`` and ``row`` (0-based within the source) say where, when they are known.
    """

    def __init__(self, message: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.row = row


class QueryError(OscillinkError, ValueError):
    """A search argument or a ``where`` predicate cannot be used."""


class EmbedderError(OscillinkError, ValueError):
    """An embedder is missing, is not the store's own, or returned something unusable."""


class MissingError(OscillinkError, LookupError):
    """An id, a generation or a receipt that was asked for is not there."""


class DependencyError(OscillinkError, ImportError):
    """An optional package that a feature needs is not installed."""


class WorkerError(OscillinkError, RuntimeError):
    """The worker that ran a task of a cluster was lost, and so were those that ran it again."""


class StoreError(OscillinkError):
    """Something is wrong with the store itself rather than with an argument."""


class NotAStoreError(StoreError, ValueError):
    """The path exists but holds no store."""


class FormatError(StoreError, ValueError):
    """The store needs a newer release, or must be migrated before this one writes to it."""


class ClosedError(StoreError, ValueError):
    """The store has been closed."""


class ReadOnlyError(StoreError, PermissionError):
    """A write was asked of a store that is open read-only or cannot be written."""


class LockedError(StoreError, TimeoutError):
    """Another process holds the writer's lock."""


class ConflictError(StoreError, RuntimeError):
    """A record is not as a write expects it, so nothing was written.

    ``names`` are the namespaces and keys of all records of which this is so.
    """

    def __init__(self, message: str, *, names: Sequence[tuple[tuple[str, ...], str]] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class DiskError(StoreError, OSError):
    """The disk is full or failed; the previous generation stays live."""


class UnansweredError(StoreError, TimeoutError):
    """None of the stores that were asked together answered."""


class IntegrityError(StoreError):
    """Bytes on disk are not the bytes that were written."""


class IntegrityWarning(UserWarning):
    """Files of the live generation are damaged; the newest whole one is read instead."""
