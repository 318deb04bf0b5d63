"""The relations against slow and obvious ones that look at every pair of anchors."""

from __future__ import annotations

import itertools
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from test_relations import corpus, weights

from oscillink_store.lattice.relations import knn, mention, sequence, shared
from oscillink_store.model import Parameters

Pairs = dict[tuple[int, int], float]


def plain_words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def places(title: list[str], text: list[str]) -> list[tuple[int, int]]:
    last = len(text) - len(title)
    return [(at, at + len(title)) for at in range(last + 1) if text[at : at + len(title)] == title]


def slow_mentions(titles: list[str | None], texts: list[str], most: int) -> Pairs:
    named = [plain_words(title or "") for title in titles]
    usable = {
        tuple(title) for title in named if len("".join(title)) >= 4 and named.count(title) <= most
    }
    edges: dict[tuple[str, ...], set[tuple[int, int]]] = {title: set() for title in usable}
    for source, text in enumerate(texts):
        body = plain_words(text)
        spans = {title: places(list(title), body) for title in usable}
        every = [span for found in spans.values() for span in found]
        for title, found in spans.items():
            free = [
                span
                for span in found
                if not any(
                    s <= span[0] and span[1] <= e and e - s > span[1] - span[0] for s, e in every
                )
            ]
            if free:
                edges[title] |= {
                    (source, target)
                    for target, other in enumerate(named)
                    if tuple(other) == title and target != source
                }
    found: Pairs = {}
    for directed in edges.values():
        for source, target in directed:
            pair = (min(source, target), max(source, target))
            weight = 2.0 ** (-(len(directed).bit_length() - 1) / 2)
            found[pair] = max(found.get(pair, 0.0), weight)
    return found


sayings = st.lists(
    st.sampled_from(["red", "Red", "fox", "Fox's", "ox", "(blue", "blue.", "jumps"]), max_size=10
).map(" ".join)
titles = st.none() | st.lists(
    st.sampled_from(["red", "fox", "ox", "Blue", "jumps"]), min_size=1, max_size=3
).map(" ".join)


@given(st.lists(st.tuples(titles, sayings), min_size=1, max_size=14), st.integers(1, 4))
def test_mention(rows: list[tuple[str | None, str]], most: int) -> None:
    named, texts = [row[0] for row in rows], [row[1] for row in rows]
    found = mention.edges(corpus(texts, titles=named), Parameters(title_max_anchors=most))
    assert_close(weights(found), slow_mentions(named, texts, most))


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
def test_shared(rows: list[tuple[str | None, str]], low: int, high: int) -> None:
    named, texts = [row[0] for row in rows], [row[1] for row in rows]
    found = [slow_phrases((title or "") + "\n\n" + text) for title, text in rows]
    expected: Pairs = {}
    for phrase in set().union(*found):
        holders = [row for row, phrases in enumerate(found) if phrase in phrases]
        if low <= len(holders) <= high:
            for pair in itertools.combinations(holders, 2):
                expected[pair] = max(expected.get(pair, 0.0), 1.0 / len(holders))
    parameters = Parameters(shared_min_frequency=low, shared_max_frequency=high)
    assert_close(weights(shared.edges(corpus(texts, titles=named), parameters)), expected)


@given(
    st.lists(
        st.tuples(st.none() | st.sampled_from("ab"), st.none() | st.integers(-2, 2).map(float)),
        min_size=1,
        max_size=12,
    )
)
def test_next(rows: list[tuple[str | None, float | None]]) -> None:
    expected: Pairs = {}
    for name in "ab":
        members = [row for row, (sequence_, _) in enumerate(rows) if sequence_ == name]
        members.sort(key=lambda row: (rows[row][1] is None, rows[row][1] or 0.0, row))
        expected |= {tuple(sorted(pair)): 1.0 for pair in itertools.pairwise(members)}
    given_ = corpus(sequences=[row[0] for row in rows], positions=[row[1] for row in rows])
    assert weights(sequence.edges(given_, Parameters())) == expected


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
    found = weights(knn.edges(corpus(vectors=vectors), Parameters(knn_neighbors=neighbours)))
    assert set(expected) <= set(found) <= set(expected) | doubtful
    for pair, weight in found.items():
        assert abs(weight - cosine[pair] ** 3) < 1e-5


def assert_close(found: Pairs, expected: Pairs) -> None:
    assert found.keys() == expected.keys()
    for pair, weight in found.items():
        assert abs(weight - expected[pair]) < 1e-6
