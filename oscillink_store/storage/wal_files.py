"""Reading the write-ahead files of receipts, and removing those that have been folded.

To see every receipt once, list the files first (:func:`pending_receipts`) and read the
manifest after that: what vanished in between has been folded by then.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from oscillink_store.errors import FormatError, IntegrityError
from oscillink_store.receipts.chain import Head
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.head_file import writer_of
from oscillink_store.storage.wal import ledger_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "WalContents",
    "WalLine",
    "is_alive",
    "pending_receipts",
    "read_wal",
    "remove_wal",
    "wal_files",
    "wal_lines",
]


class WalLine(NamedTuple):
    """A line, and the receipt that it is."""

    text: bytes
    receipt: Receipt


@dataclass(frozen=True, kw_only=True)
class WalContents:
    """What a write-ahead file held when it was read.

    ``problems`` name lines that are no receipts, or stand in the wrong file; such a file should
    be neither folded nor removed. A torn last line, as a crash leaves it, is no problem:
    ``torn`` is its length in bytes. The receipts are parsed, not verified.
    """

    path: Path
    size: int
    lines: tuple[WalLine, ...]
    torn: int
    problems: tuple[str, ...]

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts of the lines."""
        return tuple(line.receipt for line in self.lines)

    @property
    def writer(self) -> str:
        """The writer whose file it is."""
        return writer_of(self.path)


def wal_files(directory: Path) -> list[Path]:
    """List the write-ahead files, those of one writer in the order of their entries."""
    return sorted(directory.glob("*.wal"))


def read_wal(path: Path) -> WalContents:
    """Read one write-ahead file, whether its writer lives or not.

    Raises FileNotFoundError when it has been folded and removed meanwhile.
    """
    lines = wal_lines(path)
    found: list[WalLine] = []
    problems: list[str] = []
    torn = lines.torn
    for number, line in enumerate(lines.lines, 1):
        try:
            found.append(WalLine(line, _own(Receipt.from_json(line), path)))
        except (IntegrityError, FormatError) as error:
            if number == len(lines.lines) and not torn:
                torn = len(line) + 1
            else:
                problems.append(f"{path.name}, line {number}: {error}")
    return WalContents(
        path=path,
        size=lines.size,
        lines=tuple(found),
        torn=torn,
        problems=tuple(problems),
    )


def _own(receipt: Receipt, path: Path) -> Receipt:
    if receipt.writer != writer_of(path):
        raise IntegrityError(f"it is a receipt of writer {receipt.writer:.80}")
    return receipt


class WalLines(NamedTuple):
    """A write-ahead file by lines: its size, the whole lines, and the bytes of a torn last one."""

    size: int
    lines: list[bytes]
    torn: int


def wal_lines(path: Path) -> WalLines:
    """Read the lines of a write-ahead file, of which none is longer than its rotation allows."""
    content = path.read_bytes()
    lines = content.split(b"\n")
    return WalLines(len(content), lines, len(lines.pop()))


def is_alive(path: Path) -> bool:
    """Whether the file's writer still holds it; False also when the file is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def pending_receipts(
    directory: Path, folded: Mapping[str, Head] | None = None
) -> tuple[list[Receipt], list[str]]:
    """Collect the receipts that are not folded yet, of living and dead writers.

    ``folded`` gives the last folded entry of each writer: entries up to it are skipped, as a
    crash between folding and removing leaves them. Returns the receipts, each writer's in
    order, and the problems that were met.
    """
    folded = folded or {}
    receipts: list[Receipt] = []
    problems: list[str] = []
    for path in wal_files(directory):
        try:
            contents = read_wal(path)
        except FileNotFoundError:
            continue
        problems += contents.problems
        receipts += [
            receipt
            for receipt in contents.receipts
            if receipt.writer not in folded or receipt.sequence > folded[receipt.writer].sequence
        ]
    return receipts, problems


def remove_wal(contents: WalContents) -> bool:
    """Remove a file whose receipts have been folded; whether it is gone.

    It stays when its writer lives, when it changed since it was read, or when it had
    problems. The removal is durable once the directory is synced, which the next commit or
    append does; until then the same entries are skipped by their sequence.
    """
    if contents.problems:
        return False
    try:
        with contents.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_size != contents.size:
                return False
            contents.path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    except OSError as error:
        raise ledger_error(contents.path.parent, error) from error
    return True
