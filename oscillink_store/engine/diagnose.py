"""What a ranking says about its own answer: terms of ΔH, coherence, null points and twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from oscillink_store.engine.query import Query
from oscillink_store.engine.ranked import Ranked
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.lattice.graph import TypedEdges
from oscillink_store.lattice.settle import split_terms
from oscillink_store.lattice.twins import find_twins
from oscillink_store.model import RELATIONS

__all__ = ["Contested", "Diagnosis", "NullPoint", "diagnose"]

_DIGITS = 6
# What is looked at for twins: these first hits, each against so many of the closest candidates.
_MOST_HITS, _MOST_TWINS = 50, 3
# How many null points a receipt spells out, those under most strain.
_MOST_NULL_POINTS = 16


@dataclass(frozen=True, kw_only=True)
class NullPoint:
    """An edge between two candidates that settled apart; ``z`` is that of its residual."""

    ids: tuple[str, str]
    relations: tuple[str, ...]
    z: float

    def to_json(self) -> list[Any]:
        """The null point as a receipt tells it."""
        return [*self.ids, list(self.relations), self.z]


@dataclass(frozen=True, kw_only=True)
class Contested:
    """Two candidates that differ only in names or numbers, the first of them a hit.

    ``differs`` are words of their texts, None where a receipt may keep none.
    """

    ids: tuple[str, str]
    cosine: float
    ratio: float
    differs: tuple[tuple[str, str], ...] | None

    def to_json(self) -> dict[str, Any]:
        """The pair as a receipt tells it."""
        return {
            "ids": list(self.ids),
            "cosine": self.cosine,
            "ratio": self.ratio,
            "differs": None if self.differs is None else [list(pair) for pair in self.differs],
        }


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the receipt of a search says beside the ranking itself.

    ``terms`` are those of ΔH, empty when nothing was settled. Where the detail is light the
    others are None; ``coherence`` (per candidate, six decimals) and ``null_points`` (largest z
    first, no more than sixteen of ``null_point_count``) are so too in rankings without the lattice.
    """

    terms: dict[str, Any]
    coherence: list[float] | None = None
    null_points: tuple[NullPoint, ...] | None = None
    null_point_count: int | None = None
    contested: tuple[Contested, ...] | None = None

    def twins_of(self, anchor: str) -> tuple[str, ...]:
        """The ids of an anchor's contested twins."""
        return tuple(
            pair.ids[pair.ids[0] == anchor] for pair in self.contested or () if anchor in pair.ids
        )


def diagnose(snapshot: Snapshot, ranked: Ranked, query: Query) -> Diagnosis:
    """Diagnose a ranking as far as the query's detail asks for."""
    settled = ranked.settled
    terms = {} if settled is None else split_terms(settled, ranked.edges)
    if query.detail == "light":
        return Diagnosis(terms=terms)
    contested = _contested(snapshot, ranked, query)
    if settled is None or ranked.edges is None:
        return Diagnosis(terms=terms, contested=contested)
    return Diagnosis(
        terms=terms,
        coherence=np.round(settled.coherence, _DIGITS).tolist(),
        null_points=_null_points(
            snapshot, ranked, ranked.edges, settled.null_points[:_MOST_NULL_POINTS]
        ),
        null_point_count=len(settled.null_points),
        contested=contested,
    )


def _null_points(
    snapshot: Snapshot, ranked: Ranked, edges: TypedEdges, points: list[tuple[int, int, float]]
) -> tuple[NullPoint, ...]:
    if not points:
        return ()
    ends = np.array([point[:2] for point in points])
    names = snapshot.values("id", ranked.rows[ends.ravel()])
    # both ends in one number, by which the edges are sorted
    both = edges.ends.astype(np.int64) @ (len(ranked.rows), 1)
    sought = ends @ (len(ranked.rows), 1)
    starts, stops = np.searchsorted(both, sought, "left"), np.searchsorted(both, sought, "right")
    return tuple(
        NullPoint(
            ids=(names[2 * at], names[2 * at + 1]),
            relations=tuple(RELATIONS[code] for code in edges.relation[start:stop].tolist()),
            z=z,
        )
        for at, ((_, _, z), start, stop) in enumerate(zip(points, starts, stops, strict=True))
    )


def _contested(snapshot: Snapshot, ranked: Ranked, query: Query) -> tuple[Contested, ...]:
    def texts(places: Any) -> list[str]:
        return snapshot.values("text", ranked.rows[places])

    hits = ranked.best[: min(query.k, _MOST_HITS)]
    pairs = find_twins(ranked.vectors, hits, texts, most=_MOST_TWINS)
    if not pairs:
        return ()
    ends = np.array([pair[:2] for pair in pairs])
    names = snapshot.values("id", ranked.rows[ends.ravel()])
    return tuple(
        Contested(
            ids=(names[2 * at], names[2 * at + 1]),
            cosine=pair.cosine,
            ratio=pair.ratio,
            differs=pair.differs if query.payload == "extended" else None,
        )
        for at, pair in enumerate(pairs)
    )
