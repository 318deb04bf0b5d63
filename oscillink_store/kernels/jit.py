"""One decorator for every compiled kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])

__all__ = ["kernel"]

CONST_ARRAY = re.compile(r"const (\w+)\[([:, ]*)::1\]")


def kernel(signature: str) -> Callable[[Kernel], Kernel]:
    """Compile a function with numba ahead of its first call, for one explicit signature.

    The signature is numba's, in which ``const float32[:,::1]`` stands for a C-contiguous
    array that is only read: such a parameter takes read-only memory maps and writable
    arrays alike. The machine code is cached on disk. Kernels run without the GIL, without
    fastmath (results are reproducible to the bit, NaN keeps its meaning) and follow IEEE
    division. They allocate nothing: the caller passes every output array.
    """

    def read_only(match: re.Match[str]) -> str:
        return f"Array({match[1]}, {match[2].count(',') + 1}, 'C', readonly=True)"

    numba_signature = CONST_ARRAY.sub(read_only, signature)
    compiled = numba.njit(numba_signature, cache=True, nogil=True, error_model="numpy")
    return cast("Callable[[Kernel], Kernel]", compiled)
