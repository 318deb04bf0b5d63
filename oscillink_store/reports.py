"""What acts on a store did, as values: ingests, jobs, maintenance, migrations, verifications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from oscillink_store.receipts.receipt import Receipt

__all__ = [
    "ClusterReport",
    "ClusterVerifyReport",
    "GateReport",
    "IngestReport",
    "JobReport",
    "JobStatus",
    "MaintenanceReport",
    "MigrationReport",
    "ReplayReport",
    "VerifyReport",
]


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What one ingest or deletion did; counts are anchors, times are seconds of wall time."""

    generation: int
    added: int
    updated: int
    unchanged: int
    deleted: int
    anchors: int
    edges: Mapping[str, int]
    dangling_links: int
    seconds: Mapping[str, float]
    receipt: Receipt | None


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What one setting of gates did: how many anchors have another gate now, how many had it.

    ``receipt`` is None when none has changed, as there is no new generation then.
    """

    generation: int
    changed: int
    unchanged: int
    receipt: Receipt | None


@dataclass(frozen=True, kw_only=True)
class MaintenanceReport:
    """What a maintenance did.

    ``corrections`` are edges folded into the lattice's base, ``slots`` of deleted anchors
    taken back, ``parts`` merged away, ``files`` removed, ``bytes`` by which the live
    generation became smaller; ``repaired`` is the generation that took the place of a damaged
    one.
    """

    generation: int
    corrections: int
    slots: int
    parts: int
    files: int
    bytes: int
    repaired: int | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MigrationReport:
    """What a migration did, or would do if it was no ``dry_run``.

    ``before`` and ``after`` are format versions, equal when there was nothing to do; ``steps``
    say in words what happens between them, to ``rows`` that take ``bytes``. ``generation`` is
    the live one now; ``tags`` keep the generations of earlier formats readable, and ``backup``
    is the folder that holds the whole store as it was.
    """

    before: int
    after: int
    steps: tuple[str, ...]
    rows: int
    bytes: int
    generation: int
    tags: tuple[str, ...]
    backup: str | None
    dry_run: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """What a run of an ingest job did, all of it: with what came before it was interrupted.

    Counts are anchors, but for ``rejected`` rows of the source and ``batches``, the commits
    that the run took before its last one. ``withheld`` anchors left the source, as it seems,
    but are kept: some rejected row whose id cannot be read may be theirs. ``resumed`` tells
    whether it went on where it had been interrupted; ``seconds`` are those since then.
    """

    name: str
    run: int
    added: int
    updated: int
    deleted: int
    unchanged: int
    rejected: int
    withheld: int
    batches: int
    generation: int
    resumed: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """The newest run of an ingest job, finished or interrupted (or at work right now).

    Counts are those of :class:`JobReport`; ``position`` is how many rows of the source it has
    read, ``anchors`` how many ids the job counts as its own, ``time`` that of the last commit.
    """

    name: str
    run: int
    finished: bool
    source: str
    position: int
    added: int
    updated: int
    deleted: int
    unchanged: int
    rejected: int
    anchors: int
    time: datetime


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """What came of running the search of a receipt again.

    ``"identical"``: everything that the receipt says came out again to the bit. ``"different"``:
    ``differences`` names the members of its content that did not. ``"not replayable"``: the
    receipt is authentic, but its search cannot be run again, and ``reason`` says why.
    """

    receipt: Receipt
    status: Literal["identical", "different", "not replayable"]
    reason: str | None
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the answer came out again as the receipt has it."""
        return self.status == "identical"

    def __str__(self) -> str:
        start = f"receipt {self.receipt.id}"
        if self.status == "not replayable":
            return f"{start}: authentic, not replayable: {self.reason}"
        if self.status == "different":
            return f"{start}: different in {', '.join(self.differences)}"
        generation = self.receipt.generation
        where = "" if generation is None else f" on generation {generation}"
        return f"{start}: identical, {len(self.receipt.result_ids)} results{where}"


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What a verification read; ``problems`` is empty when everything holds.

    Of the receipts, ``sealed`` had their mac checked with a key, ``unchecked`` carry one for
    which no key was given, and ``unsealed`` have none.
    """

    generation: int
    files: int
    bytes: int
    receipts: int
    problems: tuple[str, ...]
    sealed: int = 0
    unchecked: int = 0
    unsealed: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is what was written."""
        return not self.problems


@dataclass(frozen=True, kw_only=True)
class ClusterReport:
    """What an ingest, a deletion or a resize did to a cluster; counts are anchors.

    Of the ``rows`` of a source each was ``added``, ``updated`` or left ``unchanged`` in its shard.
    ``moved`` anchors, which may be among these, left a shard for another one. ``anchors`` says how
    many each shard holds now, ``receipts`` the hashes of the receipts that it recorded.
    """

    rows: int
    added: int
    updated: int
    unchanged: int
    deleted: int
    moved: int
    anchors: Mapping[str, int]
    receipts: Mapping[str, tuple[str, ...]]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ClusterVerifyReport:
    """What a verification of a cluster read, shard by shard; ``problems`` name the shard.

    A shard too damaged to be read has no report; ``receipts`` are the composed ones of searches of
    the whole cluster. ``misplaced`` counts anchors that are not in the
    shard where their column places them, ``twice`` those whose id several shards hold: both come
    from a resize or an ingest that was interrupted, and go when it is run again.
    """

    shards: Mapping[str, VerifyReport | None]
    receipts: int
    problems: tuple[str, ...]
    misplaced: int
    twice: int

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is what was written, and where it belongs."""
        return not self.problems
