"""LangGraph's filters as the store's: ``{"status": "open", "score": {"$gte": 3}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oscillink_store.filters import And, Compare, Filter, Operator

__all__ = ["filter_of"]

_OPERATORS: dict[str, Operator] = {
    "$eq": "eq", "$ne": "ne", "$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte",
}  # fmt: skip


def filter_of(given: Mapping[str, Any], above: tuple[str, ...]) -> Filter:
    """All conditions of ``given`` on the value of an item, which lies ``above`` its fields.

    A key is the name of a field or, with dots, a path through objects; where an item has a field
    of that whole name, dots and all, that one counts. An absent field satisfies nothing but
    equality with None.

    Raises:
        ValueError: a key is no path, or an operator is unknown.
    """
    return And(
        tuple(part for key, value in given.items() for part in _conditions(above, key, value))
    )


def _conditions(above: tuple[str, ...], key: Any, value: Any) -> list[Filter]:
    if not isinstance(key, str) or not all(key.split(".")):
        raise ValueError(
            f"Invalid filter key: {key!r:.80}. Name a field, or a path with dots between the "
            "names of fields, none of them empty"
        )
    if not isinstance(value, Mapping) or not value:
        return [_compare(above, key, "eq", value)]
    if any(isinstance(name, str) and name.startswith("$") for name in value):
        return [_compare(above, key, name, held) for name, held in value.items()]
    # an object without operators: each of its fields must agree
    return [part for name, held in value.items() for part in _conditions((*above, key), name, held)]


def _compare(above: tuple[str, ...], key: str, name: str, held: Any) -> Filter:
    operator = "eq" if name == "eq" else _OPERATORS.get(name)
    if operator is None:
        known = ", ".join(_OPERATORS)
        raise ValueError(f"Unsupported operator: {name!r} for {key!r:.80}. Use one of {known}")
    whole = (*above, key)
    pieces = (*above, *key.split("."))
    if whole == pieces:
        return Compare(whole, operator, held)
    literal = Compare(whole, "exists")
    return (literal & Compare(whole, operator, held)) | (~literal & Compare(pieces, operator, held))
