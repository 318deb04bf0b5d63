"""The records of a generation: runs of which the newest wins, found by name or selected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine.record_runs import Places, RecordRun, StoredName, hashes_of
from oscillink_store.errors import QueryError
from oscillink_store.filters import Filter
from oscillink_store.lattice.keyindex import find
from oscillink_store.records import Record, checked_namespace
from oscillink_store.storage.record_rows import namespace_text, to_micros

__all__ = ["RecordView", "Selection", "Spot"]

Mask = npt.NDArray[np.bool_]
Spots = npt.NDArray[np.int64]
"""A :class:`Spot` per row, (n, 2)."""

# How many values a filter looks at before it sees whether they were enough.
_AT_ONCE = 1024


class Spot(NamedTuple):
    """Where a record lies: the number of its run, and its row there."""

    run: int
    row: int


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which records to list; see :meth:`.RecordReader.records`.

    Raises:
        QueryError: an argument cannot be used.
    """

    prefix: Iterable[str] = ()
    exact: bool = False
    where: Filter | None = None
    groups: Iterable[str | None] | None = None
    updated_before: datetime | None = None
    updated_after: datetime | None = None
    expired_by: datetime | None = None
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        object.__setattr__(self, "prefix", checked_namespace(self.prefix, QueryError))
        if self.where is not None and not isinstance(self.where, Filter):
            raise QueryError(f"where is a {type(self.where).__name__}: use a Filter")
        if self.groups is not None:
            object.__setattr__(self, "groups", _checked_groups(self.groups))
        for name in ("updated_before", "updated_after", "expired_by"):
            time = getattr(self, name)
            if time is not None and not isinstance(time, datetime):
                raise QueryError(f"{name} is a {type(time).__name__}: use a datetime")
        for name in ("limit", "offset"):
            number = getattr(self, name)
            if number is None and name == "limit":
                continue
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise QueryError(f"{name} is {number!r}: use a whole number of at least 0")

    def rows_of(self, run: RecordRun) -> Mask:
        """Which rows of a run are selected but for ``where``, be they the newest or not."""
        codes, within = self._namespaces(run)
        mask = within[codes]
        if self.groups is not None:
            wanted = pa.array(self.groups, pa.string())
            mask &= pc.is_in(run.table["group"], value_set=wanted).to_numpy()
        if self.updated_before is not None:
            mask &= run.updated < to_micros(self.updated_before)
        if self.updated_after is not None:
            mask &= run.updated > to_micros(self.updated_after)
        if self.expired_by is not None:
            mask &= run.expires <= to_micros(self.expired_by)
        return mask

    def _namespaces(self, run: RecordRun) -> tuple[npt.NDArray[np.int32], Mask]:
        """The namespace of each row, and which namespaces are selected."""
        names, codes = run.namespaces
        text = namespace_text(tuple(self.prefix))
        within = pc.equal(names, text)
        if not self.exact:
            # all texts begin with a bracket, and behind a whole label comes a comma
            below = text[:-1] + "," if self.prefix else text[:-1]
            within = pc.or_(within, pc.starts_with(names, below))
        return codes, within.to_numpy(zero_copy_only=False)


class RecordView:
    """The records of one generation, over its runs from the oldest to the newest."""

    def __init__(self, runs: Sequence[RecordRun], count: int) -> None:
        self.runs = tuple(runs)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def spots(self, names: Sequence[StoredName]) -> list[Spot | None]:
        """Where each record lies; None where there is none."""
        found: list[Spot | None] = [None] * len(names)
        left = np.arange(len(names))
        hashes = hashes_of(names)
        for number in reversed(range(len(self.runs))):
            if not len(left):
                break
            run = self.runs[number]
            rows = run.find([names[place] for place in left.tolist()], hashes[left])
            for place, row in zip(left.tolist(), rows.tolist(), strict=True):
                if row >= 0 and not run.gone[row]:
                    found[place] = Spot(number, row)
            left = left[rows < 0]
        return found

    def find(self, names: Sequence[StoredName]) -> list[Record | None]:
        """The record of each name; None where there is none.

        Raises:
            IntegrityError: one is not what was written.
        """
        spots = self.spots(names)
        there = np.array([spot for spot in spots if spot is not None], np.int64).reshape(-1, 2)
        records = iter(self._records(there))
        return [None if spot is None else next(records) for spot in spots]

    def select(self, selection: Selection) -> list[Record]:
        """The selected records, last written first."""
        end = None if selection.limit is None else selection.offset + selection.limit
        where = selection.where
        if where is None:
            return self._records(self._ordered(selection, end)[selection.offset : end])
        chosen = self._satisfying(self._ordered(selection, None), where, end)
        return self._records(chosen[selection.offset : end])

    def namespaces(self, prefix: Iterable[str]) -> list[tuple[str, ...]]:
        """The namespaces that hold a record, sorted."""
        selection = Selection(prefix=prefix)
        found = set()
        for run, present in zip(self.runs, self._present, strict=True):
            names, codes = run.namespaces
            held = np.unique(codes[present & selection.rows_of(run)])
            found.update(names.take(pa.array(held)).to_pylist())
        return sorted(tuple(json.loads(text)) for text in found)

    @cached_property
    def _present(self) -> list[Mask]:
        """Of every run, which rows hold a record and are its newest."""
        masks = [~run.gone for run in self.runs]
        for newer, run in enumerate(self.runs[1:], 1):
            for older, mask in zip(self.runs[:newer], masks, strict=False):
                mask[_same(older, run)] = False
        return masks

    def _ordered(self, selection: Selection, most: int | None) -> Spots:
        """The spots of what is selected but for ``where``, last written first.

        The first ``most`` of them are enough.
        """
        found = [np.empty((4, 0), np.int64)]
        for number, (run, present) in enumerate(zip(self.runs, self._present, strict=True)):
            rows = np.flatnonzero(present & selection.rows_of(run))
            runs = np.full(len(rows), number)
            found.append(np.stack([runs, rows, run.updated[rows], run.places[rows]]))
        runs, rows, times, places = np.concatenate(found, axis=1)
        if most is not None and most < len(rows):
            # whatever was written no earlier than the last of them
            last = len(rows) - max(most, 1)
            kept = times >= np.partition(times, last)[last]
            runs, rows, times, places = runs[kept], rows[kept], times[kept], places[kept]
        order = np.lexsort((places, times))[::-1]
        return np.stack([runs[order], rows[order]], axis=1)

    def _satisfying(self, spots: Spots, where: Filter, most: int | None) -> Spots:
        """The spots that satisfy a filter, in their order; the first ``most`` are enough."""
        found = np.empty((0, 2), np.int64)
        for start in range(0, len(spots), _AT_ONCE):
            if most is not None and len(found) >= most:
                break
            some = spots[start : start + _AT_ONCE]
            mask = np.zeros(len(some), np.bool_)
            for number in np.unique(some[:, 0]).tolist():
                mine = some[:, 0] == number
                mask[mine] = self.runs[number].satisfying(some[mine, 1], where)
            found = np.concatenate([found, some[mask]])
        return found

    def _records(self, spots: Spots) -> list[Record]:
        found: dict[int, Record] = {}
        for number in np.unique(spots[:, 0]).tolist():
            mine = np.flatnonzero(spots[:, 0] == number)
            records = self.runs[number].records(spots[mine, 1])
            found.update(zip(mine.tolist(), records, strict=True))
        return [found[place] for place in range(len(spots))]


def _checked_groups(given: object) -> tuple[str | None, ...]:
    if isinstance(given, str):
        raise QueryError(f"groups is the text {given!r:.80}: pass a list of groups")
    if not isinstance(given, Iterable):
        raise QueryError(f"groups is a {type(given).__name__}: pass a list of groups")
    groups = tuple(given)
    for group in groups:
        if group is not None and not isinstance(group, str):
            raise QueryError("groups: use texts, or None for records without a group")
        try:
            (group or "").encode()
        except UnicodeEncodeError as error:
            raise QueryError("groups: one holds a lone surrogate, which is no text") from error
    return groups


def _same(older: RecordRun, newer: RecordRun) -> Places:
    """The rows of a run whose records a newer one has too."""
    which, rows = find([(0, older.index)], newer.index.keys)
    columns = ["namespace", "key"]
    one, two = older.take(rows, columns), newer.take(which, columns)
    equal = pc.and_(*(pc.equal(one[name], two[name]) for name in columns))
    return rows[np.asarray(equal.to_numpy(), np.bool_)]
