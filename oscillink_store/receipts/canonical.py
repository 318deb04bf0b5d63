"""Canonical JSON (RFC 8785) and SHA-256 digests: the bytes that receipts are hashed over.

The ``rfc8785`` library is the definition. :func:`canonical` writes the same bytes in a third
of its time, because a receipt is made for every search; whatever needs more than Python's own
shortest float text is handed to the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from json import JSONEncoder, loads
from math import isfinite
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import rfc8785

from oscillink_store.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Json", "canonical", "digest", "parse", "plain", "text_digest", "vector_digest"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_LARGEST_INTEGER = 2**53 - 1
_STRINGS = {str}
_FLOATS = {float}
_encode = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def plain(value: object, field: str = "receipt") -> Json:
    """Copy a value into plain JSON types.

    numpy scalars and arrays become numbers and lists, tuples become lists, mappings become
    dicts. ``field`` names the value in messages. NaN and the infinities are refused rather
    than mapped to null: in a receipt, null says that there was nothing to measure (fewer
    than five candidates, no query vector), so the caller writes None for that.

    Raises InputError for a number that is not finite, an integer beyond ±(2⁵³−1), a key that
    is no string, and a value that has no JSON form.
    """
    if isinstance(value, str):
        return str.__str__(value)  # str(value) of an enum member is its name
    if isinstance(value, float):  # np.float64 is a float, and prints differently
        number = float(value)
        if not isfinite(number):
            raise InputError(
                f"{field} is {number}: a receipt holds finite numbers, or null where there is none",
                field=field,
            )
        return number
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
            raise InputError(
                f"{field} is {value}: JSON keeps integers up to 2**53 - 1, write it as a string",
                field=field,
            )
        return int(value)
    if isinstance(value, list | tuple):
        kinds = set(map(type, value))
        if kinds == _STRINGS or (kinds == _FLOATS and all(map(isfinite, value))):
            return list(value)
        return [plain(item, f"{field}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        copy: dict[str, Json] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"{field} has the key {key!r}: use strings as keys", field=field)
            copy[str.__str__(key)] = plain(item, f"{field}.{key}")
        return copy
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), field)
    raise InputError(
        f"{field} is a {type(value).__name__}: a receipt holds numbers, strings, lists and "
        "mappings",
        field=field,
    )


def canonical(value: Json) -> bytes:
    """Write a plain value (see :func:`plain`) as the UTF-8 bytes that RFC 8785 defines for it.

    Raises InputError when a string holds a lone surrogate or a number is out of range.
    """
    try:
        return _text(value).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "a receipt holds a string with a lone surrogate: pass valid Unicode text"
        ) from error
    except rfc8785.CanonicalizationError as error:
        raise InputError(f"a receipt cannot be written as canonical JSON: {error}") from error


def parse(text: str | bytes) -> Json:
    """Read JSON such that :func:`canonical` gives the canonical bytes back.

    Raises ValueError when the text is no JSON, or no UTF-8.
    """
    return cast("Json", loads(text, parse_int=_number))


def digest(value: object) -> str:
    """Hash the canonical JSON of a value with SHA-256: 64 hexadecimal characters."""
    return sha256(canonical(plain(value))).hexdigest()


def text_digest(text: str) -> str:
    """Hash the UTF-8 bytes of a text with SHA-256: 64 hexadecimal characters.

    It identifies the text without storing it. A short text can still be found by guessing.
    """
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def vector_digest(vector: ArrayLike) -> str:
    """Hash a vector's little-endian float32 bytes with SHA-256: 64 hexadecimal characters."""
    return sha256(np.ascontiguousarray(vector, dtype="<f4").tobytes()).hexdigest()


def _text(value: Json) -> str:
    if isinstance(value, str):
        return _encode(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, dict):
        names = list(value)
        # RFC 8785 sorts by UTF-16 code units, which for ASCII is Python's own order
        names.sort(key=None if "".join(names).isascii() else _utf16)
        return "{" + ",".join([f"{_encode(name)}:{_text(value[name])}" for name in names]) + "}"
    if isinstance(value, list):
        kinds = set(map(type, value))
        if kinds == _STRINGS:
            return _encode(value)
        if kinds == _FLOATS:
            return _floats_text(cast("list[float]", value))
        return "[" + ",".join([_text(item) for item in value]) + "]"
    if type(value) is int and -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        return str(value)
    return rfc8785.dumps(value).decode()


def _floats_text(values: list[float]) -> str:
    # all at once, where the encoder's text of them differs in nothing but ".0"
    text = _encode(values)
    if "e" in text or "-0.0" in text:
        return "[" + ",".join(map(_float_text, values)) + "]"
    return text.replace(".0,", ",").replace(".0]", "]")


def _float_text(value: float) -> str:
    # ECMAScript and Python agree on the shortest digits; they differ in the exponent's form
    # and range, and in ".0".
    text = repr(value)
    if "e" in text or "n" in text:
        return rfc8785.dumps(value).decode()
    if text.endswith(".0"):
        return "0" if value == 0.0 else text[:-2]
    return text


def _number(text: str) -> int | float:
    # beyond 2**53 an integer on paper is a float that was written without an exponent
    value = int(text)
    return value if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER else float(text)


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be")
