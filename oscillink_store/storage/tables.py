"""The only module that speaks to Lance."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lance.query import MatchQuery

from oscillink_store.errors import IntegrityError, OscillinkError, QueryError
from oscillink_store.storage.files import (
    is_damage,
    panics_as_errors,
    plain_words,
    sync_all,
)
from oscillink_store.storage.manifest import FileEntry, TableEntry, require_whole

__all__ = ["VERSION_HINT", "Table", "open_table", "write_table"]

_INDEX_CACHE = 128 << 20
_METADATA_CACHE = 32 << 20
_PREFIX = re.compile(r"^(?:Invalid user input|Schema error|LanceError\([^)]*\)|Error [a-z ]+): ")
_INTERNAL = re.compile(r",? ?(_rowid|_rowaddr|_rowoffset|_row_\w+_at_version)(?=[,.\s]|$)")
_FULLTEXT = "fulltext"
_INDEX_NAME = "fulltext_idx"
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


class Table:
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

    @property
    def dataset(self) -> lance.LanceDataset:
        """The Lance dataset itself, a pyarrow dataset, for SQL engines that scan it."""
        return self._dataset

    def count(self) -> int:
        """The number of rows."""
        return int(self._dataset.count_rows())

    def row_ids(self) -> npt.NDArray[np.uint64]:
        """The stable row ids in scan order, ascending."""
        table = self._dataset.scanner(columns=[], with_row_id=True).to_table()
        ids: npt.NDArray[np.uint64] = table["_rowid"].to_numpy()
        return ids

    def read(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Rows as an Arrow table.

        Raises:
            QueryError: the predicate cannot be used.
            IntegrityError: a file is damaged.
        """
        return self._scan(where, columns=None if columns is None else list(columns))

    def matching(self, where: str) -> npt.NDArray[np.uint64]:
        """The row ids for which the SQL predicate ``where`` holds.

        Raises:
            QueryError: the predicate cannot be used.
            IntegrityError: a file is damaged.
        """
        table = self._scan(where, columns=[], with_row_id=True)
        ids: npt.NDArray[np.uint64] = table["_rowid"].to_numpy()
        return ids

    def search_text(
        self, words: str, limit: int, where: str | None = None
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
        """Row ids and BM25 scores of up to ``limit`` full-text matches, best first.

        Raises:
            QueryError: the predicate cannot be used.
            IntegrityError: a file is damaged.
        """
        table = self._scan(
            where,
            columns=["_score"],
            full_text_query=MatchQuery(words, _FULLTEXT),  # a string in quotes would be a phrase
            limit=limit,
            with_row_id=True,
            prefilter=where is not None,
        )
        return table["_rowid"].to_numpy(), table["_score"].to_numpy()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, batch by batch.

        Raises:
            IntegrityError: a file is damaged.
        """
        with self._reading(None):
            yield from self._dataset.scanner(columns=list(columns)).to_batches()

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
        entries = {root / entry.path: entry for entry in known}
        paths = [self.path / name for name in self._live_files()]
        fresh = [path for path in paths if path not in entries]
        folders = {folder for path in paths for folder in path.parents}
        sync_all([*fresh, *(path for path in folders if path.is_relative_to(self.path))])
        entries |= {path: FileEntry.of(root, path) for path in fresh}
        files = tuple(entries[path] for path in paths)
        return TableEntry(version=self.version, rows=self.count(), files=files)

    def _live_files(self) -> list[str]:
        tracked = self._dataset.tracked_files().read_all()
        mine = pc.equal(tracked["version"], self.version)
        names: list[str] = tracked.filter(mine)["path"].cast(pa.string()).to_pylist()
        return sorted(names)


def open_table(path: Path, version: int) -> Table:
    """Open a table at one version.

    Raises:
        IntegrityError: the table or that version of it is missing or unreadable.
    """
    try:
        with panics_as_errors():
            dataset = lance.dataset(str(path), version=version, session=_shared_session())
    except (ValueError, OSError) as error:
        raise IntegrityError(
            f"{path} cannot be opened at version {version}: restore the folder from a backup"
        ) from error
    return Table(path, dataset)


def write_table(
    root: Path,
    name: str,
    before: TableEntry | None,
    rows: pa.Table,
    *,
    removed: npt.NDArray[np.uint64] | None = None,
    fulltext: bool = False,
) -> Table:
    """Write a new version of a table and return it, opened.

    Args:
        root: The store.
        name: The table's name.
        before: The live version to build on, which is the latest one; None to create the table.
        rows: Rows to append, with every column of the table; columns that it lacks are null
            in its older rows, and its older values are cast to the types of ``rows``.
        removed: Row ids to delete first.
        fulltext: Whether to index the column ``fulltext``.

    Raises:
        IntegrityError: a file of the older rows is damaged and would be rewritten, or the
            table has a later version.
    """
    path = root / f"{name}.lance"
    if before is None:
        shutil.rmtree(path, ignore_errors=True)  # what an interrupted first commit left
        dataset = lance.write_dataset(rows, str(path), mode="create", enable_stable_row_ids=True)
    else:
        dataset = lance.dataset(str(path), version=before.version)
        if dataset.latest_version != before.version:  # an append would go on top of that
            raise IntegrityError(
                f"{path} has version {dataset.latest_version} where {before.version} is the live "
                "one: remove what another program wrote there"
            )
        if removed is not None and len(removed):
            dataset.delete(f"_rowid IN ({', '.join(map(str, removed.tolist()))})")
        known = dataset.schema
        if any(column.type != rows.schema.field(column.name).type for column in known):
            require_whole(root, before.files)  # the damage would get a checksum of its own
            dataset = lance.write_dataset(
                _recast(dataset, rows.schema), str(path), mode="overwrite",
                enable_stable_row_ids=True,
            )  # fmt: skip
        elif extra := [column for column in rows.schema if column.name not in known.names]:
            dataset.add_columns(pa.schema(extra))
        if rows.num_rows:
            aligned = rows.select(dataset.schema.names)
            dataset = lance.write_dataset(aligned, str(path), mode="append")
    if fulltext:
        dataset.create_scalar_index(
            _FULLTEXT,
            "INVERTED",
            name=_INDEX_NAME,
            replace=True,
            with_position=False,
            stem=False,
            remove_stop_words=True,
            ascii_folding=True,
            lower_case=True,
        )
    # not through the shared session: this version is not live yet and may never be
    return Table(path, lance.dataset(str(path)))


def _recast(dataset: lance.LanceDataset, schema: pa.Schema) -> pa.RecordBatchReader:
    # All rows in the types of ``schema``, batch by batch: Lance itself changes only some types.
    def batches() -> Iterator[pa.RecordBatch]:
        for batch in dataset.scanner().to_batches():
            columns = [
                batch.column(field.name).cast(field.type)
                if field.name in batch.schema.names
                else pa.nulls(batch.num_rows, field.type)
                for field in schema
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _query_error(where: str, words: str) -> QueryError:
    while (shorter := _PREFIX.sub("", words)) != words:
        words = shorter
    words = _INTERNAL.sub("", words).strip().rstrip(".")
    return QueryError(
        f"where: {where!r:.200} cannot be used: {words:.400}: name metadata columns and compare "
        "them, as in \"lang = 'en' AND year >= 2020\""
    )
