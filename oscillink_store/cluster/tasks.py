"""What the workers of a cluster do: each function one task on one shard, safe to run twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oscillink_store.cluster.placement import homes
from oscillink_store.cluster.shard import Shard, opened
from oscillink_store.cluster.summaries import Summary, summary_of
from oscillink_store.engine.row_columns import optional_texts
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.sources import Batch, Gathered
from oscillink_store.engine.transfer import whole_rows
from oscillink_store.engine.verify import verify as verify_store
from oscillink_store.errors import InputError, OscillinkError
from oscillink_store.kernels.hashing import keys_of
from oscillink_store.receipts.key import Keys
from oscillink_store.reports import IngestReport, VerifyReport
from oscillink_store.storage.manifest import read_current

if TYPE_CHECKING:
    from oscillink_store.filters import Filter
    from oscillink_store.model import Fields

__all__ = [
    "Checked", "Done", "Rule", "check", "copy_out", "delete", "drop_moved", "figures", "find",
    "ingest", "look_at", "summarize",
]  # fmt: skip

Slots = npt.NDArray[np.int64]

_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, kw_only=True)
class Rule:
    """By which column of the stored anchors how many shards share them out."""

    column: str
    shards: int


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task changed: the store's report, and what the store is like now.

    ``strays`` are ids that the store holds although their rows belong elsewhere now.
    """

    report: IngestReport | None
    summary: Summary
    strays: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a verification of one shard found.

    ``ids`` are the keys of its anchors' ids, ``misplaced`` counts those that belong elsewhere.
    """

    report: VerifyReport | None
    problems: tuple[str, ...]
    ids: npt.NDArray[np.uint64]
    misplaced: int


def ingest(
    shard: Shard, name: str, batches: Sequence[Batch], others: Sequence[str], fields: Fields
) -> Done:
    """Ingest rows of a source; ``others`` are ids of rows that were placed in other shards."""
    with opened(shard) as store:
        report = None
        if batches:
            report = store.ingest(Gathered(name, batches), fields=fields)
        strays = _held(store.current(), others)
        return Done(report=report, summary=summary_of(shard.name, store), strays=tuple(strays))


def find(shard: Shard, ids: Sequence[str]) -> list[str]:
    """Those of the ids that the shard holds."""
    with opened(shard) as store:
        return _held(store.current(), ids)


def _held(snapshot: Snapshot, ids: Sequence[str]) -> list[str]:
    if not len(snapshot) or not ids:
        return []
    return [
        id_ for id_, slot in zip(ids, snapshot.find_ids(ids).tolist(), strict=True) if slot >= 0
    ]


def look_at(shard: Shard, where: str | Filter) -> None:
    """Raise what deleting by this filter would raise."""
    with opened(shard) as store:
        if len(store):
            store.current().allowed(where)


def delete(shard: Shard, ids: Sequence[str] | None, where: str | Filter | None) -> Done:
    """Delete anchors: those of the ids that the shard holds, or those that pass a filter."""
    with opened(shard) as store:
        report = None
        held = None if ids is None else _held(store.current(), ids)
        if held or (held is None and len(store)):
            report = store.delete(held, where=where)
        return Done(report=report, summary=summary_of(shard.name, store))


def copy_out(shard: Shard, others: Sequence[Shard], rule: Rule) -> int:
    """Write the rows that belong elsewhere to their new homes, and leave them here as well."""
    copied = 0
    with opened(shard) as store:
        snapshot = store.current()
        for other, slots in _leaving(shard, others, rule, snapshot):
            with opened(other) as target:
                for start in range(0, len(slots), _ROWS_AT_ONCE):
                    rows = whole_rows(snapshot, slots[start : start + _ROWS_AT_ONCE])
                    target.take_over(rows, store.fields)
            copied += len(slots)
    return copied


def drop_moved(shard: Shard, others: Sequence[Shard], rule: Rule) -> Done:
    """Delete the rows that belong elsewhere, as far as their new homes hold them as they are."""
    with opened(shard) as store:
        snapshot = store.current()
        moved: list[str] = []
        for other, slots in _leaving(shard, others, rule, snapshot):
            ids = snapshot.values("id", slots)
            digests = snapshot.values("digest", slots)
            with opened(other) as target:
                there = target.current()
                found = there.find_ids(ids)
                present = np.flatnonzero(found >= 0)
                same = there.values("digest", found[present])
            moved += [
                ids[place]
                for place, digest in zip(present.tolist(), same, strict=True)
                if digests[place] == digest
            ]
        report = store.delete(moved) if moved else None
        return Done(report=report, summary=summary_of(shard.name, store))


def _leaving(
    shard: Shard, others: Sequence[Shard], rule: Rule, snapshot: Snapshot
) -> list[tuple[Shard, Slots]]:
    """The shards that rows of this one belong to, with these rows."""
    if not len(snapshot):
        return []
    alive = snapshot.alive_slots
    home = _homes(snapshot, rule)
    away = np.unique(home[home != shard.number]).tolist()
    by_number = {other.number: other for other in others}
    return [(by_number[number], alive[home == number]) for number in away]


def _homes(snapshot: Snapshot, rule: Rule) -> npt.NDArray[np.int64]:
    """The home of every anchor, in the order of the slots."""
    if rule.column not in snapshot.schema.names:
        raise InputError(
            f"{snapshot.root} has no column {rule.column!r} to place its anchors by: ingest "
            "through the cluster, or remove the store from it",
            field=rule.column,
        )
    column = snapshot.rows[rule.column].combine_chunks()
    if snapshot.alive is not None:
        column = column.filter(snapshot.alive == 1)

    def refuse(row: int | None, problem: str) -> InputError:
        place = "" if row is None else f", anchor {row}"
        return InputError(f"{snapshot.root}{place}: {rule.column!r} {problem}", field=rule.column)

    values = optional_texts(column, refuse)
    if values.null_count:
        raise refuse(None, "is missing in some anchors: ingest them through the cluster")
    return homes(values, rule.shards)


def summarize(shard: Shard) -> Summary:
    """What the shard is like now."""
    with opened(shard) as store:
        return summary_of(shard.name, store)


def figures(shard: Shard) -> dict[str, Any]:
    """The shard's own statistics."""
    with opened(shard) as store:
        return store.stats()


def check(shard: Shard, rule: Rule | None, keys: Keys | None) -> Checked:
    """Verify the shard, and that its anchors belong here."""
    none = np.empty(0, np.uint64)
    try:
        root = shard.folder()
        report = verify_store(root, None, keys)
    except OscillinkError as error:  # too damaged to be compared with anything
        return Checked(report=None, problems=(str(error),), ids=none, misplaced=0)
    if not report.ok:
        return Checked(report=report, problems=report.problems, ids=none, misplaced=0)
    try:
        snapshot = Snapshot(root, read_current(root))
        if not len(snapshot):
            return Checked(report=report, problems=(), ids=none, misplaced=0)
        ids = keys_of(snapshot.values("id", snapshot.alive_slots))
        away = 0 if rule is None else int((_homes(snapshot, rule) != shard.number).sum())
    except OscillinkError as error:
        return Checked(report=report, problems=(str(error),), ids=none, misplaced=0)
    return Checked(report=report, problems=(), ids=ids, misplaced=away)
