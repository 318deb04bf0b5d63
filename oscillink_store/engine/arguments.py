"""Arguments that several calls take, looked at before anything is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast, get_args

from oscillink_store.errors import QueryError
from oscillink_store.model import Detail, Fields, Parameters

__all__ = ["checked_detail", "checked_ids", "checked_label", "checked_options"]


def checked_detail(given: object) -> Detail:
    """A receipt's level of detail.

    Raises:
        QueryError: there is none of that name.
    """
    if given not in get_args(Detail):
        raise QueryError(f"detail is {given!r:.80}: use 'light' or 'full'")
    return cast("Detail", given)


def checked_label(given: object) -> None:
    """Look at a note for a receipt.

    Raises:
        QueryError: it is no text.
    """
    if given is not None and not isinstance(given, str):
        raise QueryError(f"label is a {type(given).__name__}: pass a string")


def checked_options(fields: object = None, parameters: object = None) -> None:
    """Look at what may be left out.

    Raises:
        QueryError: one of them is something else.
    """
    for name, given, kind in (("fields", fields, Fields), ("parameters", parameters, Parameters)):
        if given is not None and not isinstance(given, kind):
            raise QueryError(
                f"{name} is a {type(given).__name__}: pass {kind.__name__}(...), or leave it out"
            )


def checked_ids(given: Any, name: str = "ids", kind: str = "a list of ids") -> list[str]:
    """Ids as a list; a text is one id.

    Args:
        given: What the caller passed.
        name: The argument, for messages.
        kind: What else than one id the argument takes, for messages.

    Raises:
        QueryError: there is something else among them than text.
    """
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise QueryError(f"{name} is a {type(given).__name__}: pass {kind}")
    ids = [given] if isinstance(given, str) else list(given)
    for item in ids:
        if not isinstance(item, str):
            raise QueryError(
                f"{name}: id {item!r:.80} is a {type(item).__name__}: pass ids as strings"
            )
        try:
            item.encode()
        except UnicodeEncodeError as error:
            raise QueryError(f"{name}: an id holds a lone surrogate, which is no text") from error
    return ids
