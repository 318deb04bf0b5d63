"""Whole numbers in lanes: products of 4-bit codes with a query, inside a compiled kernel.

Sums of whole numbers are the same in any order, so nothing is said of it here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from oscillink_store.kernels.layout import LANES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["code_products", "float_at"]

INT, LONG = ir.IntType(32), ir.IntType(64)
INTS = ir.VectorType(INT, LANES)
SHORTS = ir.VectorType(ir.IntType(16), 2 * LANES)

Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


def _code_products(
    _: Any, _base: Any, _pitch: Any, rows: Any, _at: Any, _ahead: Any, planes: Any, out: Any
) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        picked, q, products = (
            context.make_array(kinds[place])(context, builder, values[place]) for place in (2, 5, 6)
        )
        width = builder.extract_value(q.shape, 1)
        # the rows that are multiplied, and those that are to come into the cache meanwhile
        starts, coming = (
            [
                builder.add(values[0], builder.mul(builder.load(number), values[1]))
                for number in (
                    builder.gep(picked.data, [builder.add(first, LONG(r))]) for r in range(4)
                )
            ]
            for first in (values[3], builder.add(values[3], values[4]))
        )
        before = builder.basic_block
        loop = builder.append_basic_block("codes")
        after = builder.append_basic_block("coded")
        builder.branch(loop)
        builder.position_at_end(loop)
        place = builder.phi(LONG)
        place.add_incoming(LONG(0), before)
        sums = [builder.phi(INTS) for _ in starts]
        planes_here = [
            _vector(builder, builder.gep(q.data, [builder.add(place, builder.mul(LONG(n), width))]))
            for n in range(4)
        ]
        more = []
        for start in coming:
            address = builder.add(start, builder.shl(place, LONG(1)))
            address = builder.inttoptr(address, ir.IntType(8).as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [address.type, INT, INT, INT])
            fetch = builder.module.declare_intrinsic("llvm.prefetch.p0", (), kind)
            builder.call(fetch, [address, INT(0), INT(3), INT(1)])
        for start, partial in zip(starts, sums, strict=True):
            address = builder.add(start, builder.shl(place, LONG(1)))
            codes = _vector(builder, builder.inttoptr(address, SHORTS.as_pointer()))
            new = partial
            for n, plane in enumerate(planes_here):
                shifted = builder.lshr(codes, ir.Constant(SHORTS, [4 * n] * 2 * LANES))
                nibbles = builder.and_(shifted, ir.Constant(SHORTS, [15] * 2 * LANES))
                new = builder.add(new, _pair_sums(builder, nibbles, plane))
            more.append(new)
        following = builder.add(place, LONG(2 * LANES))
        place.add_incoming(following, loop)
        for partial, new in zip(sums, more, strict=True):
            partial.add_incoming(ir.Constant(INTS, [0] * LANES), before)
            partial.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, width), loop, after)
        builder.position_at_end(after)
        four = _row_sums(builder, more)
        address = builder.gep(products.data, [values[3]])
        builder.store(four, builder.bitcast(address, four.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, rows, types.intp, types.intp, planes, out), emit


def _vector(builder: Any, address: Any) -> Any:
    return builder.load(builder.bitcast(address, SHORTS.as_pointer()), align=1)


def _pair_sums(builder: Any, a: Any, b: Any) -> Any:
    # one instruction on x86, vpmaddwd or vpdpwssd
    wide = ir.VectorType(INT, 2 * LANES)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    even, odd = (
        builder.shuffle_vector(
            products, products, ir.Constant(INTS, list(range(start, 2 * LANES, 2)))
        )
        for start in (0, 1)
    )
    return builder.add(even, odd)


def _row_sums(builder: Any, rows: Any) -> Any:
    # the sums of four vectors as one: halves of each are added, all rows in one register
    width = LANES
    while width > 1:
        width //= 2
        joined = len(rows) > 1
        pairs = zip(rows[::2], rows[1::2], strict=True) if joined else ((rows[0], rows[0]),)
        count = rows[0].type.count // width // 2  # pieces of a vector that belong to rows
        places = range(count * (2 if joined else 1))
        halves = [
            ir.Constant(
                ir.VectorType(INT, len(places) * width),
                [
                    2 * width * piece + side * width + lane
                    for piece in places
                    for lane in range(width)
                ],
            )
            for side in (0, 1)
        ]
        rows = [
            builder.add(*(builder.shuffle_vector(a, b, half) for half in halves)) for a, b in pairs
        ]
    return rows[0]


def _float_at(_: Any, _address: Any, _place: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        start = builder.inttoptr(values[0], ir.FloatType().as_pointer())
        return builder.load(builder.gep(start, [values[1]]))

    return types.float32(types.intp, types.intp), emit


code_products: Callable[[int, int, Int64, int, int, Int16, Int32], None] = intrinsic(_code_products)
"""Inner products of four rows of 4-bit codes with a query, into ``out[at : at + 4]``.

The rows are those of the numbers ``rows[at : at + 4]``; row i starts at the address ``base`` +
i · ``pitch``. The rows ``ahead`` places behind them are fetched from memory meanwhile. The
query is four planes (4, W): number w of plane n belongs to the n-th half of a byte, lowest
first, in the w-th two bytes of a row, of which 2·W bytes are read. W is a multiple of 32.
"""
float_at: Callable[[int, int], np.float32] = intrinsic(_float_at)
"""A number of the float32 array at an address."""
