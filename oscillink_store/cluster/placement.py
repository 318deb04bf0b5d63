"""Placement: which shard a row belongs to, by the value of one of its columns.

Jump consistent hash (Lamping and Veach 2014) over the 64-bit key of the value's text: every shard
gets an equal share of the values, and of n shards that become n + 1 each gives up 1/(n + 1) of its
own, to the new one alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import jump
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine.row_columns import first_row, optional_texts
from oscillink_store.engine.rows import columns_of, refused
from oscillink_store.errors import InputError, QueryError
from oscillink_store.kernels.hashing import keys_of
from oscillink_store.model import Fields

__all__ = [
    "HASH", "checked_by", "homes", "homes_of", "placing_values", "shard_name", "stored_column",
]  # fmt: skip

HASH = "jump"
"""The rule's name in the catalogue."""

Homes = npt.NDArray[np.int64]


def homes(values: pa.Array, shards: int) -> Homes:
    """The shard of each value (n,), a number from 0; values are ``string`` without nulls."""
    coded = values.dictionary_encode()
    keys = keys_of(coded.dictionary.to_pylist())
    each = np.fromiter((jump.hash(key, shards) for key in keys.tolist()), np.int64, len(keys))
    found: Homes = each[coded.indices.to_numpy()]
    return found


def homes_of(values: Sequence[str], shards: int) -> Homes:
    """:func:`homes` of a sequence of texts."""
    return homes(pa.array(values, pa.string()), shards)


def placing_values(batch: pa.RecordBatch, by: str, source: str, places: Sequence[int]) -> pa.Array:
    """The values that rows are placed by, as text.

    Args:
        batch: The rows.
        by: The column.
        source: Where they come from, for messages.
        places: The number of each row there.

    Raises:
        InputError: the column is not there, or one of its values is missing, blank, or neither
            text nor a whole number.
    """
    columns = columns_of(batch, source)
    if by not in columns:
        raise InputError(
            f"{source} has no column {by!r}, by which this cluster places its rows: add it, or "
            "create a cluster that is placed by another column",
            field=by,
        )

    def refuse(row: int | None, problem: str) -> InputError:
        return refused(source, places, by, row, problem)

    values = optional_texts(columns[by], refuse)
    missing = first_row(pc.is_null(values))
    if missing is not None:
        raise refuse(
            missing, "is missing or empty: give every row one, as this cluster places rows by it"
        )
    return values


def shard_name(number: int) -> str:
    """What a cluster calls its shard of this number."""
    return f"shard-{number:04d}"


def checked_by(by: str, fields: Fields) -> str:
    """The column to place rows by, looked at.

    Raises:
        QueryError: each row has a value of its own there, or one that is no name of anything.
    """
    for part in ("text", "vector", "position", "links", "gate", "payload"):
        if by == getattr(fields, part):
            raise QueryError(
                f"by is {by!r}, the column of each row's {part}: use one that rows share, such as "
                "a tenant or a document, or the id"
            )
    return by


def stored_column(by: str, fields: Fields) -> str:
    """The column of the anchors table that holds what rows are placed by."""
    return {fields.id: "id", fields.title: "title"}.get(by, by)
