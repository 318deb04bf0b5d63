"""Arrow schemas of the anchors table: fixed columns, metadata types, and how appends unify.

Everything stored uses plain Arrow types (``string``, ``binary``, ``list``, ``struct``) so
that Lance, LanceDB and DuckDB all read it. A metadata column whose values are all null keeps
Arrow's ``null`` type until its first value gives it another one.

Types widen, values never change: whole numbers and floats meet in ``double``, structs take
the union of their fields, timestamps the finer unit. A value that the wider type cannot hold
exactly is refused by :func:`conform`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa

from oscillink_store.errors import InputError

__all__ = [
    "FIXED_COLUMNS",
    "RESERVED_COLUMNS",
    "anchors_schema",
    "cast_exactly",
    "check_metadata_names",
    "conform",
    "first_failing",
    "merge_metadata",
    "metadata_schema",
    "storable_type",
    "unify_types",
]

RESERVED_COLUMNS: tuple[str, ...] = ("fulltext", "digest")
"""Columns that the store fills by itself; no source may bring them."""

FIXED_COLUMNS: tuple[str, ...] = (
    "id", "title", "text", "vector", "sequence", "position", "links", "gate", "payload",
    *RESERVED_COLUMNS,
)  # fmt: skip
"""The columns of every anchors table in their order; metadata columns follow them."""

DIGEST_BYTES = 16

_MAX_DEPTH = 32


def anchors_schema(dimension: int | None, metadata: Iterable[pa.Field] = ()) -> pa.Schema:
    """The schema of an anchors table with ``dimension`` numbers per vector.

    None leaves the ``vector`` column out, for rows that are still to be embedded.
    ``metadata`` are fields as :func:`metadata_schema` returns them, stored behind the fixed
    columns in the order given.
    """
    fixed = {
        "id": pa.field("id", pa.string(), nullable=False),
        "title": pa.field("title", pa.string()),
        "text": pa.field("text", pa.string(), nullable=False),
        "sequence": pa.field("sequence", pa.string()),
        "position": pa.field("position", pa.float64()),
        "links": pa.field("links", pa.list_(pa.string())),
        "gate": pa.field("gate", pa.float32(), nullable=False),
        "payload": pa.field("payload", pa.string()),
        "fulltext": pa.field("fulltext", pa.string(), nullable=False),
        "digest": pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False),
    }
    if dimension is not None:
        fixed["vector"] = pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False)
    return pa.schema([*(fixed[name] for name in FIXED_COLUMNS if name in fixed), *metadata])


def metadata_schema(schema: pa.Schema) -> pa.Schema:
    """The metadata fields of an anchors schema: all but the fixed and the internal ones."""
    return pa.schema(
        [f for f in schema if f.name not in FIXED_COLUMNS and not f.name.startswith("_")]
    )


def check_metadata_names(names: Sequence[str]) -> None:
    """Refuse metadata names that a store cannot hold or that SQL could not tell apart.

    Raises:
        InputError: a reserved or unusable name, or two names that differ only in case
            (from each other or from a fixed column).
    """
    lowered = {name: name for name in FIXED_COLUMNS}
    for name in names:
        problem = ""
        if name in RESERVED_COLUMNS or name.startswith("_"):
            problem = "is reserved for the store"
        elif name in FIXED_COLUMNS:
            problem = f"would hide the store's own column {name!r}"
        elif not name.strip():
            problem = "is empty"
        elif any(character in ".`" or ord(character) < 32 for character in name):
            problem = "holds a dot, a backtick or a control character"
        elif name.lower() in lowered:
            other = lowered[name.lower()]
            problem = (
                f"differs only in case from the field {other!r} (or name it in Fields)"
                if other in FIXED_COLUMNS
                else f"differs only in case from the column {other!r}"
            )
        if problem:
            raise InputError(f"metadata column {name!r} {problem}: rename or drop it", field=name)
        lowered[name.lower()] = name


def storable_type(type_: pa.DataType, depth: int = 0) -> pa.DataType | None:
    """The plain type in which values of ``type_`` are stored, or None if there is none.

    Strings and binaries of every layout become ``string`` and ``binary``, lists of every
    width ``list``, dictionaries and extension types what they encode; nested fields become
    nullable and lose their metadata. Intervals, unions, list views, run-end encodings, UUID
    extension values, structs without fields or with NUL in a name, decimals beyond 38 digits
    and more than 32 levels (``depth`` counts them) have no plain type.
    """
    depth += 1
    if depth > _MAX_DEPTH:
        return None
    is_ = pa.types
    if is_.is_dictionary(type_):
        return storable_type(type_.value_type, depth)
    if isinstance(type_, pa.BaseExtensionType):
        return None if isinstance(type_, pa.UuidType) else storable_type(type_.storage_type, depth)
    if is_.is_list(type_) or is_.is_large_list(type_) or is_.is_fixed_size_list(type_):
        value = storable_type(type_.value_type, depth)
        return None if value is None else pa.list_(value)
    if is_.is_map(type_):
        key, item = storable_type(type_.key_type, depth), storable_type(type_.item_type, depth)
        return None if key is None or item is None else pa.map_(key, item)
    if is_.is_struct(type_):
        children = [(child.name, storable_type(child.type, depth)) for child in type_]
        names = {name for name, _ in children}
        usable = all(type_ is not None and "\0" not in name for name, type_ in children)
        if not children or len(names) < len(children) or not usable:
            return None
        return pa.struct(children)
    return _storable_scalar(type_)


def _storable_scalar(type_: pa.DataType) -> pa.DataType | None:
    """:func:`storable_type` for types without children."""
    is_ = pa.types
    kept: tuple[Callable[[Any], bool], ...] = (
        is_.is_null, is_.is_boolean, is_.is_integer, is_.is_float32, is_.is_float64,
        is_.is_date32, is_.is_timestamp, is_.is_time64, is_.is_duration, is_.is_decimal128,
    )  # fmt: skip
    if any(test(type_) for test in kept):
        return type_
    if is_.is_string(type_) or is_.is_large_string(type_) or is_.is_string_view(type_):
        return pa.string()
    if (
        is_.is_binary(type_)
        or is_.is_large_binary(type_)
        or is_.is_binary_view(type_)
        or is_.is_fixed_size_binary(type_)
    ) and not is_.is_decimal(type_):
        return pa.binary()
    if is_.is_float16(type_):
        return pa.float32()
    if is_.is_date64(type_):
        return pa.date32()
    if is_.is_time32(type_):
        return pa.time64("us")
    if is_.is_decimal(type_) and type_.precision <= 38:
        return pa.decimal128(type_.precision, type_.scale)
    return None


_UNITS = ("s", "ms", "us", "ns")


def unify_types(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """The narrowest storable type that holds values of both types, or None if none does.

    Both types are storable ones (:func:`storable_type`). Commutative. Booleans, strings,
    binaries and dates meet only themselves.
    """
    is_ = pa.types
    if first.equals(second, check_metadata=True):
        return first
    if is_.is_null(first) or is_.is_null(second):
        return second if is_.is_null(first) else first
    if is_.is_integer(first) and is_.is_integer(second):
        return _unify_integers(first, second)
    numbers = [is_.is_integer(t) or is_.is_floating(t) for t in (first, second)]
    if all(numbers):  # two floats of different width, or a float and a whole number
        return pa.float64()
    if is_.is_decimal(first) and is_.is_decimal(second):
        scale = max(first.scale, second.scale)
        digits = scale + max(first.precision - first.scale, second.precision - second.scale)
        return pa.decimal128(digits, scale) if digits <= 38 else None
    if is_.is_timestamp(first) and is_.is_timestamp(second):
        same_zone = first.tz == second.tz
        return pa.timestamp(_finer(first, second), first.tz) if same_zone else None
    if is_.is_duration(first) and is_.is_duration(second):
        return pa.duration(_finer(first, second))
    if is_.is_time64(first) and is_.is_time64(second):
        return pa.time64("ns")
    if is_.is_list(first) and is_.is_list(second):
        value = unify_types(first.value_type, second.value_type)
        return None if value is None else pa.list_(value)
    if is_.is_map(first) and is_.is_map(second):
        key = unify_types(first.key_type, second.key_type)
        item = unify_types(first.item_type, second.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if is_.is_struct(first) and is_.is_struct(second):
        return _unify_structs(first, second)
    return None


def _finer(first: pa.DataType, second: pa.DataType) -> str:
    return _UNITS[max(_UNITS.index(first.unit), _UNITS.index(second.unit))]


def _unify_integers(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    signed = [pa.types.is_signed_integer(t) for t in (first, second)]
    if signed[0] == signed[1]:
        return max(first, second, key=lambda t: int(t.bit_width))
    unsigned_width = second.bit_width if signed[0] else first.bit_width
    signed_width = first.bit_width if signed[0] else second.bit_width
    # a signed type as wide as needed for the unsigned values; beyond int64 values are checked
    width = min(max(2 * unsigned_width, signed_width), 64)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[width]


def _unify_structs(first: pa.StructType, second: pa.StructType) -> pa.DataType | None:
    merged: dict[str, pa.DataType] = {child.name: child.type for child in first}
    for child in second:
        type_ = unify_types(merged[child.name], child.type) if child.name in merged else child.type
        if type_ is None:
            return None
        merged[child.name] = type_
    return pa.struct(list(merged.items()))


def merge_metadata(existing: pa.Schema, incoming: pa.Schema) -> pa.Schema:
    """The schema that holds rows of both: existing fields first, in order, then new ones.

    A field in both takes :func:`unify_types`; rows of either side are brought to the merged
    schema with :func:`conform`, where a missing column becomes nulls. Fixed columns may stand
    in the schemas and must agree.

    Raises:
        InputError: a column whose two types have no common one, or a new name that differs
            only in case from another.
    """
    merged: dict[str, pa.Field] = {field.name: field for field in existing}
    for field in incoming:
        known = merged.get(field.name)
        if known is None:
            merged[field.name] = field
            continue
        fixed = field.name in FIXED_COLUMNS
        type_ = unify_types(known.type, field.type) if not fixed else known.type
        if type_ is None or (fixed and known.type != field.type):
            raise InputError(
                f"column {field.name!r} holds {known.type} so far and {field.type} in the new "
                f"rows: convert the new values, or give the column another name",
                field=field.name,
            )
        if type_ is not known.type:
            merged[field.name] = pa.field(known.name, type_, nullable=known.nullable)
    check_metadata_names([name for name in merged if name not in FIXED_COLUMNS])
    return pa.schema(list(merged.values()))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """``table`` with exactly the columns and types of ``schema``; missing columns are null.

    Raises:
        InputError: a value that its column's type cannot hold exactly, with its row in the
            table, or a column that ``schema`` lacks.
    """
    extra = [name for name in table.schema.names if name not in schema.names]
    if extra:
        raise InputError(
            f"column {extra[0]!r} is unknown to the schema: add or drop it", field=extra[0]
        )
    columns = []
    for field in schema:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            columns.append(pa.nulls(table.num_rows, field.type))
        else:
            columns.append(_cast(table.column(index), field))
    return pa.Table.from_arrays(columns, schema=schema)


def cast_exactly(column: Any, type_: pa.DataType) -> Any:
    """An array or chunked array in another type, without changing a value.

    Raises:
        pyarrow.ArrowException: a value that the type cannot hold exactly.
    """
    if column.type.equals(type_, check_metadata=True):
        return column
    if _has_null_lists(type_):
        # Arrow's cast from a list of nulls to a list of nulls loses elements
        return pa.array(column.to_pylist(), type_)
    return column.cast(type_)


def _has_null_lists(type_: pa.DataType) -> bool:
    if pa.types.is_list(type_) and pa.types.is_null(type_.value_type):
        return True
    return any(_has_null_lists(type_.field(i).type) for i in range(type_.num_fields))


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        return cast_exactly(column, field.type)
    except pa.ArrowException:
        row = first_failing(column, lambda part: part.cast(field.type))
        raise InputError(
            f"column {field.name!r} holds {column[row].as_py()!r} in row {row}, which "
            f"{field.type} cannot hold exactly: convert it, or give the column another name",
            field=field.name,
            row=row,
        ) from None


def first_failing(array: pa.Array | pa.ChunkedArray, check: Callable[[Any], object]) -> int:
    """The index of the first element for which ``check(slice)`` raises, by bisection.

    ``check`` must fail on a slice exactly when it fails on one of the slice's elements, and
    must fail on ``array`` as a whole.
    """
    start, stop = 0, len(array)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            check(array.slice(start, middle - start))
        except (pa.ArrowException, ValueError):
            stop = middle
        else:
            start = middle
    return start
