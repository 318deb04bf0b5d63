"""The one way a generation comes to be: prepare everything, sync it, swap ``CURRENT``.

A crash before the swap leaves the previous generation live and some unreferenced files,
which the next commit removes or builds over.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.storage.files import disk_errors, sync_directory
from oscillink_store.storage.manifest import (
    FileEntry,
    Manifest,
    TableEntry,
    manifest_path,
    publish,
)
from oscillink_store.storage.segments import FOLDER, write_segments
from oscillink_store.storage.tables import write_table

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
) -> Manifest:
    """Write the next generation and make it live. The writer's lock must be held.

    Raises:
        DiskError: the disk is full or failed; ``parent`` stays live.
        ReadOnlyError: the folder cannot be written; ``parent`` stays live.
    """
    generation = parent.generation + 1
    draft = replace(
        parent,
        generation=generation,
        parent=parent.generation,
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
    )
    with disk_errors(root, "the commit"):
        _remove_orphans(root, parent)
        try:
            if anchors is not None:
                draft = _write_anchors(root, draft, anchors)
            if receipts is not None:
                draft = _write_receipts(root, draft, receipts)
            publish(root, draft)
        except BaseException:
            _remove_orphans(root, parent)
            raise
        _retire(root, draft)
    return draft


def _write_anchors(root: Path, draft: Manifest, change: AnchorChange) -> Manifest:
    before = draft.tables.get("anchors")
    table = write_table(
        root / "anchors.lance",
        before.version if before else None,
        change.added,
        removed=change.removed,
        fulltext="fulltext",
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
    table = write_table(root / "receipts.lance", before.version if before else None, change.rows)
    known: tuple[FileEntry, ...] = before.files if before else ()
    return replace(
        draft,
        tables={**draft.tables, "receipts": table.entry(root, known)},
        receipts=change.state,
    )


def _remove_orphans(root: Path, live: Manifest) -> None:
    # Folders and manifests newer than the live generation were never published.
    for folder in (root / FOLDER).glob("*"):
        if folder.name.isdigit() and int(folder.name) > live.generation:
            shutil.rmtree(folder, ignore_errors=True)
    manifest_path(root, live.generation + 1).unlink(missing_ok=True)


def _retire(root: Path, live: Manifest) -> None:
    # The generation before the live one stays for readers that are just opening it; a
    # reader that has older segments mapped keeps them, since the files are only unlinked.
    used = {Path(entry.path).parts[1] for entry in live.segments.values()}
    kept = {f"{live.generation:010d}", f"{live.generation - 1:010d}"} | used
    for folder in (root / FOLDER).glob("*"):
        if folder.name.isdigit() and folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)
    for path in (root / "manifests").glob("*.json"):
        if path.stem not in kept:
            path.unlink(missing_ok=True)
