"""Rows that come through a pipe, as from standard input."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa

from oscillink_store.engine.source_arrow import one_line
from oscillink_store.engine.source_csv import CsvFiles
from oscillink_store.engine.source_jsonl import read_jsonl
from oscillink_store.engine.source_refusals import Refusals
from oscillink_store.errors import InputError
from oscillink_store.model import Fields

__all__ = ["Stream", "read_pipe"]


@dataclass(frozen=True)
class Stream:
    """A binary file that is read once, from where it stands to its end.

    ``format`` is ``"jsonl"`` (JSON Lines), ``"csv"``, or ``"arrow"`` (an Arrow IPC stream).
    """

    file: IO[bytes]
    format: Literal["jsonl", "csv", "arrow"] = "jsonl"
    name: str = "standard input"


def read_pipe(
    stream: Stream, fields: Fields, refused: Refusals | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of a stream, as they come; CSV, whose types need two looks, comes to its end first.

    Raises:
        InputError: it is empty or malformed.
    """
    if stream.format == "jsonl":
        yield from read_jsonl(stream.file, fields, refused, name=stream.name)
    elif stream.format == "csv":
        with tempfile.TemporaryDirectory() as folder:
            spool = Path(folder, stream.name)
            with spool.open("wb") as file:
                shutil.copyfileobj(stream.file, file)
            if not spool.stat().st_size:
                raise InputError(f"{stream.name} is empty: it needs a header and rows")
            yield from CsvFiles({spool: ","}, fields, skip=refused is not None).read(spool, refused)
    else:
        try:
            with pa.ipc.open_stream(stream.file) as reader:
                yield from reader
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{stream.name} cannot be read as an Arrow IPC stream ({one_line(error)}): check "
                "that it is complete, and save an Arrow file under a name first"
            ) from error
