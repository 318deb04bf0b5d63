"""Folding: receipts move from the write-ahead files of ended writers into receipts.lance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from oscillink_store.engine.snapshot import RECEIPTS, Snapshot
from oscillink_store.errors import IntegrityError, MissingError, OscillinkError, QueryError
from oscillink_store.receipts.chain import Head, fold_seal, verify_chains
from oscillink_store.receipts.key import Keys
from oscillink_store.receipts.layout import GENESIS
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.commit import Change
from oscillink_store.storage.head_file import (
    KnownHead,
    has_head,
    head_files,
    head_path,
    read_head,
    remove_head,
    writer_of,
)
from oscillink_store.storage.manifest import Manifest
from oscillink_store.storage.receipt_table import from_arrow, stored, to_arrow
from oscillink_store.storage.tables import TableChange
from oscillink_store.storage.wal_files import (
    WalContents,
    WalLine,
    is_alive,
    pending_receipts,
    read_wal,
    remove_wal,
    wal_files,
)

__all__ = [
    "ALONE_BYTES",
    "BESIDE_BYTES",
    "Fold",
    "all_receipts",
    "beyond",
    "find_receipt",
    "fold_due",
    "folded_heads",
    "known_heads",
    "prepare_fold",
]

_HASH = re.compile(r"[0-9a-f]{8,64}")

# Folding adds a fragment to receipts.lance, so small leftovers wait for company.
_LEAST_RECEIPTS = 256
_LEAST_FILES = 16
_LEAST_BYTES = 1 << 20
# Parsed receipts take several times their bytes, and what folds beside a batch holds it up.
BESIDE_BYTES, ALONE_BYTES = 16 << 20, 64 << 20


@dataclass(frozen=True, kw_only=True)
class Fold:
    """What a commit does to the ledger, and the files that may go once it is done."""

    change: Change
    files: tuple[WalContents, ...]

    def finish(self, root: Path) -> None:
        """Remove the folded files; call it after the commit.

        A file that cannot be removed is skipped by its sequence numbers until it can.
        """
        for contents in self.files:
            with suppress(OscillinkError):
                remove_wal(contents)
        writers = {contents.writer for contents in self.files}
        for writer in writers - {writer_of(path) for path in wal_files(root / "receipts")}:
            with suppress(OscillinkError, OSError):
                remove_head(head_path(root / "receipts", writer))


def folded_heads(manifest: Manifest) -> dict[str, Head]:
    """The last folded entry of each writer."""
    return {writer: Head(**head) for writer, head in manifest.receipts.get("heads", {}).items()}


def known_heads(root: Path, keys: Keys | None = None) -> dict[str, KnownHead]:
    """What the head files say, by writer."""
    known: dict[str, KnownHead] = {}
    for path in head_files(root / "receipts"):
        writer = writer_of(path)
        if has_head(path.parent, writer):
            with suppress(FileNotFoundError):  # folded and removed meanwhile
                known[writer] = read_head(path, keys)
    return known


def checkpoint(folded: Mapping[str, Head], heads: Mapping[str, Head]) -> dict[str, Any]:
    """What a manifest records of the chains that are not folded as far as they are synced."""
    return {
        writer: asdict(head)
        for writer, head in sorted(heads.items())
        if head.sequence > folded.get(writer, Head()).sequence
    }


def prepare_fold(root: Path, manifest: Manifest, room: int = BESIDE_BYTES) -> Fold:
    """What becomes of the ledger with the next commit: a checkpoint, and receipts that fold.

    Receipts are folded when that is worth it. Writers whose files were tampered with, or cut,
    keep all of them, for a verification to tell.
    """
    directory = root / "receipts"
    known = known_heads(root)
    heads = {writer: found.head for writer, found in known.items() if found.head is not None}
    folded = folded_heads(manifest)
    seal = manifest.receipts.get("seal", GENESIS)
    fresh, files = _foldable(directory, folded, known, room) if fold_due(root) else ([], [])
    tables = {}
    if files:
        # The seal pins all that was folded; a head is of use as long as its writer has files.
        present = {writer_of(path) for path in (*wal_files(directory), *head_files(directory))}
        folded = {writer: head for writer, head in folded.items() if writer in present}
        receipts = [line.receipt for line in fresh]
        for receipt in receipts:
            folded[receipt.writer] = Head(sequence=receipt.sequence, hash=receipt.hash)
        seal = fold_seal(seal, (receipt.hash for receipt in receipts))
        bodies = [line.text.decode() for line in fresh]
        tables[RECEIPTS] = TableChange(rows=to_arrow(receipts, bodies=bodies))
    recorded = {
        "seal": seal,
        "heads": {writer: asdict(head) for writer, head in folded.items()},
        "checkpoint": checkpoint(folded, heads),
    }
    change = Change(tables=tables, manifest={"receipts": recorded})
    return Fold(change=change, files=tuple(files))


def fold_due(root: Path) -> bool:
    """Whether so much has been left behind by writers that it is worth folding."""
    dead = [path for path in wal_files(root / "receipts") if not is_alive(path)]
    if len(dead) >= _LEAST_FILES or sum(map(_size, dead)) >= _LEAST_BYTES:
        return True
    return sum(_lines(path) for path in dead) >= _LEAST_RECEIPTS


def _foldable(
    directory: Path, folded: Mapping[str, Head], known: Mapping[str, KnownHead], room: int
) -> tuple[list[WalLine], list[WalContents]]:
    """What one commit folds: whole files, writer by writer, of about ``room`` bytes at most."""
    fresh: list[WalLine] = []
    files: list[WalContents] = []
    dead = (path for path in wal_files(directory) if not is_alive(path))
    for writer, paths in groupby(dead, writer_of):
        mine, taken = list(paths), list[WalContents]()
        for path in mine:
            if room > 0:
                with suppress(FileNotFoundError):
                    taken.append(read_wal(path))
                    room -= taken[-1].size
        if not taken:
            break
        after = folded.get(writer, Head())
        new = [
            line for wal in taken for line in wal.lines if line.receipt.sequence > after.sequence
        ]
        partly = len(taken) < len(mine)
        if _is_whole(directory, taken, new, after, known.get(writer), partly=partly):
            fresh += new
            files += taken
        else:
            room += sum(wal.size for wal in taken)  # it stays, and must not keep others back
    return fresh, files


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def beyond(heads: Mapping[str, Head], receipts: Iterable[Receipt]) -> list[Receipt]:
    """The receipts that are not folded yet."""
    return [
        receipt
        for receipt in receipts
        if receipt.writer not in heads or receipt.sequence > heads[receipt.writer].sequence
    ]


def _is_whole(
    directory: Path,
    files: Sequence[WalContents],
    lines: Sequence[WalLine],
    after: Head,
    known: KnownHead | None,
    *,
    partly: bool,
) -> bool:
    """Whether the files of a writer hold what it wrote, all of it if it has ended.

    ``partly`` says that it has more files than these, the first ones.
    """
    writer = files[0].writer
    if any(wal.problems for wal in files):
        return False
    receipts = [line.text for line in lines]
    if known is None and all(line.receipt.version == 1 for line in lines):
        return verify_chains(receipts, after={writer: after}).ok  # from before there were heads
    if known is None or known.head is None:
        return False
    last = lines[-1].receipt.sequence if lines else after.sequence
    if known.closed and (last > known.head.sequence or any(wal.torn for wal in files)):
        return False
    # what a living writer's head says of can be in a file that is not folded yet
    waiting = last < known.head.sequence and (partly or is_alive(head_path(directory, writer)))
    heads = {} if waiting else {writer: [known.head]}
    return verify_chains(receipts, heads, after={writer: after}).ok


def _is_genuine(receipt: Receipt) -> bool:
    try:
        return receipt.verify()
    except IntegrityError:
        return False


def all_receipts(
    root: Path, latest: Callable[[], Snapshot], columns: Sequence[str] | None = None
) -> pa.Table:
    """Every recorded receipt: the folded ones, then those still in write-ahead files.

    Lines that were tampered with are no receipts; a verification tells of them. Another process
    may fold meanwhile, so the files are listed before the manifest is read: what vanishes in
    between is then folded in that manifest.
    """
    pending, _ = pending_receipts(root / "receipts")
    snapshot = latest()
    fresh = beyond(folded_heads(snapshot.manifest), pending)
    parts = [to_arrow([receipt for receipt in fresh if _is_genuine(receipt)], columns)]
    folded = snapshot.table(RECEIPTS)
    if folded is not None:
        parts.insert(0, stored(folded, columns))
    return pa.concat_tables(parts)


def find_receipt(root: Path, latest: Callable[[], Snapshot], start: str) -> Receipt:
    """The recorded receipt whose hash begins so.

    Raises:
        MissingError: there is none, or more than one.
        QueryError: it is no beginning of a hash.
    """
    if not isinstance(start, str) or not _HASH.fullmatch(start):
        raise QueryError(
            f"receipt {start!r:.80}: pass the first 8 to 64 hexadecimal characters of its hash"
        )
    pending, _ = pending_receipts(root / "receipts")
    found = {receipt.hash: receipt for receipt in pending if receipt.hash.startswith(start)}
    table = latest().table(RECEIPTS)
    if table is not None:
        folded = table.read(["body"], f"starts_with(hash, '{start}')")
        found |= {receipt.hash: receipt for receipt in from_arrow(folded)}
    if len(found) != 1:
        many = "more than one receipt begins" if found else "no receipt begins"
        raise MissingError(
            f"{root}: {many} with {start}: see coherent_receipts, or give the whole hash"
        )
    return next(iter(found.values()))
