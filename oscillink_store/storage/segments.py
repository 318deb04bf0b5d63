"""Segments: arrays, rows and small values derived from the tables, memory-mapped.

Rows are an uncompressed Arrow IPC file, small values JSON. The arrays of a segment stand one
after another, little-endian, each from a multiple of 64 bytes, where a cache line and a vector
register begin; behind them a JSON index {name: [type, shape, offset]} and its length in eight
bytes. All but the records can be rebuilt from ``anchors.lance``; each file is named in the
manifest with its checksum and never changes once written.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.errors import IntegrityError
from oscillink_store.storage.files import sync_all
from oscillink_store.storage.manifest import FileEntry

__all__ = [
    "FOLDER", "Segments", "open_arrays", "open_json", "open_rows", "sync_folder", "write_segments",
]  # fmt: skip

FOLDER = "segments"
_ROWS_PER_BATCH = 131_072
_ALIGNMENT = 64
_LENGTH = 8

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """New segments by name, each either named arrays, rows or a JSON value.

    In place of arrays there may be a function that gives them: it is called when they are
    written, in the thread that writes them.
    """

    arrays: Mapping[str, Arrays | Callable[[], Arrays]] = field(default_factory=dict)
    rows: Mapping[str, pa.Table] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def arrays_of(self, name: str) -> Arrays:
        """The arrays of one segment."""
        arrays = self.arrays[name]
        return arrays() if callable(arrays) else arrays

    def each(self) -> dict[str, Segments]:
        """Every segment alone, by name."""
        return {
            **{name: Segments(arrays={name: arrays}) for name, arrays in self.arrays.items()},
            **{name: Segments(rows={name: rows}) for name, rows in self.rows.items()},
            **{name: Segments(values={name: value}) for name, value in self.values.items()},
        }


def write_segments(root: Path, generation: int, segments: Segments) -> dict[str, FileEntry]:
    """Write new segments of a generation and return their manifest entries.

    Their bytes are on the disk then; see :func:`sync_folder` for their names.
    """
    folder = root / FOLDER / f"{generation:010d}"
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}

    def path_of(name: str, suffix: str) -> Path:
        paths[name] = folder / f"{name.replace('/', '-')}{suffix}"
        return paths[name]

    for name in segments.arrays:
        _write_arrays(path_of(name, ".arrays"), segments.arrays_of(name))
    for name, rows in segments.rows.items():
        _write_rows(path_of(name, ".arrow"), rows)
    for name, value in segments.values.items():
        content = json.dumps(value, ensure_ascii=False)
        path_of(name, ".json").write_text(content, encoding="utf-8")
    sync_all(paths.values())
    return {name: FileEntry.of(root, path) for name, path in paths.items()}


def sync_folder(root: Path, generation: int) -> None:
    """Put the names of a generation's segments on the disk."""
    folder = root / FOLDER / f"{generation:010d}"
    sync_all([folder, folder.parent])


def _write_arrays(path: Path, arrays: Arrays) -> None:
    index = {}
    with path.open("wb") as file:
        for name, array in arrays.items():
            plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            index[name] = [plain.dtype.str, plain.shape, file.tell()]
            plain.tofile(file)
        content = json.dumps(index).encode()
        file.write(content + len(content).to_bytes(_LENGTH, "little"))


def _write_rows(path: Path, rows: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        # few large batches: a row is then found without copying its column together
        writer.write_table(rows.combine_chunks(), max_chunksize=_ROWS_PER_BATCH)


def open_arrays(root: Path, entry: FileEntry) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a segment by name, memory-mapped and read-only."""
    path = root / entry.path
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        end = len(mapped) - _LENGTH
        index = json.loads(mapped[end - int.from_bytes(mapped[end:], "little") : end])
        return {
            name: np.frombuffer(mapped, dtype, math.prod(shape), offset).reshape(shape)
            for name, (dtype, shape, offset) in index.items()
        }
    except (ValueError, OSError) as error:
        raise _unreadable(path) from error


def open_rows(root: Path, entry: FileEntry) -> pa.Table:
    """The rows of a segment, memory-mapped: columns are views into the file."""
    path = root / entry.path
    try:
        return pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path) from error


def open_json(root: Path, entry: FileEntry) -> Any:
    """One small JSON value."""
    path = root / entry.path
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} is not what was written: restore the folder from a backup")
