"""Which generations stay on disk: the newest, those with a tag, and those that are pinned.

A tag is a file that names a generation. A pin is a file that its reader keeps locked: it ends
with its process, however that ends. Whatever belongs to no generation that stays is removed
by the writer.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from oscillink_store.errors import IntegrityError, MissingError, QueryError, StoreError
from oscillink_store.storage.files import disk_errors, replace_durably, sync_directory
from oscillink_store.storage.manifest import (
    Manifest,
    manifest_path,
    manifests_on_disk,
    publish,
    read_manifest,
)
from oscillink_store.storage.segments import FOLDER
from oscillink_store.storage.tables import VERSION_HINT

__all__ = [
    "PINS",
    "last_number",
    "pinned",
    "remove_tag",
    "restore",
    "sweep",
    "sweep_orphans",
    "tag",
    "tags",
    "untag_after",
]

_TAGS, PINS = "tags", "pins"
_TAG_NAME = re.compile(r"[\w][\w.+=@-]{0,127}")
# How many generations stay besides the live one, for readers that are just opening them.
_BEFORE = 2


def tags(root: Path) -> dict[str, int]:
    """Every tag and its generation, by name.

    Raises:
        IntegrityError: a tag's file holds no generation.
    """
    found = {}
    for path in sorted((root / _TAGS).glob("[!.]*")):
        with suppress(FileNotFoundError):  # given up meanwhile
            found[path.name] = _tagged(path)
    return found


def _tagged(path: Path) -> int:
    content = path.read_bytes()
    number = content.partition(b" ")[0]
    if not number.isdigit() or content != _content(path.name, int(number)):
        raise IntegrityError(
            f"{path} is not what was written: remove the tag with untag, or restore the folder "
            "from a backup"
        )
    return int(number)


def _content(name: str, generation: int) -> bytes:
    """What a tag's file holds: a bit that flips must not make it name another generation."""
    check = hashlib.sha256(f"{name} {generation}".encode()).hexdigest()
    return f"{generation} {check}\n".encode()


def tag(root: Path, name: str, generation: int) -> None:
    """Keep a generation under a name; the writer's lock must be held.

    Raises:
        QueryError: the name cannot be a file's.
        DiskError, ReadOnlyError: the tag cannot be written.
    """
    if not _TAG_NAME.fullmatch(name):
        raise QueryError(
            f"tag {name!r:.80}: use letters, digits and . + = @ _ -, a letter or digit first"
        )
    with disk_errors(root, "the tag"):
        (root / _TAGS).mkdir(exist_ok=True)
        sync_directory(root)
        replace_durably(root / _TAGS / name, _content(name, generation))


def remove_tag(root: Path, name: str) -> None:
    """Give a tag up; its generation goes with the next sweep unless something else holds it.

    Raises:
        MissingError: there is no such tag.
    """
    names = sorted(path.name for path in (root / _TAGS).glob("[!.]*"))
    if name not in names:
        raise MissingError(f"tag {name!r} is not in {root}: it has {names or 'none'}")
    with disk_errors(root, "removing the tag"):
        (root / _TAGS / name).unlink()
        sync_directory(root / _TAGS)


def untag_after(root: Path, generation: int) -> None:
    """Give up the tags of later generations, as a repair does with these themselves."""
    for path in sorted((root / _TAGS).glob("[!.]*")):
        with suppress(IntegrityError):
            if _tagged(path) > generation:
                remove_tag(root, path.name)


def last_number(root: Path) -> int:
    """The highest number that a generation has, or would have had if its commit had succeeded.

    A receipt may tell of such a commit, so no other generation gets its number.
    """
    return max([0, *manifests_on_disk(root), *_empty_folders(root)])


def _folders(root: Path) -> list[str]:
    return [path.name for path in (root / FOLDER).glob("*") if path.name.isdigit()]


def _empty_folders(root: Path) -> list[int]:
    return [int(name) for name in _folders(root) if not any((root / FOLDER / name).iterdir())]


def restore(root: Path, manifest: Manifest) -> None:
    """Make an older generation live again and give up those after it, as a repair does.

    It gets a number that none of them had, as receipts may tell of them.
    """
    later = [g for g in manifests_on_disk(root) if g > manifest.generation]
    again = replace(
        manifest,
        generation=max([manifest.generation, *later, *map(int, _folders(root))]) + 1,
        parent=manifest.generation,
        parent_sha256=manifest.sha256,
    )
    with disk_errors(root, "the repair"):
        publish(root, again)
        for generation in later:
            manifest_path(root, generation).unlink()


@contextmanager
def pinned(root: Path, generation: int) -> Iterator[None]:
    """Keep a generation's files for as long as the block runs.

    Raises:
        MissingError: the generation is not on disk any more.
        DiskError, ReadOnlyError: the pin cannot be written.
    """
    path = root / PINS / f"{generation:010d}-{uuid.uuid4().hex}"
    with disk_errors(root, "pinning a generation"):
        path.parent.mkdir(exist_ok=True)
        lock = FileLock(path, thread_local=False)
        lock.acquire()
    try:
        # a writer that did not see the pin yet takes the manifest away first
        if not manifest_path(root, generation).exists():
            raise MissingError(
                f"generation {generation} of {root} is gone: tag the ones that are to stay"
            )
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def _pins(root: Path) -> set[int]:
    held = set()
    for path in (root / PINS).glob("[0-9]*"):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)  # its reader has ended
        except (Timeout, OSError):  # what cannot be told is taken for held
            held.add(int(path.name.partition("-")[0]))
    return held


def _kept(root: Path, live: Manifest) -> list[Manifest]:
    """The manifests of every generation that stays: none that a repair has given up."""
    older = sorted(g for g in manifests_on_disk(root) if g < live.generation)
    try:
        tagged = set(tags(root).values())
    except IntegrityError:  # a tag that cannot be read may name any of them
        tagged = set(older)
    wanted = {g for g in tagged | _pins(root) if g < live.generation} | set(older[-_BEFORE:])
    kept = [live]
    for generation in sorted(wanted - {live.generation}):
        with suppress(MissingError, StoreError):  # a damaged one keeps nothing
            kept.append(read_manifest(root, generation))
    return kept


def _taken_leave(root: Path, live: Manifest) -> tuple[list[Manifest], list[Manifest]]:
    """Take the manifests of generations that do not stay away; what stays, and what went.

    All manifests go before any other file, so that no reader can pin a generation of which
    files are gone already.
    """
    kept = _kept(root, live)
    staying = {manifest.generation for manifest in kept}
    gone: dict[int, tuple[bytes, Manifest]] = {}
    for generation in manifests_on_disk(root):
        path = manifest_path(root, generation)
        # a damaged one is an orphan for sweep_orphans
        with suppress(OSError, StoreError, MissingError):
            if generation not in staying:
                leaving = path.read_bytes(), read_manifest(root, generation)
                path.unlink()
                gone[generation] = leaving
    for generation in _pins(root) & gone.keys():  # pinned just now
        content, manifest = gone.pop(generation)
        manifest_path(root, generation).write_bytes(content)
        kept.append(manifest)
    return kept, [manifest for _, manifest in gone.values()]


def sweep(root: Path, live: Manifest) -> int:
    """Remove what belongs to generations that do not stay; returns how many files went.

    The writer's lock must be held. Readers that have a file open or mapped keep it. What
    cannot be removed now is removed later.
    """
    kept, gone = _taken_leave(root, live)
    files = {entry.path for manifest in kept for entry in manifest.files()}
    leaving = {entry.path for manifest in gone for entry in manifest.files()} - files
    removed = sum(_unlink(root / path) for path in sorted(leaving))
    for manifest in gone:
        with suppress(OSError):
            (root / FOLDER / f"{manifest.generation:010d}").rmdir()
    return removed


def sweep_orphans(root: Path, live: Manifest) -> int:
    """Remove every file that no generation that stays names, as a crash leaves them.

    Looks through all folders, where :func:`sweep` follows manifests. Returns how many went.
    """
    # a commit that came to its manifest may have come to its receipt
    last = last_number(root)
    taken = root / FOLDER / f"{last:010d}"
    if last > live.generation:
        with suppress(OSError):
            taken.mkdir(parents=True, exist_ok=True)
    kept, _ = _taken_leave(root, live)
    paths = {root / entry.path for manifest in kept for entry in manifest.files()}
    paths |= {manifest_path(root, manifest.generation) for manifest in kept}
    removed = 0
    if last > live.generation:
        paths.add(taken)  # an empty folder, which keeps the number from being given again
    for folder in (root / FOLDER, *root.glob("*.lance"), root / "manifests"):
        removed += _remove_all_but(paths, folder)
    return removed


def _remove_all_but(kept: Set[Path], folder: Path) -> int:
    removed = 0
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path in kept:
            continue
        if path.is_dir():
            with suppress(OSError):
                path.rmdir()  # fails, as it should, unless it is empty
        elif path.name != VERSION_HINT:
            removed += _unlink(path)
    return removed


def _unlink(path: Path) -> int:
    try:
        path.unlink()
    except OSError:
        return 0
    return 1
