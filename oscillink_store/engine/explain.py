"""From what a ranking found to the explanation of its hits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.explanation.text import reason
from oscillink_store.explanation.values import Edge, Explanation, Node, Points, Reason, Step
from oscillink_store.lattice.graph import whole_degrees
from oscillink_store.lattice.paths import Paths, strongest_paths
from oscillink_store.lattice.rank import order, scaled, source_rows, source_weights
from oscillink_store.model import IN, OUT, RELATION_MASK, RELATIONS
from oscillink_store.snippet import snippet, words

if TYPE_CHECKING:
    from oscillink_store.engine.query import Query
    from oscillink_store.engine.ranked import Ranked
    from oscillink_store.engine.snapshot import Snapshot
    from oscillink_store.lattice.graph import Adjacency, Entries
    from oscillink_store.receipts.receipt import Receipt

__all__ = ["explanation"]

Floats = npt.NDArray[np.float64]

_SNIPPET = 200
# The others connect both ends alike.
_DIRECTED = {"next", "mention", "link"}
_POINTS: dict[int, Points] = {0: "neither", OUT: "forward", IN: "backward", OUT | IN: "both"}
_TURNED: dict[Points, Points] = {
    "neither": "neither", "forward": "backward", "backward": "forward", "both": "both",
}  # fmt: skip


class _Lattice(NamedTuple):
    """The candidates' edges, and how evidence went along them; nodes are places in ``best``."""

    edges: Mapping[tuple[int, int], Sequence[Edge]]
    """By the two nodes, the lower first; of each pair the heaviest first."""
    sources: Mapping[int, int]
    """The place of each source among the sources, from 1."""
    paths: Paths
    scale: Floats
    best: npt.NDArray[np.int64]
    """The place among the rows of each node, as which paths and scale count them."""
    at: npt.NDArray[np.int64]
    """The node of each place."""

    def hops(self, node: int) -> int | None:
        """How far a node is from a source along its strongest path."""
        hops = int(self.paths.hops[self.best[node]])
        return None if hops < 0 else hops

    def steps(self, node: int) -> tuple[Step, ...]:
        """The strongest path to a node; empty at a source and where none leads."""
        path = self.paths.to(int(self.best[node]))
        return tuple(self._step(one, other) for one, other in pairwise(path))

    def _step(self, one: int, other: int) -> Step:
        source, target = int(self.at[one]), int(self.at[other])
        edges = self.edges[_pair(source, target)]
        heaviest = edges[0]
        weight = sum(edge.weight for edge in edges)
        return Step(
            source=source,
            target=target,
            relations=tuple(edge.relation for edge in edges),
            points=heaviest.points if heaviest.source == source else _TURNED[heaviest.points],
            coupling=weight * float(self.scale[one] * self.scale[other]),
        )


def explanation(snapshot: Snapshot, query: Query, ranked: Ranked, receipt: Receipt) -> Explanation:
    """Explain a ranking of a query on a generation, whose receipt is given."""
    rest = np.setdiff1d(np.arange(len(ranked.rows)), ranked.best)
    rest = rest[order(ranked.scores[rest], ranked.rows[rest])]
    best = np.concatenate([ranked.best, rest])  # places among the rows, in the order of nodes
    found = (
        None
        if ranked.adjacency is None
        else _lattice(snapshot, query, ranked, ranked.adjacency, best)
    )
    nodes = _nodes(snapshot, query, ranked, best, found)
    hits = min(query.k, len(ranked.best))
    reasons = []
    for place in range(hits):
        path = () if found is None else found.steps(place)
        told = reason(nodes, place, path, query.parameters.ranking)
        reasons.append(Reason(node=place, path=path, sentence=told))
    settled = ranked.settled
    return Explanation(
        question=query.text,
        generation=snapshot.generation,
        receipt=receipt.id,
        ranking=query.parameters.ranking,
        nodes=nodes,
        edges=() if found is None else tuple(e for some in found.edges.values() for e in some),
        reasons=tuple(reasons),
        delta_h=None if settled is None else settled.delta_h,
        energy={} if settled is None else {
            name: at_anchors - settled.energy_stationary[name]
            for name, at_anchors in settled.energy_anchors.items()
        },
    )  # fmt: skip


def _nodes(
    snapshot: Snapshot,
    query: Query,
    ranked: Ranked,
    best: npt.NDArray[np.int64],
    found: _Lattice | None,
) -> tuple[Node, ...]:
    slots, parameters, settled = ranked.rows[best], query.parameters, ranked.settled
    ids, titles, texts = (snapshot.values(name, slots) for name in ("id", "title", "text"))
    often = Counter(titles)
    sought, hits = words(query.text or ""), min(query.k, len(ranked.best))
    own: Floats | None = None
    connected: Floats | None = None
    faceted: Floats | None = None
    if found is not None:  # else a score is no such sum
        own = scaled(ranked.evidence, parameters)
        faceted = np.where(ranked.faceted, parameters.facet_bonus, 0.0)
        connected = ranked.scores - (own + faceted)
    return tuple(
        Node(
            id=ids[at],
            title=titles[at],
            name=_name(ids[at], titles[at], unique=often[titles[at]] == 1),
            text=snippet(texts[at], sought, _SNIPPET),
            rank=at + 1 if at < hits else None,
            score=float(ranked.scores[place]),
            own=_at(own, place),
            connected=_at(connected, place),
            faceted=_at(faceted, place),
            evidence=float(ranked.evidence[place]),
            gate=_at(ranked.gates, place),
            coherence=_at(None if settled is None else settled.coherence, place),
            cosine=_at(ranked.cosine, place),
            trust=float(snapshot.gates[slots[at]]),
            named=bool(ranked.named[place]),
            source=None if found is None else found.sources.get(at),
            hops=None if found is None else found.hops(at),
        )
        for at, place in enumerate(best.tolist())
    )


def _name(id_: str, title: str | None, *, unique: bool) -> str:
    if not title:
        return id_
    return title if unique else f"{title} ({id_})"


def _at(values: Floats | None, place: int) -> float | None:
    return None if values is None else float(values[place])


def _lattice(
    snapshot: Snapshot,
    query: Query,
    ranked: Ranked,
    adjacency: Adjacency,
    best: npt.NDArray[np.int64],
) -> _Lattice:
    rows, parameters = ranked.rows, query.parameters
    entries = snapshot.lattice.entries(rows)
    allowed = None if query.where is None else snapshot.allowed(query.where)
    sources = source_rows(ranked.evidence, rows, parameters)
    degrees = whole_degrees(entries, parameters.relation_weights, allowed)
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros(len(rows)), where=degrees > 0.0)
    scale *= snapshot.gates[rows]  # what is trusted less passes less on
    paths = strongest_paths(
        adjacency,
        scale,
        source_weights(scaled(ranked.evidence, parameters), sources),
        parameters.screening,
    )
    at = np.empty(len(rows), np.int64)
    at[best] = np.arange(len(rows))
    nulls = {} if ranked.settled is None else {
        _pair(at[i], at[j]): z for i, j, z in ranked.settled.null_points
    }  # fmt: skip
    return _Lattice(
        edges=_edges(entries, at, parameters.relation_weights, nulls),
        paths=paths,
        scale=scale,
        best=best,
        at=at,
        sources={int(at[source]): number for number, source in enumerate(sources.tolist(), 1)},
    )


def _edges(
    entries: Entries,
    at: npt.NDArray[np.int64],
    relation_weights: Sequence[float],
    nulls: Mapping[tuple[int, int], float],
) -> dict[tuple[int, int], list[Edge]]:
    """The edges among the rows, whose nodes are ``at``."""
    place = np.searchsorted(entries.rows, entries.indices)
    place = np.minimum(place, len(entries.rows) - 1)
    own = np.repeat(np.arange(len(entries.rows)), np.diff(entries.indptr))
    inside = (entries.rows[place] == entries.indices) & (at[own] < at[place])
    edges: dict[tuple[int, int], list[Edge]] = {}
    for entry in np.flatnonzero(inside).tolist():
        ends = int(at[own[entry]]), int(at[place[entry]])
        code = int(entries.relation[entry])
        weight = relation_weights[code & RELATION_MASK] * float(entries.weights[entry])
        if weight == 0.0:
            continue
        relation = RELATIONS[code & RELATION_MASK]
        edge = Edge(
            source=ends[0],
            target=ends[1],
            relation=relation,
            weight=weight,
            points=_POINTS[code & (OUT | IN)] if relation in _DIRECTED else "neither",
            z=nulls.get(ends),
        )
        edges.setdefault(ends, []).append(edge)
    for some in edges.values():
        some.sort(key=lambda edge: -edge.weight)
    return dict(sorted(edges.items()))


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
