"""Names of records, as a caller gives them and as they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from oscillink_store.engine.record_runs import StoredName
from oscillink_store.errors import InputError
from oscillink_store.records import Record, checked_name
from oscillink_store.storage.record_rows import namespace_text

__all__ = ["listed", "stored_name", "stored_names"]


def listed(given: Any, argument: str, kind: str) -> Iterable[Any]:
    """What is given, if it is a list or the like.

    Raises:
        InputError: it is one thing instead of several.
    """
    if isinstance(given, str | bytes | Record) or not isinstance(given, Iterable):
        raise InputError(
            f"{argument} is a {type(given).__name__}: pass a list of {kind}", field=argument
        )
    return given


def stored_names(pairs: Any, argument: str) -> list[StoredName]:
    """The names that (namespace, key) pairs give.

    Raises:
        InputError: a name cannot be used; names its place in the argument.
    """
    given = enumerate(listed(pairs, argument, "(namespace, key) pairs"))
    return [stored_name(pair, argument, place) for place, pair in given]


def stored_name(pair: Any, argument: str, place: int) -> StoredName:
    """The name that a (namespace, key) pair gives, which stands at a place of an argument.

    Raises:
        InputError: it cannot be used.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(
            f"{argument}[{place}] is {pair!r:.80}: use (namespace, key) pairs",
            field=argument,
            row=place,
        )
    try:
        namespace, key = checked_name(*pair)
    except InputError as error:
        raise InputError(f"{argument}[{place}]: {error}", field=argument, row=place) from None
    return namespace_text(namespace), key
