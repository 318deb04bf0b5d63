"""Filters as values: predicates over what anchors say of themselves, without SQL text.

A :class:`Compare` looks at one place, named by its path; ``&``, ``|`` and ``~`` combine::

    from oscillink_store.filters import Compare

    cheap = Compare("price", "lt", 20) & ~Compare("tags", "contains", "draft")
    store.search("lamp", where=cheap)

A row's value at a path is that of its ``payload``, else that of its metadata column. Values are
JSON's: text, numbers, true and false, null, arrays and objects; numbers are equal by value
(1 and 1.0), nothing else is equal across types (1, "1" and true). In metadata columns, dates and
times count as their ISO 8601 text, decimals and durations (in seconds) as numbers, and bytes as
their hexadecimal text. A path that leads nowhere and one that leads to null are both *absent*.

No text of a filter is ever parsed, so keys and values may hold anything.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from oscillink_store.errors import QueryError

__all__ = [
    "And",
    "Compare",
    "Filter",
    "Ids",
    "Not",
    "Operator",
    "Or",
    "from_json",
    "matches",
    "test_of",
    "value_at",
]

Operator = Literal[
    "eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "contains", "contains_any", "contains_all",
    "text", "itext", "exists", "empty", "prefix",
]  # fmt: skip
"""What a :class:`Compare` asks of the value; absent values satisfy ``empty``, ``eq`` with None,
and nothing else.

========================= ==========================================================
eq, ne                    equal to the given value, or present and not equal to it
gt, gte, lt, lte          both numbers, or both texts (by code points), in that order
in, nin                   equal to one of the given values; present and equal to none
contains                  an array with an element equal to the given value
contains_any, _all        an array with some, or all, of the given values
text, itext               a text that holds the given one; itext ignores case
exists                    present
empty                     absent, or an empty text, array or object
prefix                    an array that begins with the given one
========================= ==========================================================
"""

_ABSENT = object()
_LISTS = ("in", "nin", "contains_any", "contains_all", "prefix")
_BARE = ("exists", "empty")
_MAX_DEPTH = 64


class Filter(ABC):
    """A predicate over anchors; see the module."""

    def __and__(self, other: Filter) -> And:
        # long chains lie flat, or they would nest deeper than Python recurses
        return And((*(self.parts if isinstance(self, And) else (self,)), other))

    def __or__(self, other: Filter) -> Or:
        return Or((*(self.parts if isinstance(self, Or) else (self,)), other))

    def __invert__(self) -> Not:
        return Not(self)

    @abstractmethod
    def to_json(self) -> Any:
        """The filter as plain JSON values, the same for equal filters."""

    @cached_property
    def text(self) -> str:
        """The filter as one line of JSON, by which it is known in caches and receipts."""
        return json.dumps(self.to_json(), ensure_ascii=True, separators=(",", ":"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@dataclass(frozen=True, eq=False)
class Compare(Filter):
    """One value held against another.

    Args:
        path: A tuple of keys leads through objects (and, by whole numbers as text, arrays). A
            text is the key itself where the row has it, else its pieces between dots.
        op: What to ask; see :data:`Operator`.
        value: What to hold against; not for ``exists`` and ``empty``.

    Raises:
        QueryError: the operator is unknown, or path or value cannot be used with it.
    """

    path: str | tuple[str, ...]
    op: Operator
    value: Any = None

    def __post_init__(self) -> None:
        """Refuse what could not be compared."""
        keys = (self.path,) if isinstance(self.path, str) else self.path
        if not isinstance(keys, tuple) or not keys or not all(isinstance(k, str) for k in keys):
            raise QueryError(f"filter: path is {self.path!r:.80}: use a key or a tuple of keys")
        for key in keys:
            _check_text(key, f"filter: the key {key!r:.80}")
        if self.op not in get_args(Operator):
            known = ", ".join(get_args(Operator))
            raise QueryError(f"filter: op is {self.op!r}: use one of {known}")
        object.__setattr__(self, "value", _plain(self.value, self.path))
        if self.op in _LISTS and not isinstance(self.value, list):
            raise QueryError(f"filter: {self.op} of {self.path!r:.80} needs a list of values")
        if self.op in _BARE and self.value is not None:
            raise QueryError(f"filter: {self.op} of {self.path!r:.80} takes no value")
        if self.op in ("text", "itext") and not isinstance(self.value, str):
            raise QueryError(f"filter: {self.op} of {self.path!r:.80} needs a text")
        if self.op in ("gt", "gte", "lt", "lte") and (
            isinstance(self.value, bool) or not isinstance(self.value, int | float | str)
        ):
            raise QueryError(f"filter: {self.op} of {self.path!r:.80} needs a number or a text")

    @cached_property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """The paths that may lead to the value, the first that does counting."""
        if isinstance(self.path, tuple):
            return (self.path,)
        pieces = tuple(self.path.split("."))
        return ((self.path,),) if len(pieces) == 1 else ((self.path,), pieces)

    def to_json(self) -> Any:
        """``[op, path, value]``."""
        path = self.path if isinstance(self.path, str) else list(self.path)
        return [self.op, path, _told(self.value)]


@dataclass(frozen=True, eq=False)
class And(Filter):
    """All of the parts; with none it allows everything."""

    parts: tuple[Filter, ...]

    def __post_init__(self) -> None:
        """Refuse parts that are no filters."""
        object.__setattr__(self, "parts", _checked(self.parts))

    def to_json(self) -> Any:
        """``["and", part, ...]``."""
        return ["and", *(part.to_json() for part in self.parts)]


@dataclass(frozen=True, eq=False)
class Or(Filter):
    """At least one of the parts; with none it allows nothing."""

    parts: tuple[Filter, ...]

    def __post_init__(self) -> None:
        """Refuse parts that are no filters."""
        object.__setattr__(self, "parts", _checked(self.parts))

    def to_json(self) -> Any:
        """``["or", part, ...]``."""
        return ["or", *(part.to_json() for part in self.parts)]


@dataclass(frozen=True, eq=False)
class Not(Filter):
    """What the part does not allow."""

    part: Filter

    def __post_init__(self) -> None:
        """Refuse a part that is no filter."""
        _checked((self.part,))

    def to_json(self) -> Any:
        """``["not", part]``."""
        return ["not", self.part.to_json()]


@dataclass(frozen=True, eq=False)
class Ids(Filter):
    """The anchors with these ids, as far as there are any."""

    ids: Sequence[str]

    def __post_init__(self) -> None:
        """Refuse ids that are no text."""
        if isinstance(self.ids, str) or not isinstance(self.ids, Iterable):
            raise QueryError(f"filter: ids is {self.ids!r:.80}: pass a list of ids")
        ids = tuple(self.ids)
        for item in ids:
            if not isinstance(item, str):
                raise QueryError(f"filter: id {item!r:.80} is no text: pass ids as strings")
            _check_text(item, f"filter: the id {item!r:.80}")
        object.__setattr__(self, "ids", ids)

    @cached_property
    def names(self) -> frozenset[str]:
        """The ids, each once."""
        return frozenset(self.ids)

    def to_json(self) -> Any:
        """``["ids", id, ...]``."""
        return ["ids", *self.ids]


def from_json(value: Any) -> Filter:
    """The filter whose :meth:`Filter.to_json` gave the value.

    Raises:
        QueryError: it is none of a filter.
    """
    try:
        name, *rest = value
        if name in _JOINED:
            return _JOINED[name](tuple(map(from_json, rest)))
        if name == "not":
            (part,) = rest
            return Not(from_json(part))
        if name == "ids":
            return Ids(rest)
        path, other = rest
        return Compare(path if isinstance(path, str) else tuple(path), name, other)
    except (TypeError, ValueError, RecursionError) as error:
        raise QueryError(f"filter: {value!r:.80} is not the JSON of a filter") from error


_JOINED: dict[object, Callable[[tuple[Filter, ...]], Filter]] = {"and": And, "or": Or}


def matches(where: Filter, value: Mapping[str, Any], key: str | None = None) -> bool:
    """Whether one JSON object satisfies a filter.

    Args:
        where: The filter.
        value: The object, as of a payload.
        key: Its id, for :class:`Ids`.
    """
    if isinstance(where, And):
        return all(matches(part, value, key) for part in where.parts)
    if isinstance(where, Or):
        return any(matches(part, value, key) for part in where.parts)
    if isinstance(where, Not):
        return not matches(where.part, value, key)
    if isinstance(where, Ids):
        return key in where.names
    if isinstance(where, Compare):
        found = _ABSENT
        for path in where.paths:
            found = value_at(value, path, _ABSENT)
            if found is not _ABSENT:
                break
        return test_of(where)(None if found is _ABSENT else found)
    raise QueryError(f"where is a {type(where).__name__}: pass a Filter")


def test_of(compare: Compare) -> Callable[[Any], bool]:
    """The comparison as a function of the value, None where it is absent."""
    op, given = compare.op, compare.value
    if op == "exists":
        return lambda value: value is not None
    if op == "empty":
        return lambda value: value is None or value in ("", [], {})
    if op == "eq":
        return lambda value: _same(value, given)
    if op == "ne":
        return lambda value: value is not None and not _same(value, given)
    if op == "in":
        return lambda value: value is not None and _among(value, given)
    if op == "nin":
        return lambda value: value is not None and not _among(value, given)
    if op == "text":
        return lambda value: isinstance(value, str) and given in value
    if op == "itext":
        folded = given.casefold()
        return lambda value: isinstance(value, str) and folded in value.casefold()
    if op in ("gt", "gte", "lt", "lte"):
        return _order(op, given)
    return _array_test(op, given)


def _array_test(op: str, given: Any) -> Callable[[Any], bool]:
    if op == "contains":
        return lambda value: isinstance(value, list) and _among(given, value)
    if op == "contains_any":
        return lambda value: isinstance(value, list) and any(_among(g, value) for g in given)
    if op == "contains_all":
        return lambda value: isinstance(value, list) and all(_among(g, value) for g in given)
    return lambda value: isinstance(value, list) and _same(value[: len(given)], given)


def _order(op: str, given: Any) -> Callable[[Any], bool]:
    kind = str if isinstance(given, str) else (int, float)

    def comparable(value: Any) -> bool:
        return isinstance(value, kind) and not isinstance(value, bool)

    if op == "gt":
        return lambda value: comparable(value) and value > given
    if op == "gte":
        return lambda value: comparable(value) and value >= given
    if op == "lt":
        return lambda value: comparable(value) and value < given
    return lambda value: comparable(value) and value <= given


def _same(first: Any, second: Any) -> bool:
    """Equality of JSON values: numbers by value, and true is no number."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(v, second[k]) for k, v in first.items())
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)


def _among(value: Any, values: Iterable[Any]) -> bool:
    return any(_same(value, other) for other in values)


def value_at(value: Any, path: Sequence[str], absent: Any = None) -> Any:
    """What a path leads to from a JSON value, ``absent`` where it leads nowhere."""
    for key in path:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and _is_index(key) and int(key) < len(value):
            value = value[int(key)]
        else:
            return absent
    return value


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10 and (key == "0" or key[0] != "0")


def _plain(value: Any, path: object, depth: int = 0) -> Any:
    """A value of Python as one of JSON, NaN and the infinities left as they are."""
    if depth > _MAX_DEPTH:
        raise QueryError(f"filter: the value for {path!r:.80} is nested too deeply")
    if isinstance(value, str):
        _check_text(value, f"filter: the value for {path!r:.80}")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return _whole(value, path)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item, path, depth + 1) for item in value]
        return sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, path, depth + 1) for key, item in value.items()}
    if hasattr(value, "isoformat"):  # dates and times, as metadata columns hold them
        return str(value.isoformat())
    raise QueryError(
        f"filter: the value for {path!r:.80} is a {type(value).__name__}: use text, numbers, "
        "true, false, None, lists, dicts or dates"
    )


def _whole(value: int, path: object) -> int:
    try:
        str(value)
    except ValueError:
        raise QueryError(
            f"filter: the value for {path!r:.80} is a whole number of thousands of digits, which "
            "no payload holds: write it as text"
        ) from None
    return value


def _told(value: Any) -> Any:
    """A value for :attr:`Filter.text`: objects by sorted keys."""
    if isinstance(value, dict):
        return {key: _told(value[key]) for key in sorted(value)}
    return [_told(item) for item in value] if isinstance(value, list) else value


def _check_text(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"{name} holds a lone surrogate, which is no text") from error


def _checked(parts: Iterable[Filter]) -> tuple[Filter, ...]:
    if not isinstance(parts, Iterable):
        raise QueryError(f"filter: parts is a {type(parts).__name__}: pass a tuple of Filters")
    parts = tuple(parts)
    for part in parts:
        if not isinstance(part, Filter):
            raise QueryError(f"filter: {part!r:.80} is a {type(part).__name__}: combine Filters")
    return parts
