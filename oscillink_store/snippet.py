"""The piece of a text that a person wants to see beside a question."""

from __future__ import annotations

import re

__all__ = ["snippet", "words"]

_WORD = re.compile(r"\w+")

# Too common in questions to point at anything.
_PLAIN = frozenset(
    {
        "a", "an", "and", "are", "as", "at", "be", "by", "did", "do", "does", "for", "from", "has",
        "have", "how", "i", "in", "is", "it", "its", "me", "my", "of", "on", "or", "that", "the",
        "their", "this", "to", "was", "were", "what", "when", "where", "which", "who", "whose",
        "why", "will", "with", "you",
    }
)  # fmt: skip


def words(question: str) -> list[str]:
    """Find the words of a question that can point at a place in a text, in lower case."""
    found = dict.fromkeys(word.casefold() for word in _WORD.findall(question))
    return [word for word in found if word not in _PLAIN and (len(word) > 1 or word.isdigit())]


def snippet(text: str, sought: list[str], width: int) -> str:
    """Cut about ``width`` characters out of a text, on one line, around most of the words sought.

    Words match by their beginnings, so that ``merge`` finds ``merged``. Without any of them
    it is the beginning of the text.
    """
    flat = " ".join(text.split())
    if len(flat) <= width:
        return flat
    places = [
        (match.start(), word)
        for match in _WORD.finditer(flat)
        for word in sought
        if match[0].casefold().startswith(word)
    ]
    start = 0
    if places:
        reach = width * 3 // 4

        def rank(place: tuple[int, str]) -> tuple[int, int]:
            near = {word for at, word in places if place[0] <= at < place[0] + reach}
            return len(near), -place[0]

        start = max(0, max(places, key=rank)[0] - width // 5)
    end = min(len(flat), start + width)
    start = max(0, end - width)
    piece = flat[start:end]
    if start and flat[start - 1] != " ":
        piece = piece.partition(" ")[2] or piece
    if end < len(flat) and flat[end] != " ":
        piece = piece.rpartition(" ")[0] or piece
    return f"{'…' if start else ''}{piece}{'…' if end < len(flat) else ''}"
