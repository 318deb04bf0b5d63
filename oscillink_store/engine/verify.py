"""Verification: every checksum of the live generation, every manifest and chain of receipts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from oscillink_store.engine.fold import folded_heads, known_heads
from oscillink_store.engine.snapshot import RECEIPTS
from oscillink_store.errors import FormatError, IntegrityError
from oscillink_store.receipts.canonical import parse
from oscillink_store.receipts.chain import ChainReport, Chains, Head, fold_seal
from oscillink_store.receipts.entry import Entry, entry_of
from oscillink_store.receipts.key import Keys
from oscillink_store.receipts.layout import GENESIS, raw_line
from oscillink_store.reports import VerifyReport
from oscillink_store.storage.head_file import KnownHead, has_head, writer_of
from oscillink_store.storage.manifest import (
    Manifest,
    is_whole,
    manifest_path,
    manifests_on_disk,
    read_current,
)
from oscillink_store.storage.retention import tags
from oscillink_store.storage.tables import open_table
from oscillink_store.storage.trust import damage
from oscillink_store.storage.wal_files import wal_files, wal_lines

__all__ = ["verify"]

Progress = Callable[[str, int, int | None], None]

_ATTEMPTS = 5
_MISSED = ("missing", "unlinked")
_COMMIT = b'"manifest":"'
"""What stands in the receipt of an act that made a generation."""


def verify(root: Path, progress: Progress | None = None, keys: Keys | None = None) -> VerifyReport:
    """Read everything that the live generation consists of and compare it with the manifest.

    And the whole ledger, entry by entry in bounded memory. ``progress`` is called with
    (stage, done, total): bytes for the stages "files" and "ledger", receipts for "receipts".
    With ``keys`` the macs of receipts are checked.

    Raises:
        IntegrityError: ``CURRENT`` or the manifest is damaged, so nothing can be compared.
    """
    for _ in range(_ATTEMPTS):
        found = _Verification(root, progress or _silent, keys).report()
        if found.ok or read_current(root).generation == found.generation:
            break
        # a writer went on meanwhile and took away files of the generation that was read
    return found


class _Verification:
    """One pass over a store."""

    def __init__(self, root: Path, progress: Progress, keys: Keys | None) -> None:
        self._root, self._progress, self._keys = root, progress, keys
        # Heads come first and write-ahead files second, which then hold all that those name;
        # what is folded in between is in the manifest, which comes last.
        self._heads = known_heads(root, keys)
        self._problems = [found.problem for found in self._heads.values() if found.problem]
        self._wals = wal_files(root / "receipts")
        # what CURRENT names, also where an older generation is read because that is damaged
        self._manifest = read_current(root)
        self._unreadable = False
        self._made: dict[int, set[str]] = {}  # manifests by generation, as receipts tell of them

    def report(self) -> VerifyReport:
        files = self._manifest.files()
        self._check_files()
        chains = self._check_ledger()
        self._check_manifests()
        return VerifyReport(
            generation=self._manifest.generation,
            files=len(files),
            bytes=sum(entry.bytes for entry in files),
            receipts=chains.receipts,
            problems=tuple(self._problems),
            sealed=chains.sealed,
            unchecked=chains.unchecked,
            unsealed=chains.unsealed,
        )

    def _check_files(self) -> None:
        files = self._manifest.files()
        total, read = sum(entry.bytes for entry in files), 0
        self._progress("files", 0, total)
        for entry in files:
            if problem := damage(self._root, entry):
                self._problems.append(problem)
            read += entry.bytes
            self._progress("files", read, total)

    def _check_ledger(self) -> ChainReport:
        folded = folded_heads(self._manifest)
        known: dict[str, list[Head]] = {writer: [head] for writer, head in folded.items()}
        recorded = self._manifest.receipts.get("checkpoint", {})
        for writer, head in recorded.items():
            known.setdefault(writer, []).append(Head(**head))
        for writer, found in self._heads.items():
            if found.head is not None:
                known.setdefault(writer, []).append(found.head)
        chains = Chains(known, {}, self._keys)
        for entry in self._folded():
            chains.add(entry)
        for entry in self._pending(folded):
            chains.add(entry)
        report = chains.report()
        # a writer's entries lie in its own files there until they are folded
        ledger = self._root / "receipts"
        # what cannot be read is told of already, and all that builds on it would be missed
        told = [p for p in report.problems if not (self._unreadable and p.fault in _MISSED)]
        self._problems += [f"{ledger}: {problem}" for problem in told]
        return report

    def _folded(self) -> Iterator[Entry]:
        table = self._manifest.tables.get(RECEIPTS)
        if table is None:
            return
        path, seal, done = self._root / "receipts.lance", GENESIS, 0
        try:
            for batch in open_table(self._root, RECEIPTS, table).batches(["body"]):
                for body in batch["body"].to_pylist():
                    entry = self._entry(body.encode(), str(path))
                    if entry is not None:
                        seal = fold_seal(seal, [entry.hash])
                        yield entry
                done += batch.num_rows
                self._progress("receipts", done, table.rows)
        except IntegrityError as error:
            self._problems.append(f"{path}: {error}")
            self._unreadable = True
            return
        if seal != self._manifest.receipts.get("seal", GENESIS):
            self._problems.append(
                f"{path} does not hold the receipts that were folded into it, in their order"
            )

    def _pending(self, folded: dict[str, Head]) -> Iterator[Entry]:
        read, sizes = 0, [_size(path) for path in self._wals]
        for path, size in zip(self._wals, sizes, strict=True):
            writer = writer_of(path)
            last = folded.get(writer, Head()).sequence
            for entry in self._lines(path, last):
                if entry.writer != writer:
                    self._problems.append(
                        f"{path} holds entry {entry.sequence} of writer {entry.writer:.80}"
                    )
                elif entry.sequence > last:  # else a crash left what was folded
                    yield entry
            read += size
            self._progress("ledger", read, sum(sizes))

    def _lines(self, path: Path, last: int) -> Iterator[Entry]:
        """The entries of a file, of which those up to ``last`` have been folded."""
        try:
            _, lines, torn = wal_lines(path)
        except FileNotFoundError:
            return  # folded meanwhile; if not, the heads miss what was in it
        except OSError as error:
            self._problems.append(f"{path} cannot be read: {error.strerror or error}")
            return
        head = self._heads.get(writer_of(path))
        headed, ended = head is not None, _end(head)
        if torn and ended is not None:
            self._problems.append(f"{path} goes on behind the end that its writer gave it")
        for number, line in enumerate(lines, 1):
            entry = self._entry(line, f"{path}, line {number}")
            if entry is None:
                # as a crash leaves the last one, unless the head says that it had been synced
                if number == len(lines) and not torn and ended is None:
                    self._problems.pop()
                continue
            if ended is not None and entry.sequence > ended:
                self._problems.append(
                    f"{path}, line {number}: its writer ended with entry {ended}, this is "
                    f"entry {entry.sequence}"
                )
            if not headed and entry.sequence > last and raw_line(line) is not None:
                # a writer that began after the heads were read has one by now
                headed = has_head(path.parent, writer_of(path))
                if not headed:
                    self._problems.append(f"{path}: the head file of its writer is missing")
                    headed = True
            yield entry

    def _entry(self, line: bytes, place: str) -> Entry | None:
        """Judge a line by its hashes; what they hold for was sealed, and need not be parsed."""
        try:
            entry = entry_of(line, self._keys)
            if entry.problem is None and _COMMIT in line:
                self._look_into(line)
        except (IntegrityError, FormatError) as error:
            self._problems.append(f"{place}: {error}")
            return None
        return entry

    def _look_into(self, line: bytes) -> None:
        raw = raw_line(line)
        if raw is None:
            return
        try:
            content = parse(raw.content)
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"its content is no JSON: {error}") from error
        if isinstance(content, dict) and content.get("kind") in ("ingest", "gates"):
            generation, manifest = content.get("generation"), content.get("manifest")
            if isinstance(generation, int) and isinstance(manifest, str):
                self._made.setdefault(generation, set()).add(manifest)

    def _check_manifests(self) -> None:
        """Those of older generations: by their own checksums, their children, and receipts."""
        named: dict[int, str] = {}
        actual: dict[int, str] = {}
        for generation in manifests_on_disk(self._root):
            path = manifest_path(self._root, generation)
            try:
                content = path.read_bytes()
            except OSError as error:
                self._problems.append(f"{path} cannot be read: {error.strerror or error}")
                continue
            if not is_whole(content, path):
                self._problems.append(f"{path} is not what was written: its checksum differs")
                continue
            actual[generation] = hashlib.sha256(content).hexdigest()
            manifest = Manifest.from_bytes(content, path)
            if manifest.generation != generation:
                self._problems.append(f"{path} is that of generation {manifest.generation}")
            if manifest.parent is not None and manifest.parent_sha256 is not None:
                named[manifest.parent] = manifest.parent_sha256
        for generation, checksum in actual.items():
            told = {named[generation]} if generation in named else set()
            for expected in (told, self._made.get(generation, set())):
                if expected and checksum not in expected:
                    self._problems.append(
                        f"{manifest_path(self._root, generation)} is not the manifest that was "
                        "written for its generation"
                    )
                    break
        try:
            for name, generation in tags(self._root).items():
                if generation not in actual:
                    self._problems.append(
                        f"tag {name!r} keeps generation {generation}, which is not there"
                    )
        except IntegrityError as error:
            self._problems.append(str(error))


def _end(head: KnownHead | None) -> int | None:
    """The sequence of a writer's last entry, once it has closed its ledger."""
    return head.head.sequence if head is not None and head.closed and head.head else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _silent(stage: str, done: int, total: int | None) -> None:
    """Report nothing."""
