"""The ledger of ingest jobs: rows of ``jobs.lance``, and the lock that a running job holds.

A row stands for a committed batch and is written in the same commit as the batch. A finished
run is one row, which takes the place of those of its batches and of the run before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock, Timeout

from oscillink_store.errors import LockedError, QueryError
from oscillink_store.storage.files import disk_errors
from oscillink_store.storage.tables import Table, TableChange

__all__ = [
    "JOBS",
    "JOBS_SCHEMA",
    "JobRow",
    "added",
    "check_job_name",
    "job_lock",
    "read",
    "replaced",
]

JOBS = "jobs"
_FOLDER = "jobs"
_NAME = re.compile(r"\w[\w.+=@-]{0,127}")
_KEYS = ("ids", "spared_ids")

JOBS_SCHEMA = pa.schema(
    [
        pa.field("job", pa.string(), nullable=False),
        pa.field("run", pa.int64(), nullable=False),
        pa.field("batch", pa.int64(), nullable=False),
        pa.field("finished", pa.bool_(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("identity", pa.string()),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("anchors", pa.int64(), nullable=False),
        pa.field("added", pa.int64(), nullable=False),
        pa.field("updated", pa.int64(), nullable=False),
        pa.field("deleted", pa.int64(), nullable=False),
        pa.field("unchanged", pa.int64(), nullable=False),
        pa.field("rejected", pa.int64(), nullable=False),
        pa.field("illegible", pa.int64(), nullable=False),
        pa.field("side_file", pa.string()),
        pa.field("side_bytes", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        *(pa.field(name, pa.large_binary(), nullable=False) for name in _KEYS),
    ]
)
"""See :class:`JobRow`. Keys are stored as little-endian bytes, eight each."""

Keys = npt.NDArray[np.uint64]


def _no_keys() -> Keys:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, kw_only=True, eq=False)
class JobRow:
    """A committed batch of a run of a job, or, when ``finished``, the whole run.

    ``source`` is its name and ``identity`` a digest of where its rows come from and how they
    are read; None when it cannot be told whether they are still the same. ``position`` counts
    the source's rows that had been read then, ``rejected`` those of them that could not be
    used, and ``illegible`` those of these whose id could not be read. The counts of anchors,
    rejected and illegible rows are those of this batch alone. ``ids`` are the 64-bit keys of
    the ids that it brought, unchanged ones too, and ``spared_ids`` those of rejected rows.
    ``side_bytes`` is how long the file of rejected rows was.
    """

    job: str
    run: int
    batch: int
    finished: bool = False
    source: str
    identity: str | None
    position: int
    added: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    rejected: int = 0
    illegible: int = 0
    side_file: str | None = None
    side_bytes: int = 0
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    anchors: int = 0
    ids: Keys = field(default_factory=_no_keys)
    spared_ids: Keys = field(default_factory=_no_keys)

    def to_arrow(self) -> pa.Table:
        """The row as a table of :data:`JOBS_SCHEMA`."""
        row = asdict(self)
        for name in _KEYS:
            row[name] = row[name].astype("<u8").tobytes()
        row["anchors"] = len(self.ids)
        return pa.Table.from_pylist([row], JOBS_SCHEMA)


def read(table: Table | None, job: str | None = None, *, keys: bool = True) -> list[JobRow]:
    """The rows of one job or of all, in the order of jobs, runs and batches.

    Without ``keys`` the keys are not read and are empty.
    """
    if table is None:
        return []
    columns = [name for name in JOBS_SCHEMA.names if keys or name not in _KEYS]
    rows = [
        JobRow(**row | {name: np.frombuffer(row[name], "<u8") for name in _KEYS if name in row})
        for row in table.read(columns, None if job is None else _of(job)).to_pylist()
    ]
    return sorted(rows, key=lambda row: (row.job, row.run, row.finished, row.batch))


def added(row: JobRow) -> TableChange:
    """Write the row of a batch."""
    return TableChange(rows=row.to_arrow())


def replaced(table: Table | None, row: JobRow) -> TableChange:
    """Write one row in the place of all that the job has."""
    before: Sequence[int] | npt.NDArray[np.uint64] = (
        [] if table is None else table.matching(_of(row.job))
    )
    return TableChange(rows=row.to_arrow(), removed=np.asarray(before, np.uint64), compact=1 << 20)


def _of(job: str) -> str:
    return f"job = '{job}'"


def check_job_name(name: str) -> None:
    """Refuse a name that could not be a file's or stand in a predicate.

    Raises:
        QueryError: it is too long or holds other characters.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise QueryError(
            f"job {name!r:.80}: use letters, digits and . + = @ _ -, and a letter or digit first"
        )


@contextmanager
def job_lock(root: Path, name: str) -> Iterator[None]:
    """Run a job while nobody else does; the lock ends with its process.

    Raises:
        LockedError: the job is running already.
        DiskError, ReadOnlyError: the lock's file cannot be made.
    """
    path = root / _FOLDER / name
    with disk_errors(root, "starting the job"):
        path.parent.mkdir(exist_ok=True)
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise LockedError(
                f"{root}: job {name!r} is running already: wait for it, or take another name"
            ) from error
    try:
        yield
    finally:
        lock.release()
