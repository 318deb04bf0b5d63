"""Segments: the derived arrays and rows of one generation, memory-mapped.

Arrays are ``.npy``, rows are an uncompressed Arrow IPC file, small values are JSON. All can
be rebuilt from ``anchors.lance``; each is named in the manifest with its checksum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.errors import IntegrityError
from oscillink_store.storage.files import sync_all
from oscillink_store.storage.manifest import FileEntry

__all__ = ["FOLDER", "open_array", "open_json", "open_rows", "write_segments"]

FOLDER = "segments"
_ROWS_PER_BATCH = 131_072


def write_segments(
    root: Path,
    generation: int,
    arrays: Mapping[str, npt.NDArray[Any]],
    rows: pa.Table,
    values: Mapping[str, Any],
) -> dict[str, FileEntry]:
    """Write one generation's segments durably and return their manifest entries."""
    folder = root / FOLDER / f"{generation:010d}"
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    for name, array in arrays.items():
        paths[name] = folder / f"{name}.npy"
        with paths[name].open("wb") as file:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    paths["rows"] = folder / "rows.arrow"
    with pa.OSFile(str(paths["rows"]), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        # few large batches: a row is then found without copying its column together
        writer.write_table(rows.combine_chunks(), max_chunksize=_ROWS_PER_BATCH)
    for name, value in values.items():
        paths[name] = folder / f"{name}.json"
        paths[name].write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    sync_all([*paths.values(), folder, folder.parent])
    return {name: FileEntry.of(root, path) for name, path in paths.items()}


def _checked(root: Path, entry: FileEntry) -> Path:
    # A size costs nothing to compare at every open; full checksums are for verify().
    path = root / entry.path
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing: restore the folder from a backup") from error
    if size != entry.bytes:
        raise IntegrityError(
            f"{path} has {size} bytes where {entry.bytes} were written: "
            "restore the folder from a backup"
        )
    return path


def open_array(root: Path, entry: FileEntry) -> npt.NDArray[Any]:
    """One array, memory-mapped and read-only."""
    path = _checked(root, entry)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise IntegrityError(
            f"{path} is not what was written: restore the folder from a backup"
        ) from error
    return np.asarray(array)


def open_rows(root: Path, entry: FileEntry) -> pa.Table:
    """The rows, memory-mapped: columns are views into the file."""
    path = _checked(root, entry)
    try:
        return pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
    except pa.ArrowInvalid as error:
        raise IntegrityError(
            f"{path} is not what was written: restore the folder from a backup"
        ) from error


def open_json(root: Path, entry: FileEntry) -> Any:
    """One small JSON value."""
    path = _checked(root, entry)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IntegrityError(
            f"{path} is not what was written: restore the folder from a backup"
        ) from error
