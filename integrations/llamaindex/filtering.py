"""LlamaIndex's metadata filters as filters of the store.

The meaning of each operator is that of LlamaIndex's own in-memory store: a missing key satisfies
``!=``, ``nin`` and ``is_empty`` and nothing else. Beyond it, filters nest, what cannot be compared
is no match instead of an error, ``== None`` asks for a missing value, ``contains``, ``any`` and
``all`` look into arrays only, and a key with dots also leads into nested objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from oscillink_store.errors import QueryError
from oscillink_store.filters import And, Compare, Filter, Ids, Not, Operator, Or

from .nodes import NODE_KEY

__all__ = ["from_documents", "restriction", "translated"]

Path = str | tuple[str, ...]

_DOCUMENT_KEYS = ("ref_doc_id", "doc_id", "document_id")
_SOURCE = (NODE_KEY, "source")
_ORDER: dict[FilterOperator, Operator] = {
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
}
_TEXT: dict[FilterOperator, Operator] = {
    FilterOperator.TEXT_MATCH: "text",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "itext",
}


def restriction(
    filters: MetadataFilters | Filter | None,
    *,
    doc_ids: Sequence[str] | None = None,
    node_ids: Sequence[str] | None = None,
) -> Filter | None:
    """All that restricts a query, or None where nothing does."""
    parts: list[Filter] = []
    if isinstance(filters, Filter):
        parts.append(filters)
    elif filters is not None:
        parts.append(translated(filters))
    if doc_ids is not None:
        parts.append(from_documents(doc_ids))
    if node_ids is not None:
        parts.append(Ids(tuple(node_ids)))
    return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def from_documents(doc_ids: Sequence[str]) -> Filter:
    """The nodes whose source is one of these documents."""
    return _of_document(lambda path: Compare(path, "in", list(doc_ids)), "ref_doc_id")


def translated(filters: MetadataFilters) -> Filter:
    """The same filters for the store; without any parts they allow everything.

    Raises:
        QueryError: an operator cannot be used with its value.
    """
    parts = tuple(
        translated(part) if isinstance(part, MetadataFilters) else _compared(part)
        for part in filters.filters
    )
    if not parts or filters.condition in (None, FilterCondition.AND):
        return And(parts)
    if filters.condition == FilterCondition.OR:
        return Or(parts)
    return Not(Or(parts))


def _compared(asked: MetadataFilter) -> Filter:
    def test(path: Path) -> Filter:
        return _test(path, asked)

    if asked.key in _DOCUMENT_KEYS:
        return _of_document(test, asked.key)
    return test(asked.key)


def _of_document(test: Callable[[Path], Filter], key: str) -> Filter:
    """A test of the id of the document: the node's source, or metadata where it has none."""
    known = Compare(_SOURCE, "exists")
    return (known & test(_SOURCE)) | (~known & test(key))


def _test(path: Path, asked: MetadataFilter) -> Filter:
    operator, value = asked.operator, asked.value
    if operator == FilterOperator.EQ:
        return _equal(path, value)
    if operator == FilterOperator.NE:
        return ~_equal(path, value)
    if operator == FilterOperator.IS_EMPTY:
        return Compare(path, "eq", None) | Compare(path, "in", ["", []])
    if operator in _ORDER:
        return Compare(path, _ORDER[operator], value)
    if operator in _TEXT:
        return Compare(path, _TEXT[operator], value)
    values = value if isinstance(value, list) else [value]
    if operator == FilterOperator.CONTAINS and isinstance(value, list):
        raise QueryError(
            f"filter {asked.key!r}: contains asks for one value, not for a list: use any or all"
        )
    if operator in (FilterOperator.IN, FilterOperator.NIN):
        among = Compare(path, "in", _alike(values))
        return among if operator == FilterOperator.IN else ~among
    if operator in (FilterOperator.ANY, FilterOperator.CONTAINS):
        return Compare(path, "contains_any", _alike(values))
    if operator == FilterOperator.ALL:
        held = [Compare(path, "contains_any", _alike([one])) for one in values]
        return And((Compare(path, "contains_all", []), *held))
    raise QueryError(f"filter {asked.key!r}: the operator {operator!r} is unknown")


def _equal(path: Path, value: Any) -> Filter:
    return Compare(path, "eq", None) if value is None else Compare(path, "in", _alike([value]))


def _alike(values: Sequence[Any]) -> list[Any]:
    """The values, and true and false beside 1 and 0: filters of LlamaIndex hold no booleans."""
    return [*values, *(bool(value) for value in values if value in (0, 1))]
