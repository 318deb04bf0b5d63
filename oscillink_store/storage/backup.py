"""A copy of a store's folder that what is done to the store does not change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from oscillink_store.errors import QueryError
from oscillink_store.storage.files import disk_errors, sync_all, sync_directory
from oscillink_store.storage.lock import HOLDER_NAME, LOCK_NAME
from oscillink_store.storage.retention import PINS
from oscillink_store.storage.segments import FOLDER
from oscillink_store.storage.tables import VERSION_HINT

__all__ = ["back_up", "require_new"]

_LEFT_OUT = {LOCK_NAME, HOLDER_NAME, PINS}


def require_new(root: Path, target: Path) -> None:
    """Raise QueryError for a target that is there, or that lies within the store."""
    if target.exists() or target.is_symlink():
        raise QueryError(
            f"backup: {target} exists: name a path that does not, or move it away (a migration "
            "that was interrupted after its backup leaves a whole one there)"
        )
    if target.resolve().is_relative_to(root.resolve()):
        raise QueryError(f"backup: {target} lies within the store: name a path outside of it")


def back_up(root: Path, target: Path) -> None:
    """Copy a store; the writer's lock must be held.

    Files of tables and segments, which never change once written, are linked where the file
    system can, so that a backup beside the store takes next to no space. It appears under its
    name when it is whole and on the disk.

    Raises:
        QueryError: as :func:`require_new`.
        DiskError, ReadOnlyError: the copy cannot be written.
    """
    require_new(root, target)
    draft = target.with_name(f".{target.name}.tmp")
    with disk_errors(target, "the backup"):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)  # of a backup that was interrupted
        try:
            _fill(draft, root)
            sync_all([draft, *draft.rglob("*")])
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_directory(target.parent)


def _fill(draft: Path, root: Path) -> None:
    draft.mkdir()
    for path in sorted(root.rglob("*"), key=_turn):
        place = path.relative_to(root)
        if place.parts[0] in _LEFT_OUT or path.name.endswith(".tmp"):
            continue
        if path.is_dir():
            (draft / place).mkdir()
        else:
            _copy(path, draft / place, link=_never_changes(place))


def _turn(path: Path) -> tuple[int, bool, Path]:
    # A folder comes before what is in it, and what a head names before it may have gone on:
    # searches record receipts meanwhile.
    return len(path.parts), path.suffix != ".head", path


def _never_changes(place: Path) -> bool:
    first = place.parts[0]
    return (first == FOLDER or first.endswith(".lance")) and place.name != VERSION_HINT


def _copy(source: Path, target: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    shutil.copy2(source, target)
