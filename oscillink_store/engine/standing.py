"""The ranking itself: from what candidates measure to their evidence, gates and scores.

It knows numbers alone, so candidates of one store and those of several are ranked alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.query import Query
from oscillink_store.kernels.mmr import mmr
from oscillink_store.lattice.graph import Adjacency, TypedEdges
from oscillink_store.lattice.rank import (
    evidence,
    order,
    scale_of,
    scaled_to,
    score_sums,
    shares,
    source_rows,
    source_weights,
    standardize,
    trusted,
)
from oscillink_store.lattice.settle import diffuse
from oscillink_store.model import Parameters

__all__ = ["Flow", "Graph", "Moments", "Numbers", "flat", "flow", "seeds", "standing"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


class Moments(NamedTuple):
    """Mean and deviation of the similarity and of BM25 over the corpus; None where not asked."""

    dense: tuple[float, float] | None
    text: tuple[float, float] | None


class Numbers(NamedTuple):
    """What candidates measure; arrays are (n,), ``rows`` ascend.

    ``cosine`` is None without a vector, ``words`` (BM25) without words; ``named`` tells whose
    title the question names, ``trust`` are the stored gates.
    """

    rows: Rows
    cosine: Floats | None
    words: Floats | None
    named: Bools
    trust: Floats

    def taken(self, places: Rows) -> Numbers:
        """Those of some of the candidates."""
        return Numbers(
            self.rows[places],
            None if self.cosine is None else self.cosine[places],
            None if self.words is None else self.words[places],
            self.named[places],
            self.trust[places],
        )


class Graph(NamedTuple):
    """The lattice between candidates, its edges by relation, and the whole lattice's degrees."""

    adjacency: Adjacency
    edges: TypedEdges | None
    degrees: Floats


class Flow(NamedTuple):
    """What flows from the sources.

    ``scale`` is that of the evidence, ``sources`` are places, best first, ``weights`` theirs.
    ``shares`` (n,) are diffusion gates over the largest, ``scores`` (n,) the final ones.
    """

    scale: tuple[float, float]
    sources: Rows
    weights: Floats
    shares: Floats
    scores: Floats


def standing(numbers: Numbers, moments: Moments, parameters: Parameters) -> Floats:
    """The evidence (n,) for candidates, as far as they are trusted."""
    dense = text = None
    if numbers.cosine is not None and moments.dense is not None:
        dense = standardize(numbers.cosine, *moments.dense)
    if numbers.words is not None and moments.text is not None:
        text = standardize(numbers.words, *moments.text)
    return trusted(evidence(dense, text, numbers.named, parameters), numbers.trust)


def seeds(total: Floats, numbers: Numbers, parameters: Parameters) -> Rows:
    """The places of the candidates whose neighbours become candidates too, best first."""
    return source_rows(total, numbers.rows, parameters)


def flow(
    total: Floats, numbers: Numbers, graph: Graph, lifted: Bools, parameters: Parameters
) -> Flow:
    """Let evidence (n,) flow from the best of the candidates over their lattice.

    ``lifted`` (n,) are those that hold a facet value which the question names.
    """
    scale = scale_of(total, parameters)
    strength = scaled_to(total, *scale)
    sources = source_rows(total, numbers.rows, parameters)
    weights = source_weights(strength, sources)
    diffused = diffuse(
        graph.adjacency,
        weights,
        parameters,
        degrees=graph.degrees,
        trust=None if (numbers.trust == 1.0).all() else numbers.trust,
    ).gates
    held = shares(diffused)
    scores = score_sums(strength, held, lifted, parameters)
    return Flow(scale, sources, weights[sources], held, scores)


def flat(
    numbers: Numbers, total: Floats, vectors: npt.NDArray[np.float32], query: Query
) -> tuple[Floats, Rows]:
    """Scores (n,) of candidates by themselves, without the lattice, and their order."""
    ranking, scores = query.parameters.ranking, total
    if ranking == "text" and numbers.words is not None:
        scores = numbers.words
    elif ranking in ("dense", "mmr") and numbers.cosine is not None:
        scores = numbers.cosine
    best = order(scores, numbers.rows)
    if ranking == "mmr":
        best = best[mmr(vectors[best], scores[best], query.k, query.parameters.mmr_lambda)]
    return scores, best
