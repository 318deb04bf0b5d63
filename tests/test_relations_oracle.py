"""The relations against slow and obvious ones that look at every pair of anchors."""

from __future__ import annotations

import itertools
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from test_relations import Pairs, joined, rows

from oscillink_store.model import Parameters


def slow_phrases(text: str) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for part in re.split(r"[.,]|\n\s*\n", text):
        # words in a row that all begin with a capital
        for capital, group in itertools.groupby(part.split(), lambda word: word[0].isupper()):
            run = [word.lower() for word in group]
            for size in (2, 3, 4) if capital else ():
                found |= {tuple(run[at : at + size]) for at in range(len(run) - size + 1)}
    return found


capitals = st.lists(
    st.sampled_from(["New", "York", "City", "Élan", "of", "in", "ΑΘΗΝΑ", "."]), max_size=12
).map(" ".join)


@given(
    st.lists(st.tuples(st.none() | capitals, capitals), min_size=1, max_size=10),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_shared(given_: list[tuple[str | None, str]], low: int, high: int) -> None:
    named, texts = [row[0] for row in given_], [row[1] for row in given_]
    found = [slow_phrases((title or "") + "\n\n" + text) for title, text in given_]
    expected: Pairs = {}
    for phrase in set().union(*found):
        holders = [row for row, phrases in enumerate(found) if phrase in phrases]
        if low <= len(holders) <= high:
            weight = 2.0 ** -(len(holders).bit_length() - 1)
            for pair in itertools.combinations(holders, 2):
                expected[pair] = max(expected.get(pair, 0.0), weight)
    parameters = Parameters(shared_min_frequency=low, shared_max_frequency=high)
    assert joined("shared", rows(texts, titles=named), parameters) == expected


@given(
    st.lists(
        st.tuples(st.none() | st.sampled_from("ab"), st.none() | st.integers(-2, 2).map(float)),
        min_size=1,
        max_size=12,
    )
)
def test_next(given_: list[tuple[str | None, float | None]]) -> None:
    expected: Pairs = {}
    for name in "ab":
        members = [row for row, (sequence_, _) in enumerate(given_) if sequence_ == name]
        members.sort(key=lambda row: (given_[row][1] is None, given_[row][1] or 0.0, row))
        expected |= {tuple(sorted(pair)): 1.0 for pair in itertools.pairwise(members)}
    columns = {
        "sequences": [row[0] for row in given_], "positions": [row[1] for row in given_],
    }  # fmt: skip
    assert joined("next", rows(**columns)) == expected


@given(st.integers(1, 24), st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_knn(count: int, dimension: int, neighbours: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    if count > 2:
        vectors[1] = vectors[0]  # duplicates tie
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors.astype(float) @ vectors.astype(float).T
    np.fill_diagonal(cosine, -np.inf)
    expected: Pairs = {}
    doubtful: set[tuple[int, int]] = set()
    for row in range(count):
        best = np.sort(cosine[row])[::-1][min(neighbours, count - 1) - 1] if count > 1 else np.inf
        for other in range(count):
            pair = (min(row, other), max(row, other))
            if abs(cosine[row, other] - best) < 1e-6 or abs(cosine[row, other]) < 1e-6:
                doubtful.add(pair)  # ties may fall either way in float32
            elif cosine[row, other] > best and cosine[row, other] > 0:
                expected[pair] = cosine[row, other] ** 3
    found = joined("knn", rows(vectors=vectors), Parameters(knn_neighbors=neighbours))
    assert set(expected) <= set(found) <= set(expected) | doubtful
    for pair, weight in found.items():
        assert abs(weight - cosine[pair] ** 3) < 1e-5
