"""LangChain's filters, dicts in the dialect of Mongo and Chroma, as filters of the store.

``{"year": {"$gte": 1960}, "tags": "news"}``: all keys must hold. A key leads through nested
objects by dots, unless the metadata has it as it stands. A plain value, like ``$eq``, matches
metadata that equals it and lists that contain it; ``None`` matches what is absent. ``$ne``,
``$nin``, ``$not`` and ``$nor`` allow exactly what their opposites do not, so also documents
without the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from oscillink_store.errors import QueryError
from oscillink_store.filters import And, Compare, Filter, Not, Or

__all__ = ["to_filter"]

Clause = Callable[[str, Any], Filter]


def to_filter(given: object) -> Filter:
    """A filter of the store from a dict, or the filter itself.

    Raises:
        QueryError: an operator is unknown, or what stands beside it cannot be used.
    """
    if isinstance(given, Filter):
        return given
    if not isinstance(given, Mapping):
        raise QueryError(
            f"filter is a {type(given).__name__}: pass a dict, an oscillink_store.filters.Filter "
            "or a function of a Document"
        )
    return And(tuple(_clause(key, value) for key, value in given.items()))


def _clause(key: object, value: Any) -> Filter:
    if not isinstance(key, str):
        raise QueryError(f"filter: the key {key!r:.80} is no text: metadata keys are strings")
    if key in ("$and", "$or", "$nor"):
        if not isinstance(value, list | tuple) or not value:
            raise QueryError(f"filter: {key} needs a list of at least one filter")
        parts = tuple(to_filter(part) for part in value)
        return And(parts) if key == "$and" else Or(parts) if key == "$or" else Not(Or(parts))
    if key == "$not":
        return Not(to_filter(value))
    if key.startswith("$"):
        raise QueryError(f"filter: {key} has no field: use $and, $or, $nor, $not or a metadata key")
    return _field(key, value)


def _field(key: str, value: Any) -> Filter:
    if not isinstance(value, Mapping) or not any(str(name).startswith("$") for name in value):
        return _equal(key, value)
    for name in value:
        if name not in _OPERATORS:
            raise QueryError(
                f"filter: {name!r} of {key!r} is no operator: use one of {', '.join(_OPERATORS)}"
            )
    return And(tuple(_OPERATORS[name](key, operand) for name, operand in value.items()))


def _equal(key: str, value: Any) -> Filter:
    equal = Compare(key, "eq", value)
    return equal if value is None else equal | Compare(key, "contains", value)


def _among(key: str, values: Any) -> Filter:
    if not isinstance(values, list | tuple | set | frozenset):
        raise QueryError(f"filter: $in or $nin of {key!r} needs a list of values")
    present = [value for value in values if value is not None]
    among = Compare(key, "in", present) | Compare(key, "contains_any", present)
    return among if len(present) == len(values) else among | Compare(key, "eq", None)


def _between(key: str, bounds: Any) -> Filter:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise QueryError(f"filter: $between of {key!r} needs two values, the least and the most")
    return Compare(key, "gte", bounds[0]) & Compare(key, "lte", bounds[1])


def _like(key: str, pattern: Any, *, ignore_case: bool) -> Filter:
    inner = pattern[1:-1] if isinstance(pattern, str) else ""
    if len(inner) == 0 or pattern != f"%{inner}%" or any(sign in inner for sign in "%_\\"):
        raise QueryError(
            f"filter: $like of {key!r} is {pattern!r:.80}: only '%text%', a text that is held "
            "anywhere, can be used; use $contains for texts with _ or %"
        )
    return Compare(key, "itext" if ignore_case else "text", inner)


def _contains(key: str, value: Any) -> Filter:
    held = Compare(key, "contains", value)
    return held | Compare(key, "text", value) if isinstance(value, str) else held


def _exists(key: str, wanted: Any) -> Filter:
    if not isinstance(wanted, bool):
        raise QueryError(f"filter: $exists of {key!r} is {wanted!r:.80}: use True or False")
    exists = Compare(key, "exists")
    return exists if wanted else Not(exists)


def _compare(op: Any, key: str, value: Any) -> Filter:
    return Compare(key, op, value)


def _opposite(clause: Clause, key: str, value: Any) -> Filter:
    return Not(clause(key, value))


_OPERATORS: dict[str, Clause] = {
    "$eq": _equal,
    "$ne": partial(_opposite, _equal),
    "$gt": partial(_compare, "gt"),
    "$gte": partial(_compare, "gte"),
    "$lt": partial(_compare, "lt"),
    "$lte": partial(_compare, "lte"),
    "$in": _among,
    "$nin": partial(_opposite, _among),
    "$all": partial(_compare, "contains_all"),
    "$between": _between,
    "$like": partial(_like, ignore_case=False),
    "$ilike": partial(_like, ignore_case=True),
    "$contains": _contains,
    "$not_contains": partial(_opposite, _contains),
    "$exists": _exists,
    "$not": partial(_opposite, _field),
}
