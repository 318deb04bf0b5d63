"""Words, titles named in a question, and facet values named in it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice.names import NameIndex, match, name_index, named_values, titled
from oscillink_store.lattice.words import letters, outermost, title_words, words
from oscillink_store.model import Parameters

PARAMETERS = Parameters()


def named(
    question: str, titles: list[str | None], parameters: Parameters = PARAMETERS
) -> list[int]:
    return match(question, name_index(titles, parameters), titles.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Collegian's owner?", ["the", "collegian", "s", "owner"]),
        ("os.path_join(a)", ["os", "path_join", "a"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("Ａｂｃ １２", ["abc", "12"]),  # full width
        ("cafe\u0301", ["caf\u00e9"]),  # composed and decomposed letters are one
        ("co\u00adope\u200brate", ["cooperate"]),  # soft hyphen and zero width space
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs stay within the word
        ("東京tower", ["東", "京", "tower"]),
        ("서울은", ["서", "울", "은"]),
        ("㎒", ["mhz"]),
        ("— … ! 🙂", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_words_are_stable(text: str) -> None:
    once = words(text)
    assert words(" ".join(once)) == once
    assert words(text.upper().lower()) == words(text.upper())
    assert all(once)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Mercury (planet)", ["mercury"]),
        ("Mercury [planet] ", ["mercury"]),
        ("水星（惑星）", ["水", "星"]),
        ("(untitled)", ["untitled"]),
        ("Deep (sea) diving", ["deep", "sea", "diving"]),
        ("Unclosed (bracket", ["unclosed", "bracket"]),
        (None, []),
    ],
)
def test_title_words(title: str | None, expected: list[str]) -> None:
    assert title_words(title) == expected


def test_a_wide_character_counts_as_two_letters() -> None:
    assert letters(["up", "in"]) == 4
    assert letters(words("東京")) == 4
    assert letters(words("กขคง")) == 4


def test_outermost_keeps_overlaps_and_equals_and_drops_what_lies_within() -> None:
    spans = [(1, 3, 7), (2, 0, 2), (3, 0, 5), (4, 0, 5), (5, 4, 6), (6, 4, 5)]
    assert sorted(outermost(spans)) == [(1, 3, 7), (3, 0, 5), (4, 0, 5)]


TITLES = [
    "New York", "New York City", "York", "Dallas (Texas)", "The Collegian", "It", None, "東京",
    "C++", "Dallas (film)",
]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who owned the COLLEGIAN?", [4]),
        ("What is in New York City?", [1]),
        ("New York or York?", [0, 2]),
        ("New York City beats York", [1, 2]),
        ("Was Dallas shot in Dallas?", [3, 9]),
        ("Who wrote It?", []),  # too short
        ("Yorkshire and NewYork", []),
        ("東京都はどこですか", [7]),
        ("New-York", [0]),
        ("", []),
        ("?!", []),
    ],
)
def test_match(question: str, expected: list[int]) -> None:
    assert named(question, TITLES) == expected


def test_titles_of_too_many_anchors_are_left_out() -> None:
    titles: list[str | None] = ["Part One"] * 5 + ["Part Two"] * 6
    assert named("part one", titles) == [0, 1, 2, 3, 4]
    assert named("part two", titles) == []
    assert named("part two", titles, Parameters(title_max_anchors=6)) == [5, 6, 7, 8, 9, 10]
    assert ("part", "two") not in titled(titles, PARAMETERS)


def test_without_titles_nothing_is_named() -> None:
    assert named("anything at all", [None, None]) == []
    assert named("anything at all", []) == []


def test_a_collision_of_keys_names_nobody() -> None:
    index = name_index(["Apple pie", "Plum cake"], PARAMETERS)
    forged = index._replace(rows=index.rows[::-1])
    assert match("apple pie", index, ["Apple pie", "Plum cake"].__getitem__) == [0]
    assert match("apple pie", forged, ["Apple pie", "Plum cake"].__getitem__) == []


def test_the_index_lives_in_memory_maps(tmp_path) -> None:
    titles = [f"Title number {number}" for number in range(1000)]
    for name, array in name_index(titles, PARAMETERS)._asdict().items():
        np.save(tmp_path / f"{name}.npy", array)
    index = NameIndex(
        *(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in NameIndex._fields)
    )
    assert np.all(index.keys[1:] >= index.keys[:-1])
    assert match("show title number 77 and title number 5", index, titles.__getitem__) == [5, 77]


def test_the_index_does_not_depend_on_the_hash_seed() -> None:
    program = (
        "from oscillink_store.lattice.names import name_index\n"
        "from oscillink_store.model import Parameters\n"
        "index = name_index(['Red fox', 'Red fox', 'Blue whale', '東京タワー'], Parameters())\n"
        "print([array.tolist() for array in index])\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(printed) == 1
    keys, rows, lengths = eval(printed.pop())
    assert keys == sorted(keys)
    assert sorted(rows) == [0, 1, 2, 3]
    assert lengths == [2, 5]


vocabulary = st.sampled_from(["red", "fox", "blue", "Jump", "over", "東", "京", "naïve", "(x)"])
phrase = st.lists(vocabulary, max_size=4).map(" ".join)


@given(st.lists(vocabulary, max_size=12).map(" ".join), st.lists(st.none() | phrase, max_size=12))
def test_match_against_every_pair_of_places(question: str, titles: list[str | None]) -> None:
    parameters = Parameters(title_min_length=3, title_max_anchors=2)
    asked = words(question)
    spans = []
    for row, title in enumerate(titles):
        parts = title_words(title)
        same = [other for other in titles if title_words(other) == parts]
        if letters(parts) < 3 or len(same) > 2:
            continue
        spans += [
            (row, start, start + len(parts))
            for start in range(len(asked) - len(parts) + 1)
            if asked[start : start + len(parts)] == parts
        ]
    expected = {
        row
        for row, start, end in spans
        if not any(s <= start and end <= e and e - s > end - start for _, s, e in spans)
    }
    assert named(question, titles, parameters) == sorted(expected)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What did Caroline say?", ["Caroline"]),
        ("caroline's friend MEL", ["Mel", "Caroline"]),
        ("Melanie sang", []),
        ("I saw New York", ["New York"]),  # not York, which lies within it
        ("Is it a lie?", []),  # "A" is an article here
        ("", []),
    ],
)
def test_named_values(question: str, expected: list[str]) -> None:
    assert named_values(question, ["Mel", "Caroline", "York", "New York", "A"]) == expected


def test_values_that_read_alike_are_all_named() -> None:
    assert named_values("about ann-marie", ["Ann Marie", "Ann-Marie", "Ann"]) == [
        "Ann Marie",
        "Ann-Marie",
    ]
    assert named_values("anything", []) == []
