"""Given vectors of any number type and layout as unit rows in float32."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oscillink_store.errors import InputError
from oscillink_store.storage.schemas import storable_type

__all__ = ["Refuse", "parsed_lists", "unit_vectors"]

Refuse = Callable[[int | None, str], InputError]
"""Makes an error out of a row of the batch at hand (None: the whole column) and a problem."""

_BLOCK_ROWS = 4096
_UNIT = 2.0**-23
"""How far a norm may be from 1 for a float32 row to pass as a unit row as it is."""


def unit_vectors(
    column: pa.Array, dimension: int | None, refuse: Refuse
) -> npt.NDArray[np.float32]:
    """Rows of ``column`` divided by their Euclidean norms.

    Norms are computed in float64. A row whose norm is 1 within the rounding of float32 is
    kept bit for bit, so normalizing twice changes nothing.

    Args:
        column: n ≥ 1 lists of numbers of any Arrow list type and number type, or texts that
            are JSON arrays.
        dimension: The numbers per row, D, or None to take the first row's.
        refuse: Makes the error for a row.

    Returns:
        n×D float32, C order.

    Raises:
        InputError: no list of numbers; a missing vector; another dimension; NaN, inf or only
            zeros.
    """
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise refuse(row, "has no vector: give one for every row of a source, or for none")
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    column = parsed_lists(column, refuse)
    values = _values(column, refuse)
    lengths = np.asarray(pc.list_value_length(column))
    wanted = int(lengths[0]) if dimension is None else dimension
    wrong = np.flatnonzero(lengths != wanted)
    if wrong.size or not wanted:
        row = int(wrong[0]) if wrong.size else 0
        raise refuse(
            row,
            f"has {lengths[row]} numbers where {wanted or 'at least 1'} are expected: "
            "give all rows vectors of one model",
        )
    return _normalized(values.reshape(-1, wanted), refuse)


def parsed_lists(column: pa.Array, refuse: Refuse) -> pa.Array:
    """``column`` itself, or, if it holds text, the JSON arrays written in it.

    Raises:
        InputError: a text that is no JSON array.
    """
    if storable_type(column.type) != pa.string():
        return column
    lists: list[list[Any] | None] = []
    for row, text in enumerate(column.cast(pa.string()).to_pylist()):
        try:
            value = None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if value is not None and not isinstance(value, list):
            raise refuse(row, f"holds {ascii(text)[:40]}: write a JSON array, in brackets")
        lists.append(value)
    try:
        return pa.array(lists, None if any(lists) else pa.list_(pa.null()))
    except (pa.ArrowException, TypeError, OverflowError):
        raise refuse(None, "mixes types in its arrays: use one type of element") from None


def _values(column: pa.Array, refuse: Refuse) -> npt.NDArray[Any]:
    """All numbers of a column of lists, one behind the other."""
    is_ = pa.types
    lists = (is_.is_list, is_.is_large_list, is_.is_fixed_size_list)
    if not any(test(column.type) for test in lists):
        raise refuse(None, f"is of type {column.type}: give lists of numbers")
    flat = column.flatten()
    if is_.is_decimal(flat.type) or is_.is_null(flat.type):
        flat = flat.cast(pa.float64())
    if not (is_.is_integer(flat.type) or is_.is_floating(flat.type)):
        raise refuse(None, f"holds lists of {flat.type}: give lists of numbers")
    if flat.null_count:
        element = pc.index(flat.is_null(), True).as_py()
        ends = np.cumsum(np.asarray(pc.list_value_length(column)))
        row = int(np.searchsorted(ends, element, side="right"))
        raise refuse(row, "has a null among its numbers: give every number")
    values: npt.NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return values


def _normalized(values: npt.NDArray[Any], refuse: Refuse) -> npt.NDArray[np.float32]:
    unit = np.empty(values.shape, np.float32)
    for start in range(0, len(values), _BLOCK_ROWS):
        given = values[start : start + _BLOCK_ROWS]
        block = given.astype(np.float64)
        squares = np.einsum("ij,ij->i", block, block)
        odd = np.flatnonzero(~((squares > 1e-200) & (squares < 1e200)))
        if odd.size:  # not finite, zero, or squares that leave the range of float64
            peaks = np.abs(block[odd]).max(axis=1)
            bad = np.flatnonzero(~(np.isfinite(peaks) & (peaks > 0.0)))
            if bad.size:
                row, peak = start + int(odd[bad[0]]), peaks[bad[0]]
                problem = "is all zeros" if peak == 0.0 else "holds NaN or inf"
                raise refuse(row, f"{problem}: give a finite vector with a direction")
            block[odd] /= peaks[:, None]
            squares[odd] = np.einsum("ij,ij->i", block[odd], block[odd])
        norms = np.sqrt(squares)
        norms[np.abs(norms - 1.0) <= _UNIT] = 1.0
        unit[start : start + _BLOCK_ROWS] = block / norms[:, None]
    return unit
