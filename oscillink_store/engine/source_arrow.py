"""Batches out of what is columnar already: Arrow streams and files, Parquet, DataFrames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from oscillink_store.errors import InputError

__all__ = [
    "BATCH_BYTES",
    "BATCH_ROWS",
    "count_ipc",
    "count_parquet",
    "one_line",
    "read_ipc",
    "read_parquet",
    "read_stream",
    "slices",
    "table_of_pandas",
]

BATCH_ROWS = 10_000
BATCH_BYTES = 32 << 20


def slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into pieces of at most BATCH_ROWS rows and about BATCH_BYTES, zero-copy."""
    rows = batch.num_rows
    if not rows:
        return
    step = max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(1, batch.nbytes)))
    for start in range(0, rows, step):
        yield batch.slice(start, step)


def one_line(error: BaseException) -> str:
    """What a library said, fit for the middle of a sentence."""
    return " ".join(str(error).split())[:300].rstrip(".")


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} cannot be read as {kind} ({one_line(error)}): check that it is complete"
        ) from error


def table_of_pandas(frame: Any, name: str) -> pa.Table:
    """A pandas DataFrame as a table, without its index.

    Raises:
        InputError: a column has no Arrow type.
    """
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(
            f"{name} cannot be turned into Arrow ({one_line(error)}): give each column one type"
        ) from error


def read_stream(source: Any, name: str) -> Iterator[pa.RecordBatch]:
    """Batches of an object that exports an Arrow stream, which is consumed.

    Raises:
        InputError: it has no named columns, or it failed while it was read.
    """
    try:
        with pa.RecordBatchReader.from_stream(source) as reader:
            yield from reader
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{name} cannot be read ({one_line(error)}): give a table with named columns"
        ) from error


def read_parquet(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of a Parquet file, one row group in memory at a time.

    Raises:
        InputError: the file is no Parquet file or is damaged.
    """
    from pyarrow import parquet

    with _reading(path, "Parquet"), parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=BATCH_ROWS)


def count_parquet(path: Path) -> int:
    """The number of rows, from the footer.

    Raises:
        InputError: the file is no Parquet file.
    """
    from pyarrow import parquet

    with _reading(path, "Parquet"):
        return int(parquet.read_metadata(path).num_rows)


def read_ipc(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of an Arrow IPC file or stream, memory-mapped.

    Raises:
        InputError: the file is neither or is damaged.
    """
    with _reading(path, "Arrow IPC"), closing(pa.memory_map(str(path))) as mapped:
        if _is_ipc_file(mapped):
            file = pa.ipc.open_file(mapped)
            for index in range(file.num_record_batches):
                yield file.get_batch(index)
        else:
            yield from pa.ipc.open_stream(mapped)


def count_ipc(path: Path) -> int | None:
    """The number of rows of an Arrow IPC file, or None for a stream.

    Raises:
        InputError: the file is damaged.
    """
    with _reading(path, "Arrow IPC"), closing(pa.memory_map(str(path))) as mapped:
        if not _is_ipc_file(mapped):
            return None
        file = pa.ipc.open_file(mapped)
        return sum(int(file.get_batch(i).num_rows) for i in range(file.num_record_batches))


def _is_ipc_file(mapped: pa.MemoryMappedFile) -> bool:
    magic = bytes(mapped.read(6))
    mapped.seek(0)
    return magic == b"ARROW1"
