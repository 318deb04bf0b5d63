"""The ledger of composed receipts: a folder of its own, or none."""

from __future__ import annotations

from pathlib import Path

from oscillink_store.engine.fold import known_heads
from oscillink_store.errors import MissingError, QueryError
from oscillink_store.model import Durability
from oscillink_store.receipts.chain import ChainReport, Head, verify_chains
from oscillink_store.receipts.key import Key, Keys
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.files import disk_errors
from oscillink_store.storage.wal import Ledger
from oscillink_store.storage.wal_files import pending_receipts

__all__ = ["ManyLedger"]


class ManyLedger(Ledger):
    """The chain of the composed receipts of a process, among those of others in one folder.

    Without a folder receipts are sealed and given back, and nothing is written.
    """

    def __init__(self, folder: Path | None, durability: Durability, key: Key | None) -> None:
        self._folder = folder
        if folder is not None:
            with disk_errors(folder, "making the ledger"):
                folder.mkdir(parents=True, exist_ok=True)
        else:
            durability = "off"
        super().__init__((folder or Path()) / "receipts", durability=durability, key=key)

    def receipts(self) -> list[Receipt]:
        """The composed receipts that the folder holds, of all processes."""
        return [] if self._folder is None else pending_receipts(self._folder / "receipts")[0]

    def find(self, start: str) -> Receipt:
        """The receipt whose hash begins so.

        Raises:
            MissingError: there is none, or more than one.
            QueryError: there is no ledger.
        """
        if self._folder is None:
            raise QueryError("there is no ledger of composed receipts: connect with ledger=")
        found = {each.hash: each for each in self.receipts() if each.hash.startswith(start)}
        if len(found) != 1:
            many = "more than one receipt begins" if found else "no receipt begins"
            raise MissingError(f"{self._folder}: {many} with {start}: give the whole hash")
        return next(iter(found.values()))

    def verify(self, keys: Keys | None) -> tuple[ChainReport, list[str]]:
        """Verify the chains of all processes; what was read, and the problems."""
        if self._folder is None:
            return verify_chains([]), []
        heads = known_heads(self._folder, keys)
        receipts, problems = pending_receipts(self._folder / "receipts")
        known: dict[str, list[Head]] = {
            writer: [found.head] for writer, found in heads.items() if found.head is not None
        }
        report = verify_chains(receipts, known, keys=keys)
        told = [found.problem for found in heads.values() if found.problem]
        return report, [*told, *problems, *map(str, report.problems)]
