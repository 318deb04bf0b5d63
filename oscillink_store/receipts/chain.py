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
from oscillink_store.receipts.entry import Entry, entry_of
from oscillink_store.receipts.layout import GENESIS
from oscillink_store.receipts.receipt import Payload, Receipt, seal, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from oscillink_store.receipts.key import Key, Keys

__all__ = [
    "ChainProblem",
    "ChainReport",
    "Chains",
    "Head",
    "extend",
    "fold_seal",
    "verify_chains",
]

Fault = Literal[
    "edited", "forged", "unsealed", "missing", "moved", "repeated", "unlinked", "replaced"
]


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
    """What a verification read: how many receipts, the head of each writer, the problems.

    ``sealed`` counts the receipts whose mac was checked, ``unchecked`` those that carry one for
    which no key was given, ``unsealed`` those without.
    """

    receipts: int
    heads: Mapping[str, Head]
    problems: tuple[ChainProblem, ...]
    sealed: int = 0
    unchecked: int = 0
    unsealed: int = 0

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
    payload: Payload = "minimal",
    seconds: float | None = None,
    key: Key | None = None,
) -> tuple[Receipt, bytes]:
    """Seal a content into the entry after ``head``; returns the receipt and its line.

    ``time`` is as :func:`~oscillink_store.receipts.receipt.timestamp` writes it, now by
    default; a ``key`` gives the entry its mac. Raises InputError when the content or the label
    has no JSON form.
    """
    return seal(
        content,
        writer=writer,
        sequence=head.sequence + 1,
        previous=head.hash,
        time=timestamp() if time is None else time,
        label=label,
        payload=payload,
        seconds=seconds,
        key=key,
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
    receipts: Iterable[Receipt | bytes],
    known: Mapping[str, Sequence[Head]] | None = None,
    *,
    after: Mapping[str, Head] | None = None,
    keys: Keys | None = None,
) -> ChainReport:
    """Verify every receipt and every writer's chain in one pass, in constant memory per writer.

    Receipts may be their lines. The entries of one writer must come in ascending order; writers
    may alternate. ``known`` are heads recorded elsewhere: each chain must reach all of them,
    with their hashes. ``after`` says where the chains begin when their first entries are kept
    elsewhere. With ``keys``, macs are checked, and a chain that was sealed once must stay so.
    """
    chains = Chains(known or {}, after or {}, keys)
    for receipt in receipts:
        chains.add(entry_of(receipt, keys))
    return chains.report()


class Chains:
    """The chains of all writers while their entries stream by."""

    def __init__(
        self,
        known: Mapping[str, Sequence[Head]],
        after: Mapping[str, Head],
        keys: Keys | None,
    ) -> None:
        self._known = known
        self._keys = keys
        self._chains = {writer: _Chain(writer, head) for writer, head in after.items()}
        self.receipts = 0
        self._sealed = self._unsealed = 0

    def add(self, entry: Entry) -> None:
        """Take the next entry of its writer."""
        self.receipts += 1
        self._sealed += entry.key_id is not None
        self._unsealed += entry.key_id is None
        chain = self._chains.get(entry.writer)
        if chain is None:
            chain = self._chains[entry.writer] = _Chain(entry.writer, Head())
        chain.add(entry, self._known.get(entry.writer, ()), strict=self._keys is not None)

    def report(self) -> ChainReport:
        """What was found once all entries have come."""
        for writer, heads in self._known.items():
            chain = self._chains.setdefault(writer, _Chain(writer, Head()))
            chain.close(max(head.sequence for head in heads))
        return ChainReport(
            receipts=self.receipts,
            heads={writer: chain.head for writer, chain in self._chains.items()},
            problems=tuple(
                problem for chain in self._chains.values() for problem in chain.problems()
            ),
            sealed=self._sealed if self._keys else 0,
            unchecked=0 if self._keys else self._sealed,
            unsealed=self._unsealed,
        )


class _Chain:
    """The state of one writer's chain while its entries stream by."""

    __slots__ = ("_found", "_gaps", "_sealed", "head", "writer")

    def __init__(self, writer: str, head: Head) -> None:
        self.writer = writer
        self.head = head
        self._found: list[ChainProblem] = []
        self._gaps: list[tuple[int, int]] = []  # first and last missing sequence
        self._sealed = False

    def add(self, entry: Entry, known: Sequence[Head], *, strict: bool) -> None:
        if entry.problem is not None:
            self._note(entry.sequence, entry.fault, entry.problem)
        for head in known:
            if entry.sequence == head.sequence and entry.hash != head.hash:
                self._note(
                    entry.sequence,
                    "replaced",
                    f"{self._entry(entry.sequence)} is not the one that the store recorded as "
                    f"{head.hash[:16]}",
                )
        if strict and self._sealed and entry.key_id is None:
            self._note(
                entry.sequence,
                "unsealed",
                f"{self._entry(entry.sequence)} has no mac, unlike those before it",
            )
        self._sealed |= entry.key_id is not None
        expected = self.head.sequence + 1
        if entry.sequence < expected:
            self._late(entry.sequence)
            return
        if entry.sequence > expected:
            self._gaps.append((expected, entry.sequence - 1))
        elif entry.previous != self.head.hash:
            self._note(
                entry.sequence,
                "unlinked",
                f"{self._entry(entry.sequence)} does not continue the entry before it: one of "
                "the two was replaced or inserted",
            )
        self.head = Head(sequence=entry.sequence, hash=entry.hash)

    def close(self, last: int) -> None:
        if self.head.sequence < last:
            self._gaps.append((self.head.sequence + 1, last))

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

    def _late(self, number: int) -> None:
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
