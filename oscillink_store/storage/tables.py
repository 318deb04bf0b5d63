"""The only module that speaks to Lance."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.errors import InputError, IntegrityError, OscillinkError, QueryError
from oscillink_store.storage.files import (
    is_damage,
    panics_as_errors,
    plain_words,
    sync_all,
)
from oscillink_store.storage.manifest import FileEntry, TableEntry
from oscillink_store.storage.trust import require_trusted

__all__ = [
    "VERSION_HINT",
    "Derived",
    "Foreign",
    "OvertakenError",
    "Table",
    "TableChange",
    "Written",
    "open_foreign",
    "open_table",
    "write_table",
]

_INDEX_CACHE = 128 << 20
_METADATA_CACHE = 32 << 20
_BATCH_ROWS, _BUFFER_BYTES = 512, 64 << 20
_ATTEMPTS = 5
_DERIVED_ROWS = 1024
_MANY_FRAGMENTS, _LEAST_FRAGMENT, _LEVEL_FACTOR = 32, 1 << 10, 8
_PREFIX = re.compile(r"^(?:Invalid user input|Schema error|LanceError\([^)]*\)|Error [a-z ]+): ")
_INTERNAL = re.compile(r",? ?(_rowid|_rowaddr|_rowoffset|_row_\w+_at_version)(?=[,.\s]|$)")
_NUMBERED = "anchors"
VERSION_HINT = "latest_version_hint.json"
"""The one file of Lance that is written again and again, and only a hint."""

_session: lance.Session | None = None


def _shared_session() -> lance.Session:
    # Lance's caches grow without limit unless a session bounds them.
    global _session
    if _session is None:
        _session = lance.Session(
            index_cache_size_bytes=_INDEX_CACHE, metadata_cache_size_bytes=_METADATA_CACHE
        )
    return _session


class OvertakenError(IntegrityError):
    """A table has a later version than the live one, on top of which a change would go."""


class _Opened:
    """One Lance table at one version."""

    def __init__(self, path: Path, dataset: lance.LanceDataset) -> None:
        self.path = path
        self._dataset = dataset

    @property
    def version(self) -> int:
        """The version this object reads."""
        return int(self._dataset.version)

    @property
    def schema(self) -> pa.Schema:
        """The table's Arrow schema."""
        return self._dataset.schema

    def count(self) -> int:
        """The number of rows."""
        return int(self._dataset.count_rows())


class Table(_Opened):
    """A table of a store."""

    @property
    def dataset(self) -> lance.LanceDataset:
        """The Lance dataset itself, a pyarrow dataset, for SQL engines that scan it."""
        return self._dataset

    @property
    def fragments(self) -> list[int]:
        """How many rows each fragment was written with, in scan order."""
        return [int(part.physical_rows) for part in self._dataset.get_fragments()]

    def crowded(self) -> int:
        """Below how many rows fragments should be merged; 0 while there are few of any size.

        Merging small ones first, as levels of a log-structured merge tree, rewrites a row
        O(log N) times.
        """
        sizes = self.fragments
        below, level, many = 0, _LEAST_FRAGMENT, _MANY_FRAGMENTS
        while below <= max(sizes, default=0):
            if sum(below <= size < level for size in sizes) >= many:
                return level
            below, level, many = level, level * _LEVEL_FACTOR, _LEVEL_FACTOR
        return 0

    def row_ids(self, last: int | None = None) -> npt.NDArray[np.uint64]:
        """The stable row ids in scan order, ascending; of the ``last`` fragments or of all."""
        parts = None if last is None else self._dataset.get_fragments()[-last:]
        if last == 0:
            return np.empty(0, np.uint64)
        scanner = self._dataset.scanner(columns=[], with_row_id=True, fragments=parts)
        ids: npt.NDArray[np.uint64] = scanner.to_table()["_rowid"].to_numpy()
        return ids

    def read(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Rows as an Arrow table, in the order in which they came.

        Raises:
            QueryError: the predicate cannot be used.
            IntegrityError: a file is damaged.
        """
        wanted = None if columns is None else list(columns)
        table = self._scan(where, columns=wanted, with_row_id=True)
        row_ids = table["_rowid"].to_numpy()
        if (row_ids[1:] < row_ids[:-1]).any():  # merged fragments go behind those that stayed
            table = table.take(np.argsort(row_ids))
        return table.drop_columns(["_rowid"])

    def matching(self, where: str) -> npt.NDArray[np.uint64]:
        """The row ids for which the SQL predicate ``where`` holds.

        Raises:
            QueryError: the predicate cannot be used.
            IntegrityError: a file is damaged.
        """
        table = self._scan(where, columns=[], with_row_id=True)
        ids: npt.NDArray[np.uint64] = table["_rowid"].to_numpy()
        return ids

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, in batches that are small enough for columns of long texts.

        Raises:
            IntegrityError: a file is damaged.
        """
        scanner = self._dataset.scanner(
            columns=list(columns),
            batch_size=_BATCH_ROWS,
            batch_readahead=2,
            fragment_readahead=1,
            io_buffer_size=_BUFFER_BYTES,
        )
        with self._reading(None):
            yield from scanner.to_batches()

    def _scan(self, where: str | None, **options: Any) -> pa.Table:
        with self._reading(where):
            return self._dataset.scanner(filter=where, **options).to_table()

    @contextmanager
    def _reading(self, where: str | None) -> Iterator[None]:
        try:
            with panics_as_errors():
                yield
        except OscillinkError:
            raise
        except (ValueError, OSError, RuntimeError) as error:
            words = plain_words(error)
            if where is None or is_damage(words):
                raise IntegrityError(
                    f"{self.path} cannot be read ({words}): verify the store and restore the "
                    "folder from a backup"
                ) from error
            raise _query_error(where, words) from error

    def entry(self, root: Path, known: Iterable[FileEntry] = ()) -> TableEntry:
        """The manifest entry of this version; checksums in ``known`` are not computed again.

        Files of Lance never change once written, so a known path has a known checksum.
        """
        entries = {entry.path: entry for entry in known}
        prefix = self.path.relative_to(root).as_posix()
        paths = [f"{prefix}/{name}" for name in self._live_files()]
        fresh = [path for path in paths if path not in entries]
        folders = {prefix, *(path.rpartition("/")[0] for path in paths)}
        sync_all(root / path for path in (*fresh, *folders))
        entries |= {path: FileEntry.of(root, root / path) for path in fresh}
        files = tuple(entries[path] for path in paths)
        return TableEntry(version=self.version, rows=self.count(), files=files)

    def drop_between(self, version: int) -> None:
        """Remove what only versions between ``version`` and this one have: the steps to it."""
        if self.version - version < 2:
            return
        ours, steps = set[str](), set[str]()
        tracked = self._dataset.tracked_files().read_all().select(["version", "path"])
        for row in tracked.to_pylist():
            (steps if version < row["version"] < self.version else ours).add(row["path"])
        for name in steps - ours:
            (self.path / name).unlink()

    def _live_files(self) -> list[str]:
        tracked = self._dataset.tracked_files().read_all()
        mine = pc.equal(tracked["version"], self.version)
        names: list[str] = tracked.filter(mine)["path"].cast(pa.string()).to_pylist()
        return sorted(names)


class Foreign(_Opened):
    """A Lance table of another program, such as LanceDB's, at its newest version; read alone."""

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """All rows in batches of at most so many.

        Raises:
            IntegrityError: a file is damaged.
        """
        try:
            with panics_as_errors():
                yield from self._dataset.to_batches(batch_size=rows)
        except (OSError, ValueError, RuntimeError) as error:
            raise IntegrityError(
                f"{self.path} cannot be read ({plain_words(error)}): check it with its own program"
            ) from error


def open_foreign(path: Path) -> Foreign:
    """Open a Lance table that no store manages.

    Raises:
        InputError: there is none.
    """
    try:
        with panics_as_errors():
            return Foreign(path, lance.dataset(str(path), session=_shared_session()))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} is no Lance table that can be opened ({plain_words(error)}): check the path"
        ) from error


def open_table(root: Path, name: str, entry: TableEntry) -> Table:
    """Open a table at the version that a manifest names.

    Raises:
        IntegrityError: a file of that version is missing or is not what was written.
    """
    path = root / f"{name}.lance"
    require_trusted(root, entry.files)
    try:
        with panics_as_errors():
            dataset = lance.dataset(str(path), version=entry.version, session=_shared_session())
    except (ValueError, OSError) as error:
        raise IntegrityError(
            f"{path} cannot be opened at version {entry.version}: restore the folder from a backup"
        ) from error
    return Table(path, dataset)


@dataclass(frozen=True, kw_only=True, eq=False)
class Derived:
    """Columns that a table gets, worked out batch by batch from columns that it has.

    ``work_out`` takes a batch of the columns ``of`` and returns one of ``schema`` with as many
    rows. Files that are there stay as they are: each fragment gets another beside them.
    """

    schema: pa.Schema
    of: tuple[str, ...]
    work_out: Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True, kw_only=True, eq=False)
class TableChange:
    """What becomes of a table: columns come, rows change, go and come, then fragments merge.

    ``updated`` holds row ids (``_rowid``) and the columns in which these rows get new values; the
    other columns are not written. ``removed`` are row ids. ``rows`` have every column of the
    table, in its types; columns that it lacks are null in its older rows. ``overwrite`` makes
    ``rows`` all that there is, whatever columns and types the table had. ``compact`` merges
    fragments of fewer rows; without it small ones are merged once there are many of them.
    """

    rows: pa.Table | None = None
    updated: pa.Table | None = None
    removed: npt.NDArray[np.uint64] | None = None
    overwrite: bool = False
    compact: int = 0
    derived: Derived | None = None


class Written(NamedTuple):
    """A new version of a table, and, of the anchors, the row ids of what was appended."""

    table: Table
    row_ids: npt.NDArray[np.uint64]


def write_table(root: Path, name: str, before: TableEntry | None, change: TableChange) -> Written:
    """Write a new version of a table, creating the table when there is none.

    Raises:
        IntegrityError: a file of the older rows is damaged and would be rewritten, or the
            table has a later version (an OvertakenError).
    """
    path = root / f"{name}.lance"
    rows = change.rows
    if before is None:
        shutil.rmtree(path, ignore_errors=True)  # what an interrupted first commit left
        dataset = lance.write_dataset(rows, str(path), mode="create", enable_stable_row_ids=True)
        appended = len(dataset.get_fragments())
    elif change.overwrite:
        dataset = lance.write_dataset(rows, _latest(path, before), mode="overwrite")
        appended = len(dataset.get_fragments())
    else:
        dataset = _latest(path, before)
        if change.updated is not None:
            require_trusted(root, before.files)  # of the columns all rows are written again
            dataset = _updated(dataset, change.updated)
        if change.derived is not None:
            _derive(dataset, change.derived)
        if change.removed is not None and len(change.removed):
            dataset.delete(f"_rowid IN ({', '.join(map(str, change.removed.tolist()))})")
        known = len(dataset.get_fragments())
        if rows is not None and rows.num_rows:
            names = dataset.schema.names
            if extra := [column for column in rows.schema if column.name not in names]:
                dataset.add_columns(pa.schema(extra))
            aligned = rows.select(dataset.schema.names)
            dataset = lance.write_dataset(aligned, dataset, mode="append")
        appended = len(dataset.get_fragments()) - known
    # not through the shared session: this version is not live yet and may never be
    written = Table(path, dataset)
    row_ids = written.row_ids(appended) if name == _NUMBERED else np.empty(0, np.uint64)
    if below := change.compact or written.crowded():
        require_trusted(root, before.files if before else ())  # damage would get a new checksum
        _compact(dataset, below)
        written = Table(path, lance.dataset(str(path)))
    written.drop_between(0 if before is None else before.version)
    return Written(written, row_ids)


def _latest(path: Path, before: TableEntry) -> lance.LanceDataset:
    dataset = lance.dataset(str(path), version=before.version)
    if dataset.latest_version != before.version:  # an append would go on top of that
        raise OvertakenError(
            f"{path} has version {dataset.latest_version} where {before.version} is the live "
            "one: remove what another program wrote there"
        )
    return dataset


def _updated(dataset: lance.LanceDataset, values: pa.Table) -> lance.LanceDataset:
    """Give some rows new values in some columns, and each fragment of theirs a new data file."""
    wanted = values["_rowid"].to_numpy()
    fragments, fields, offsets = [], set[int](), {}
    for fragment in dataset.get_fragments():
        held = fragment.scanner(columns=[], with_row_id=True).to_table()["_rowid"].to_numpy()
        if np.isin(held, wanted).any():
            changed, numbers, matched = fragment.update_columns(values, with_offsets=True)
            fragments.append(changed)
            fields.update(numbers)
            offsets[fragment.fragment_id] = matched
    update = lance.LanceOperation.Update(
        updated_fragments=fragments,
        fields_modified=sorted(fields),
        update_mode="rewrite_columns",
        updated_fragment_offsets=offsets,
    )
    return lance.LanceDataset.commit(dataset, update, read_version=dataset.version)


def _derive(dataset: lance.LanceDataset, derived: Derived) -> None:
    failures: list[OscillinkError] = []

    def work_out(batch: pa.RecordBatch) -> pa.RecordBatch:
        try:
            return derived.work_out(batch)
        except OscillinkError as error:
            failures.append(error)
            raise

    try:
        dataset.add_columns(
            lance.batch_udf(output_schema=derived.schema)(work_out),
            read_columns=list(derived.of),
            batch_size=_DERIVED_ROWS,
        )
    except (OSError, ValueError, RuntimeError):
        if failures:  # of which Lance keeps the words alone
            raise failures[0] from None
        raise


def _compact(dataset: lance.LanceDataset, below: int) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            dataset.optimize.compact_files(target_rows_per_fragment=below)
        except OSError:  # told to be tried again after deletes
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _query_error(where: str, words: str) -> QueryError:
    while (shorter := _PREFIX.sub("", words)) != words:
        words = shorter
    words = _INTERNAL.sub("", words).strip().rstrip(".")
    return QueryError(
        f"where: {where!r:.200} cannot be used: {words:.400}: name metadata columns and compare "
        "them, as in \"lang = 'en' AND year >= 2020\""
    )
