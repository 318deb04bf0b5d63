"""The snippet beside a hit: short, taken from the text, around the words of the question."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.snippet import snippet, words

TEXT = (
    "Returns nothing at first. "
    + "Filler stands here and says little. " * 12
    + "Only now a lock is acquired by the thread that waits, and released later. "
    + "More filler follows and ends. " * 12
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who owned The Collegian?", ["owned", "collegian"]),
        ("How do I release a lock, a LOCK?", ["release", "lock"]),
        ("What is 7 of 9?", ["7", "9"]),
        ("Grüße für Łódź", ["grüsse", "für", "łódź"]),
        ("who is it?", []),
        ("", []),
    ],
)
def test_words_are_those_that_point_somewhere(question: str, expected: list[str]) -> None:
    assert words(question) == expected


def test_it_shows_where_most_words_stand() -> None:
    piece = snippet(TEXT, words("which thread acquires and releases the lock?"), 90)
    assert piece.startswith("…")
    assert piece.endswith("…")
    assert "lock is acquired by the thread" in piece


def test_without_a_match_it_is_the_beginning() -> None:
    assert snippet(TEXT, ["absent"], 60).startswith("Returns nothing at first.")
    assert snippet("short\n  and  indented", [], 60) == "short and indented"


@given(st.text(max_size=400), st.lists(st.text(min_size=1, max_size=5)), st.integers(20, 120))
def test_it_is_a_piece_of_the_text_of_at_most_that_width(
    text: str, sought: list[str], width: int
) -> None:
    piece = snippet(text, sought, width)
    assert len(piece) <= width + 2
    assert "\n" not in piece
    flat = " ".join(text.split())
    assert piece.removeprefix("…").removesuffix("…") in flat
