"""Sets of whole numbers as ascending arrays, and pairs of them as one number."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["differing", "distinct", "pairs", "unpaired"]

Integers = npt.NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.uint64)

_HALF = 32


def distinct(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The values, ascending, each once."""
    # np.unique hashes whole numbers, which takes many times as long
    ascending = np.sort(values)
    first = np.ones(len(values), np.bool_)
    first[1:] = ascending[1:] != ascending[:-1]
    return ascending[first]


def differing(values: Integers, others: Integers) -> Integers:
    """What is among the values or among the others but not both, ascending."""
    ascending = np.sort(np.concatenate([distinct(values), distinct(others)]))
    twice = ascending[1:] == ascending[:-1]
    alone = np.ones(len(ascending), np.bool_)
    alone[1:] &= ~twice
    alone[:-1] &= ~twice
    return ascending[alone]


def pairs(first: Integers, second: Integers) -> Integers:
    """One number for each pair of numbers from 0 to 2^31 − 1, in their order."""
    return first << _HALF | second


def unpaired(pairs: Integers) -> tuple[Integers, Integers]:
    """The two numbers of each pair."""
    return pairs >> _HALF, pairs & ((1 << _HALF) - 1)
