"""Canonical JSON against the rfc8785 library and the RFC's own numbers."""

from __future__ import annotations

import enum
import hashlib
import json
import struct

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.errors import InputError
from oscillink_store.receipts.canonical import (
    canonical,
    digest,
    parse,
    plain,
    text_digest,
    vector_digest,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
SAFE_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | SAFE_INTEGERS | FLOATS | TEXT,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(TEXT, max_size=5)
        | st.dictionaries(TEXT, inner, max_size=5)
    ),
    max_leaves=30,
)

# hexadecimal bits and text of the numbers listed in RFC 8785, appendix B
RFC_NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@given(JSON)
def test_bytes_are_those_of_the_library(value):
    assert canonical(plain(value)) == rfc8785.dumps(value)


@given(st.integers(0, 2**64 - 1))
def test_every_float_is_written_as_the_library_writes_it(bits):
    value = struct.unpack(">d", struct.pack(">Q", bits))[0]
    if np.isfinite(value):
        assert canonical(value) == rfc8785.dumps(value)
        assert float(canonical(value)) == value


@pytest.mark.parametrize(("bits", "text"), RFC_NUMBERS.items())
def test_numbers_of_the_rfc(bits, text):
    assert canonical(struct.unpack(">d", bytes.fromhex(bits))[0]).decode() == text


@given(JSON)
def test_parsing_gives_the_same_bytes_back(value):
    once = canonical(plain(value))
    assert canonical(parse(once)) == once


def test_keys_are_sorted_by_utf16_code_units():
    # U+1F600 is written with surrogates from U+D83D on, which sort before U+FB33
    keys = ["\ufb33", "\U0001f600", "é", "a", "\r"]
    text = canonical(dict.fromkeys(keys, 1)).decode()
    assert list(json.loads(text)) == ["\r", "a", "é", "\U0001f600", "\ufb33"]


def test_numpy_values_become_plain():
    value = {
        "matrix": np.arange(4, dtype=np.float32).reshape(2, 2) / 3,
        "count": np.int64(7),
        "flag": np.bool_(True),
        "score": np.float64(0.1),
        "small": np.float32(0.1),
        "tuple": (1, "a"),
        "ids": np.array(["x", "y"]),
        "objects": np.array(["x", None], dtype=object),
    }
    copy = plain(value)
    assert copy == {
        "matrix": [[0.0, float(np.float32(1 / 3))], [float(np.float32(2 / 3)), 1.0]],
        "count": 7,
        "flag": True,
        "score": 0.1,
        "small": float(np.float32(0.1)),
        "tuple": [1, "a"],
        "ids": ["x", "y"],
        "objects": ["x", None],
    }
    assert type(copy["score"]) is float
    assert type(copy["flag"]) is bool
    assert rfc8785.dumps(copy) == canonical(copy)


def test_members_of_enumerations_are_written_by_value():
    class Colour(str, enum.Enum):  # noqa: UP042 - its str() is not its value
        RED = "red"

    class Level(enum.IntEnum):
        HIGH = 3

    assert canonical(plain({"c": Colour.RED, "l": Level.HIGH})) == b'{"c":"red","l":3}'


def test_plain_copies_what_could_change_later():
    scores = [1.0, 2.0]
    copy = plain({"scores": scores})
    scores.append(3.0)
    assert copy == {"scores": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"delta_h": float("nan")}, "content.delta_h"),
        ({"delta_h": np.float32("inf")}, "content.delta_h"),
        ({"scores": [1.0, float("-inf")]}, "content.scores[1]"),
        ({"scores": np.array([0.5, np.nan])}, "content.scores[1]"),
        ({"n": 2**53}, "content.n"),
        ({"n": np.int64(-(2**53))}, "content.n"),
        ({"n": {1: "a"}}, "content.n"),
        ({"n": {"deep": [{"x": object()}]}}, "content.n.deep[0].x"),
        ({"n": b"bytes"}, "content.n"),
        ({"n": {"a", "b"}}, "content.n"),
    ],
)
def test_what_has_no_json_form_is_refused_by_name(value, field):
    with pytest.raises(InputError) as caught:
        plain(value, "content")
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} ")


@pytest.mark.parametrize("value", ["\ud800", ["a", "\udfff"], {"\ud800": 1}])
def test_lone_surrogates_are_refused(value):
    with pytest.raises(InputError, match="surrogate"):
        canonical(value)


def test_numbers_that_json_cannot_hold_are_refused_without_plain_too():
    for value in (float("nan"), float("inf"), 2**53):
        with pytest.raises(InputError, match="canonical"):
            canonical(value)


def test_digests_are_sha256_of_the_stated_bytes():
    assert digest({"b": 1.0, "a": "ä"}) == hashlib.sha256('{"a":"ä","b":1}'.encode()).hexdigest()
    assert text_digest("who?") == hashlib.sha256(b"who?").hexdigest()
    vector = np.array([1.0, -2.5], dtype=np.float64)
    assert vector_digest(vector) == hashlib.sha256(struct.pack("<2f", 1.0, -2.5)).hexdigest()
    assert vector_digest(vector.astype(">f4")) == vector_digest(vector)


@given(st.lists(FLOATS | st.sampled_from([0.0, -0.0, 1.0, -1.0, 10.0, 1e16, -0.05, 1e-7, 1e21])))
def test_lists_of_floats_are_those_of_the_definition(values: list[float]) -> None:
    assert canonical(plain(values)) == rfc8785.dumps(values)
