"""How an item lies in the folder: one record, and an anchor for each text that is indexed.

The record's namespace is the item's behind :data:`ROOT`; its value holds the item's own value and
the ids of its anchors. That list is what counts: an anchor that the record does not list is none
of the item's, whoever has written it. So documents in the same folder never pass for items.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from langgraph.store.base import Item, SearchItem

import oscillink_store as osc
from oscillink_store.filters import Compare, Filter, matches

from .filtering import filter_of

__all__ = [
    "ROOT",
    "Place",
    "Text",
    "anchors_of",
    "item_of",
    "meets",
    "place_of",
    "record_of",
    "row_of",
    "search_item_of",
    "within",
]

ROOT = "langgraph"
"""The first label of the records' namespaces and the key of the anchors' payloads."""

Place: TypeAlias = tuple[tuple[str, ...], str]
"""The namespace, as LangGraph knows it, and the key of an item."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """One indexed text of an item: the ``number``-th that the path leads to."""

    path: str
    number: int
    text: str
    vector: Sequence[float] | None = None

    def id(self, place: Place) -> str:
        """The id of its anchor: JSON, so that no two items can share one."""
        namespace, key = place
        parts = [ROOT, list(namespace), key, self.path, self.number]
        return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def row_of(
    place: Place, text: Text, fields: osc.Fields, value: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The anchor of a text as a row to ingest, in the columns of the folder.

    Its payload holds the item's value for filters to look at, unless there is None here.
    """
    namespace, key = place
    about = {"namespace": list(namespace), "key": key}
    # a folder may have columns of its own for documents, and wants to see them at least once
    row: dict[str, Any] = dict.fromkeys(
        (fields.title, *fields.sequence_columns, fields.position, fields.links, fields.gate,
         *fields.facets)
    )  # fmt: skip
    row[fields.id] = text.id(place)
    row[fields.text] = text.text
    row[fields.payload] = {ROOT: about if value is None else about | {"value": value}}
    if text.vector is not None:
        row[fields.vector] = text.vector
    return row


def record_of(
    place: Place, value: Mapping[str, Any], texts: Sequence[Text], ttl: float | None
) -> osc.Record:
    """The record of an item; ``ttl`` is in seconds."""
    namespace, key = place
    return osc.Record(
        namespace=(ROOT, *namespace),
        key=key,
        value={"value": dict(value), "anchors": [text.id(place) for text in texts]},
        ttl=ttl,
    )


def anchors_of(record: osc.Record | None) -> list[str]:
    """The ids of an item's anchors."""
    return [] if record is None else list(record.value["anchors"])


def within(prefix: Sequence[str], given: Mapping[str, Any] | None) -> Filter:
    """The anchors of the items in a namespace and below it that satisfy a filter.

    Those whose payload has no value are among them, whether their items satisfy it or not.
    """
    inside = Compare((ROOT, "namespace"), "prefix", list(prefix))
    if not given:
        return inside
    return inside & (filter_of(given, (ROOT, "value")) | ~Compare((ROOT, "value"), "exists"))


def meets(record: osc.Record, given: Mapping[str, Any] | None) -> bool:
    """Whether an item satisfies a filter."""
    return not given or matches(filter_of(given, ("value",)), record.value)


def place_of(hit: osc.Hit) -> Place | None:
    """The item that an anchor says it belongs to."""
    told = (hit.payload or {}).get(ROOT)
    if not isinstance(told, dict):
        return None
    namespace, key = told.get("namespace"), told.get("key")
    if not isinstance(namespace, list) or not all(isinstance(each, str) for each in namespace):
        return None
    return (tuple(namespace), key) if isinstance(key, str) else None


def item_of(record: osc.Record) -> Item:
    """A record as LangGraph knows it."""
    return Item(**_parts(record))


def search_item_of(record: osc.Record, score: float | None = None) -> SearchItem:
    """A record that was found as LangGraph knows it."""
    return SearchItem(**_parts(record), score=score)


def _parts(record: osc.Record) -> dict[str, Any]:
    return {
        "value": record.value["value"],
        "key": record.key,
        "namespace": record.namespace[1:],
        "created_at": record.created,
        "updated_at": record.updated,
    }
