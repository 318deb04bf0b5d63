"""Verification: every checksum of the live generation and every chain of receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from oscillink_store.engine.fold import folded_heads, unfolded
from oscillink_store.engine.snapshot import RECEIPTS, Snapshot
from oscillink_store.errors import IntegrityError
from oscillink_store.model import VerifyReport
from oscillink_store.receipts.chain import fold_seal, verify_chains
from oscillink_store.receipts.receipt import GENESIS, Receipt
from oscillink_store.storage.manifest import read_current
from oscillink_store.storage.receipt_table import from_arrow
from oscillink_store.storage.trust import damage

__all__ = ["verify"]

Progress = Callable[[str, int, int | None], None]

_ATTEMPTS = 5


def verify(
    root: Path, latest: Callable[[], Snapshot], progress: Progress | None = None
) -> VerifyReport:
    """Read everything that the live generation consists of and compare it with the manifest.

    ``progress`` is called with (stage, done, total): bytes for the stage "files", receipts
    for the stage "receipts".

    Raises:
        IntegrityError: ``CURRENT`` or the manifest is damaged, so nothing can be compared.
    """
    for _ in range(_ATTEMPTS):
        found = _verify(root, latest, progress or _silent)
        if found.ok or latest().generation == found.generation:
            break
        # a writer went on meanwhile and took away files of the generation that was read
    return found


def _verify(root: Path, latest: Callable[[], Snapshot], report: Progress) -> VerifyReport:
    snapshot, pending, problems = unfolded(root, latest)
    read_current(root)  # the open generation would not notice a damaged manifest
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
    done, seal = 0, GENESIS

    def everything() -> Iterator[Receipt]:
        nonlocal done, seal
        table = snapshot.table(RECEIPTS)
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
        return done, [*problems, f"{snapshot.root / 'receipts.lance'}: {error}"]
    if seal != snapshot.manifest.receipts.get("seal", GENESIS):
        problems.append(
            f"{snapshot.root / 'receipts.lance'} does not hold the receipts that were folded "
            "into it, in their order"
        )
    # a writer's entries lie in its own files there until they are folded
    ledger = snapshot.root / "receipts"
    return chains.receipts, [*problems, *(f"{ledger}: {problem}" for problem in chains.problems)]


def _silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
