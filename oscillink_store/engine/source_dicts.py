"""Arrow batches out of Python dicts, with types inferred over each batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import pyarrow as pa

from oscillink_store.engine.payloads import payload_text
from oscillink_store.engine.source_arrow import BATCH_BYTES, BATCH_ROWS
from oscillink_store.engine.source_refusals import Refusal, Refusals
from oscillink_store.errors import InputError
from oscillink_store.model import Fields
from oscillink_store.storage.schemas import storable_type, unify_types

__all__ = ["dict_batch", "read_dicts"]

# What pa.array raises for values that it cannot hold in one column; Arrow's own exceptions
# are ValueError, TypeError or NotImplementedError, a lone surrogate is a ValueError.
_REFUSALS = (ValueError, TypeError, OverflowError, pa.ArrowException)


def read_dicts(
    rows: Iterable[Any], name: str, fields: Fields, refused: Refusals | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of an iterable of dicts; a key that a dict lacks is null there.

    Raises:
        InputError: an element is no dict, or a column mixes types, unless there is ``refused``
            to say so.
    """
    pending: list[Mapping[str, Any]] = []
    characters = first = 0
    for row in rows:
        if not isinstance(row, Mapping):
            place = first + len(pending)
            error = InputError(
                f"{name}, row {place} is of type {type(row).__name__}: give dicts whose keys are "
                "column names",
                row=place,
            )
            if refused is None:
                raise error
            refused[place] = Refusal.of(error, row)
            row = {}
        pending.append(row)
        text = row.get(fields.text)
        characters += len(text) if isinstance(text, str) else 0
        if len(pending) >= BATCH_ROWS or characters >= BATCH_BYTES:
            yield dict_batch(pending, name, first, fields, refused)
            first += len(pending)
            pending, characters = [], 0
    if pending:
        yield dict_batch(pending, name, first, fields, refused)


def dict_batch(
    rows: Sequence[Mapping[str, Any]],
    name: str,
    first: int,
    fields: Fields,
    refused: Refusals | None = None,
) -> pa.RecordBatch:
    """Dicts as one batch; whole numbers and floats in one column make it ``double``.

    In the id and sequence columns, which are text in the end, whole numbers may stand beside
    text. UUIDs become text. An empty dict among the values is null.

    Args:
        rows: The dicts.
        name: The source, for messages.
        first: The row number of the first dict in the source.
        fields: Which columns are ids, sequences and payloads.
        refused: Takes the rows whose values do not go with those of earlier rows.

    Raises:
        InputError: a column mixes types, or a value has no Arrow type; names field and row.
    """
    # a batch needs a column to have rows, even if all dicts are empty
    columns = dict.fromkeys(key for row in rows for key in row) or {fields.id: None}
    for key in columns:
        if not isinstance(key, str):
            raise InputError(
                f"{name}: the key {key!r} is no column name: use text", field=repr(key)
            )
    texts = (fields.id, *fields.sequence_columns)
    arrays = []
    for key in columns:
        values = [row.get(key) for row in rows]
        if key == fields.payload:
            values = _payload_texts(rows, values, key, name, first, refused)
        try:
            arrays.append(_infer(values, as_text=key in texts))
        except _REFUSALS:
            if refused is None:
                raise _refusal(values, key, name, first) from None
            arrays.append(_infer_usable(rows, values, key, name, first, texts, refused))
        except RecursionError:
            raise InputError(
                f"{name}: {key!r} is nested too deeply: store it as JSON text", field=key
            ) from None
    try:
        return pa.RecordBatch.from_arrays(arrays, list(columns))
    except UnicodeEncodeError:
        raise InputError(f"{name}: a column name is no Unicode text: rename it") from None


def _payload_texts(
    rows: Sequence[Mapping[str, Any]],
    values: list[Any],
    key: str,
    name: str,
    first: int,
    refused: Refusals | None,
) -> list[Any]:
    """Objects as JSON text: as Arrow structs they would take each other's keys."""
    for place, value in enumerate(values):
        if not isinstance(value, Mapping):
            continue
        try:
            values[place] = payload_text(value)
        except InputError as problem:
            row = first + place
            error = InputError(f"{name}, row {row}: {key!r} {problem}", field=key, row=row)
            if refused is None:
                raise error from None
            refused.setdefault(row, Refusal.of(error, rows[place]))
            values[place] = None
    return values


def _infer(values: list[Any], *, as_text: bool) -> pa.Array:
    if as_text and any(isinstance(value, str) for value in values):
        values = [str(value) if _is_whole(value) else value for value in values]
    array = pa.array(values)
    if isinstance(array.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in values])
    if _has_empty_struct(array.type):
        # Lance cannot store a struct without fields
        return pa.array([_without_empty(value) for value in values])
    return array


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _has_empty_struct(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        return not type_.num_fields or any(_has_empty_struct(child.type) for child in type_)
    return pa.types.is_list(type_) and _has_empty_struct(type_.value_type)


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_empty(inner) for key, inner in value.items()} or None
    if isinstance(value, list | tuple):
        return [_without_empty(inner) for inner in value]
    return value


def _infer_usable(
    rows: Sequence[Mapping[str, Any]],
    values: list[Any],
    key: str,
    name: str,
    first: int,
    texts: Sequence[str],
    refused: Refusals,
) -> pa.Array:
    """A column of the values that go with those before them; refuses the rows of the others."""
    as_text = key in texts
    if as_text:
        values = [str(value) if _is_whole(value) else value for value in values]
    known = pa.null()
    for place, value in enumerate(values):
        try:
            own = _infer([value], as_text=as_text).type
            common = unify_types(known, storable_type(own) or own)
        except _REFUSALS:
            common = None
        if common is None:
            error = _misfit(value, known, key, name, first + place)
            refused.setdefault(first + place, Refusal.of(error, rows[place]))
            values[place] = None
        else:
            known = common
    while True:
        try:
            return _infer(values, as_text=as_text)
        except _REFUSALS:  # types that have one in common, but values that it cannot hold
            error = _refusal(values, key, name, first)
            place = (error.row or 0) - first
            refused.setdefault(first + place, Refusal.of(error, rows[place]))
            values[place] = None


def _refusal(values: list[Any], field: str, name: str, first: int) -> InputError:
    """What is wrong with a column that has no common type, and in which row it shows."""
    start, stop = 0, len(values)  # values[:start] can be held, values[:stop] cannot
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            pa.array(values[:middle])
        except _REFUSALS:
            stop = middle
        else:
            start = middle
    return _misfit(values[start], pa.array(values[:start]).type, field, name, first + start)


def _misfit(value: Any, earlier: pa.DataType, field: str, name: str, row: int) -> InputError:
    """What is wrong with a value where earlier rows hold a type."""
    try:
        type_ = pa.array([value]).type
    except UnicodeEncodeError:
        problem = "holds a lone surrogate, which is no Unicode text: replace it"
    except OverflowError:
        problem = "holds a whole number beyond 64 bits: write it as text"
    except _REFUSALS:
        shown = " ".join(ascii(value).split())[:60]
        problem = (
            f"holds a value that no column can hold, {type(value).__name__} {shown}: "
            "use text, numbers, dates, lists or dicts of one type each"
        )
    else:
        problem = f"holds {type_} where earlier rows hold {earlier}: use one type per column"
    return InputError(f"{name}, row {row}: {field!r} {problem}", field=field, row=row)
