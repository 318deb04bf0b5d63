"""Sixteen float32 lanes as one value inside a compiled kernel.

The compiler may not reorder floating-point sums, so a plain loop over a row adds one number
at a time. These operations say in which order to add instead: lane l takes the columns l,
l + 16, l + 32, ..., and :func:`total` folds the lanes in halves. The order, and with it
every bit of the result, is the same on every machine, since a fused multiply-add rounds
once everywhere.

Arrays are C-contiguous float32 of one or two dimensions; a one-dimensional array is one row.
Arrays of which a kernel takes any number are passed by address: their owner checks types and
sizes, and keeps them alive.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic, register_model

from oscillink_store.kernels.layout import LANES, TILE_COLUMNS, TILE_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Lanes", "below", "copy_row", "exceeds", "fma", "inner", "largest", "load", "load_part",
    "maximum", "multiply", "product_tile", "ratio", "splat", "store", "subtract", "total",
    "trailing_zeros",
]  # fmt: skip

FLOATS = ir.VectorType(ir.FloatType(), LANES)
DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
INT, LONG = ir.IntType(32), ir.IntType(64)


class Lanes(types.Type):  # type: ignore[misc]
    """The numba type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """Lanes are held in a vector register."""

    def __init__(self, manager: Any, type_: Lanes) -> None:
        super().__init__(manager, type_, FLOATS)


register_model(Lanes)(LanesModel)

Matrix = npt.NDArray[np.float32]
lanes = Lanes()


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
        return _masked(builder, _address(context, builder, signature.args[0], values), values[3])

    return lanes(array, types.intp, types.intp, types.intp), emit


def _masked(builder: Any, address: Any, count: Any) -> Any:
    address = builder.bitcast(address, FLOATS.as_pointer())
    places = ir.Constant(ir.VectorType(LONG, LANES), list(range(LANES)))
    mask = builder.icmp_signed("<", places, _spread(builder, count, places.type))
    kind = ir.FunctionType(FLOATS, [address.type, INT, mask.type, FLOATS])
    masked = builder.module.declare_intrinsic("llvm.masked.load.v16f32.p0", (), kind)
    return builder.call(masked, [address, INT(4), mask, ir.Constant(FLOATS, [0.0] * LANES)])


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


def _ratio(_: Any, _a: Any, _b: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        nothing = ir.Constant(FLOATS, [0.0] * LANES)
        there = builder.fcmp_unordered("!=", values[1], nothing)
        return builder.select(there, builder.fdiv(*values), nothing)

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


def _largest(_: Any, _value: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        return _folded(builder, values[0], larger)

    return types.float32(lanes), emit


def _below(_: Any, _value: Any, _bound: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        nothing = ir.Constant(FLOATS, [-math.inf] * LANES)
        return builder.select(builder.fcmp_ordered("<", *values), values[0], nothing)

    return lanes(lanes, lanes), emit


def _total(_: Any, _value: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return _folded(builder, builder.fpext(values[0], DOUBLES), builder.fadd)

    return types.float64(lanes), emit


def _folded(builder: Any, value: Any, join: Any) -> Any:
    width = LANES
    while width > 1:
        width //= 2
        halves = (
            ir.Constant(ir.VectorType(INT, width), list(range(start, start + width)))
            for start in (0, width)
        )
        value = join(*(builder.shuffle_vector(value, value, half) for half in halves))
    return builder.extract_element(value, INT(0))


def _product_tile(
    _: Any, X: Any, _row: Any, panels: Any, _panel: Any, out: Any, _column: Any
) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        x, y, s = (context.make_array(kinds[at])(context, builder, values[at]) for at in (0, 2, 4))
        rows, depth = (builder.extract_value(x.shape, axis) for axis in (0, 1))
        width = builder.extract_value(s.shape, 1)
        end = builder.sub(rows, LONG(1))
        starts = []
        for r in range(TILE_ROWS):
            row = builder.add(values[1], LONG(r))
            row = builder.select(builder.icmp_signed("<", row, end), row, end)
            starts.append(builder.gep(x.data, [builder.mul(row, depth)]))
        panel = builder.gep(
            y.data, [builder.mul(builder.mul(values[3], depth), LONG(TILE_COLUMNS))]
        )
        before = builder.basic_block
        loop = builder.append_basic_block("tile")
        after = builder.append_basic_block("tiled")
        builder.branch(loop)
        builder.position_at_end(loop)
        d = builder.phi(LONG)
        d.add_incoming(LONG(0), before)
        groups = range(0, TILE_COLUMNS, LANES)
        sums = [[builder.phi(FLOATS) for _ in groups] for _ in starts]
        at = builder.gep(panel, [builder.mul(d, LONG(TILE_COLUMNS))])
        columns = [
            builder.load(builder.bitcast(builder.gep(at, [LONG(c)]), FLOATS.as_pointer()), align=4)
            for c in groups
        ]
        more = []
        for start, row_sums in zip(starts, sums, strict=True):
            factor = _spread(builder, builder.load(builder.gep(start, [d])), FLOATS)
            more.append(
                [
                    _fused(builder, "llvm.fma.v16f32", [factor, column, partial])
                    for column, partial in zip(columns, row_sums, strict=True)
                ]
            )
        following = builder.add(d, LONG(1))
        d.add_incoming(following, loop)
        for row_sums, row_more in zip(sums, more, strict=True):
            for partial, new in zip(row_sums, row_more, strict=True):
                partial.add_incoming(ir.Constant(FLOATS, [0.0] * LANES), before)
                partial.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
        builder.position_at_end(after)
        for r, row_more in enumerate(more):
            for c, new in enumerate(row_more):
                column = builder.add(values[5], LONG(c * LANES))
                place = builder.gep(s.data, [builder.add(builder.mul(LONG(r), width), column)])
                builder.store(new, builder.bitcast(place, FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(X, types.intp, panels, types.intp, out, types.intp), emit


def _copy_row(_: Any, _address: Any, _row: Any, out: Any, _place: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        parts = context.make_array(signature.args[2])(context, builder, values[2])
        width = builder.extract_value(parts.shape, 1)
        target = builder.gep(parts.data, [builder.mul(values[3], width)])
        source = builder.inttoptr(values[0], target.type)
        source = builder.gep(source, [builder.mul(values[1], width)])
        kind = ir.FunctionType(ir.VoidType(), [target.type, source.type, LONG, ir.IntType(1)])
        copy = builder.module.declare_intrinsic("llvm.memcpy.p0.p0.i64", (), kind)
        builder.call(copy, [target, source, builder.shl(width, LONG(2)), ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, out, types.intp), emit


def _inner(_: Any, Y: Any, _row: Any, x: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        a, b = (context.make_array(kinds[at])(context, builder, values[at]) for at in (0, 2))
        width = builder.extract_value(b.shape, 0)
        start = builder.gep(a.data, [builder.mul(values[1], width)])
        whole = builder.and_(width, LONG(-LANES))
        nothing = ir.Constant(DOUBLES, [0.0] * LANES)
        before = builder.basic_block
        loop = builder.append_basic_block("inner")
        body = builder.append_basic_block("inner.more")
        after = builder.append_basic_block("inner.rest")
        builder.branch(loop)
        builder.position_at_end(loop)
        column, sums = builder.phi(LONG), builder.phi(DOUBLES)
        builder.cbranch(builder.icmp_signed("<", column, whole), body, after)
        builder.position_at_end(body)
        factors = (
            builder.load(builder.bitcast(builder.gep(data, [column]), FLOATS.as_pointer()), align=4)
            for data in (start, b.data)
        )
        more = _fused(
            builder, "llvm.fma.v16f64", [*(builder.fpext(f, DOUBLES) for f in factors), sums]
        )
        following = builder.add(column, LONG(LANES))
        builder.branch(loop)
        column.add_incoming(LONG(0), before)
        column.add_incoming(following, body)
        sums.add_incoming(nothing, before)
        sums.add_incoming(more, body)
        builder.position_at_end(after)
        rest = builder.sub(width, whole)
        factors = (
            builder.fpext(_masked(builder, builder.gep(data, [whole]), rest), DOUBLES)
            for data in (start, b.data)
        )
        last = _fused(builder, "llvm.fma.v16f64", [*factors, sums])
        return _folded(builder, last, builder.fadd)

    return types.float64(Y, types.intp, x), emit


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
ratio: Callable[[Lanes, Lanes], Lanes] = intrinsic(_ratio)
"""a / b, and 0 where b is 0."""
fma: Callable[[Lanes, Lanes, Lanes], Lanes] = intrinsic(_fma)
"""a · b + c, rounded once"""
maximum: Callable[[Lanes, Lanes], Lanes] = intrinsic(_maximum)
"""The larger of a and b in each lane."""
exceeds: Callable[[Lanes, Lanes], np.uint64] = intrinsic(_exceeds)
"""A number whose bit l says whether a > b in lane l."""
largest: Callable[[Lanes], np.float32] = intrinsic(_largest)
"""The largest of the lanes."""
below: Callable[[Lanes, Lanes], Lanes] = intrinsic(_below)
"""a where a < b, elsewhere −inf."""
total: Callable[[Lanes], float] = intrinsic(_total)
"""The sum of all lanes in float64: halves are added to each other until one is left."""
product_tile: Callable[[Matrix, int, Matrix, int, Matrix, int], None] = intrinsic(_product_tile)
"""Inner products of rows ``row`` to ``row`` + 11 of X (M, D ≥ 1) with 32 columns.

The columns are those of ``panels[panel]`` (D, 32); the products go to the first twelve rows
of ``out``, from ``column`` on. Each is one chain of fused multiply-adds along D, whichever
tile it falls in. Rows beyond the last count as the last.
"""
copy_row: Callable[[int, int, Matrix, int], None] = intrinsic(_copy_row)
"""Copy a row of the float32 matrix at an address to row ``place`` of ``out``, equally wide."""
inner: Callable[[Matrix, int, Matrix], float] = intrinsic(_inner)
"""The inner product of a row (D,) with another array (D,) in float64.

Products of float32 are exact in float64, and the lanes add up as in :func:`total`.
"""
