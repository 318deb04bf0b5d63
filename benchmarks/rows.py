"""Rows and questions for the benchmarks: the same ones in every run, however many are asked for.

A row depends on its number alone, so a store of N rows holds the first N of any larger one, and
a million of them can be made in passing. Texts are paragraphs of the standard library's
docstrings. Every relation has work: a row has a title, names a few people (invented, the older
the more often), mentions titles of earlier and sometimes of later rows, follows others in a
sequence, and may link to another row. Metadata: ``tenant`` (100 values), ``bucket`` (10).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from oscillink_store.stdlib_docs import stdlib_docs

DIMENSION = 384

Vectors = npt.NDArray[np.float32]

_CHUNK = 1000
_ONSETS = ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"]
_VOWELS, _ENDS = "aeio", ("l", "n", "r", "")


@cache
def paragraphs() -> list[str]:
    """Every paragraph of the standard library's docstrings, on one line each."""
    parts = (part for doc in stdlib_docs() for part in doc["text"].split("\n\n"))
    return [" ".join(part.split()) for part in parts if len(part) > 20]


def vector_column(vectors: Vectors) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def vectors_of(rows: pa.Table | pa.RecordBatch) -> Vectors:
    column = rows["vector"]
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    vectors: Vectors = flat.flatten().to_numpy().reshape(-1, column.type.list_size)
    return vectors


class Clustered:
    """Vectors as models of text give them: topics, each of few dimensions, and a little noise.

    A mixture of 4,000 Gaussians of unequal weights (log-normal). All share a mean of length
    0.5, as embeddings of texts do. Centres lie at 1 from it: 0.8 on their own, 0.6 in common
    with those of the same of 64 fields. Within a cluster the deviation, of length 0.7, lies in
    30 of the 384 dimensions, with a spectrum that decays as 1/j and is dealt out anew to each
    cluster; noise of length 0.3 lies in all dimensions.
    """

    clusters, fields, intrinsic, bases = 4000, 64, 30, 64

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        unit = 1 / np.sqrt(DIMENSION)
        fields = 0.6 * unit * rng.standard_normal((self.fields, DIMENSION))
        self.centers = 0.8 * unit * rng.standard_normal((self.clusters, DIMENSION))
        self.centers += fields[rng.integers(0, self.fields, self.clusters)]
        self.centers += 0.5 * unit * rng.standard_normal(DIMENSION)
        self.frames = unit * rng.standard_normal((self.bases, self.intrinsic, DIMENSION))
        spectrum = 1 / np.arange(1, self.intrinsic + 1)
        spectrum = 0.7 * np.sqrt(spectrum / spectrum.sum())
        self.scales = rng.permuted(np.tile(spectrum, (self.clusters, 1)), axis=1)
        shares = rng.lognormal(0.0, 1.0, self.clusters)
        self.ends = np.cumsum(shares / shares.sum())

    def draw(self, rng: np.random.Generator, count: int) -> Vectors:
        """Unit rows (count, D) float32."""
        cluster = np.minimum(np.searchsorted(self.ends, rng.random(count)), self.clusters - 1)
        return self.around(rng, cluster)

    def around(self, rng: np.random.Generator, cluster: npt.NDArray[np.int64]) -> Vectors:
        """A unit row (count, D) float32 of each of some clusters (count,)."""
        count = len(cluster)
        vectors = 0.3 / np.sqrt(DIMENSION) * rng.standard_normal((count, DIMENSION))
        vectors += self.centers[cluster]
        deviation = rng.standard_normal((count, self.intrinsic)) * self.scales[cluster]
        frame = cluster % self.bases
        for one in np.unique(frame):
            mine = np.flatnonzero(frame == one)
            vectors[mine] += deviation[mine] @ self.frames[one]
        return _unit(vectors)


class LowRank:
    """Vectors without clusters: rank 64 and much noise, which is hard for partitioned indices."""

    def __init__(self) -> None:
        self.frame = np.random.default_rng(5).standard_normal((64, DIMENSION))

    def draw(self, rng: np.random.Generator, count: int) -> Vectors:
        """Unit rows (count, D) float32."""
        vectors = rng.standard_normal((count, 64)) @ self.frame
        return _unit(vectors + 2.0 * rng.standard_normal((count, DIMENSION)))


class Rows:
    """The rows; ``hard`` ones have vectors of low rank in place of clustered ones."""

    schema = pa.schema(
        {
            "id": pa.string(),
            "title": pa.string(),
            "text": pa.string(),
            "sequence": pa.string(),
            "position": pa.float64(),
            "links": pa.list_(pa.string()),
            "tenant": pa.int64(),
            "bucket": pa.int64(),
            "vector": pa.list_(pa.float32(), DIMENSION),
        }
    )

    def __init__(self, *, hard: bool = False) -> None:
        self._vectors = LowRank() if hard else Clustered()
        self._texts = paragraphs()
        self._chunk = lru_cache(maxsize=8)(self._make)

    def batches(self, count: int, size: int = 20_000) -> Iterator[pa.RecordBatch]:
        """The first ``count`` rows, ``size`` at a time."""
        for first in range(0, count, size):
            table = self.table(first, min(size, count - first))
            yield table.combine_chunks().to_batches()[0]

    def table(self, first: int, count: int) -> pa.Table:
        """Rows ``first`` to ``first + count``."""
        last = first + count
        chunks = range(first // _CHUNK, -(-last // _CHUNK))
        pieces = []
        for chunk in chunks:
            start = chunk * _CHUNK
            low, high = max(first, start), min(last, start + _CHUNK)
            pieces.append(self._chunk(chunk).slice(low - start, high - low))
        return pa.Table.from_batches(pieces, self.schema)

    def take(self, numbers: npt.NDArray[np.int64]) -> pa.Table:
        """Rows by number, in the order asked for."""
        order = np.argsort(numbers, kind="stable")
        found = pa.concat_tables([self.table(number, 1) for number in numbers[order].tolist()])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return found.take(pa.array(back))

    def _make(self, chunk: int) -> pa.RecordBatch:
        words, rng = random.Random(chunk), np.random.default_rng([7, chunk])
        numbers = range(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        columns = {
            "id": [f"d{row}" for row in numbers],
            "title": [title(row) for row in numbers],
            "text": [self._text(row, words) for row in numbers],
            "sequence": [f"s{_sequence(row, words)}" for row in numbers],
            "position": [float(row) for row in numbers],
            "links": [
                [f"d{words.randrange(row + _CHUNK)}"] if words.random() < 0.1 else None
                for row in numbers
            ],
            "tenant": [row % 100 for row in numbers],
            "bucket": [row % 10 for row in numbers],
            "vector": vector_column(self._vectors.draw(rng, _CHUNK)),
        }
        arrays = [pa.array(columns[column.name], column.type) for column in self.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _text(self, row: int, words: random.Random) -> str:
        parts = words.sample(self._texts, words.choice((1, 2, 3)))
        for _ in range(words.choice((1, 2))):
            parts.append(f"according to {name(words.randrange(row // 3 + 1))}.")
        if words.random() < 0.5:
            parts.append(f"as told in {title(words.randrange(row + 1))}.")
        if words.random() < 0.1:
            parts.append(f"more will be told in {title(row + words.randrange(2 * _CHUNK))}.")
        return " ".join(parts)


def title(row: int) -> str:
    """The title of a row, two invented words; no two of 2³² rows share one."""
    return _invented(row * 0x9E3779B1 & 0xFFFFFFFF)


def name(number: int) -> str:
    """An invented name of two words."""
    return _invented(number * 0x85EBCA6B + 0x2F0B4C47 & 0xFFFFFFFF)


def _invented(bits: int) -> str:
    syllables = [_syllable(bits >> shift & 0xFF) for shift in (24, 16, 8, 0)]
    return f"{(syllables[0] + syllables[1]).title()} {(syllables[2] + syllables[3]).title()}"


def _syllable(byte: int) -> str:
    return _ONSETS[byte >> 4] + _VOWELS[byte >> 2 & 3] + _ENDS[byte & 3]


def _sequence(row: int, words: random.Random) -> int:
    """Twenty rows in a row make a sequence; one in ten goes on with an older one."""
    own = row // 20
    return words.randrange(own + 1) if words.random() < 0.1 else own


def _unit(vectors: npt.NDArray[np.float64]) -> Vectors:
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def questions(
    rows: pa.Table, rng: np.random.Generator, words: random.Random, noise: float = 0.05
) -> tuple[list[str], Vectors]:
    """For each row six words of its text, and its vector with noise of that size per column."""
    texts = []
    for text in rows["text"].to_pylist():
        tokens = text.split()
        texts.append(" ".join(words.sample(tokens, min(6, len(tokens)))))
    vectors = vectors_of(rows)
    psi = vectors + noise * rng.standard_normal(vectors.shape).astype(np.float32)
    psi /= np.linalg.norm(psi, axis=1, keepdims=True)
    return texts, psi.astype(np.float32)


def question_sample(rows: Rows, anchors: int, count: int) -> tuple[list[str], Vectors]:
    """Questions to a store of the first ``anchors`` rows, their noise of length 0.4."""
    rng = np.random.default_rng(11)
    picked = rows.take(rng.integers(0, anchors, count))
    return questions(picked, rng, random.Random(11), noise=0.02)
