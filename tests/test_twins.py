"""Contested twins: which near duplicates count, and close pairs against dense products."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Indel

from oscillink_store.kernels.dense import close_pairs, products
from oscillink_store.lattice.twins import (
    LEAST_COSINE,
    LEAST_RATIO,
    MOST_LONGER,
    Twins,
    _differences,
    find_twins,
)
from oscillink_store.lattice.words import cased_words

HALEP = "On Saturday Simona Halep beat Serena Williams in the final of Wimbledon in 2019."


def twins_of(one: str, other: str, cosine: float = 0.9) -> list[Twins]:
    sine = float(np.sqrt(1.0 - cosine**2))
    vectors = np.array([[1.0, 0.0], [cosine, sine]], np.float32)
    texts = [one, other]
    return find_twins(vectors, np.array([0]), lambda rows: [texts[row] for row in rows])


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (HALEP.replace("Simona Halep", "Angelique Kerber"), [("Simona Halep", "Angelique Kerber")]),
        (HALEP.replace("2019", "2018"), [("2019", "2018")]),
        (HALEP.replace("2019", "March 3rd, 2018"), [("2019", "March 3rd 2018")]),
        (HALEP.replace("Serena Williams", "Tatjana Maria of Germany"),
         [("Serena Williams", "Tatjana Maria of Germany")]),
        (HALEP.replace("Saturday", "Sunday").replace("2019", "2021"),
         [("Saturday", "Sunday"), ("2019", "2021")]),
        # inserted in one place, left out in another
        (HALEP.replace("Simona Halep", "Halep").replace("Serena", "Venus Ebony"),
         [("Simona", ""), ("Serena", "Venus Ebony")]),
    ],
)  # fmt: skip
def test_texts_that_differ_in_names_or_numbers_are_twins(
    other: str, differs: list[tuple[str, str]]
) -> None:
    (found,) = twins_of(HALEP, other)
    assert (found.first, found.second) == (0, 1)
    assert list(found.differs) == differs
    assert found.cosine == pytest.approx(0.9)
    assert LEAST_RATIO < found.ratio < 1.0
    (turned,) = twins_of(other, HALEP)
    assert list(turned.differs) == [pair[::-1] for pair in differs]


@pytest.mark.parametrize(
    "other",
    [
        HALEP,
        HALEP.upper(),
        HALEP.replace("beat", "defeated"),
        HALEP.replace("final", "second final"),
        HALEP.replace("Simona Halep", "Angelique Kerber").replace("beat", "lost to"),
        HALEP.replace("On Saturday", "In"),
        HALEP.replace(" in 2019", ""),
        "Serena Williams beat Simona Halep on Saturday in the final of Wimbledon in 2019.",
        HALEP + " " + HALEP,
        "Simona Halep is a tennis player from Romania.",
        "",
    ],
)
def test_other_differences_make_no_twins(other: str) -> None:
    assert twins_of(HALEP, other) == []


def test_words_that_open_questions_are_no_names() -> None:
    question = "{} can I find the number of my own account at this bank?"
    assert twins_of(question.format("Where"), question.format("How")) == []
    assert len(twins_of(question.format("May"), question.format("Will"))) == 1  # names too


def test_unlike_directions_make_no_twins() -> None:
    other = HALEP.replace("2019", "2018")
    assert twins_of(HALEP, other, LEAST_COSINE + 0.001) != []
    assert twins_of(HALEP, other, LEAST_COSINE - 0.001) == []


def test_capitals_and_digits_of_any_script_count() -> None:
    told = "Вчера в городе {} открыли большую выставку картин современных художников"
    assert len(twins_of(told.format("Казань"), told.format("Пермь"))) == 1
    years = "東京で{}年に大きな国際大会が開かれました"
    (found,) = twins_of(years.format(1964), years.format(2021))
    assert found.differs == (("1964", "2021"),)


def test_planted_counterfactuals_are_found_and_nothing_else() -> None:
    rng, words = np.random.default_rng(3), random.Random(3)
    common = ["".join(words.choices("abcdefgh", k=7)) for _ in range(300)]
    names = [word.title() for word in words.sample(common, 100)]
    texts, vectors, planted = [], [], set()
    for _ in range(150):
        body = [*words.sample(common, 14), words.choice(names)]
        words.shuffle(body)
        direction = rng.standard_normal(32)
        texts.append(" ".join(body))
        vectors.append(direction)
        kind = words.choice(["counterfactual", "paraphrase", "copy", "alone"])
        if kind == "alone":
            continue
        other = list(body)
        at = next(n for n, word in enumerate(body) if word[0].isupper())
        if kind == "counterfactual":
            other[at] = words.choice([name for name in names if name != body[at]])
            planted.add((len(texts) - 1, len(texts)))
        elif kind == "paraphrase":
            other[at - 1], other[at] = words.choice(common), words.choice(names)
        texts.append(" ".join(other))
        vectors.append(direction + 0.1 * rng.standard_normal(32))
    unit = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = find_twins(
        unit.astype(np.float32), np.arange(len(texts)), lambda rows: [texts[row] for row in rows]
    )
    assert {pair[:2] for pair in found} == planted
    assert len(planted) > 20


@given(
    n=st.integers(1, 30),
    D=st.sampled_from([1, 15, 16, 33]),
    least=st.floats(-1.0, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_close_pairs_are_those_of_the_dense_products(
    n: int, D: int, least: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, D)).astype(np.float32)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    rows: npt.NDArray[np.int64] = rng.permutation(n)[: rng.integers(0, n + 1)].astype(np.int64)
    pairs, cosine = close_pairs(Y, rows, least)
    expected = [
        (row, other, product)
        for place, row in enumerate(rows.tolist())
        for other, product in enumerate(products(Y, Y[row]).tolist())
        if product > least and other != row and other not in rows[:place]
    ]
    assert [(*pair, product) for pair, product in zip(pairs.tolist(), cosine, strict=True)] == [
        (row, other, product) for row, other, product in expected
    ]


def test_no_more_than_the_closest_are_looked_at() -> None:
    """Rows made after one pattern are twins of each other, all of them."""
    rng = np.random.default_rng(0)
    vectors = np.ones((30, 8)) + 0.05 * rng.normal(size=(30, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    texts = [f"The area code {number} serves a part of the city" for number in range(200, 230)]
    asked: list[int] = []

    def told(rows: npt.NDArray[np.int64]) -> list[str]:
        asked.extend(rows.tolist())
        return [texts[row] for row in rows]

    every = find_twins(vectors, np.array([3, 7]), told)
    assert len(every) == 2 * 29 - 1
    asked.clear()
    few = find_twins(vectors, np.array([3, 7]), told, most=4)
    assert len(few) == 8
    assert len(asked) <= 10
    for row in (3, 7):
        closest = sorted((pair for pair in every if pair.first == row), key=lambda p: -p.cosine)
        assert set(closest[:4]) == {pair for pair in few if pair.first == row}


@given(
    texts=st.lists(
        st.lists(
            st.sampled_from(["der", "Rhein", "1984", "Köln", "— und", "東京1984", "o'Neill"]),
            min_size=1, max_size=14,
        ).map(" ".join),
        min_size=2, max_size=8,
    )
)  # fmt: skip
def test_no_pair_is_passed_over(texts: list[str]) -> None:
    vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (len(texts), 1))
    found = find_twins(vectors, np.arange(len(texts)), lambda rows: [texts[row] for row in rows])
    told = {pair[:2]: pair.ratio for pair in found}
    for one, two in combinations(range(len(texts)), 2):
        words = cased_words(texts[one]), cased_words(texts[two])
        ratio = Indel.normalized_similarity(*words)
        sizes = sorted((len(texts[one]), len(texts[two])))
        if ratio > LEAST_RATIO and sizes[1] <= MOST_LONGER * sizes[0] and _differences(*words):
            assert told.pop((one, two)) == ratio
    assert told == {}
