"""Sixteen float32 lanes as one value inside a compiled kernel.

The compiler may not reorder floating-point sums, so a plain loop over a row adds one number
at a time. These operations say in which order to add instead: lane l takes the columns l,
l + 16, l + 32, ..., and :func:`total` folds the lanes in halves. The order, and with it
every bit of the result, is the same on every machine, since a fused multiply-add rounds
once everywhere.

Arrays are C-contiguous float32 of one or two dimensions; a one-dimensional array is one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic, register_model

from oscillink_store.kernels.layout import LANES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Lanes", "WideLanes", "exceeds", "fma", "load", "load_part", "maximum",
    "multiply", "splat", "store", "subtract", "total", "trailing_zeros",
    "wide_fma", "wide_total", "wide_zero",
]  # fmt: skip

FLOATS = ir.VectorType(ir.FloatType(), LANES)
DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
INT = ir.IntType(32)


class Lanes(types.Type):  # type: ignore[misc]
    """The numba type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


class WideLanes(types.Type):  # type: ignore[misc]
    """The numba type of sixteen float64 lanes: sums of exact products of float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="WideLanes")


class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """Lanes are held in a vector register."""

    def __init__(self, manager: Any, type_: Lanes) -> None:
        super().__init__(manager, type_, FLOATS)


class WideLanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """Wide lanes are held in two vector registers."""

    def __init__(self, manager: Any, type_: WideLanes) -> None:
        super().__init__(manager, type_, DOUBLES)


register_model(Lanes)(LanesModel)
register_model(WideLanes)(WideLanesModel)

Matrix = npt.NDArray[np.float32]
lanes, wide_lanes = Lanes(), WideLanes()


def _address(context: Any, builder: Any, array_type: Any, values: Any) -> Any:
    array, row, column = values[:3]
    parts = context.make_array(array_type)(context, builder, array)
    width = builder.extract_value(parts.shape, array_type.ndim - 1)
    place = builder.gep(parts.data, [builder.add(builder.mul(row, width), column)])
    return builder.bitcast(place, FLOATS.as_pointer())


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, value, INT(0))
    mask = ir.Constant(ir.VectorType(INT, LANES), [0] * LANES)
    return builder.shuffle_vector(first, nothing, mask)


# Each of these is what numba calls an intrinsic: given the types of the arguments, it answers
# with a signature and a function that emits the instructions.


def _load(_: Any, array: Any, _row: Any, _column: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], values), align=4)

    return lanes(array, types.intp, types.intp), emit


def _load_part(_: Any, array: Any, _row: Any, _column: Any, _count: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, signature.args[0], values)
        places = ir.Constant(ir.VectorType(ir.IntType(64), LANES), list(range(LANES)))
        mask = builder.icmp_signed("<", places, _spread(builder, values[3], places.type))
        kind = ir.FunctionType(FLOATS, [address.type, INT, mask.type, FLOATS])
        masked = builder.module.declare_intrinsic("llvm.masked.load.v16f32.p0", (), kind)
        return builder.call(masked, [address, INT(4), mask, ir.Constant(FLOATS, [0.0] * LANES)])

    return lanes(array, types.intp, types.intp, types.intp), emit


def _store(_: Any, array: Any, _row: Any, _column: Any, _value: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = _address(context, builder, signature.args[0], values)
        builder.store(values[3], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), emit


def _splat(_: Any, _value: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return _spread(builder, values[0], FLOATS)

    return lanes(types.float32), emit


def _subtract(_: Any, _a: Any, _b: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fsub(*values)

    return lanes(lanes, lanes), emit


def _multiply(_: Any, _a: Any, _b: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fmul(*values)

    return lanes(lanes, lanes), emit


def _fma(_: Any, _a: Any, _b: Any, _c: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return _fused(builder, "llvm.fma.v16f32", values)

    return lanes(lanes, lanes, lanes), emit


def _fused(builder: Any, name: str, values: Any) -> Any:
    kind = ir.FunctionType(values[0].type, [values[0].type] * 3)
    return builder.call(builder.module.declare_intrinsic(name, (), kind), values)


def _maximum(_: Any, _a: Any, _b: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *values), *values)

    return lanes(lanes, lanes), emit


def _exceeds(_: Any, _a: Any, _b: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        mask = builder.fcmp_ordered(">", *values)
        return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), ir.IntType(64))

    return types.uint64(lanes, lanes), emit


def _wide_zero(_: Any) -> Any:
    def emit(_context: Any, _builder: Any, _signature: Any, _values: Any) -> Any:
        return ir.Constant(DOUBLES, [0.0] * LANES)

    return wide_lanes(), emit


def _wide_fma(_: Any, _a: Any, _b: Any, _c: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        a, b = (builder.fpext(value, DOUBLES) for value in values[:2])
        return _fused(builder, "llvm.fma.v16f64", [a, b, values[2]])

    return wide_lanes(lanes, lanes, wide_lanes), emit


def _total(_: Any, _value: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return _folded(builder, builder.fpext(values[0], DOUBLES))

    return types.float64(lanes), emit


def _wide_total(_: Any, _value: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return _folded(builder, values[0])

    return types.float64(wide_lanes), emit


def _folded(builder: Any, wide: Any) -> Any:
    width = LANES
    while width > 1:
        width //= 2
        low, high = (
            ir.Constant(ir.VectorType(INT, width), list(range(start, start + width)))
            for start in (0, width)
        )
        wide = builder.fadd(
            builder.shuffle_vector(wide, wide, low), builder.shuffle_vector(wide, wide, high)
        )
    return builder.extract_element(wide, INT(0))


load: Callable[[Matrix, int, int], Lanes] = intrinsic(_load)
"""Columns ``column`` to ``column`` + 15 of a row."""
load_part: Callable[[Matrix, int, int, int], Lanes] = intrinsic(_load_part)
"""The first ``count`` columns from ``column`` on; the other lanes are 0."""
store: Callable[[Matrix, int, int, Lanes], None] = intrinsic(_store)
"""Write sixteen columns of a row."""
splat: Callable[[np.float32], Lanes] = intrinsic(_splat)
"""One number in every lane."""
subtract: Callable[[Lanes, Lanes], Lanes] = intrinsic(_subtract)
"""a − b"""
multiply: Callable[[Lanes, Lanes], Lanes] = intrinsic(_multiply)
"""a · b"""
fma: Callable[[Lanes, Lanes, Lanes], Lanes] = intrinsic(_fma)
"""a · b + c, rounded once"""
maximum: Callable[[Lanes, Lanes], Lanes] = intrinsic(_maximum)
"""The larger of a and b in each lane."""
exceeds: Callable[[Lanes, Lanes], np.uint64] = intrinsic(_exceeds)
"""A number whose bit l says whether a > b in lane l."""
wide_zero: Callable[[], WideLanes] = intrinsic(_wide_zero)
"""Zero in every float64 lane."""
wide_fma: Callable[[Lanes, Lanes, WideLanes], WideLanes] = intrinsic(_wide_fma)
"""a · b + c in float64, where the product of two float32 is exact."""
wide_total: Callable[[WideLanes], float] = intrinsic(_wide_total)
"""The sum of all float64 lanes, folded like :func:`total`."""
total: Callable[[Lanes], float] = intrinsic(_total)
"""The sum of all lanes in float64: halves are added to each other until one is left."""
