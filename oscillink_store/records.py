"""Records: values under a namespace and a key, committed together with anchors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from oscillink_store.errors import InputError, QueryError

__all__ = ["Name", "Record", "checked_name", "checked_namespace"]

Name: TypeAlias = tuple[tuple[str, ...], str]
"""What a record is known by: its namespace and its key."""

_LONGEST_TTL = 1e11  # seconds; what ends later has no date


@dataclass(frozen=True)
class Record:
    """A value kept under a namespace and a key.

    Args:
        namespace: Labels from the widest to the narrowest, of which each may be any text, even an
            empty one; no labels at all are a namespace too.
        key: What the record is known by in its namespace: any text.
        value: ``bytes``, or what JSON knows: text, numbers, true, false, None, lists and dicts
            with text keys. Tuples are stored as lists.
        group: A label to select records by.
        ttl: Seconds from a write, or from a touch, until the record expires. Nothing is taken
            away then: list what has expired with ``records(expired_by=...)``, and drop it.
        created: When the record was first written; times are the store's, in UTC, and whatever
            is given here is not looked at.
        updated: When it was last written. Every commit has a later time than those before it,
            even where the clock steps back.
        expires: ``ttl`` seconds after it was last written or touched.

    Raises:
        InputError: a label, the key, the group or the ttl cannot be used.
    """

    namespace: tuple[str, ...]
    key: str
    value: Any
    group: str | None = None
    ttl: float | None = None
    created: datetime | None = None
    updated: datetime | None = None
    expires: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be found again."""
        namespace, _ = checked_name(self.namespace, self.key)
        object.__setattr__(self, "namespace", namespace)
        if self.group is not None:
            _check_text(self.group, "group", InputError)
        if self.ttl is not None and (
            isinstance(self.ttl, bool)
            or not isinstance(self.ttl, int | float)
            or not math.isfinite(self.ttl)
            or not 0 < self.ttl <= _LONGEST_TTL
        ):
            raise InputError(
                f"ttl is {self.ttl!r}: use a positive number of seconds, at most 1e11, or None",
                field="ttl",
            )


Refusal: TypeAlias = type[InputError] | type[QueryError]


def checked_name(namespace: Iterable[str], key: str, refusal: Refusal = InputError) -> Name:
    """A namespace as a tuple, and the key.

    Raises:
        InputError: one of them cannot be used; or the error that is asked for.
    """
    labels = checked_namespace(namespace, refusal)
    _check_text(key, "key", refusal)
    return labels, key


def checked_namespace(namespace: Iterable[str], refusal: Refusal = InputError) -> tuple[str, ...]:
    """A namespace, or a prefix of some, as a tuple.

    Raises:
        InputError: it cannot be used; or the error that is asked for.
    """
    if isinstance(namespace, str | bytes) or not isinstance(namespace, Iterable):
        raise refusal(f"namespace is {namespace!r:.80}: use a tuple of texts")
    labels = tuple(namespace)
    for place, label in enumerate(labels):
        _check_text(label, f"namespace[{place}]", refusal)
    return labels


def _check_text(text: object, name: str, refusal: Refusal) -> None:
    if not isinstance(text, str):
        raise refusal(f"{name} is a {type(text).__name__}: use text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refusal(f"{name} holds a lone surrogate, which is no text: replace it") from error
