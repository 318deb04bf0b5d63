"""The only module that speaks to Lance."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.errors import IntegrityError, QueryError
from oscillink_store.storage.files import sha256, sync_directory, sync_file
from oscillink_store.storage.manifest import FileEntry, TableEntry

__all__ = ["Table", "open_table", "write_table"]

_INDEX_CACHE = 128 << 20
_METADATA_CACHE = 32 << 20
_SOURCE_LINE = re.compile(r",? ?/\S+\.rs:\d+:\d+")
_PREFIX = re.compile(r"^(?:Invalid user input|Schema error|LanceError\([^)]*\)|Error [a-z ]+): ")
_INTERNAL = re.compile(r",? ?(_rowid|_rowaddr|_rowoffset|_row_\w+_at_version)(?=[,.\s]|$)")
_INDEX_NAME = "fulltext_idx"

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
        """
        try:
            return self._dataset.scanner(
                columns=None if columns is None else list(columns), filter=where
            ).to_table()
        except (ValueError, OSError) as error:
            raise _query_error(where, error) from error

    def matching(self, where: str) -> npt.NDArray[np.uint64]:
        """The row ids for which the SQL predicate ``where`` holds.

        Raises:
            QueryError: the predicate cannot be used.
        """
        try:
            table = self._dataset.scanner(columns=[], filter=where, with_row_id=True).to_table()
        except (ValueError, OSError) as error:
            raise _query_error(where, error) from error
        ids: npt.NDArray[np.uint64] = table["_rowid"].to_numpy()
        return ids

    def search_text(
        self, words: str, limit: int, where: str | None = None
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
        """Row ids and BM25 scores of up to ``limit`` full-text matches, best first."""
        table = self._dataset.scanner(
            columns=["_score"],
            full_text_query=words,
            limit=limit,
            with_row_id=True,
            filter=where,
            prefilter=where is not None,
        ).to_table()
        return table["_rowid"].to_numpy(), table["_score"].to_numpy()

    def entry(self, root: Path, known: Iterable[FileEntry] = ()) -> TableEntry:
        """The manifest entry of this version; checksums in ``known`` are not computed again.

        Files of Lance never change once written, so a known path has a known checksum.
        """
        remembered = {entry.path: entry for entry in known}
        files = []
        for name in self._live_files():
            path = self.path / name
            relative = path.relative_to(root).as_posix()
            entry = remembered.get(relative)
            if entry is None:
                sync_file(path)
                entry = FileEntry(path=relative, bytes=path.stat().st_size, sha256=sha256(path))
            files.append(entry)
        for folder in sorted({(root / file.path).parent for file in files} | {self.path}):
            sync_directory(folder)
        return TableEntry(version=self.version, rows=self.count(), files=tuple(files))

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
        dataset = lance.dataset(str(path), version=version, session=_shared_session())
    except (ValueError, OSError) as error:
        raise IntegrityError(
            f"{path} cannot be opened at version {version}: restore the folder from a backup"
        ) from error
    return Table(path, dataset)


def write_table(
    path: Path,
    base: int | None,
    rows: pa.Table,
    *,
    removed: npt.NDArray[np.uint64] | None = None,
    fulltext: str | None = None,
) -> Table:
    """Write a new version of a table and return it, opened.

    Args:
        path: The table's folder.
        base: The committed version to build on, or None to create the table anew. Whatever
            an interrupted writer put on top of it is left behind.
        rows: Rows to append; columns new to the table are null in its older rows.
        removed: Row ids to delete first.
        fulltext: The column to index for full text, if any.
    """
    if base is None:
        shutil.rmtree(path, ignore_errors=True)  # what an interrupted first commit left
        dataset = lance.write_dataset(rows, str(path), mode="create", enable_stable_row_ids=True)
    else:
        dataset = lance.dataset(str(path), version=base)
        if dataset.latest_version != base:
            dataset.restore()
            dataset = lance.dataset(str(path))
        if removed is not None and len(removed):
            dataset.delete(f"_rowid IN ({', '.join(map(str, removed.tolist()))})")
        known = set(dataset.schema.names)
        extra = [column for column in rows.schema if column.name not in known]
        if extra:
            dataset.add_columns(pa.schema(extra))
        if rows.num_rows:
            aligned = _aligned(rows, dataset.schema)
            dataset = lance.write_dataset(aligned, str(path), mode="append")
    if fulltext is not None:
        dataset.create_scalar_index(
            fulltext,
            "INVERTED",
            name=_INDEX_NAME,
            replace=True,
            with_position=False,
            stem=False,
            remove_stop_words=True,
            ascii_folding=True,
            lower_case=True,
        )
    return open_table(path, lance.dataset(str(path)).version)


def _aligned(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        rows[column.name].cast(column.type)
        if column.name in rows.schema.names
        else pa.nulls(rows.num_rows, column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)


def _query_error(where: str | None, error: Exception) -> QueryError:
    words = _SOURCE_LINE.sub("", str(error).splitlines()[0])
    while (shorter := _PREFIX.sub("", words)) != words:
        words = shorter
    words = _INTERNAL.sub("", words).strip().rstrip(".")
    return QueryError(
        f"where: {where!r} cannot be used: {words}: name metadata columns and compare them, "
        "as in \"lang = 'en' AND year >= 2020\""
    )
