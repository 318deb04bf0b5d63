"""Verification: every checksum of the live generation and every chain of receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from oscillink_store.engine.fold import folded_heads, unfolded
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import IntegrityError
from oscillink_store.model import VerifyReport
from oscillink_store.receipts.chain import fold_seal, verify_chains
from oscillink_store.receipts.receipt import GENESIS, Receipt
from oscillink_store.storage.manifest import damage
from oscillink_store.storage.receipt_table import from_arrow

__all__ = ["verify"]

Progress = Callable[[str, int, int | None], None]


def verify(
    root: Path, latest: Callable[[], Snapshot], progress: Progress | None = None
) -> VerifyReport:
    """Read everything that the live generation consists of and compare it with the manifest.

    ``progress`` is called with (stage, done, total): bytes for the stage "files", receipts
    for the stage "receipts".
    """
    report = progress or _silent
    snapshot, pending, problems = unfolded(root, latest)
    files = snapshot.manifest.files()
    total = sum(entry.bytes for entry in files)
    read = 0
    report("files", 0, total)
    for entry in files:
        if problem := damage(snapshot.root, entry):
            problems.append(problem)
        read += entry.bytes
        report("files", read, total)
    count, broken = _verify_receipts(snapshot, pending, report)
    return VerifyReport(
        generation=snapshot.generation,
        files=len(files),
        bytes=total,
        receipts=count,
        problems=(*problems, *broken),
    )


def _verify_receipts(
    snapshot: Snapshot, pending: list[Receipt], report: Progress
) -> tuple[int, list[str]]:
    heads = folded_heads(snapshot.manifest)
    problems: list[str] = []
    hashes: list[str] = []

    def everything() -> Iterator[Receipt]:
        done = 0
        if snapshot.receipts is not None:
            for receipt in from_arrow(snapshot.receipts.read(["body"])):
                hashes.append(receipt.hash)
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
        return len(hashes), [*problems, f"receipts.lance: {error}"]
    seal = snapshot.manifest.receipts.get("seal", GENESIS)
    if fold_seal(GENESIS, hashes) != seal:
        problems.append(
            "receipts.lance does not hold the receipts that were folded into it, in their order"
        )
    return chains.receipts, [*problems, *map(str, chains.problems)]


def _silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
