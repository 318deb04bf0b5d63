"""Copies of a store in an object store, and local copies of these.

No file of a generation ever changes, and its manifest has the checksum of each. So a push copies
what the mirror lacks and a pull what the folder lacks; ``CURRENT`` comes last, and whoever reads
meanwhile sees one generation or another. URIs are those of Arrow's file systems: ``file://``,
``s3://``, ``gs://``, ``hdfs://``.

Ledgers come along as they are at that moment. Tags stay behind, and so do older generations, but
for the one before at the mirror, which somebody may be pulling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from oscillink_store.errors import IntegrityError, NotAStoreError, OscillinkError
from oscillink_store.storage.files import disk_errors, replace_durably, sync_all
from oscillink_store.storage.manifest import (
    CURRENT_NAME,
    FileEntry,
    Manifest,
    manifest_path,
    pointer,
    read_current,
)
from oscillink_store.storage.remote import LEDGER, MANIFESTS, Live, Remote
from oscillink_store.storage.retention import pinned, sweep

__all__ = ["Copied", "is_uri", "local_copy", "pull", "push"]

_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What a push or a pull did: the generation that is live there now, and what was copied.

    Ledgers and manifests are not counted.
    """

    generation: int
    files: int
    bytes: int


def is_uri(place: str) -> bool:
    """Whether a store is named by a URI rather than by a path."""
    return "://" in place


def push(root: Path, uri: str) -> Copied:
    """Copy the live generation of a store to a mirror.

    Stopped anywhere, the mirror stays as it was; push again. Nothing locks a mirror, so let one
    process push at a time.

    Raises:
        QueryError: the URI cannot be used.
        NotAStoreError: there is no store in the folder.
        IntegrityError: a file of the store is damaged; the mirror stays as it was.
        DiskError: something cannot be read or written.
    """
    remote = Remote(uri)
    manifest = read_current(root)
    with pinned(root, manifest.generation), remote.errors("pushing a store"):
        before = _live_before(remote)
        there = remote.sizes()
        copied = [entry for entry in manifest.files() if there.get(entry.path) != entry.bytes]
        for entry in copied:
            remote.put(root, entry)
        # a head names what is in a ledger for certain, which may go on meanwhile
        ledger = [path for kind in ("head", "wal") for path in (root / LEDGER).glob(f"*.{kind}")]
        for path in ledger:
            with suppress(FileNotFoundError):  # folded just now
                remote.write(f"{LEDGER}/{path.name}", path.read_bytes())
        path = manifest_path(root, manifest.generation)
        name = path.relative_to(root).as_posix()
        remote.write(name, path.read_bytes())
        remote.write(CURRENT_NAME, pointer(name, manifest.sha256))
        names = {path.name for path in ledger}
        remote.remove([f for f in there if f.startswith(LEDGER) and Path(f).name not in names])
        _take_away(remote, there, [manifest] if before is None else [manifest, before.manifest])
    return _copied(manifest, copied)


def _live_before(remote: Remote) -> Live | None:
    # a mirror that cannot be read is one to be made whole by this push
    with suppress(NotAStoreError, IntegrityError, FileNotFoundError):
        return remote.live()
    return None


def _take_away(remote: Remote, there: dict[str, int], kept: Sequence[Manifest]) -> None:
    """Remove the generations that do not stay: nothing but what their manifests name."""
    files = {entry.path for manifest in kept for entry in manifest.files()}
    names = {manifest_path(Path(), manifest.generation).as_posix() for manifest in kept}
    for name in there:
        if Path(name).parent.as_posix() != MANIFESTS or name in names:
            continue
        with suppress(OscillinkError, FileNotFoundError):
            leaving = Manifest.from_bytes(remote.read(name), Path(name))
            remote.remove([entry.path for entry in leaving.files() if entry.path not in files])
            remote.remove([name])


def pull(uri: str, folder: Path) -> Copied:
    """Make a folder a copy of what a mirror holds; every file is checked as it comes.

    The folder is for reading: what is written there is lost with the next pull.

    Raises:
        QueryError: the URI cannot be used.
        NotAStoreError: there is no store at the mirror.
        IntegrityError: a file at the mirror is not what was pushed.
        DiskError, ReadOnlyError: something cannot be read or written.
    """
    remote = Remote(uri)
    with disk_errors(folder, "pulling a store"):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")), remote.errors("pulling a store"):
        for attempt in range(_ATTEMPTS):
            try:
                return _pulled(remote, folder)
            except FileNotFoundError as error:
                # a push may have taken the generation away while it was read
                if attempt == _ATTEMPTS - 1:
                    raise IntegrityError(
                        f"{remote.uri} lacks a file of its live generation ({error}): push the "
                        "store again"
                    ) from error
    raise AssertionError("unreachable")


def _pulled(remote: Remote, folder: Path) -> Copied:
    current = folder / CURRENT_NAME
    live = remote.live()
    manifest = live.manifest
    if current.exists() and current.read_bytes() == live.current:
        # whoever empties caches takes files one by one; a file's time is not kept everywhere
        sizes = ((_size(folder, entry), entry.bytes) for entry in manifest.files())
        if all(size == given for size, given in sizes):
            return _copied(manifest, [])
    missing = [entry for entry in manifest.files() if not _is_here(folder, entry)]
    for entry in missing:
        remote.get(entry, folder)
    path = folder / live.name
    for parent in (path.parent, folder / LEDGER):
        parent.mkdir(parents=True, exist_ok=True)
    ledger = {Path(name).name: name for name in remote.sizes(LEDGER)}
    for name in sorted(ledger, key=lambda name: not name.endswith(".head")):
        replace_durably(folder / LEDGER / name, remote.read(ledger[name]))
    for known in (folder / LEDGER).iterdir():
        if known.name not in ledger:
            known.unlink()
    written = [folder / entry.path for entry in missing]
    above = {parent for path in written for parent in path.relative_to(folder).parents}
    sync_all([*written, *(folder / parent for parent in above)])
    replace_durably(path, live.content)
    replace_durably(current, live.current)
    sweep(folder, manifest)
    return _copied(manifest, missing)


def _size(folder: Path, entry: FileEntry) -> int | None:
    try:
        return (folder / entry.path).stat().st_size
    except FileNotFoundError:
        return None


def _is_here(folder: Path, entry: FileEntry) -> bool:
    try:
        status = (folder / entry.path).stat()
    except FileNotFoundError:
        return False
    return status.st_size == entry.bytes and status.st_mtime_ns == entry.modified


def _copied(manifest: Manifest, entries: Sequence[FileEntry]) -> Copied:
    return Copied(
        generation=manifest.generation,
        files=len(entries),
        bytes=sum(entry.bytes for entry in entries),
    )


def local_copy(place: str, cache: str | None = None) -> Path:
    """The folder of a store: its own, or for a URI one that is brought up to date.

    That one lies in the folder ``cache``, or else in ``.cache/oscillink-store`` at home.

    Raises:
        As :func:`pull` does.
    """
    if not is_uri(place):
        return Path(place)
    home = Path(cache) if cache else Path.home() / ".cache" / "oscillink-store" / "mirrors"
    folder = home / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.osc"
    pull(place, folder)
    return folder
