"""Words as the lattice compares them: the same for titles, texts and questions.

A text is case-folded and brought into the Unicode normal form NFKC, so that full-width and
composed letters equal their plain forms, and cut into words: runs of letters, digits,
combining marks and underscores. Everything else separates words, only that invisible format
characters, as a soft hyphen, vanish.

Scripts that put no spaces between words (Han, Kana, Thai, Khmer, Lao, Burmese, Tibetan) and
Hangul, whose particles cling to the noun, have no word boundaries that could be found without
a dictionary. There every character counts as a word of its own, so that a title is found
wherever its characters stand; that it may be a part of a longer word is the price.
"""

from __future__ import annotations

import re
import unicodedata
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["cased_words", "letters", "outermost", "title_words", "words"]

_UNSPACED = (
    "CJK ", "HANGUL ", "HIRAGANA ", "IDEOGRAPHIC ", "KATAKANA", "KHMER ", "LAO ", "MYANMAR ",
    "THAI ", "TIBETAN ",
)  # fmt: skip

# One bracketed remark at the end: "Mercury (planet)", "Mercury [planet]".
_REMARK = re.compile(r"(?:\([^()]*\)|\[[^\[\]]*\]|（[^（）]*）)\s*$")


_START, _END = itemgetter(1), itemgetter(2)


class _Characters(dict[int, str]):
    """What :meth:`str.translate` puts in place of a character, found out when first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cf":
            kept = ""
        elif character != "_" and category[0] not in "LMN":
            kept = " "
        elif unicodedata.name(character, "").startswith(_UNSPACED):
            kept = f" {character} "
        else:
            kept = character
        self[code] = kept
        return kept


_CHARACTERS = _Characters()
_ASCII = "".join(_CHARACTERS[code] for code in range(128)).encode() + bytes(128)
"""The same for the bytes of plain text, each of which becomes one."""

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def words(text: str) -> list[str]:
    """Cut ``text`` into its words, folded and normalized, in order."""
    folded = text.casefold()
    if not folded.isascii():
        # compatibility forms may unfold into capitals, hence folded once more
        folded = unicodedata.normalize("NFKC", folded).casefold()
        folded = unicodedata.normalize("NFKC", folded)
    return _cut(folded)


def cased_words(text: str) -> list[str]:
    """The same words with their capitals."""
    return _cut(text if text.isascii() else unicodedata.normalize("NFKC", text))


def _cut(text: str) -> list[str]:
    # Most texts are plain but for dashes and quotation marks, and what is plain takes a third
    # of the time.
    if not text.isascii():
        text = _BEYOND_ASCII.sub(_kept, text)
        if not text.isascii():
            return text.translate(_CHARACTERS).split()
    return text.encode().translate(_ASCII).decode().split()


def _kept(found: re.Match[str]) -> str:
    return found[0].translate(_CHARACTERS)


def title_words(title: str | None) -> list[str]:
    """The words of a title without a bracketed remark at its end, unless that is all of it."""
    if title is None:
        return []
    return words(_REMARK.sub("", title)) or words(title)


def letters(parts: list[str]) -> int:
    """How long a title is: its characters without spaces, wide ones counting two.

    A syllable or ideograph of East Asian scripts says as much as two letters.
    """
    count = sum(map(len, parts))
    if all(map(str.isascii, parts)):
        return count
    return count + sum(
        unicodedata.east_asian_width(character) in "WF" for part in parts for character in part
    )


def outermost(spans: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The spans (what, start, end) that do not lie within a longer one, by start."""
    kept: list[tuple[int, int, int]] = []
    reach = -1
    # by start, and at equal starts the longest first
    for span in sorted(sorted(spans, key=_END, reverse=True), key=_START):
        if span[2] > reach:
            kept.append(span)
            reach = span[2]
        elif span[1:] == kept[-1][1:]:
            kept.append(span)
    return kept
