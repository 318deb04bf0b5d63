"""The one way a generation comes to be: prepare everything, sync it, swap ``CURRENT``.

An error before the swap leaves the previous generation and none of the new files; a crash
leaves unreferenced files too, which the next commit removes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.errors import FormatError, IntegrityError, OscillinkError
from oscillink_store.storage.files import disk_errors, sync_directory
from oscillink_store.storage.manifest import (
    FileEntry,
    Manifest,
    TableEntry,
    manifest_path,
    publish,
    read_current,
)
from oscillink_store.storage.segments import FOLDER, write_segments
from oscillink_store.storage.tables import VERSION_HINT, write_table

__all__ = ["AnchorChange", "ReceiptChange", "commit", "create"]


@dataclass(frozen=True, kw_only=True)
class AnchorChange:
    """What a batch changes: rows of ``anchors.lance`` and the segments derived from all rows.

    ``rows`` and ``arrays`` cover every anchor of the new generation, in the order
    "surviving rows, then ``added``".
    """

    added: pa.Table
    removed: npt.NDArray[np.uint64]
    rows: pa.Table
    arrays: Mapping[str, npt.NDArray[Any]]
    values: Mapping[str, Any]
    statistics: Mapping[str, Any]
    dimension: int
    embedder: Mapping[str, Any] | None
    fields: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReceiptChange:
    """Receipts to fold, as rows of ``receipts.lance``, and what the manifest then says of them."""

    rows: pa.Table
    state: Mapping[str, Any]


def create(root: Path, manifest: Manifest) -> None:
    """Make the folder a store whose first generation is ``manifest``, with no anchors."""
    with disk_errors(root, "creating the store"):
        root.mkdir(parents=True, exist_ok=True)
        sync_directory(root.parent)
        publish(root, manifest)


def commit(
    root: Path,
    parent: Manifest,
    anchors: AnchorChange | None,
    receipts: ReceiptChange | None,
    before_swap: Callable[[Manifest], object],
) -> Manifest:
    """Write the next generation and make it live. The writer's lock must be held.

    ``before_swap`` is called with the new manifest when all is on the disk but ``CURRENT``.
    Whatever is raised, there or here, ``parent`` stays live and what was written is removed.

    Raises:
        DiskError: the disk is full or failed.
        ReadOnlyError: the folder cannot be written.
        IntegrityError: files of ``parent`` that this one builds on are damaged.
    """
    generation = parent.generation + 1
    draft = replace(
        parent,
        generation=generation,
        parent=parent.generation,
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
    )
    with disk_errors(root, "the commit"):
        _sweep(root, parent)  # what a crash left behind
        try:
            if anchors is not None:
                draft = _write_anchors(root, draft, anchors)
            if receipts is not None:
                draft = _write_receipts(root, draft, receipts)
            publish(root, draft, lambda: before_swap(draft))
        except BaseException:
            # what CURRENT names decides, since an interrupt may come right after the swap
            with suppress(OscillinkError):
                _sweep(root, read_current(root))
            raise
    _sweep(root, draft)
    return draft


def _write_anchors(root: Path, draft: Manifest, change: AnchorChange) -> Manifest:
    before = draft.tables.get("anchors")
    table = write_table(
        root,
        "anchors",
        before,
        change.added,
        removed=change.removed,
        fulltext=True,
    )
    entry = table.entry(root, before.files if before else ())
    arrays = {**change.arrays, "row_ids": table.row_ids()}
    segments = write_segments(root, draft.generation, arrays, change.rows, change.values)
    return replace(
        draft,
        tables={**draft.tables, "anchors": entry},
        segments=segments,
        statistics=change.statistics,
        dimension=change.dimension,
        embedder=change.embedder,
        fields=change.fields,
    )


def _write_receipts(root: Path, draft: Manifest, change: ReceiptChange) -> Manifest:
    before: TableEntry | None = draft.tables.get("receipts")
    table = write_table(root, "receipts", before, change.rows)
    known: tuple[FileEntry, ...] = before.files if before else ()
    return replace(
        draft,
        tables={**draft.tables, "receipts": table.entry(root, known)},
        receipts=change.state,
    )


def _sweep(root: Path, live: Manifest) -> None:
    # Only the live generation and the one before it, for readers that are just opening it,
    # keep their files. A reader that has older segments mapped keeps them all the same, since
    # files are only unlinked. What cannot be removed now is removed by the next commit.
    manifests = {manifest_path(root, live.generation): live}
    if live.parent is not None:
        path = manifest_path(root, live.parent)
        with suppress(OSError, IntegrityError, FormatError):
            manifests[path] = Manifest.from_bytes(path.read_bytes(), path)
    kept = {root / entry.path for manifest in manifests.values() for entry in manifest.files()}
    kept |= manifests.keys()
    for folder in (root / FOLDER, *root.glob("*.lance"), root / "manifests"):
        _remove_all_but(kept, folder)


def _remove_all_but(kept: Set[Path], folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        with suppress(OSError):
            if path.is_dir():
                path.rmdir()  # fails, as it should, unless it is empty
            elif path not in kept and path.name != VERSION_HINT:
                path.unlink()
