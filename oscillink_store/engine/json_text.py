"""Values as JSON text, exactly: what would not come back as it went in is refused."""

from __future__ import annotations

import json
import math
from typing import Any

from oscillink_store.errors import InputError, IntegrityError

__all__ = ["DAMAGED", "TOO_MANY_DIGITS", "json_text", "stored_value"]

DAMAGED = "a payload is not what was written: verify the store and restore the folder from a backup"

TOO_MANY_DIGITS = "holds a whole number of thousands of digits: write it as text"
_MAX_DEPTH = 64


def json_text(value: Any) -> str:
    """A value as JSON text; tuples become arrays.

    Raises:
        InputError: something in it has no JSON form; the message says where it stands.
    """
    _check(value, "", 0)
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise InputError(TOO_MANY_DIGITS) from None


def stored_value(text: str | None) -> Any:
    """The value of a text that :func:`json_text` gave; None where there is none.

    Raises:
        IntegrityError: the text is another by now.
    """
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise IntegrityError(DAMAGED) from error


def _check(value: Any, place: str, depth: int) -> None:
    if value is None or isinstance(value, bool | int):
        return
    if depth > _MAX_DEPTH:
        raise InputError(f"is nested too deeply: use {_MAX_DEPTH} levels at most")
    if isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"holds {value}{_at(place)}, which JSON does not know: use None")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"holds the key {key!r:.40}{_at(place)}: use text keys")
            _check_text(key, place)
            _check(item, f"{place}[{key!r:.40}]", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{place}[{index}]", depth + 1)
    else:
        raise InputError(
            f"holds a {type(value).__name__}{_at(place)}, which JSON does not know: use text, "
            "numbers, true, false, None, lists or dicts"
        )


def _check_text(text: str, place: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"holds a lone surrogate{_at(place)}, which is no Unicode text: replace it"
        ) from None


def _at(place: str) -> str:
    return f" at {place}" if place else ""
