"""What the ledger knows of a job: where a run goes on, and which ids it brought before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.key_set import Keys
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.errors import IntegrityError
from oscillink_store.lattice.keyindex import find
from oscillink_store.model import Fields
from oscillink_store.reports import JobStatus
from oscillink_store.storage.job_table import JOBS, JobRow, read

__all__ = ["History", "claims_of_others", "history", "identity_of", "slots_of_keys", "statuses"]


@dataclass(frozen=True, eq=False)
class History:
    """The rows of a job's run that goes on now, and the keys of the ids that it brought before.

    ``done`` is empty unless the newest run was cut short and its source is still the same.
    """

    run: int
    done: tuple[JobRow, ...]
    earlier: Keys


def _rows(latest: Callable[[], Snapshot], job: str | None, *, keys: bool) -> list[JobRow]:
    while True:
        snapshot = latest()
        try:
            return read(snapshot.table(JOBS), job, keys=keys)
        except IntegrityError:
            if latest() is snapshot:  # else a writer has taken files away meanwhile
                raise


def history(latest: Callable[[], Snapshot], job: str, identity: str | None) -> History:
    """Read the ledger about a job that is about to run over a source of this identity."""
    rows = _rows(latest, job, keys=True)
    newest = max((row.run for row in rows), default=0)
    last = [row for row in rows if row.run == newest]
    goes_on = (
        identity is not None
        and bool(last)
        and all(row.identity == identity and not row.finished for row in last)
    )
    run = newest if goes_on else newest + 1
    earlier = _joined(row.ids for row in rows if row.run != run)
    return History(run=run, done=tuple(last) if goes_on else (), earlier=earlier)


def identity_of(source: str | None, fields: Fields) -> str | None:
    """A digest of where rows come from and which columns play which part."""
    if source is None:
        return None
    return hashlib.sha256(json.dumps([source, asdict(fields)]).encode()).hexdigest()


def claims_of_others(snapshot: Snapshot, job: str) -> Keys:
    """The keys of all ids that other jobs brought, ascending."""
    return _joined(row.ids for row in read(snapshot.table(JOBS)) if row.job != job)


def _joined(keys: Iterable[Keys]) -> Keys:
    return np.unique(np.concatenate([np.empty(0, np.uint64), *keys]))


def slots_of_keys(snapshot: Snapshot, keys: Keys) -> npt.NDArray[np.int64]:
    """The slots of the anchors whose ids have these keys, ascending."""
    _, slots = find([(part.first, part.ids) for part in snapshot.indexed], keys)
    if snapshot.alive is not None:
        slots = slots[snapshot.alive[slots] == 1]
    return np.unique(slots)


def statuses(latest: Callable[[], Snapshot]) -> list[JobStatus]:
    """The newest run of every job, by name."""
    rows = _rows(latest, None, keys=False)
    found = []
    for job in sorted({row.job for row in rows}):
        mine = [row for row in rows if row.job == job]
        run = max(row.run for row in mine)
        newest = [row for row in mine if row.run == run]
        last = newest[-1]
        found.append(
            JobStatus(
                name=job,
                run=run,
                finished=last.finished,
                source=last.source,
                position=last.position,
                added=sum(row.added for row in newest),
                updated=sum(row.updated for row in newest),
                deleted=sum(row.deleted for row in newest),
                unchanged=sum(row.unchanged for row in newest),
                rejected=sum(row.rejected for row in newest),
                anchors=sum(row.anchors for row in newest),
                time=last.time,
            )
        )
    return found
