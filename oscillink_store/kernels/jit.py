"""One decorator for every compiled kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])

__all__ = ["kernel"]


def kernel(signature: str) -> Callable[[Kernel], Kernel]:
    """Compile a function with numba ahead of its first call, for one explicit signature.

    The machine code is cached on disk. Kernels run without the GIL, without fastmath
    (results are reproducible to the bit, NaN keeps its meaning) and follow IEEE division.
    They allocate nothing: the caller passes every output array.
    """
    compiled = numba.njit(signature, cache=True, nogil=True, error_model="numpy")
    return cast("Callable[[Kernel], Kernel]", compiled)
