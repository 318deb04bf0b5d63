"""Reads: items by key, by filter, by meaning, and the namespaces there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol, TypeAlias

from langgraph.store.base import ListNamespacesOp, MatchCondition, SearchOp

import oscillink_store as osc
from oscillink_store.filters import Filter

from .filtering import filter_of
from .layout import ROOT, Place, anchors_of, meets, place_of, within

__all__ = ["Ranking", "Reader", "View"]

Ranking: TypeAlias = Literal["dense", "lattice", "hybrid"]


class View(Protocol):
    """What is read from: a store, or a snapshot of one."""

    def find_records(self, names: Iterable[tuple[Iterable[str], str]]) -> list[osc.Record | None]:
        """The record of each name."""
        ...

    def records(
        self,
        prefix: Iterable[str],
        *,
        where: Filter | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[osc.Record]:
        """The records in a namespace and below."""
        ...

    def record_namespaces(self, prefix: Iterable[str]) -> list[tuple[str, ...]]:
        """The namespaces that hold records."""
        ...

    def search(
        self,
        text: str | None,
        *,
        vector: Sequence[float] | None,
        k: int,
        where: Filter,
        ranking: Ranking,
    ) -> osc.SearchResult:
        """The best anchors."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Answers operations from one view."""

    view: View
    ranking: Ranking
    omit_expired: bool

    def find(self, places: Iterable[Place]) -> list[osc.Record | None]:
        """The record of each item, None where there is none."""
        found = self.view.find_records(((ROOT, *namespace), key) for namespace, key in places)
        return [record if record and self._counts(record) else None for record in found]

    def select(self, op: SearchOp) -> list[osc.Record]:
        """The items in a namespace and below that satisfy a filter, the last written first."""
        prefix = (ROOT, *op.namespace_prefix)
        where = filter_of(op.filter, ("value",)) if op.filter else None
        if not self.omit_expired:
            return self.view.records(prefix, where=where, limit=op.limit, offset=op.offset)
        held = [each for each in self.view.records(prefix, where=where) if self._counts(each)]
        return held[op.offset : op.offset + op.limit]

    def rank(
        self, op: SearchOp, vector: Sequence[float] | None
    ) -> tuple[list[tuple[osc.Record, float]], osc.Receipt]:
        """The items whose texts are nearest to a query, each with the score of its best text."""
        where = within(op.namespace_prefix, op.filter)
        wanted = op.offset + op.limit
        count = max(wanted, 1)
        while True:
            # several texts may be of one item, so this may not be enough items yet
            result = self.view.search(
                op.query, vector=vector, k=count, where=where, ranking=self.ranking
            )
            items = list(self._items(result.hits, op))
            if len(items) >= wanted or len(result) < count:
                return items[op.offset : wanted], result.receipt
            count *= 4

    def namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        """The namespaces that hold items and meet all conditions, cut to a depth, in order."""
        if self.omit_expired:
            records = self.view.records((ROOT,))
            held = {record.namespace for record in records if self._counts(record)}
        else:
            held = set(self.view.record_namespaces((ROOT,)))
        conditions = op.match_conditions or ()
        found = {
            namespace[1:][: op.max_depth]
            for namespace in held
            if all(_agrees(namespace[1:], condition) for condition in conditions)
        }
        return sorted(found)[op.offset : op.offset + op.limit]

    def _items(self, hits: Sequence[osc.Hit], op: SearchOp) -> Iterator[tuple[osc.Record, float]]:
        told = [(hit, place) for hit in hits if (place := place_of(hit)) is not None]
        places = dict.fromkeys(place for _, place in told)
        records = dict(zip(places, self.find(places), strict=True))
        for hit, place in told:
            record = records[place]
            # an anchor that the record does not list is of a value that is gone by now
            if record is not None and hit.id in anchors_of(record):
                records[place] = None  # this text of it is the best
                if meets(record, op.filter):
                    yield record, hit.score

    def _counts(self, record: osc.Record) -> bool:
        return not self.omit_expired or record.expires is None or record.expires > datetime.now(UTC)


def _agrees(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = tuple(condition.path)
    if len(path) > len(namespace):
        return False
    if condition.match_type == "prefix":
        labels = namespace[: len(path)]
    elif condition.match_type == "suffix":
        labels = namespace[len(namespace) - len(path) :]
    else:
        raise ValueError(
            f"Unsupported match type: {condition.match_type!r}. Use 'prefix' or 'suffix'"
        )
    return all(wanted in ("*", label) for label, wanted in zip(labels, path, strict=True))
