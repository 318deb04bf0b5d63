"""One decorator for every compiled kernel.

A kernel is compiled by numba once per machine and release and kept as an object file. Later
processes load that file with llvmlite alone, which takes a few milliseconds where importing
numba and reading its own cache takes half a second: a search in a fresh process has no time
for that.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from ctypes import byref
from functools import cache
from importlib.metadata import version
from operator import index
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import binding as llvm
from numpy.ctypeslib import as_ctypes_type

Kernel = TypeVar("Kernel", bound=Callable[..., object])

__all__ = ["kernel"]

_PARAMETER = re.compile(r"(?P<const>const )?(?P<type>\w+)(?P<array>\[[:, ]*::1\])?")
_SIGNATURE = re.compile(r"(?P<result>\w+)\((?P<parameters>.*)\)", re.DOTALL)
_LAYOUT = 1  # of the object files
_MISSING = re.compile(r"\b(?:NRT_\w+|numba_\w+)\b")

_guard = threading.RLock()
_engines: list[Any] = []  # own the machine code, so they live as long as the process


def kernel(signature: str, *, using: str | None = None) -> Callable[[Kernel], Kernel]:
    """Compile a function with numba for one explicit signature, at its first call.

    The signature is numba's, with C-contiguous arrays written ``float32[:,::1]`` and
    ``const`` before those that are only read: such a parameter takes read-only memory maps
    and writable arrays alike. ``using`` names a module of this package whose functions the
    kernel calls; it is imported only when there is something to compile.

    Kernels run without the GIL, without fastmath (results are reproducible to the bit, NaN
    keeps its meaning) and follow IEEE division. They allocate nothing and raise nothing: the
    caller passes every output array. A call with another type, layout or number of
    dimensions raises TypeError.
    """

    def decorate(function: Kernel) -> Kernel:
        return cast("Kernel", _Compiled(cast("Any", function), signature, using))

    return decorate


class _Parameter:
    """One parameter of a kernel: a scalar, or an array passed as pointer and shape."""

    def __init__(self, text: str) -> None:
        match = _PARAMETER.fullmatch(text.strip())
        if match is None:
            raise TypeError(f"kernel signature: {text!r} is neither a scalar nor an array")
        self.type = match["type"]
        self.dimensions = match["array"].count(":") - 1 if match["array"] else 0
        self.writable = not match["const"]
        self.dtype = np.dtype(self.type)
        # index() refuses what int() would cut off
        self.number = float if self.dtype.kind == "f" else index


class _Compiled:
    """A kernel that is loaded, or compiled, by its first call."""

    def __init__(self, function: Any, signature: str, using: str | None) -> None:
        match = _SIGNATURE.fullmatch(signature.strip())
        if match is None:
            raise TypeError(f"kernel signature: {signature!r} is not of the form result(...)")
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.result = match["result"]
        self._result = None if self.result == "void" else as_ctypes_type(self.result)
        depth_free = re.split(r",\s*(?![^\[]*\])", match["parameters"])
        self.parameters = [_Parameter(text) for text in depth_free]
        self._using = using
        self._call: Any = None

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel on contiguous arrays and numbers."""
        call = self._call or self._load()
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.__name__} takes {len(self.parameters)} arguments")
        answer, problem = (self._result or ctypes.c_void_p)(), ctypes.c_void_p()
        flat: list[Any] = []
        for place, (argument, parameter) in enumerate(zip(arguments, self.parameters, strict=True)):
            if parameter.dimensions == 0:
                flat.append(parameter.number(argument))
                continue
            if not isinstance(argument, np.ndarray):
                raise TypeError(
                    f"{self.__name__}: argument {place} is a {type(argument).__name__}, it takes "
                    f"an array of {parameter.type}"
                )
            flags = argument.flags
            if (
                argument.dtype != parameter.dtype
                or argument.ndim != parameter.dimensions
                or not flags.c_contiguous
                or (parameter.writable and not flags.writeable)
            ):
                raise TypeError(
                    f"{self.__name__}: argument {place} is {argument.dtype} of {argument.ndim} "
                    f"dimensions, it takes {'writable ' * parameter.writable}contiguous "
                    f"{parameter.type} of {parameter.dimensions}"
                )
            # an array as numba passes it: owner, parent, items, item size, data, shape, strides
            flat += (None, None, argument.size, argument.itemsize, argument.ctypes.data)
            flat += argument.shape
            flat += argument.strides
        if call(byref(answer), byref(problem), *flat):
            raise RuntimeError(f"{self.__name__} failed inside its compiled code")
        return answer.value if self._result is not None else None

    def _load(self) -> Any:
        with _guard:
            if self._call is None:
                name = f"{self.__wrapped__.__module__.rpartition('.')[2]}.{self.__name__}"
                symbol, code = _stored(name) or self._compile(name)
                engine = _engine(code)
                kinds: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]
                for parameter in self.parameters:
                    if parameter.dimensions:
                        kinds += [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
                        kinds += [ctypes.c_void_p, *[ctypes.c_int64] * (2 * parameter.dimensions)]
                    else:
                        kinds.append(as_ctypes_type(parameter.dtype))
                prototype = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)  # releases the GIL
                self._call = prototype(engine.get_function_address(symbol))
        return self._call

    def _inner(self) -> Any:
        # What the kernel calls, other kernels or the module of helpers, as numba knows it.
        import numba

        function = self.__wrapped__
        names = dict(function.__globals__)
        helpers = {} if self._using is None else vars(importlib.import_module(self._using))
        for used in function.__code__.co_names:
            if isinstance(names.get(used), _Compiled):
                names[used] = names[used]._inner()  # noqa: SLF001 - the same class
            elif used not in names and used in helpers:
                names[used] = helpers[used]
        plain = FunctionType(function.__code__, names, function.__name__)
        return numba.njit(plain, error_model="numpy", no_cpython_wrapper=True)

    def _compile(self, name: str) -> tuple[str, bytes]:
        import numba  # only when there is something to compile

        inputs: list[Any] = []
        for parameter in self.parameters:
            scalar = getattr(numba.types, parameter.type)
            if parameter.dimensions:
                inputs.append(
                    numba.types.Array(
                        scalar, parameter.dimensions, "C", readonly=not parameter.writable
                    )
                )
            else:
                inputs.append(scalar)
        dispatcher = self._inner()
        dispatcher.compile(tuple(inputs))
        (compiled,) = dispatcher.overloads.values()
        symbol = compiled.fndesc.llvm_func_name
        code = compiled.library._get_compiled_object()  # noqa: SLF001 - numba has no other way
        _store(name, symbol, code)
        return symbol, code


def _engine(code: bytes) -> Any:
    # What the object file refers to but no kernel calls (numba's error paths) must still
    # have an address.
    for name in {match[0] for match in _MISSING.finditer(code.decode("latin-1"))}:
        if not llvm.address_of_symbol(name):
            llvm.add_symbol(name, _abort())
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return engine


@cache
def _abort() -> int:
    address = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
    assert address is not None
    return address


def _machine() -> Any:
    _initialize()
    return llvm.Target.from_default_triple().create_target_machine()


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@cache
def _key() -> str:
    """What machine code depends on: the kernels' sources, the compilers, the processor."""
    parts = [str(_LAYOUT), version("numba"), version("llvmlite"), version("numpy")]
    parts += [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    seen = hashlib.sha256("\n".join(parts).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        seen.update(path.read_bytes())
    return seen.hexdigest()[:16]


@cache
def _folder() -> Path | None:
    beside = Path(__file__).parent / "__pycache__"
    try:
        own = Path.home() / ".cache" / "oscillink-store"
    except RuntimeError:  # a user without a home, as in some containers
        own = beside
    for folder in (beside, own):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


def _stored(name: str) -> tuple[str, bytes] | None:
    beside = Path(__file__).parent / "__pycache__"
    for folder in dict.fromkeys((_folder(), beside)):
        if folder is None:
            continue
        try:
            content = (folder / f"{name}.{_key()}.kernel").read_bytes()
        except OSError:
            continue
        digest, _, rest = content.partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() == digest:  # else half of a lost write
            symbol, _, code = rest.partition(b"\n")
            return symbol.decode(), code
    return None


def _store(name: str, symbol: str, code: bytes) -> None:
    folder = _folder()
    if folder is None:
        return
    rest = symbol.encode() + b"\n" + code
    content = hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest
    target = folder / f"{name}.{_key()}.kernel"
    part = target.with_suffix(f".{os.getpid()}")
    try:
        for old in folder.glob(f"{name}.*.kernel"):
            old.unlink(missing_ok=True)
        part.write_bytes(content)
        part.replace(target)
    except OSError:  # without a cache the next process compiles again
        with suppress(OSError):
            part.unlink(missing_ok=True)
