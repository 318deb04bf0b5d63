"""Folding: receipts move from the write-ahead files of ended writers into receipts.lance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.receipts.chain import Head, fold_seal
from oscillink_store.receipts.receipt import GENESIS
from oscillink_store.storage.commit import ReceiptChange
from oscillink_store.storage.manifest import Manifest
from oscillink_store.storage.receipt_table import RECEIPT_SCHEMA, to_arrow
from oscillink_store.storage.wal import WalContents, dead_wals, pending_receipts, remove_wal

__all__ = ["Fold", "all_receipts", "folded_heads", "prepare_fold"]

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
    for receipt in fresh:
        heads[receipt.writer] = Head(sequence=receipt.sequence, hash=receipt.hash)
    seal = fold_seal(manifest.receipts.get("seal", GENESIS), (receipt.hash for receipt in fresh))
    change = ReceiptChange(
        rows=to_arrow(fresh),
        state={"seal": seal, "heads": {writer: asdict(head) for writer, head in heads.items()}},
    )
    return Fold(change=change, files=tuple(dead))


def all_receipts(snapshot: Snapshot) -> pa.Table:
    """Every recorded receipt: the folded ones, then those still in write-ahead files."""
    pending, _ = pending_receipts(snapshot.root / "receipts", folded_heads(snapshot.manifest))
    parts = [to_arrow(pending)]
    if snapshot.receipts is not None:
        parts.insert(0, snapshot.receipts.read().cast(RECEIPT_SCHEMA))
    return pa.concat_tables(parts)
