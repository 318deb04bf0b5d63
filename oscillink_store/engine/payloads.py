"""Payloads: a JSON object per anchor, kept exactly, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from oscillink_store.engine.json_text import TOO_MANY_DIGITS, json_text
from oscillink_store.engine.row_vectors import Refuse
from oscillink_store.errors import InputError

__all__ = ["parse_payload", "payload_text", "payloads"]


def payload_text(value: Mapping[str, Any]) -> str:
    """One object as JSON text.

    Raises:
        InputError: something in it has no JSON form; the message names its place and the remedy.
    """
    return json_text(value)


def parse_payload(text: str) -> dict[str, Any]:
    """The object that a payload's text tells.

    Raises:
        InputError: the text is no JSON object.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError("is nested too deeply: use 64 levels at most") from None
    except json.JSONDecodeError as error:
        raise InputError(f"is no JSON: {error.msg} at {error.pos}") from None
    except InputError:
        raise
    except ValueError:
        raise InputError(TOO_MANY_DIGITS) from None
    if not isinstance(value, dict):
        raise InputError(f"is JSON of type {type(value).__name__}: give an object")
    return value


def payloads(column: pa.Array, refuse: Refuse) -> pa.Array:
    """Payloads as JSON text, in the form of :func:`payload_text`: texts, structs or nulls."""
    is_ = pa.types
    if not (
        is_.is_null(column.type)
        or is_.is_string(column.type)
        or is_.is_large_string(column.type)
        or is_.is_string_view(column.type)
        or is_.is_struct(column.type)
    ):
        raise refuse(
            None,
            f"is of type {column.type}: give JSON objects, or name the column of the payload with "
            "Fields(payload=...)",
        )
    texts: list[str | None] = []
    for row, value in enumerate(column.to_pylist()):
        try:
            if isinstance(value, str):
                value = parse_payload(value)
            texts.append(None if value is None else payload_text(value))
        except InputError as error:
            raise refuse(row, str(error)) from None
    return pa.array(texts, pa.string())


def _refuse_constant(name: str) -> None:
    raise InputError(f"holds {name}, which JSON does not know: use null")
