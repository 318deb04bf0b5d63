"""Files as sources: which ones a path or glob names, what is in them, and whether they changed."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from oscillink_store.errors import InputError

__all__ = ["DELIMITERS", "IPC", "JSONL", "PARQUET", "file_format", "file_identity", "matching"]

JSONL = (".jsonl", ".ndjson", ".json-lines", ".jsonlines")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
IPC = (".arrow", ".arrows", ".feather", ".ipc")
_FORMATS = "use .jsonl, .csv, .tsv (each also with .gz), .parquet or .arrow"


def matching(pattern: str) -> list[Path]:
    """The files that a path or glob names, sorted, each known to exist and not to be empty."""
    pattern = os.path.expanduser(pattern)  # noqa: PTH111 - a pattern is no path yet
    if os.path.lexists(pattern) or not glob.has_magic(pattern):
        paths = [Path(pattern)]
    else:
        found = (Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
        paths = sorted(path for path in found if path.is_file())
        if not paths:
            raise InputError(f"{pattern!r} matches no file: check the pattern and the folder")
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder: name its files, as in {str(path / '*.jsonl')!r}")
        try:
            size = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None
        if not path.is_file():
            raise InputError(f"{path} is no regular file: save its content in a file first")
        file_format(path)
        if not size:
            raise InputError(f"{path} is empty: it needs at least one row")
    return paths


def file_format(path: Path) -> str:
    """The lower-case suffix that tells the format, without ``.gz``.

    Raises:
        InputError: the suffix is unknown, or its format cannot be read compressed.
    """
    plain, zipped = path.name.lower(), False
    if plain.endswith(".gz"):
        plain, zipped = plain.removesuffix(".gz"), True
    suffix = Path(plain).suffix
    if suffix not in (*JSONL, *DELIMITERS, *PARQUET, *IPC):
        raise InputError(f"{path} has no known format in its name: {_FORMATS}")
    if zipped and suffix in (*PARQUET, *IPC):
        raise InputError(f"{path} is compressed around {suffix!r}: unpack it first")
    return suffix


def file_identity(path: str | os.PathLike[str]) -> tuple[str, int, int]:
    """Where a file lies, its size in bytes and the time of its last change in nanoseconds."""
    status = os.stat(path)  # noqa: PTH116
    return os.path.abspath(path), status.st_size, status.st_mtime_ns  # noqa: PTH100
