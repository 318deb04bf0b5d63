"""Words, titles named in a question, and facet values named in it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.lattice.keyindex import find, merged, taken
from oscillink_store.lattice.names import (
    NameIndex,
    facet_spans,
    line_keys,
    match,
    meant_anchors,
    meant_value,
    name_index,
    named_runs,
    named_values,
    title_line,
    title_runs,
)  # fmt: skip
from oscillink_store.lattice.words import letters, outermost, title_words, words
from oscillink_store.model import Parameters

PARAMETERS = Parameters()


def named(
    question: str, titles: list[str | None], parameters: Parameters = PARAMETERS
) -> list[int]:
    parts = [(0, name_index(titles, parameters))]
    return match(question, parts, None, titles.__getitem__, parameters)


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


def test_only_anchors_that_are_there_count() -> None:
    titles: list[str | None] = ["Part One"] * 6 + ["Part One Two", "Part"]
    parts = [(0, name_index(titles[:4], PARAMETERS)), (4, name_index(titles[4:], PARAMETERS))]
    alive = np.ones(8, np.uint8)

    def found(question: str) -> list[int]:
        return match(question, parts, alive, titles.__getitem__, PARAMETERS)

    # what has too many anchors hides nothing
    assert found("part one") == [7]
    assert found("part one two") == [6]
    alive[[1, 6]] = 0
    assert found("part one") == [0, 2, 3, 4, 5]
    assert found("part one two") == [0, 2, 3, 4, 5]
    alive[:6] = 0
    assert found("part one two") == [7]


def test_a_title_has_at_most_255_words() -> None:
    longest, longer = " ".join(["word"] * 255), " ".join(["word"] * 256)
    assert named(longest, [longest, longer]) == [0]
    assert named(longer, [longest, longer]) == [0]


def test_without_titles_nothing_is_named() -> None:
    assert named("anything at all", [None, None]) == []
    assert named("anything at all", []) == []


def test_a_collision_of_keys_names_nobody() -> None:
    index = name_index(["Apple pie", "Plum cake"], PARAMETERS)
    forged = index._replace(rows=index.rows[::-1])
    titles = ["Apple pie", "Plum cake"]
    assert match("apple pie", [(0, index)], None, titles.__getitem__, PARAMETERS) == [0]
    assert match("apple pie", [(0, forged)], None, titles.__getitem__, PARAMETERS) == []


def test_the_index_lives_in_memory_maps(tmp_path) -> None:
    titles = [f"Title number {number}" for number in range(1000)]
    for name, array in name_index(titles, PARAMETERS)._asdict().items():
        np.save(tmp_path / f"{name}.npy", array)
    index = NameIndex(
        *(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in NameIndex._fields)
    )
    assert np.all(index.keys[1:] >= index.keys[:-1])
    question = "show title number 77 and title number 5"
    assert match(question, [(0, index)], None, titles.__getitem__, PARAMETERS) == [5, 77]


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
    keys, rows = eval(printed.pop())
    assert keys == sorted(keys)
    assert sorted(rows) == [0, 1, 2, 3]
    # the number of words is the top byte
    assert [key >> 56 for key in keys] == [2, 2, 2, 5]


vocabulary = st.sampled_from(["red", "fox", "blue", "Jump", "over", "東", "京", "naïve", "(x)"])
phrase = st.lists(vocabulary, max_size=4).map(" ".join)


@given(
    st.lists(vocabulary, max_size=12).map(" ".join),
    st.lists(st.tuples(st.none() | phrase, st.booleans()), max_size=12),
    st.integers(0, 12),
)
def test_match_against_every_pair_of_places(
    question: str, rows: list[tuple[str | None, bool]], cut: int
) -> None:
    parameters = Parameters(title_min_length=3, title_max_anchors=2)
    titles = [title for title, _ in rows]
    asked = words(question)
    spans = []
    for row, (title, alive) in enumerate(rows):
        parts = title_words(title)
        same = [other for other, there in rows if there and title_words(other) == parts]
        if not alive or letters(parts) < 3 or len(same) > 2:
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
    cut = min(cut, len(titles))
    indices = [
        (at, name_index(some, parameters)) for at, some in ((0, titles[:cut]), (cut, titles[cut:]))
    ]
    alive = np.array([there for _, there in rows], np.uint8)
    assert match(question, indices, alive, titles.__getitem__, parameters) == sorted(expected)


@given(st.lists(st.tuples(st.none() | phrase, st.booleans()), max_size=12), st.integers(0, 12))
def test_an_index_merged_or_thinned_out_is_that_of_its_titles(
    rows: list[tuple[str | None, bool]], cut: int
) -> None:
    titles = [title for title, _ in rows]
    cut = min(cut, len(titles))
    whole = name_index(titles, PARAMETERS)
    halves = [
        (0, name_index(titles[:cut], PARAMETERS)),
        (cut, name_index(titles[cut:], PARAMETERS)),
    ]
    kept = np.array([keep for _, keep in rows], np.bool_)
    some = name_index([title for title, keep in rows if keep], PARAMETERS)
    for found, expected in ((merged(halves), whole), (taken(whole, kept), some)):
        assert [array.tolist() for array in found] == [array.tolist() for array in expected]
        assert [array.dtype for array in found] == [array.dtype for array in expected]


@given(st.lists(st.lists(vocabulary, max_size=9), max_size=4), st.lists(phrase, max_size=9))
@pytest.mark.parametrize("others", [0, 3000])
def test_runs_against_every_pair_of_places(
    others: int, texts: list[list[str]], titles: list[str]
) -> None:
    # a few words are looked up one by one, many against a table first
    lines = [" ".join(words(" ".join(text))) for text in texts]
    more = [f"title number {number}" for number in range(others)]
    parts = [(0, name_index(titles, PARAMETERS)), (len(titles), name_index(more, PARAMETERS))]
    known = {title_line(title, PARAMETERS) for title in titles} - {""}
    line, start, keys = title_runs(lines, parts)
    assert sorted(zip(line.tolist(), start.tolist(), (keys >> 56).tolist(), strict=True)) == sorted(
        (at, begin, end - begin)
        for at, text in enumerate(lines)
        for begin in range(len(text.split()))
        for end in range(begin + 1, len(text.split()) + 1)
        if " ".join(text.split()[begin:end]) in known
    )
    for at, begin, key in zip(line.tolist(), start.tolist(), keys, strict=True):
        run = " ".join(lines[at].split()[begin : begin + int(key >> 56)])
        assert line_keys([run]) == [key]
        assert len(find(parts, np.array([key]))[1]) >= 1


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


@given(
    st.lists(st.sampled_from([None, "red mill", "mill", "old red mill", "town", "x"]), max_size=18),
    st.lists(st.integers(0, 2), min_size=18, max_size=18),
    st.lists(st.sampled_from(["old", "red", "mill", "town", "a"]), max_size=9).map(" ".join),
)
def test_names_in_several_stores_are_those_of_one(
    titles: list[str | None], homes: list[int], question: str
) -> None:
    parameters = Parameters(title_max_anchors=2)
    stores = [
        [slot for slot, home in zip(range(len(titles)), homes, strict=False) if home == at]
        for at in range(3)
    ]
    runs = []
    for slots in stores:
        own = [titles[slot] for slot in slots]
        parts = [(0, name_index(own, parameters))]
        runs.append(named_runs(question, parts, None, own.__getitem__, parameters))
    meant = meant_anchors(runs, parameters)
    found = {stores[at][slot] for at, slots in enumerate(meant) for slot in slots}
    assert sorted(found) == named(question, titles, parameters)


def test_a_value_is_meant_when_no_other_is() -> None:
    def meant(question: str, *stores: list[str], present: set[str] | None = None) -> str | None:
        spans = [span for values in stores for span in facet_spans(question, values)]
        return meant_value(spans, lambda: present)

    assert meant("by Ann Lee", ["Ann"], ["Ann Lee", "Bob"]) == "Ann Lee"
    assert meant("by Ann", ["Ann"], ["Ann"]) == "Ann"
    assert meant("by Ann and Bob", ["Ann"], ["Bob"]) is None
    assert meant("by Ann and Bob", ["Ann"], ["Bob"], present={"Bob", "Carla"}) == "Bob"
    # one alone is meant even where the filter leaves none of its anchors
    assert meant("by Ann", ["Ann"], present=set()) == "Ann"
    assert meant("by nobody", ["Ann"]) is None
