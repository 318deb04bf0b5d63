"""Full-text search against BM25 in plain Python: scores, order, deletes, filters, parts."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.kernels.hashing import keys_of
from oscillink_store.lattice.postings import (
    STOP_WORDS,
    Postings,
    TextStatistics,
    build,
    frequencies,
    merge,
    search,
    take,
)

Mask = npt.NDArray[np.uint8]

# Few words, so that they meet; plain ones, so that a text is cut by split().
WORDS = ["red", "green", "blue", "lattice", "x1", "東", "the", "of"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), max_size=14)
questions = st.lists(st.sampled_from([*WORDS, "missing"]), max_size=7).map(" ".join)


def own_words(text: str) -> list[str]:
    return [word for word in text.split() if word not in STOP_WORDS]


def statistics_of(documents: list[str]) -> TextStatistics:
    return TextStatistics(len(documents), sum(len(own_words(text)) for text in documents))


def oracle(documents: list[str], question: str) -> list[float]:
    """The score of every text, the words added up by ascending key; 0 where none stands."""
    asked = Counter(own_words(question))
    anchors, length, _ = statistics_of(documents)
    scores = []
    for text in documents:
        counted = Counter(own_words(text))
        total = 0.0
        for word in sorted(asked, key=lambda word: int(keys_of([word])[0])):
            if counted[word]:
                n = sum(word in own_words(other) for other in documents)
                idf = math.log(1.0 + (anchors - n + 0.5) / (n + 0.5))
                f = min(counted[word], 255)
                norm = 1.2 * (1.0 - 0.75) + 1.2 * 0.75 * anchors / length * len(own_words(text))
                total += asked[word] * idf * (1.2 + 1.0) * f / (f + norm)
        scores.append(total)
    return scores


def parts_of(documents: list[str], cuts: list[int]) -> list[tuple[int, Postings]]:
    borders = [0, *sorted(cuts), len(documents)]
    return [(a, build(documents[a:b])) for a, b in pairwise(borders)]


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[str], list[int], list[bool], list[bool]]:
    documents = draw(texts)
    size = len(documents)
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    return documents, draw(st.lists(st.integers(0, size), max_size=3)), draw(flags), draw(flags)


@given(corpora(), questions, st.integers(0, 16))
def test_it_is_bm25_of_the_texts_alive(case, question: str, limit: int) -> None:
    documents, cuts, alive, chosen = case
    living = [text for text, there in zip(documents, alive, strict=True) if there]
    scores = iter(oracle(living, question))
    expected = []
    for slot, there in enumerate(alive):
        value = next(scores) if there else 0.0
        if value > 0.0 and chosen[slot]:
            expected.append((-value, slot))
    expected = sorted(expected)[:limit]
    slots, found = search(
        parts_of(documents, cuts), question, limit,
        alive=np.array(alive, np.uint8),
        allowed=np.array(alive, np.uint8) & np.array(chosen, np.uint8),
        statistics=statistics_of(living),
    )  # fmt: skip
    assert (slots.dtype, found.dtype) == (np.int64, np.float64)
    assert slots.tolist() == [slot for _, slot in expected]
    assert found.tolist() == [-value for value, _ in expected]


@given(corpora(), questions)
def test_a_part_of_a_larger_corpus_scores_by_the_statistics_of_all(case, question: str) -> None:
    documents, cuts, alive, _ = case
    living = [text for text, there in zip(documents, alive, strict=True) if there]
    mask = np.array(alive, np.uint8)
    parts = parts_of(documents, cuts)
    counted = [frequencies([part], question, mask) for part in parts]
    whole = statistics_of(living)._replace(frequencies=np.sum(counted, axis=0, dtype=np.int64))
    found = {}
    for part in parts:
        slots, scores = search([part], question, 20, alive=mask, allowed=None, statistics=whole)
        found |= dict(zip(slots.tolist(), scores.tolist(), strict=True))
    slots, scores = search(
        parts, question, 20, alive=mask, allowed=None, statistics=statistics_of(living)
    )
    assert found == dict(zip(slots.tolist(), scores.tolist(), strict=True))


@given(corpora(), questions)
def test_deletes_and_parts_change_no_bit(case, question: str) -> None:
    documents, cuts, alive, _ = case
    living = [text for text, there in zip(documents, alive, strict=True) if there]
    statistics = statistics_of(living)
    parts = parts_of(documents, cuts)
    slots, scores = search(
        parts, question, 20, alive=np.array(alive, np.uint8), allowed=None, statistics=statistics
    )
    anew = search(
        [(0, build(living))], question, 20, alive=None, allowed=None, statistics=statistics
    )
    folded = take(merge([part for _, part in parts]), np.array(alive, np.bool_))
    kept = search([(0, folded)], question, 20, alive=None, allowed=None, statistics=statistics)
    numbers = np.cumsum(alive) - 1
    for other_slots, other_scores in (anew, kept):
        assert numbers[slots].tolist() == other_slots.tolist()
        assert scores.tobytes() == other_scores.tobytes()


def large(size: int) -> tuple[list[str], Postings, Mask]:
    rng = np.random.default_rng(11)
    # word w stands in a text with probability 1 / (w + 1): from all of them to a few
    there = rng.random((size, 60)) < 1.0 / np.arange(1, 61)
    documents = [" ".join(f"w{word}" for word in np.flatnonzero(row)) for row in there]
    return documents, build(documents), (rng.random(size) < 0.9).astype(np.uint8)


class TestManyTexts:
    """More than are scored at a time, with lists of every density."""

    def test_best_of_all_scores(self) -> None:
        documents, whole, alive = large(13_000)
        statistics = TextStatistics(int(alive.sum()), int(whole.lengths[alive > 0].sum()))
        sets = [set(text.split()) for text in documents]
        for question in ("w0 w1 w59", "w50 w58", "w3 w4 w5 w6 w7 w8", "w0"):
            asked = question.split()
            idf = {}
            for word in asked:
                n = sum(word in found for found, there in zip(sets, alive, strict=True) if there)
                idf[word] = math.log(1.0 + (statistics.anchors - n + 0.5) / (n + 0.5))
            mean = statistics.length / statistics.anchors
            expected = np.array([
                sum(idf[word] * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * length / mean))
                    for word in asked if word in found) * there
                for found, length, there in zip(sets, whole.lengths.tolist(), alive, strict=True)
            ])  # fmt: skip
            slots, scores = search(
                [(0, whole)], question, 300, alive=alive, allowed=None, statistics=statistics
            )
            everything, every_score = search(
                [(0, whole)], question, 10**9, alive=alive, allowed=None, statistics=statistics
            )
            assert len(everything) == (expected > 0).sum()
            np.testing.assert_allclose(every_score, expected[everything], rtol=1e-13)
            order = np.lexsort((everything, -every_score))
            assert (order == np.arange(len(everything))).all()
            assert slots.tolist() == everything[:300].tolist()
            assert scores.tobytes() == every_score[:300].tobytes()

    def test_parts_and_threads_change_no_bit(self) -> None:
        documents, whole, alive = large(13_000)
        statistics = TextStatistics(int(alive.sum()), int(whole.lengths[alive > 0].sum()))
        parts = parts_of(documents, [1, 4096, 4097, 9000, 12_999])

        def found(case: tuple[list[tuple[int, Postings]], str]) -> tuple[bytes, bytes]:
            slots, scores = search(
                case[0], case[1], 100, alive=alive, allowed=None, statistics=statistics
            )
            return slots.tobytes(), scores.tobytes()

        asked = [f"w{i} w{i + 1} w{59 - i} w2 w2" for i in range(40)]
        expected = [found(([(0, whole)], question)) for question in asked]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(found, [(parts, question) for question in asked])) == expected


def ask(documents: list[str], question: str, **more: Mask | None) -> list[int]:
    masks = {"alive": None, "allowed": None} | more
    slots, _ = search(
        [(0, build(documents))], question, 10, **masks, statistics=statistics_of(documents)
    )
    return slots.tolist()


class TestQuestions:
    def test_equal_texts_tie_to_the_lower_slot(self) -> None:
        assert ask(["red", "blue", "blue red", "blue", "blue"], "blue") == [1, 3, 4, 2]
        slots, scores = search(
            [(0, build(["red"] * 9))], "red", 4, alive=None, allowed=None,
            statistics=TextStatistics(9, 9),
        )  # fmt: skip
        assert slots.tolist() == [0, 1, 2, 3]
        assert len(set(scores.tolist())) == 1

    @pytest.mark.parametrize("limit", [1, 4, 7])
    def test_equal_words_tie_to_the_lower_slot(self, limit: int) -> None:
        # the texts with one of the words are all met before those with the other
        for pair in (["red", "blue"], ["blue", "red"]):
            slots, _ = search(
                [(0, build(pair * 9))], "red blue", limit, alive=None, allowed=None,
                statistics=TextStatistics(18, 18),
            )  # fmt: skip
            assert slots.tolist() == list(range(limit))

    def test_accents_case_and_characters(self) -> None:
        documents = ["Un CAFÉ noir", "a cafe", "東京 tower", "coffee"]
        assert ask(documents, "café") == [1, 0]
        assert ask(documents, "京") == [2]

    def test_stop_words_are_not_looked_for(self) -> None:
        assert ask(["to be", "or not", "hamlet"], "to be or not to be") == []
        assert ask(["to be", "or not", "hamlet is to be"], "to be hamlet") == [2]

    def test_nothing_to_find(self) -> None:
        assert ask([], "a lattice") == []
        assert ask(["", "the"], "lattice") == []
        assert ask(["lattice"], "") == []
        assert ask(["lattice"], "absent") == []

    def test_a_filter_changes_no_score(self) -> None:
        documents = ["red", "red green", "green", "red blue"]
        both = [
            search(
                [(0, build(documents))], "red green", 9, alive=None, allowed=allowed,
                statistics=statistics_of(documents),
            )
            for allowed in (None, np.array([0, 1, 1, 1], np.uint8))
        ]  # fmt: skip
        (slots, scores), (some, some_scores) = both
        assert some.tolist() == [slot for slot in slots.tolist() if slot != 0]
        assert some_scores.tobytes() == scores[slots != 0].tobytes()

    @pytest.mark.parametrize("name", ["alive", "allowed"])
    def test_a_short_mask_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="a mask of 1 slots, of 2 or more"):
            ask(["red", "red"], "red", **{name: np.ones(1, np.uint8)})
