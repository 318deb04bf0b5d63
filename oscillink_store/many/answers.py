"""What stores and their coordinator tell each other, round by round.

All of it can be pickled. Until the hits are chosen it is numbers and digests: no text leaves a
store that is not one of a hit. Rows are a store's own slots, which mean nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.query import Query
from oscillink_store.engine.standing import Graph, Numbers
from oscillink_store.lattice.names import FacetSpan, NamedRun
from oscillink_store.lattice.routing import Routed
from oscillink_store.model import Durability, Hit, Parameters
from oscillink_store.receipts.key import Key
from oscillink_store.receipts.receipt import Receipt

__all__ = ["Description", "Gathered", "PartQuestion", "Place", "Settled", "Spread", "Survey"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class Place(NamedTuple):
    """Where a store lies, and how it is opened there.

    ``path`` may be the URI of a mirror, of which every machine keeps a copy in ``cache``.
    """

    path: str
    read_only: bool
    durability: Durability
    key: Key | None
    cache: str | None = None


@dataclass(frozen=True, kw_only=True)
class Description:
    """A store in a few numbers; ``mean`` (D,) is that of its embeddings, None without any."""

    generation: int
    anchors: int
    dimension: int | None
    embedder: str | None
    mean: Floats | None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a store adds to the statistics of all, before anything is searched.

    ``words`` are those of all texts in total, ``frequencies`` (Q,) tell in how many anchors each
    word of the question stands, ``names`` where titles stand in it, and ``facets`` where values
    of facets do, as digests, of which ``present`` are those of anchors that the filter leaves.
    """

    generation: int
    anchors: int
    dimension: int | None
    embedder: str | None
    parameters: Parameters
    sharded: bool
    words: int
    frequencies: npt.NDArray[np.int64] | None
    names: Sequence[NamedRun]
    facets: Mapping[str, Sequence[FacetSpan]]
    present: Mapping[str, frozenset[str]] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class PartQuestion:
    """A query with what a store needs of the statistics of all to answer it.

    ``statistics`` are anchors, words and frequencies; ``named`` rows are the store's own.
    """

    query: Query
    generation: int
    statistics: tuple[int, int, npt.NDArray[np.int64]] | None
    named: Rows
    facets: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """A store's candidates, and how all of its anchors stand to the question.

    ``anchors`` are those that the filter leaves, ``similarity`` the mean and deviation of
    theirs. ``dense`` rows and ``text`` rows, with the latter's BM25, are best first; ``numbers``
    are of the candidates, whose vectors (n, D) come with them where the ranking compares them.
    ``routed`` are the shards that similar ones were looked for in, None for all.
    """

    anchors: int
    similarity: tuple[float, float] | None
    dense: Rows
    text: Rows
    bm25: Floats
    numbers: Numbers
    lifted: Bools
    vectors: Vectors | None
    routed: Routed | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """The candidates of a store with the neighbours of its seeds, and the lattice between them.

    ``vectors`` (n, D) come with them where the question has none.
    """

    numbers: Numbers
    lifted: Bools
    graph: Graph
    vectors: Vectors | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Settled:
    """A store's hits, and the receipt of its part.

    Of its n candidates ``ids`` and ``digests`` of the content (n), and ``own`` (n,), what of ΔH
    is the anchor's alone; all are empty in rankings without the lattice.
    """

    hits: tuple[Hit, ...]
    receipt: Receipt
    ids: Sequence[str]
    digests: Sequence[bytes]
    own: Floats
