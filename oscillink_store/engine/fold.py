"""Folding: receipts move from the write-ahead files of ended writers into receipts.lance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.receipts.chain import Head, fold_seal
from oscillink_store.receipts.receipt import GENESIS, Receipt
from oscillink_store.storage.commit import ReceiptChange
from oscillink_store.storage.manifest import Manifest
from oscillink_store.storage.receipt_table import RECEIPT_SCHEMA, to_arrow
from oscillink_store.storage.wal import (
    WalContents,
    dead_wals,
    pending_receipts,
    remove_wal,
    wal_files,
)

__all__ = ["Fold", "all_receipts", "folded_heads", "prepare_fold", "unfolded"]

# Folding adds a fragment to receipts.lance, so small leftovers wait for company.
_LEAST_RECEIPTS = 256
_LEAST_FILES = 16


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Receipts to commit, and the files that may go once they are committed."""

    change: ReceiptChange
    files: tuple[WalContents, ...]

    def finish(self) -> None:
        """Remove the folded files; call it after the commit."""
        for contents in self.files:
            remove_wal(contents)


def folded_heads(manifest: Manifest) -> dict[str, Head]:
    """The last folded entry of each writer."""
    return {writer: Head(**head) for writer, head in manifest.receipts.get("heads", {}).items()}


def prepare_fold(root: Path, manifest: Manifest) -> Fold | None:
    """What to fold along with the next commit, or None when it is not worth it yet."""
    dead = [contents for contents in dead_wals(root / "receipts") if not contents.problems]
    heads = folded_heads(manifest)
    fresh = [
        receipt
        for contents in dead
        for receipt in contents.receipts
        if receipt.writer not in heads or receipt.sequence > heads[receipt.writer].sequence
    ]
    if len(fresh) < _LEAST_RECEIPTS and len(dead) < _LEAST_FILES:
        return None
    # The seal pins all that was folded; a head is of use as long as its writer has files.
    present = {path.name.partition(".")[0] for path in wal_files(root / "receipts")}
    heads = {writer: head for writer, head in heads.items() if writer in present}
    for receipt in fresh:
        heads[receipt.writer] = Head(sequence=receipt.sequence, hash=receipt.hash)
    seal = fold_seal(manifest.receipts.get("seal", GENESIS), (receipt.hash for receipt in fresh))
    change = ReceiptChange(
        rows=to_arrow(fresh),
        state={"seal": seal, "heads": {writer: asdict(head) for writer, head in heads.items()}},
    )
    return Fold(change=change, files=tuple(dead))


def unfolded(
    root: Path, latest: Callable[[], Snapshot]
) -> tuple[Snapshot, list[Receipt], list[str]]:
    """The receipts still in write-ahead files, beside the generation that lacks them.

    Another process may fold meanwhile, so the files are listed before the manifest is read:
    what vanishes in between is then folded in that manifest. Returns also the problems met.
    """
    pending, problems = pending_receipts(root / "receipts")
    snapshot = latest()
    heads = folded_heads(snapshot.manifest)
    fresh = [
        receipt
        for receipt in pending
        if receipt.writer not in heads or receipt.sequence > heads[receipt.writer].sequence
    ]
    return snapshot, fresh, problems


def all_receipts(root: Path, latest: Callable[[], Snapshot]) -> pa.Table:
    """Every recorded receipt: the folded ones, then those still in write-ahead files."""
    snapshot, fresh, _ = unfolded(root, latest)
    parts = [to_arrow(fresh)]
    if snapshot.receipts is not None:
        parts.insert(0, snapshot.receipts.read().cast(RECEIPT_SCHEMA))
    return pa.concat_tables(parts)
