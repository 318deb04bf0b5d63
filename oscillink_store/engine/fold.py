"""Folding: receipts move from the write-ahead files of ended writers into receipts.lance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from oscillink_store.engine.snapshot import RECEIPTS, Snapshot
from oscillink_store.errors import IntegrityError, OscillinkError
from oscillink_store.receipts.chain import Head, fold_seal
from oscillink_store.receipts.receipt import GENESIS, Receipt
from oscillink_store.storage.commit import Change
from oscillink_store.storage.manifest import Manifest
from oscillink_store.storage.receipt_table import RECEIPT_SCHEMA, to_arrow
from oscillink_store.storage.tables import TableChange
from oscillink_store.storage.wal import (
    WalContents,
    dead_wals,
    pending_receipts,
    remove_wal,
    wal_files,
)

__all__ = ["Fold", "all_receipts", "beyond", "folded_heads", "prepare_fold"]

# Folding adds a fragment to receipts.lance, so small leftovers wait for company.
_LEAST_RECEIPTS = 256
_LEAST_FILES = 16


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Receipts to commit, and the files that may go once they are committed."""

    change: Change
    files: tuple[WalContents, ...]

    def finish(self) -> None:
        """Remove the folded files; call it after the commit.

        A file that cannot be removed is skipped by its sequence numbers until it can.
        """
        for contents in self.files:
            with suppress(OscillinkError):
                remove_wal(contents)


def folded_heads(manifest: Manifest) -> dict[str, Head]:
    """The last folded entry of each writer."""
    return {writer: Head(**head) for writer, head in manifest.receipts.get("heads", {}).items()}


def prepare_fold(root: Path, manifest: Manifest) -> Fold | None:
    """What to fold along with the next commit, or None when it is not worth it yet.

    Writers whose files were tampered with keep all of them, for a verification to tell.
    """
    dead = list(dead_wals(root / "receipts"))
    if len(dead) < _LEAST_FILES and sum(len(wal.receipts) for wal in dead) < _LEAST_RECEIPTS:
        return None
    tampered = {_writer(wal.path) for wal in dead if not _is_whole(wal)}
    dead = [wal for wal in dead if _writer(wal.path) not in tampered]
    heads = folded_heads(manifest)
    fresh = beyond(heads, (receipt for wal in dead for receipt in wal.receipts))
    if not dead:
        return None
    # The seal pins all that was folded; a head is of use as long as its writer has files.
    present = {_writer(path) for path in wal_files(root / "receipts")}
    heads = {writer: head for writer, head in heads.items() if writer in present}
    for receipt in fresh:
        heads[receipt.writer] = Head(sequence=receipt.sequence, hash=receipt.hash)
    seal = fold_seal(manifest.receipts.get("seal", GENESIS), (receipt.hash for receipt in fresh))
    kept = {writer: asdict(head) for writer, head in heads.items()}
    change = Change(
        tables={RECEIPTS: TableChange(rows=to_arrow(fresh))},
        manifest={"receipts": {"seal": seal, "heads": kept}},
    )
    return Fold(change=change, files=tuple(dead))


def _writer(path: Path) -> str:
    return path.name.partition(".")[0]


def beyond(heads: Mapping[str, Head], receipts: Iterable[Receipt]) -> list[Receipt]:
    """The receipts that are not folded yet."""
    return [
        receipt
        for receipt in receipts
        if receipt.writer not in heads or receipt.sequence > heads[receipt.writer].sequence
    ]


def _is_whole(wal: WalContents) -> bool:
    return not wal.problems and all(
        _is_genuine(receipt) and receipt.writer == _writer(wal.path) for receipt in wal.receipts
    )


def _is_genuine(receipt: Receipt) -> bool:
    try:
        return receipt.verify()
    except IntegrityError:
        return False


def all_receipts(root: Path, latest: Callable[[], Snapshot]) -> pa.Table:
    """Every recorded receipt: the folded ones, then those still in write-ahead files.

    Lines that were tampered with are no receipts; a verification tells of them. Another process
    may fold meanwhile, so the files are listed before the manifest is read: what vanishes in
    between is then folded in that manifest.
    """
    pending, _ = pending_receipts(root / "receipts")
    snapshot = latest()
    fresh = beyond(folded_heads(snapshot.manifest), pending)
    parts = [to_arrow([receipt for receipt in fresh if _is_genuine(receipt)])]
    folded = snapshot.table(RECEIPTS)
    if folded is not None:
        parts.insert(0, folded.read().cast(RECEIPT_SCHEMA))
    return pa.concat_tables(parts)
