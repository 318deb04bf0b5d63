"""Replay of a search of several stores, layer by layer: the whole, and each part by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from oscillink_store.engine.replay import Asked, differences, other_release, question_of
from oscillink_store.errors import IntegrityError, QueryError, UnansweredError
from oscillink_store.many.composed import composed
from oscillink_store.many.result import ManyReplay, disagreement
from oscillink_store.many.rounds import search
from oscillink_store.many.tasks import replay_part
from oscillink_store.reports import ReplayReport

if TYPE_CHECKING:
    from oscillink_store.embed.protocol import Embedder
    from oscillink_store.engine.query import Query
    from oscillink_store.many.asking import Asking
    from oscillink_store.receipts.receipt import Receipt

__all__ = ["AskingOf", "replay"]


class AskingOf(Protocol):
    """Makes the asking of some stores, in this order, some of which leave in a round."""

    def __call__(self, names: list[str], leaving: Mapping[str, str]) -> Asking:
        """The asking; names that are unknown are left out."""
        ...


def replay(
    asking_of: AskingOf,
    told: Receipt,
    parts: Mapping[str, Receipt],
    asked: Asked,
    embedder: Embedder | None,
) -> ManyReplay:
    """Replay a composed receipt; see :meth:`oscillink_store.many.stores.ManyStores.replay`."""
    if told.kind != "many":
        raise QueryError(
            f"receipt {told.id} tells of a {told.kind or 'thing unknown'}: replay it with the "
            "store that it is of"
        )
    if reason := other_release(told.content):
        return ManyReplay(whole=_not_replayable(told, reason), parts={})
    query = question_of(told, asked, embedder, None)
    again = Asked(text=query.text, vector=query.vector, where=query.where)
    return ManyReplay(
        whole=_whole(asking_of, told, query), parts=_parts(asking_of, told, parts, again)
    )


def _parts(
    asking_of: AskingOf, told: Receipt, parts: Mapping[str, Receipt], asked: Asked
) -> dict[str, ReplayReport]:
    entries = {entry["name"]: entry for entry in told.content["stores"]}
    asking = asking_of(list(entries), {})
    due = {name: (parts.get(name, entries[name]["receipt"]), asked) for name in asking.names}
    reports = asking.tell(replay_part, due)
    for name, report in reports.items():
        if problem := disagreement(told, entries[name], report.receipt):
            raise IntegrityError(f"{told}: {problem}")
    for name in entries:
        if name not in reports:
            left = asking.left.get(name)
            reason = "it is not among these stores" if left is None else left.reason
            reports[name] = _not_replayable(parts.get(name, told), reason)
    return {name: reports[name] for name in entries}


def _whole(asking_of: AskingOf, told: Receipt, query: Query) -> ReplayReport:
    content = told.content
    entries = list(content["stores"])
    for left in sorted(content["missing"], key=lambda entry: int(entry["place"])):
        entries.insert(left["place"], left)  # sums are rounded in the order of the stores
    # what was counted of stores that left later is in the statistics
    generations = {
        entry["name"]: entry["generation"] for entry in entries if entry["generation"] is not None
    }
    leaving = {
        entry["name"]: entry["round"] for entry in content["missing"]
        if entry["name"] in generations
    }  # fmt: skip
    asking = asking_of(list(generations), leaving)
    for name in generations:
        if name not in asking.names:
            return _not_replayable(told, f"store {name!r} is not among these")

    def query_of(asking: Asking, _: object) -> Query:
        if asking.left:
            raise UnansweredError("; ".join(f"{e.store}: {e.reason}" for e in asking.missing))
        return query

    try:
        found = search(
            asking, query.text, query.where, query_of, generations=generations, record=False
        )
    except UnansweredError as error:
        return _not_replayable(told, str(error))
    if lost := [left for left in asking.missing if left.store not in leaving]:
        return _not_replayable(told, f"{lost[0].store}: {lost[0].reason}")
    again = _as_told(composed(found, []), content)
    other = differences(content, again)
    return ReplayReport(
        receipt=told,
        status="different" if other else "identical",
        reason=None,
        differences=other,
    )


def _as_told(again: dict[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """A content found again, with what depends on more than the stores as it was told.

    That is why stores were left out, and the hashes of receipts, which have a time and a place
    in a ledger; those of their contents are compared.
    """
    hashes = {entry["name"]: entry["receipt"] for entry in told["stores"]}
    stores = [{**entry, "receipt": hashes.get(entry["name"])} for entry in again["stores"]]
    return {**again, "stores": stores, "missing": told["missing"]}


def _not_replayable(receipt: Receipt, reason: str) -> ReplayReport:
    return ReplayReport(receipt=receipt, status="not replayable", reason=reason, differences=())
