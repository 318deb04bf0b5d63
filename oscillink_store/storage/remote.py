"""The files of a store in a file system of Arrow: a folder elsewhere, or an object store."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from oscillink_store.errors import (
    DiskError,
    IntegrityError,
    NotAStoreError,
    OscillinkError,
    QueryError,
)
from oscillink_store.storage.manifest import CURRENT_NAME, FileEntry, Manifest, pointed

__all__ = ["LEDGER", "MANIFESTS", "Live", "Remote"]

LEDGER, MANIFESTS = "receipts", "manifests"
_CHUNK = 4 << 20
_CREDENTIALS = re.compile(r"//[^/@]*@")


class Live(NamedTuple):
    """What is live at a mirror: the bytes of its ``CURRENT`` and manifest, and what they say."""

    current: bytes
    content: bytes
    manifest: Manifest
    name: str


class Remote:
    """A folder of an Arrow file system; names are relative to it.

    Raises:
        QueryError: the URI cannot be used.
    """

    def __init__(self, uri: str) -> None:
        self.uri = _CREDENTIALS.sub("//", uri)  # as messages have it
        try:
            self._files, path = fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, OSError, TypeError) as error:
            raise QueryError(
                f"{self.uri} cannot be used ({_words(error)}): pass a URI such as file:///folder, "
                "s3://bucket/prefix or gs://bucket/prefix"
            ) from error
        self._base = path.rstrip("/")
        # elsewhere a file appears whole when it is closed, and folders are no more than names
        self._local = self._files.type_name == "local"

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """Turn what the file system raises into the package's errors.

        Raises:
            DiskError: it cannot be reached, read or written.
        """
        try:
            yield
        except (OscillinkError, FileNotFoundError):
            raise
        except (pa.ArrowException, OSError) as error:
            raise DiskError(
                f"{self.uri}: {action} failed ({_words(error)}): check the address, the "
                "permissions and the network, and run it again"
            ) from error

    def live(self) -> Live:
        """What is live there.

        Raises:
            NotAStoreError: there is no store.
            IntegrityError, FormatError: it cannot be read.
            FileNotFoundError: its manifest went while it was read.
        """
        try:
            current = self.read(CURRENT_NAME)
        except FileNotFoundError as error:
            raise NotAStoreError(
                f"{self.uri} holds no store: check the address, or push one there"
            ) from error
        try:
            name, checksum = pointed(current)
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{self.uri}/{CURRENT_NAME} is damaged: push the store again"
            ) from error
        content = self.read(name)
        if hashlib.sha256(content).hexdigest() != checksum:
            raise IntegrityError(
                f"{self.uri}/{name} is not what was pushed (checksum differs): push the store again"
            )
        return Live(current, content, Manifest.from_bytes(content, Path(name)), name)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The sizes of all files there, or in one folder, by name."""
        selector = fs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        start = len(self._base) + 1
        return {
            info.path[start:]: info.size
            for info in self._files.get_file_info(selector)
            if info.type == fs.FileType.File
        }

    def read(self, name: str) -> bytes:
        """A small file."""
        with self._files.open_input_stream(self._path(name)) as file:
            content: bytes = file.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        with self._writing(name) as file:
            file.write(content)

    def put(self, root: Path, entry: FileEntry) -> None:
        """Copy a file of a store there.

        Raises:
            IntegrityError: the store's file is not what was written.
        """
        with self._writing(entry.path) as file, (root / entry.path).open("rb") as source:
            digest = hashlib.sha256()
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != entry.sha256:
            self.remove([entry.path])
            raise IntegrityError(
                f"{root / entry.path} is not what was written: restore the folder from a backup"
            )

    def get(self, entry: FileEntry, folder: Path) -> None:
        """Copy a file from there into a store's folder, with the time that its manifest says.

        Raises:
            IntegrityError: it is not what was pushed.
        """
        path = folder / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        digest = hashlib.sha256()
        with self._files.open_input_stream(self._path(entry.path)) as source:
            with temporary.open("wb") as file:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
        if digest.hexdigest() != entry.sha256:
            temporary.unlink()
            raise IntegrityError(
                f"{self.uri}/{entry.path} is not what was pushed (checksum differs): delete it "
                "there, and push the store again"
            )
        os.utime(temporary, ns=(entry.modified, entry.modified))
        temporary.replace(path)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files; those that are gone already count for nothing."""
        for name in names:
            with suppress(FileNotFoundError):
                self._files.delete_file(self._path(name))

    @contextmanager
    def _writing(self, name: str) -> Iterator[pa.NativeFile]:
        path = self._path(name)
        if not self._local:
            with self._files.open_output_stream(path) as file:
                yield file
            return
        self._files.create_dir(path.rpartition("/")[0], recursive=True)
        with self._files.open_output_stream(f"{path}.tmp") as file:
            yield file
        self._files.move(f"{path}.tmp", path)

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base


def _words(error: BaseException) -> str:
    return _CREDENTIALS.sub("//", " ".join(str(error).split()))[:200].rstrip(".")
