"""Rows that a source holds but that cannot be read, for callers that go on without them."""

from __future__ import annotations

from typing import NamedTuple

from oscillink_store.errors import InputError

__all__ = ["Refusal", "Refusals"]


class Refusal(NamedTuple):
    """Why a row cannot be used: the field that is at fault, if it is one, and the row itself."""

    reason: str
    field: str | None
    data: object

    @classmethod
    def of(cls, error: InputError, data: object) -> Refusal:
        """The refusal that an error stands for."""
        return cls(str(error), error.field, data)


Refusals = dict[int, Refusal]
"""By the 0-based place in a file or object. A reader that is given one writes into it, instead
of raising, and keeps a row of nulls in the place of the one that it refused."""
