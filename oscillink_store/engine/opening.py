"""Opening a folder: create it, recognise it, and match it with an embedder."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from oscillink_store.embed.adapters import known_dimension
from oscillink_store.embed.protocol import Embedder
from oscillink_store.embed.resolve import resolve
from oscillink_store.errors import DiskError, EmbedderError, NotAStoreError, ReadOnlyError
from oscillink_store.model import Fields, Parameters
from oscillink_store.storage.commit import create
from oscillink_store.storage.files import disk_errors
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.manifest import Manifest, is_store

__all__ = ["matching_embedder", "new_manifest", "open_folder"]

# Left behind by an interrupted or competing creation: still an empty folder.
_OWN_NAMES = {"LOCK", "LOCK.holder", "manifests", ".CURRENT.tmp", "pins"}


def new_manifest(fields: Fields | None, parameters: Parameters | None) -> Manifest:
    """The first generation of a new store: no anchors, no tables."""
    return Manifest(
        generation=0,
        parent=None,
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        tables={},
        segments={},
        fields=asdict(fields or Fields()),
        parameters=(parameters or Parameters()).to_dict(),
        embedder=None,
        dimension=None,
        statistics={"anchors": 0, "words": 0, "edges": {}, "dangling_links": 0},
        receipts={},
    )


def open_folder(root: Path, first: Manifest, *, read_only: bool) -> None:
    """Make sure that the folder is a store, creating one where nothing is yet.

    Raises:
        NotAStoreError: a file, or a folder that holds other things.
        ReadOnlyError: there is nothing, and it may not be created.
        DiskError: the folder cannot be read, or the disk is full.
    """
    try:
        exists = _is_store(root)
    except OSError as error:
        raise DiskError(
            f"{root} cannot be read, {error.strerror or error}: check its permissions and the disk"
        ) from error
    if not exists:
        if read_only:
            raise NotAStoreError(f"{root} holds no store to open read-only: check the path")
        _create(root, first)
    elif not read_only and not os.access(root, os.W_OK):
        raise ReadOnlyError(
            f"{root}: the folder cannot be written, so receipts could not be recorded: "
            "change its permissions, or pass read_only=True to search without recording"
        )


def _is_store(root: Path) -> bool:
    if is_store(root):
        return True
    if root.exists() and not root.is_dir():
        raise NotAStoreError(f"{root} is a file: pass the folder of a store, or a new path")
    strange = {path.name for path in root.iterdir()} - _OWN_NAMES if root.exists() else set()
    if strange:
        if is_store(root):  # created by another process just now
            return True
        raise NotAStoreError(
            f"{root} is not a store (it holds other files and no CURRENT): pass the folder of "
            "a store, or a path that does not exist yet to create one"
        )
    return False


def _create(root: Path, first: Manifest) -> None:
    try:
        with disk_errors(root, "creating the store"):
            root.mkdir(parents=True, exist_ok=True)
        with writer_lock(root, timeout=10.0):
            if not is_store(root):
                create(root, first)
    except ReadOnlyError as error:
        raise ReadOnlyError(
            f"{root}: a store cannot be created here, the folder cannot be written: "
            "change its permissions or pass another path"
        ) from error
    except DiskError as error:
        if isinstance(error.__cause__, NotADirectoryError | FileExistsError):
            raise NotAStoreError(
                f"{root} lies below a file: pass the folder of a store, or a new path"
            ) from error
        raise


def matching_embedder(root: Path, manifest: Manifest, given: Embedder | None) -> Embedder | None:
    """The embedder to use: the given one if it is the store's own, else a built-in recorded one.

    Raises:
        EmbedderError: the store was filled with another embedder.
    """
    recorded = manifest.embedder
    if given is None:
        # only the embedder that needs nothing loaded is made without being asked for
        if recorded is not None and str(recorded["name"]).startswith("hash"):
            return resolve(str(recorded["name"]))
        return None
    if recorded is not None and given.name != recorded["name"]:
        raise EmbedderError(
            f"{root}: the store's vectors come from embedder {recorded['name']!r}, not "
            f"{given.name!r}: their spaces do not match, pass the store's own or make a new store"
        )
    dimension = known_dimension(given)
    if None not in (dimension, manifest.dimension) and dimension != manifest.dimension:
        raise EmbedderError(
            f"{root}: embedder {given.name!r} gives {dimension} dimensions, the store's "
            f"vectors have {manifest.dimension}: pass the embedder that they were made with"
        )
    return given
