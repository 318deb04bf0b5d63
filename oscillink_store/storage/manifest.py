"""The manifest: one immutable JSON file per generation, reached through ``CURRENT``.

Everything a reader opens is named in one manifest with its size and SHA-256, so a reader
sees one generation or another and never a mix. ``CURRENT`` holds the name and checksum of
the live manifest and is replaced atomically as the last step of a commit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from oscillink_store.errors import (
    DiskError,
    FormatError,
    IntegrityError,
    MissingError,
    NotAStoreError,
)
from oscillink_store.storage import files
from oscillink_store.storage.files import replace_durably, replacing, sync_directory

__all__ = [
    "CURRENT_NAME",
    "FORMAT_VERSION",
    "FileEntry",
    "Manifest",
    "TableEntry",
    "is_store",
    "is_whole",
    "manifest_path",
    "manifests_on_disk",
    "pointed",
    "pointer",
    "publish",
    "read_current",
    "read_manifest",
]

FORMAT_VERSION = 3
_OLDEST_READ = 2
CURRENT_NAME = "CURRENT"
_FOLDER = "manifests"
_MANIFEST_NAME = re.compile(rf"{_FOLDER}/[0-9]+\.json")
_KNOWN_FEATURES = frozenset({"gates", "records", "shards"})


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a generation: path relative to the store, size in bytes, hex SHA-256.

    ``modified`` is the time of its last change in nanoseconds. No file ever changes once
    written, so one that still has its size and time need not be read to be trusted.
    """

    path: str
    bytes: int
    sha256: str
    modified: int

    @classmethod
    def of(cls, root: Path, path: Path) -> FileEntry:
        """The entry of a file as it is now."""
        status = path.stat()
        return cls(
            path=path.relative_to(root).as_posix(),
            bytes=status.st_size,
            sha256=files.sha256(path),
            modified=status.st_mtime_ns,
        )


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """One Lance table at one version, with the files that version consists of."""

    version: int
    rows: int
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One committed state of the store; see the module's docstring."""

    generation: int
    parent: int | None
    created: str
    tables: Mapping[str, TableEntry]
    segments: Mapping[str, FileEntry]
    """By name: ``parts/<first slot>/arrays`` and ``.../rows``; ``lattice``, ``near`` and the
    runs ``corrections/<generation>``, ``arrivals/<generation>`` over them, the oldest first
    when sorted; ``dead``, ``moments``, ``facets``; ``gates``; the runs
    ``records/<generation>``; ``shards``, ``shards/<first slot>``, ``summaries/<level>``,
    ``super/base`` and ``super/corrections``."""
    fields: Mapping[str, Any]
    parameters: Mapping[str, Any]
    embedder: Mapping[str, Any] | None
    dimension: int | None
    statistics: Mapping[str, Any]
    receipts: Mapping[str, Any]
    """Of the receipts folded into receipts.lance: ``seal`` over all of them in order, and
    ``heads``, writer id → {sequence, hash} of its last one; in ``checkpoint`` the same of the
    last synced ones of chains that are not folded. Empty in the first generation."""
    records: Mapping[str, Any] = field(default_factory=dict)
    """``count`` of the records, and the ``time`` of the last commit that wrote any, in
    microseconds since 1970. Empty before the first one."""
    features: Mapping[str, bool] = field(default_factory=dict)
    """Feature name → whether a reader that does not know it must refuse the store."""
    format_version: int = FORMAT_VERSION
    parent_sha256: str | None = None
    """The checksum of the parent's file; none in the first generation."""

    @cached_property
    def sha256(self) -> str:
        """The checksum of this manifest's file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def outdated(self) -> bool:
        """Whether it is of an earlier format, which this release reads and does not write."""
        return self.format_version < FORMAT_VERSION

    def files(self) -> list[FileEntry]:
        """Every file of this generation, tables first."""
        return [
            *(entry for table in self.tables.values() for entry in table.files),
            *self.segments.values(),
        ]

    def to_bytes(self) -> bytes:
        """The manifest as stable JSON with a checksum of its own."""
        return _sealed(_plain(self))

    @classmethod
    def from_bytes(cls, content: bytes, path: Path) -> Manifest:
        """Parse a manifest, refusing formats and features this release does not know.

        Raises:
            FormatError: a newer format, or a feature that must be understood.
            IntegrityError: not a manifest.
        """
        try:
            raw = json.loads(content)
            checksum = raw.pop("checksum", None)
            version = raw["format_version"]
            if not isinstance(version, int) or version > FORMAT_VERSION:
                raise FormatError(
                    f"{path}: the store has format version {version}, this release reads up "
                    f"to {FORMAT_VERSION}: upgrade oscillink-store"
                )
            if version < _OLDEST_READ:
                raise FormatError(
                    f"{path}: the store has format version {version}, from before the first "
                    "release: ingest its texts into a new store"
                )
            if checksum != hashlib.sha256(_text(raw).encode()).hexdigest():
                raise IntegrityError(
                    f"{path} is not what was written (checksum differs): "
                    "restore the folder from a backup"
                )
            unknown = [
                name
                for name, required in raw["features"].items()
                if required and name not in _KNOWN_FEATURES
            ]
            if unknown:
                raise FormatError(
                    f"{path}: the store uses {', '.join(sorted(unknown))}, which this release "
                    "does not know: upgrade oscillink-store"
                )
            raw["tables"] = {
                name: TableEntry(
                    version=table["version"],
                    rows=table["rows"],
                    files=tuple(FileEntry(**entry) for entry in table["files"]),
                )
                for name, table in raw["tables"].items()
            }
            raw["segments"] = {name: FileEntry(**entry) for name, entry in raw["segments"].items()}
            manifest = cls(**raw)
            # earlier releases wrote fewer members, so the bytes cannot be made again from it
            manifest.__dict__["sha256"] = hashlib.sha256(content).hexdigest()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, FormatError):
                raise
            raise IntegrityError(
                f"{path}: not a readable manifest: restore the folder from a backup"
            ) from error
        return manifest


_MEMBERS = tuple(member.name for member in fields(Manifest))
_SINCE = {"parent_sha256": 3}  # which manifests of earlier formats do not have


def _plain(value: Any) -> Any:
    # as dataclasses.asdict, which copies every value and takes ten times as long
    if isinstance(value, FileEntry):
        return value.__dict__
    if isinstance(value, Manifest):
        version = value.format_version
        members = ((name, getattr(value, name)) for name in _MEMBERS)
        return {name: _plain(item) for name, item in members if _SINCE.get(name, 0) <= version}
    if isinstance(value, TableEntry):
        return {name: _plain(item) for name, item in value.__dict__.items()}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _sealed(values: Mapping[str, Any]) -> bytes:
    """The bytes of a manifest with these members."""
    content = _text(values)
    checksum = hashlib.sha256(content.encode()).hexdigest()
    return f'{content[:-1]}, "checksum": "{checksum}"}}\n'.encode()


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def is_store(root: Path) -> bool:
    """Whether the folder holds a store."""
    # what an interrupted creation leaves is the first manifest alone
    return (root / CURRENT_NAME).is_file() or any(manifests_on_disk(root))


def manifest_path(root: Path, generation: int) -> Path:
    """Where a generation's manifest lies."""
    return root / _FOLDER / f"{generation:010d}.json"


def manifests_on_disk(root: Path) -> list[int]:
    """The generations that have a manifest, ascending; not all of them need be whole."""
    names = (path.stem for path in (root / _FOLDER).glob("*.json"))
    return sorted(int(name) for name in names if name.isdigit())


def read_manifest(root: Path, generation: int) -> Manifest:
    """The manifest of any generation that is still there.

    Raises:
        MissingError: it is not there.
        IntegrityError, FormatError: see :meth:`Manifest.from_bytes`.
    """
    path = manifest_path(root, generation)
    try:
        status = path.stat()
        return _parsed(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise MissingError(
            f"generation {generation} of {root} is not there: it has "
            f"{', '.join(map(str, manifests_on_disk(root)))}"
        ) from error


@lru_cache(maxsize=16)
def _parsed(path: Path, _modified: int, _size: int) -> Manifest:
    return Manifest.from_bytes(path.read_bytes(), path)


def publish(
    root: Path, manifest: Manifest, before_swap: Callable[[], object] = lambda: None
) -> None:
    """Make a generation live: write its manifest, then swap ``CURRENT``, both durably.

    ``before_swap`` is called when only the swap is left to do; if it raises, the generation
    stays unpublished.
    """
    path = manifest_path(root, manifest.generation)
    path.parent.mkdir(exist_ok=True)
    replace_durably(path, manifest.to_bytes())
    sync_directory(root)  # what the manifest names must be found there when CURRENT does
    current = pointer(path.relative_to(root).as_posix(), manifest.sha256)
    with replacing(root / CURRENT_NAME, current):
        before_swap()


def pointer(manifest: str, checksum: str) -> bytes:
    """What ``CURRENT`` holds."""
    return json.dumps({"manifest": manifest, "sha256": checksum}).encode() + b"\n"


def pointed(content: bytes) -> tuple[str, str]:
    """The name and the checksum of the manifest that ``CURRENT`` names."""
    named = json.loads(content)
    name, checksum = named["manifest"], named["sha256"]
    if not _MANIFEST_NAME.fullmatch(name) or content != pointer(name, checksum):
        raise ValueError(content)
    return name, checksum


def read_current(root: Path) -> Manifest:
    """The live manifest, its checksum verified.

    Raises:
        NotAStoreError: the folder holds no store.
        IntegrityError: ``CURRENT`` or the manifest is damaged.
        FormatError: see :meth:`Manifest.from_bytes`.
        DiskError: they cannot be read.
    """
    try:
        return _read_current(root)
    except OSError as error:
        raise DiskError(
            f"{error.filename or root} cannot be read, {error.strerror or error}: "
            "check its permissions and the disk"
        ) from error


def _read_current(root: Path) -> Manifest:
    current = root / CURRENT_NAME
    for attempt in (1, 2):
        try:
            name, expected = pointed(current.read_bytes())
            path = root / name
        except FileNotFoundError as error:
            if is_store(root):
                raise IntegrityError(
                    f"{current} is missing: restore the folder from a backup"
                ) from error
            raise NotAStoreError(
                f"{root} is not a store (it has no {CURRENT_NAME} file): pass the folder of a "
                "store, or a path that does not exist yet to create one"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{current} is damaged: restore the folder from a backup"
            ) from error
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            if attempt == 1:  # a commit may have replaced CURRENT and dropped the old manifest
                continue
            raise IntegrityError(
                f"{path}, which {current} names, is missing: restore the folder from a backup"
            ) from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise IntegrityError(
                f"{current} is damaged: restore the folder from a backup"
                if is_whole(content, path)
                else f"{path} is not what was written (checksum differs): "
                "restore the folder from a backup"
            )
        return Manifest.from_bytes(content, path)
    raise AssertionError("unreachable")


def is_whole(content: bytes, path: Path) -> bool:
    """Whether these are, to the byte, those of a manifest that this release reads."""
    try:
        Manifest.from_bytes(content, path)
    except (IntegrityError, FormatError):
        return False
    members = json.loads(content)
    del members["checksum"]
    return _sealed(members) == content
