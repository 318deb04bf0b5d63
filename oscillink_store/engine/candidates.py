"""Gathering candidates: dense, full text and named titles, under one filter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.predicate import predicate
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.kernels.moments import similarity_moments
from oscillink_store.kernels.scan import best_rows, similarities
from oscillink_store.lattice.names import match
from oscillink_store.lattice.rank import text_moments

__all__ = ["DenseMatches", "TextMatches", "dense_matches", "named_rows", "text_matches"]

Rows = npt.NDArray[np.int64]

# These many rows by codes, at least, are scored exactly; more when the last of the candidates
# lies within so many standard errors of the rows that were cut off.
_RESCORED = 256
_MARGIN = 2.0
_LEAST_DEVIATION = 1e-6
# A filter that keeps this share or more is applied to a longer list of unfiltered matches;
# below it, the full-text index is searched under the filter.
_LONGEST_LIST = 5_000


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


def dense_matches(
    snapshot: Snapshot,
    psi: npt.NDArray[np.float32],
    count: int,
    allowed: npt.NDArray[np.uint8] | None,
) -> DenseMatches:
    """Find the ``count`` allowed anchors most similar to ψ (D,).

    The moments are over the allowed anchors: exact from the corpus mean and covariance when
    all are allowed, which takes no scan when ``count`` is 0; else from the codes.
    """
    if allowed is None and count == 0:
        mean, deviation = similarity_moments(psi, snapshot.mean, snapshot.covariance)
        return DenseMatches(rows=np.empty(0, np.int64), mean=mean, deviation=deviation)
    wanted = max(_RESCORED, 2 * count)
    while True:
        found = best_rows(snapshot.codes, snapshot.scales, psi, wanted, allowed)
        exact = similarities(snapshot.vectors, found.rows, psi)
        best = np.lexsort((found.rows, -exact))[:count]
        # In a crowd of near-duplicates the codes cannot tell the best from the rest.
        if len(best) == 0 or exact[best[-1]] - found.cutoff >= _MARGIN * found.error:
            break
        wanted *= 8
    rows = found.rows[best]
    mean, deviation = found.mean, found.deviation
    if deviation < _LEAST_DEVIATION:  # equal vectors: what is left is rounding
        deviation = 0.0
    if allowed is None:
        mean, deviation = similarity_moments(psi, snapshot.mean, snapshot.covariance)
    return DenseMatches(rows=rows, mean=mean, deviation=deviation)


def text_matches(
    snapshot: Snapshot,
    words: str,
    limit: int,
    where: str | None,
    allowed: npt.NDArray[np.uint8] | None,
) -> TextMatches:
    """Find up to ``limit`` allowed anchors that match ``words``, best first.

    ``allowed`` (N,) is the mask of ``where``; both None search all anchors.
    """
    if where is None or allowed is None:
        row_ids, scores = snapshot.anchors.search_text(words, limit)
        rows, anchors, truncated = snapshot.rows_of(row_ids), len(snapshot), len(scores) >= limit
    else:
        anchors = int(allowed.sum())
        rows, scores, truncated = _filtered(snapshot, words, limit, where, allowed, anchors)
    return _ordered(rows, scores.astype(np.float64), anchors, truncated=truncated)


def _filtered(
    snapshot: Snapshot,
    words: str,
    limit: int,
    where: str,
    allowed: npt.NDArray[np.uint8],
    kept: int,
) -> tuple[Rows, npt.NDArray[np.float32], bool]:
    # The best `limit` matches among the allowed anchors, by whichever way is cheaper; both
    # give the same matches.
    table = snapshot.anchors
    if kept == 0:
        return np.empty(0, np.int64), np.empty(0, np.float32), False
    longer = math.ceil(1.2 * limit * len(snapshot) / kept)
    if longer <= _LONGEST_LIST:
        row_ids, scores = table.search_text(words, longer)
        rows = snapshot.rows_of(row_ids)
        mine = allowed[rows] == 1
        exhausted = len(rows) < longer
        # ties with the last match may have been cut off, so it cannot be counted on
        complete = int((mine & (scores > scores[-1])).sum()) >= limit if len(scores) else True
        if exhausted or complete:
            rows, scores = rows[mine], scores[mine]
            return rows[:limit], scores[:limit], len(rows) >= limit
    row_ids, scores = table.search_text(words, limit, predicate(where))
    return snapshot.rows_of(row_ids), scores, len(row_ids) >= limit


def _ordered(
    rows: Rows, scores: npt.NDArray[np.float64], anchors: int, *, truncated: bool
) -> TextMatches:
    if truncated:
        # Which of the anchors tied at the cut were returned is arbitrary: leave all of
        # them out, so that the same query gives the same matches.
        above = scores > scores.min()
        if above.any():
            rows, scores = rows[above], scores[above]
    best = np.lexsort((rows, -scores))
    rows, scores = rows[best], scores[best]
    mean, deviation = text_moments(scores, anchors)
    return TextMatches(rows=rows, scores=scores, mean=mean, deviation=deviation)


def named_rows(snapshot: Snapshot, question: str, allowed: npt.NDArray[np.uint8] | None) -> Rows:
    """The allowed anchors whose title stands in the question, ascending."""
    titles = snapshot.rows["title"]
    rows = np.asarray(
        match(question, snapshot.names, lambda row: titles[row].as_py()), dtype=np.int64
    )
    if allowed is not None and len(rows):
        rows = rows[allowed[rows] == 1]
    return np.unique(rows)
