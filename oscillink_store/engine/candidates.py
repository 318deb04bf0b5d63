"""Gathering candidates: dense, full text and named titles, under one filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.kernels.dense import products
from oscillink_store.kernels.moments import similarity_moments
from oscillink_store.kernels.scan import Scanned, best_listed, best_rows
from oscillink_store.lattice.graph import neighbors
from oscillink_store.lattice.names import match
from oscillink_store.lattice.postings import TextStatistics, search
from oscillink_store.lattice.rank import text_moments
from oscillink_store.lattice.routing import Routed

__all__ = [
    "LEAST_DEVIATION", "DenseMatches", "TextMatches", "dense_matches", "named_rows",
    "text_matches",
]  # fmt: skip

Rows = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

# These many rows by codes, at least, are scored exactly; more when the last of the candidates
# lies within so many standard errors of the rows that were cut off.
_RESCORED = 256
_MARGIN = 2.0
LEAST_DEVIATION = 1e-6
# From the shards that were scanned the lattice is followed: from so many of the best anchors at
# a time, so many times at most. When more than this share of the best is found that way the
# question went to the wrong shards.
_BEAM, _ROUNDS, _ASTRAY = 64, 8, 0.25


@dataclass(frozen=True, kw_only=True)
class TextMatches:
    """Full-text matches among the allowed anchors, best first, with BM25's corpus moments."""

    rows: Rows
    scores: npt.NDArray[np.float64]
    mean: float
    deviation: float

    def scores_of(self, rows: Rows) -> npt.NDArray[np.float64]:
        """BM25 of ``rows`` (n,); 0 where a row is no match."""
        found = np.zeros(len(rows))
        if len(self.rows):
            ascending = np.argsort(self.rows, kind="stable")
            places = np.searchsorted(self.rows, rows, sorter=ascending)
            places = ascending[np.minimum(places, len(ascending) - 1)]
            hit = self.rows[places] == rows
            found[hit] = self.scores[places[hit]]
        return found


@dataclass(frozen=True, kw_only=True)
class DenseMatches:
    """The anchors most similar to ψ, best first, with the moments of the similarity."""

    rows: Rows
    mean: float
    deviation: float
    routed: Routed | None = None


def dense_matches(
    snapshot: Snapshot,
    psi: npt.NDArray[np.float32],
    count: int,
    allowed: npt.NDArray[np.uint8] | None,
    routed: Routed | None = None,
) -> DenseMatches:
    """Find the ``count`` allowed anchors most similar to ψ (D,).

    The moments are over the allowed anchors: exact from the corpus mean and covariance when
    all are allowed, which takes no scan when ``count`` is 0; else from the codes. Where the
    question was ``routed``, and all are allowed, no others are scanned than those of its shards,
    unless the lattice leads from there to many better ones.
    """
    if allowed is None and count == 0:
        mean, deviation = similarity_moments(psi, *snapshot.moments)
        return DenseMatches(rows=np.empty(0, np.int64), mean=mean, deviation=deviation)
    if routed is not None and allowed is None:
        matches = _routed_matches(snapshot, psi, count, routed)
        if matches is not None:
            return matches

    def scan(wanted: int) -> Scanned:
        return best_rows(snapshot.scanned, psi, wanted, allowed, snapshot.alive)

    found, exact = _scanned(snapshot, psi, count, scan)
    best = np.lexsort((found.rows, -exact))[:count]
    mean, deviation = found.mean, found.deviation
    if deviation < LEAST_DEVIATION:  # equal vectors: what is left is rounding
        deviation = 0.0
    if allowed is None:
        mean, deviation = similarity_moments(psi, *snapshot.moments)
    return DenseMatches(rows=found.rows[best], mean=mean, deviation=deviation)


def _scanned(
    snapshot: Snapshot, psi: Float32, count: int, scan: Callable[[int], Scanned]
) -> tuple[Scanned, Floats]:
    """The rows among whose first by codes the ``count`` best are, and their similarity (n,)."""
    wanted = max(_RESCORED, 2 * count)
    while True:
        found = scan(wanted)
        exact = products(snapshot.vectors(found.rows), psi)
        best = np.lexsort((found.rows, -exact))[:count]
        # In a crowd of near-duplicates the codes cannot tell the best from the rest.
        if len(best) == 0 or exact[best[-1]] - found.cutoff >= _MARGIN * found.error:
            return found, exact
        wanted *= 8


def _routed_matches(
    snapshot: Snapshot, psi: Float32, count: int, routed: Routed
) -> DenseMatches | None:
    """The matches within some shards, and those that the lattice leads to from there.

    None when it leads to so many better ones that there must be more elsewhere: embeddings
    without clusters cannot be routed.
    """

    def scan(wanted: int) -> Scanned:
        return best_listed(snapshot.scanned, psi, wanted, routed.slots)

    found, similarities = _scanned(snapshot, psi, count, scan)
    rows = found.rows
    beam = max(_BEAM, count)
    looked_at = walked = np.empty(0, np.int64)
    best = rows[np.lexsort((rows, -similarities))[:beam]]
    for _ in range(_ROUNDS):
        fresh = np.setdiff1d(best, looked_at)
        if len(fresh) == 0:
            break
        looked_at = np.union1d(looked_at, fresh)
        near = np.setdiff1d(neighbors(snapshot.lattice.entries(fresh)), rows)
        places = np.searchsorted(routed.slots, near).clip(max=len(routed.slots) - 1)
        walked = np.concatenate([walked, near[routed.slots[places] != near]])
        rows = np.concatenate([rows, near])
        similarities = np.concatenate([similarities, products(snapshot.vectors(near), psi)])
        best = rows[np.lexsort((rows, -similarities))[:beam]]
        if np.isin(best[:count], walked).mean() > _ASTRAY:
            return None
    mean, deviation = similarity_moments(psi, *snapshot.moments)
    return DenseMatches(
        rows=best[:count],
        mean=mean,
        deviation=deviation,
        routed=replace(routed, walked=len(walked)),
    )


def text_matches(
    snapshot: Snapshot,
    words: str,
    limit: int,
    allowed: npt.NDArray[np.uint8] | None,
    statistics: TextStatistics | None = None,
) -> TextMatches:
    """Find up to ``limit`` anchors that match ``words``, best first.

    The moments are over the anchors that ``allowed`` (S,) leaves, or over all. BM25 goes by the
    ``statistics`` of a larger corpus if they are given.
    """
    rows, scores = search(
        snapshot.word_parts, words, limit, alive=snapshot.alive, allowed=allowed,
        statistics=statistics or snapshot.text_statistics,
    )  # fmt: skip
    anchors = len(snapshot) if allowed is None else int(allowed.sum())
    mean, deviation = text_moments(scores, anchors)
    return TextMatches(rows=rows, scores=scores, mean=mean, deviation=deviation)


def named_rows(snapshot: Snapshot, question: str, allowed: npt.NDArray[np.uint8] | None) -> Rows:
    """The allowed anchors whose title stands in the question, ascending."""
    found = match(
        question, snapshot.name_parts, snapshot.alive,
        lambda slot: snapshot.values("title", np.array([slot]))[0], snapshot.parameters,
    )  # fmt: skip
    rows = np.asarray(found, dtype=np.int64)
    if allowed is not None and len(rows):
        rows = rows[allowed[rows] == 1]
    return np.unique(rows)
