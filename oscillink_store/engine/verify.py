"""Verification: every checksum of the live generation and every chain of receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from oscillink_store.engine.fold import beyond, folded_heads
from oscillink_store.engine.snapshot import RECEIPTS
from oscillink_store.errors import IntegrityError
from oscillink_store.model import VerifyReport
from oscillink_store.receipts.chain import fold_seal, verify_chains
from oscillink_store.receipts.receipt import GENESIS, Receipt
from oscillink_store.storage.manifest import Manifest, read_current
from oscillink_store.storage.receipt_table import from_arrow
from oscillink_store.storage.retention import tags
from oscillink_store.storage.tables import open_table
from oscillink_store.storage.trust import damage
from oscillink_store.storage.wal import pending_receipts

__all__ = ["verify"]

Progress = Callable[[str, int, int | None], None]

_ATTEMPTS = 5


def verify(root: Path, progress: Progress | None = None) -> VerifyReport:
    """Read everything that the live generation consists of and compare it with the manifest.

    ``progress`` is called with (stage, done, total): bytes for the stage "files", receipts
    for the stage "receipts".

    Raises:
        IntegrityError: ``CURRENT`` or the manifest is damaged, so nothing can be compared.
    """
    for _ in range(_ATTEMPTS):
        found = _verify(root, progress or _silent)
        if found.ok or read_current(root).generation == found.generation:
            break
        # a writer went on meanwhile and took away files of the generation that was read
    return found


def _verify(root: Path, report: Progress) -> VerifyReport:
    # What CURRENT names, also where an older generation is read because that is damaged. Write-
    # ahead files come first, since what is folded meanwhile is then in the manifest.
    pending, problems = pending_receipts(root / "receipts")
    manifest = read_current(root)
    try:
        tags(root)
    except IntegrityError as error:
        problems.append(str(error))
    files = manifest.files()
    total = sum(entry.bytes for entry in files)
    read = 0
    report("files", 0, total)
    for entry in files:
        if problem := damage(root, entry):
            problems.append(problem)
        read += entry.bytes
        report("files", read, total)
    pending = beyond(folded_heads(manifest), pending)
    count, broken = _verify_receipts(root, manifest, pending, report)
    return VerifyReport(
        generation=manifest.generation,
        files=len(files),
        bytes=total,
        receipts=count,
        problems=(*problems, *broken),
    )


def _verify_receipts(
    root: Path, manifest: Manifest, pending: list[Receipt], report: Progress
) -> tuple[int, list[str]]:
    heads = folded_heads(manifest)
    problems: list[str] = []
    done, seal = 0, GENESIS

    def everything() -> Iterator[Receipt]:
        nonlocal done, seal
        entry = manifest.tables.get(RECEIPTS)
        table = None if entry is None else open_table(root, RECEIPTS, entry)
        for batch in () if table is None else table.batches(["body"]):
            for receipt in from_arrow(batch):
                seal = fold_seal(seal, [receipt.hash])
                yield receipt
                done += 1
            report("receipts", done, None)
        for receipt in pending:
            yield receipt
            done += 1
        report("receipts", done, None)

    try:
        chains = verify_chains(everything(), heads)
    except IntegrityError as error:
        return done, [*problems, f"{root / 'receipts.lance'}: {error}"]
    if seal != manifest.receipts.get("seal", GENESIS):
        problems.append(
            f"{root / 'receipts.lance'} does not hold the receipts that were folded "
            "into it, in their order"
        )
    # a writer's entries lie in its own files there until they are folded
    ledger = root / "receipts"
    return chains.receipts, [*problems, *(f"{ledger}: {problem}" for problem in chains.problems)]


def _silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
