"""The built-in embedder: words and character n-grams hashed to a fixed dimension.

It is lexical: texts are near when they share words or parts of words, and it knows no
synonyms. It needs no model, no download and no training, gives the same bits on every
machine, and is meant for trying things out, for tests, and for texts that are looked up by
their own words. Its vectors never change under one name.

A text is normalised (NFKC, case-folded) and cut into words. A word counts 1 + ln(occurrences)
times its weight, which is 0.1 for the common function words of English and 1 for all others.
It has one feature for itself and one for each distinct n-gram of 3 to 5 characters, which
together weigh as much as itself. A run of a script that is written without spaces is taken
for one word, but its n-grams, of 1 to 3 characters, weigh more the longer it is. Neighbouring
words share a weak feature more. Each feature is hashed (BLAKE2b) to a component and a sign;
the sum is scaled to length 1. A text without any word uses its other characters, and an empty
one has a vector of its own, so that every text has one.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from oscillink_store.embed.protocol import check_texts
from oscillink_store.errors import EmbedderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Hashes: TypeAlias = NDArray[np.uint64]
    Weights: TypeAlias = NDArray[np.float64]

__all__ = ["HashEmbedder"]

LEAST_DIMENSION = 16
MOST_DIMENSION = 65_536

_GRAMS = (3, 4, 5)
_UNSPACED_GRAMS = (1, 2, 3)
_PAIR_WEIGHT = 0.15
_COMMON_WEIGHT = 0.1

# Thai to Khmer, kana, Han, Hangul
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
# words are cut at 64 characters, so that a text without spaces costs no more than another
_WORD = re.compile(f"[{_UNSPACED}]{{1,64}}|[^\\W_{_UNSPACED}]{{1,64}}")
_OTHER = re.compile(r"\S{1,64}")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        a about after all also am an and any are as at be been before being but by can could did
        do does for from had has have he her here him his how i if in into is it its just me more
        most my no not of on only or other our out over she should so some such than that the
        their them then there these they this those to under up was we were what when where which
        while who whom whose why will with would you your
        """,
    )
)


@dataclass(frozen=True)
class HashEmbedder:
    """Lexical embedder of any dimension from 16 to 65,536; see the module for the method."""

    dimension: int = 384

    def __post_init__(self) -> None:
        """Refuse dimensions in which features would mostly collide, and absurd ones."""
        if not LEAST_DIMENSION <= self.dimension <= MOST_DIMENSION:
            raise EmbedderError(
                f"the hash embedder has dimension {self.dimension}: use {LEAST_DIMENSION} to "
                f"{MOST_DIMENSION}, for example 'hash:384'"
            )

    @property
    def name(self) -> str:
        """Name the method and the dimension, as in "hash:384"."""
        return f"hash:{self.dimension}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n texts: float32 unit rows of shape (n, dimension)."""
        sums = np.array([self._sum(text) for text in check_texts(self.name, texts)])
        sums = sums.reshape(-1, self.dimension)
        # a running sum adds in one order everywhere, unlike a reduction
        squares = np.add.accumulate(sums * sums, axis=1)[:, -1:]
        return (sums / np.sqrt(squares)).astype(np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed one text: a float32 unit vector of shape (dimension,)."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector

    def _sum(self, text: str) -> Weights:
        text = unicodedata.normalize("NFKC", text).casefold()
        words = _WORD.findall(text) or _OTHER.findall(text) or [""]
        counts = Counter(words)
        parts = {word: _features(word) for word in counts}
        hashes = [part[0] for part in parts.values()]
        weights = [parts[word][1] * _damped(count) for word, count in counts.items()]
        if len(words) > 1:
            pairs = _pairs(words, parts)
            hashes.append(pairs[0])
            weights.append(pairs[1])
        bits = np.concatenate(hashes)
        signed = np.where(bits >> np.uint64(63), -1.0, 1.0) * np.concatenate(weights)
        places = (bits % np.uint64(self.dimension)).astype(np.intp)
        total = np.bincount(places, signed, self.dimension).astype(np.float64, copy=False)
        if not total.any():  # everything cancelled out
            total[places[0]] = 1.0
        return total


@lru_cache(maxsize=32_768)
def _features(word: str) -> tuple[Hashes, Weights]:
    """Hash a word: its own feature first, then its n-grams; and the weight of each."""
    unspaced = _IS_UNSPACED.match(word) is not None
    padded, sizes = (word, _UNSPACED_GRAMS) if unspaced else (f"<{word}>", _GRAMS)
    grams = {padded[at : at + n]: None for n in sizes for at in range(len(padded) - n + 1)}
    names = [f"w{word}", *(f"g{gram}" for gram in grams)]
    digests = b"".join(
        blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names
    )
    share = len(sizes) if unspaced else max(1, len(grams))
    weights = np.full(len(names), 1.0 / math.sqrt(share))
    weights[0] = 1.0
    return np.frombuffer(digests, "<u8").astype(np.uint64), weights * _importance(word)


@lru_cache(maxsize=4_096)
def _damped(count: int) -> float:
    # rounded, because the last bit of a logarithm differs between mathematical libraries
    return round(1.0 + math.log(count), 9)


def _importance(word: str) -> float:
    return _COMMON_WEIGHT if word in _COMMON else 1.0


def _pairs(words: list[str], parts: dict[str, tuple[Hashes, Weights]]) -> tuple[Hashes, Weights]:
    """Hash each distinct pair of neighbouring words, by mixing the hashes of the two."""
    counts = Counter(pairwise(words))
    left = np.array([parts[first][0][0] for first, _ in counts], np.uint64)
    right = np.array([parts[second][0][0] for _, second in counts], np.uint64)
    mixed = left * np.uint64(0x9E3779B97F4A7C15) + right
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    weights = [
        _PAIR_WEIGHT * _importance(first) * _importance(second) * _damped(count)
        for (first, second), count in counts.items()
    ]
    return mixed, np.array(weights)
