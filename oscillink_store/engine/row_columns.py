"""The parts of a row other than its vector: each column checked and brought to its type."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.engine.row_vectors import Refuse, parsed_lists
from oscillink_store.storage.schemas import cast_exactly, first_failing, storable_type

__all__ = [
    "check_encoding",
    "first_row",
    "gates",
    "identifiers",
    "link_lists",
    "metadata_values",
    "optional_texts",
    "positions",
    "required_texts",
    "sequences",
]

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def first_row(mask: pa.Array, value: bool = True) -> int | None:
    """The first row where ``mask`` is ``value``, or None."""
    row = int(pc.index(mask, value).as_py())
    return None if row < 0 else row


def check_encoding(column: pa.Array, refuse: Refuse) -> None:
    """Refuse text that is not UTF-8, at any depth, and arrays that are corrupt."""
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        if "UTF8" not in str(error):
            raise refuse(None, "is a corrupt Arrow array: write the source anew") from error
    else:
        return
    # a slice of lists is validated with all elements of the whole, so look at copies
    try:
        _validate_copy(column)
    except pa.ArrowException:
        row = first_failing(column, _validate_copy)
        raise refuse(row, "is not UTF-8: decode it with its own encoding first") from None


def _validate_copy(column: pa.Array) -> None:
    column.take(pa.array(range(len(column)), pa.int64())).validate(full=True)


def identifiers(column: pa.Array, refuse: Refuse) -> pa.Array:
    """Ids as ``string``: text as it is, whole numbers as decimals; none null or blank."""
    ids = _texts(column, refuse, "text or whole numbers")
    missing = first_row(pc.or_kleene(ids.is_null(), _blank(ids)))
    if missing is not None:
        problem = "is empty" if ids[missing].is_valid else "is missing"
        raise refuse(missing, f"{problem}: give every row an id")
    return ids


def required_texts(column: pa.Array, refuse: Refuse, *, blank: bool) -> pa.Array:
    """Texts as ``string``, none null, and none blank unless that is allowed."""
    if pa.types.is_integer(column.type):
        raise refuse(None, f"is of type {column.type}: give text")
    texts = _texts(column, refuse, "text")
    missing = first_row(texts.is_null() if blank else pc.or_kleene(texts.is_null(), _blank(texts)))
    if missing is not None:
        problem = "is empty" if texts[missing].is_valid else "is missing"
        raise refuse(missing, f"{problem}: give the row a text or leave the row out")
    return texts


def optional_texts(column: pa.Array, refuse: Refuse) -> pa.Array:
    """Text or whole numbers as ``string``; blank ones are null."""
    texts = _texts(column, refuse, "text or whole numbers")
    return pc.if_else(_blank(texts), pa.scalar(None, pa.string()), texts)


def sequences(columns: Sequence[pa.Array]) -> pa.Array:
    """One sequence name per row out of one or several columns of :func:`optional_texts`.

    Several values are joined as the text of a JSON array, so that ("a", "b,c") and
    ("a,b", "c") differ; if one of them is null, the row belongs to no sequence.
    """
    if len(columns) == 1:
        return columns[0]
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return pa.array(
        [None if None in row else json.dumps(row, ensure_ascii=False) for row in rows], pa.string()
    )


def positions(column: pa.Array, refuse: Refuse) -> pa.Array:
    """Positions as ``double``: numbers as they are, dates and timestamps in seconds; or null."""
    type_, is_ = column.type, pa.types
    if is_.is_null(type_) or is_.is_integer(type_) or is_.is_floating(type_):
        places = column.cast(pa.float64(), safe=False)
    elif is_.is_decimal(type_):
        places = column.cast(pa.float64())
    elif is_.is_date(type_):
        places = pc.multiply(column.cast(pa.date32()).cast(pa.int32()).cast(pa.float64()), 86400.0)
    elif is_.is_timestamp(type_) or is_.is_duration(type_):
        ticks = column.cast(pa.int64()).cast(pa.float64(), safe=False)
        places = pc.divide(ticks, _PER_SECOND[type_.unit])
    else:
        raise refuse(None, f"is of type {type_}: give numbers, dates or timestamps to order by")
    row = first_row(pc.is_finite(places), False)
    if row is not None:
        raise refuse(row, f"is {places[row].as_py()}: give a finite number, or null")
    return places


def gates(column: pa.Array, refuse: Refuse) -> pa.Array:
    """Trust gates as ``float``, in [0, 1], or null."""
    type_, is_ = column.type, pa.types
    numbers = (is_.is_null, is_.is_integer, is_.is_floating, is_.is_decimal)
    if not any(test(type_) for test in numbers):
        raise refuse(None, f"is of type {type_}: give numbers from 0 to 1")
    values = column.cast(pa.float64(), safe=False)
    row = first_row(pc.and_(pc.greater_equal(values, 0.0), pc.less_equal(values, 1.0)), False)
    if row is not None:
        raise refuse(row, f"is {values[row].as_py()}: give a number from 0 to 1")
    return values.cast(pa.float32(), safe=False)


def link_lists(column: pa.Array, refuse: Refuse) -> pa.Array:
    """Ids of other anchors as ``list<string>``; an empty list is null.

    A text is read as a JSON array; whole numbers become decimals, as in ids.
    """
    type_ = pa.list_(pa.string())
    stored = storable_type(column.type)
    if stored is None or not (
        pa.types.is_null(stored) or pa.types.is_string(stored) or pa.types.is_list(stored)
    ):
        raise refuse(None, f"is of type {column.type}: give lists of ids")
    lists = parsed_lists(column.cast(stored), refuse)
    value = lists.type.value_type if pa.types.is_list(lists.type) else pa.null()
    if not (pa.types.is_string(value) or pa.types.is_integer(value) or pa.types.is_null(value)):
        raise refuse(None, f"holds lists of {value}: give lists of ids")
    links = lists.cast(type_)
    flat = links.flatten()
    unusable = first_row(pc.or_kleene(flat.is_null(), _blank(flat)))
    if unusable is not None:
        row = pc.list_parent_indices(links)[unusable].as_py()
        raise refuse(row, "holds a null or empty id: give the id of another row")
    filled = pc.greater(pc.list_value_length(links), 0)
    return pc.if_else(pc.fill_null(filled, False), links, pa.scalar(None, type_))


def metadata_values(column: pa.Array, refuse: Refuse) -> pa.Array:
    """A metadata column in its plain type."""
    type_ = storable_type(column.type)
    if type_ is None:
        shown = ascii(str(column.type))[1:-1][:80]  # names within may be anything
        raise refuse(None, f"is of type {shown}, which cannot be stored: cast it, as to text")
    return cast_exactly(column, type_)


def _texts(column: pa.Array, refuse: Refuse, wanted: str) -> pa.Array:
    type_ = storable_type(column.type)
    if type_ is None or not (
        pa.types.is_string(type_) or pa.types.is_integer(type_) or pa.types.is_null(type_)
    ):
        raise refuse(None, f"is of type {column.type}: give {wanted}")
    return column.cast(type_).cast(pa.string())


def _blank(texts: pa.Array) -> pa.Array:
    return pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)
