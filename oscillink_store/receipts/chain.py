"""Hash chains of receipts: growing one by an entry, and finding what was done to one.

Every writer has a chain of its own. Within it, an entry carries the hash of the entry before,
so an edited, removed, inserted or moved entry breaks the chain where it happened. What the
chain cannot show by itself, an end that was cut off or a chain that was forged from its first
entry on, is found against heads and a seal that are kept elsewhere (in the manifest).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from oscillink_store.errors import IntegrityError
from oscillink_store.receipts.receipt import GENESIS, Receipt, seal, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ChainProblem", "ChainReport", "Head", "extend", "fold_seal", "verify_chains"]

Fault = Literal["edited", "missing", "moved", "repeated", "unlinked", "replaced"]


@dataclass(frozen=True, kw_only=True)
class Head:
    """The last entry of a writer's chain; sequence 0 and GENESIS before there is one."""

    sequence: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, kw_only=True)
class ChainProblem:
    """One break of a chain: which entry of which writer, what happened, in one sentence."""

    writer: str
    sequence: int
    fault: Fault
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, kw_only=True)
class ChainReport:
    """What a verification read: how many receipts, the head of each writer, the problems."""

    receipts: int
    heads: Mapping[str, Head]
    problems: tuple[ChainProblem, ...]

    @property
    def ok(self) -> bool:
        """Whether every chain holds."""
        return not self.problems

    def require(self) -> ChainReport:
        """Return the report itself, or raise IntegrityError with the first problem."""
        if self.problems:
            more = len(self.problems) - 1
            raise IntegrityError(f"{self.problems[0]}" + (f" ({more} more)" if more else ""))
        return self


def extend(
    head: Head,
    content: Mapping[str, Any],
    *,
    writer: str,
    label: str | None = None,
    time: str | None = None,
) -> tuple[Receipt, bytes]:
    """Seal a content into the entry after ``head``; returns the receipt and its line.

    ``time`` is as :func:`~oscillink_store.receipts.receipt.timestamp` writes it, now by
    default. Raises InputError when the content or the label has no JSON form.
    """
    return seal(
        content,
        writer=writer,
        sequence=head.sequence + 1,
        previous=head.hash,
        time=timestamp() if time is None else time,
        label=label,
    )


def fold_seal(previous: str, hashes: Iterable[str]) -> str:
    """Continue a seal over folded receipts, in the order in which they lie in the table.

    The seal of nothing is GENESIS; each receipt makes it SHA-256(seal ‖ receipt hash), both
    as 64 hexadecimal ASCII characters. One such value in the manifest pins every folded
    receipt, however many writers there have been.
    """
    current = previous
    for item in hashes:
        current = sha256((current + item).encode()).hexdigest()
    return current


def verify_chains(
    receipts: Iterable[Receipt],
    known: Mapping[str, Head] | None = None,
    *,
    after: Mapping[str, Head] | None = None,
) -> ChainReport:
    """Verify every receipt and every writer's chain in one pass, in constant memory per writer.

    The entries of one writer must come in ascending order; writers may alternate. ``known``
    are heads recorded elsewhere: the chain of each must reach at least that entry, with that
    hash. ``after`` says where the chains begin when their first entries are kept elsewhere.
    """
    chains = {writer: _Chain(writer, head) for writer, head in (after or {}).items()}
    known = known or {}
    count = 0
    for receipt in receipts:
        count += 1
        chain = chains.get(receipt.writer)
        if chain is None:
            chain = chains[receipt.writer] = _Chain(receipt.writer, Head())
        chain.add(receipt, known.get(receipt.writer))
    for writer, head in known.items():
        chain = chains.setdefault(writer, _Chain(writer, Head()))
        chain.close(head)
    return ChainReport(
        receipts=count,
        heads={writer: chain.head for writer, chain in chains.items()},
        problems=tuple(problem for chain in chains.values() for problem in chain.problems()),
    )


class _Chain:
    """The state of one writer's chain while its entries stream by."""

    def __init__(self, writer: str, head: Head) -> None:
        self.writer = writer
        self.head = head
        self._found: list[ChainProblem] = []
        self._gaps: list[tuple[int, int]] = []  # first and last missing sequence

    def add(self, receipt: Receipt, known: Head | None) -> None:
        try:
            receipt.verify()
        except IntegrityError as error:
            self._note(receipt.sequence, "edited", str(error))
        if known is not None and receipt.sequence == known.sequence and receipt.hash != known.hash:
            self._note(
                receipt.sequence,
                "replaced",
                f"{self._entry(receipt.sequence)} is not the one that the store recorded as "
                f"{known.hash[:16]}",
            )
        expected = self.head.sequence + 1
        if receipt.sequence < expected:
            self._late(receipt)
            return
        if receipt.sequence > expected:
            self._gaps.append((expected, receipt.sequence - 1))
        elif receipt.previous != self.head.hash:
            self._note(
                receipt.sequence,
                "unlinked",
                f"{self._entry(receipt.sequence)} does not continue the entry before it: one of "
                "the two was replaced or inserted",
            )
        self.head = Head(sequence=receipt.sequence, hash=receipt.hash)

    def close(self, known: Head) -> None:
        if self.head.sequence < known.sequence:
            self._gaps.append((self.head.sequence + 1, known.sequence))

    def problems(self) -> list[ChainProblem]:
        missing = [
            ChainProblem(
                writer=self.writer,
                sequence=first,
                fault="missing",
                message=f"{self._entry(first, last)} missing",
            )
            for first, last in self._gaps
        ]
        return sorted(self._found + missing, key=lambda problem: problem.sequence)

    def _late(self, receipt: Receipt) -> None:
        number = receipt.sequence
        for place, (first, last) in enumerate(self._gaps):
            if first <= number <= last:
                rest = [(first, number - 1), (number + 1, last)]
                self._gaps[place : place + 1] = [gap for gap in rest if gap[0] <= gap[1]]
                self._note(
                    number,
                    "moved",
                    f"{self._entry(number)} stands after entry {self.head.sequence}",
                )
                return
        self._note(number, "repeated", f"{self._entry(number)} stands there more than once")

    def _note(self, sequence: int, fault: Fault, message: str) -> None:
        self._found.append(
            ChainProblem(writer=self.writer, sequence=sequence, fault=fault, message=message)
        )

    def _entry(self, first: int, last: int | None = None) -> str:
        if last is None or last == first:
            name = f"entry {first} of writer {self.writer}"
            return name if last is None else f"{name} is"
        return f"entries {first} to {last} of writer {self.writer} are"
