"""From what a ranking found to the explanation of its hits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.explanation.text import reason
from oscillink_store.explanation.values import Edge, Explanation, Node, Points, Reason, Step
from oscillink_store.lattice.graph import whole_degrees
from oscillink_store.lattice.paths import Paths, strongest_paths
from oscillink_store.lattice.rank import order, scaled, source_rows, source_weights
from oscillink_store.lattice.settle import split_terms
from oscillink_store.model import IN, OUT, RELATION_MASK, RELATIONS
from oscillink_store.snippet import snippet, words

if TYPE_CHECKING:
    from oscillink_store.engine.query import Query
    from oscillink_store.engine.ranked import Ranked
    from oscillink_store.engine.snapshot import Snapshot
    from oscillink_store.lattice.graph import Adjacency, Entries, TypedEdges
    from oscillink_store.lattice.settle import Settled
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
        if ranked.adjacency is None or ranked.edges is None
        else _lattice(snapshot, query, ranked, ranked.adjacency, ranked.edges, best)
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
        energy={} if settled is None else _energy(settled, ranked.edges),
    )  # fmt: skip


def _energy(settled: Settled, edges: TypedEdges | None) -> dict[str, float]:
    """The terms of ΔH, in place of the graph's those of its relations."""
    terms = split_terms(settled, edges)
    of_graph: dict[str, float] = terms.pop("graph")
    return {"anchor": terms.pop("anchor"), **of_graph, **terms}


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
            trust=float(snapshot.trust(slots[at : at + 1])[0]),
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
    typed: TypedEdges,
    best: npt.NDArray[np.int64],
) -> _Lattice:
    rows, parameters = ranked.rows, query.parameters
    entries = snapshot.lattice.entries(rows)
    allowed = None if query.where is None else snapshot.allowed(query.where)
    sources = source_rows(ranked.evidence, rows, parameters)
    degrees = whole_degrees(entries, parameters.relation_weights, allowed)
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros(len(rows)), where=degrees > 0.0)
    scale *= snapshot.trust(rows)  # what is trusted less passes less on
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
        edges=_edges(entries, typed, at, nulls),
        paths=paths,
        scale=scale,
        best=best,
        at=at,
        sources={int(at[source]): number for number, source in enumerate(sources.tolist(), 1)},
    )


def _edges(
    entries: Entries,
    typed: TypedEdges,
    at: npt.NDArray[np.int64],
    nulls: Mapping[tuple[int, int], float],
) -> dict[tuple[int, int], list[Edge]]:
    """The edges among the rows, whose nodes are ``at``."""
    flags = _flags(entries, typed)
    edges: dict[tuple[int, int], list[Edge]] = {}
    columns = at[typed.ends].tolist(), typed.relation.tolist(), typed.weight.tolist(), flags
    for (source, target), code, weight, flag in zip(*columns, strict=True):
        ends, relation = _pair(source, target), RELATIONS[code]
        points = _POINTS[flag] if relation in _DIRECTED else "neither"
        edge = Edge(
            source=ends[0],
            target=ends[1],
            relation=relation,
            weight=weight,
            points=points if source < target else _TURNED[points],
            z=nulls.get(ends),
        )
        edges.setdefault(ends, []).append(edge)
    for some in edges.values():
        some.sort(key=lambda edge: -edge.weight)
    return dict(sorted(edges.items()))


def _flags(entries: Entries, typed: TypedEdges) -> list[int]:
    """Which way each of the typed edges points, seen from its lower end."""
    rows = entries.rows
    place = np.minimum(np.searchsorted(rows, entries.indices), len(rows) - 1)
    own = np.repeat(np.arange(len(rows)), np.diff(entries.indptr))
    inside = (rows[place] == entries.indices) & (own < place)
    # edges and entries are both in the order of (row, column, relation)
    keys = _keys(own[inside], place[inside], entries.relation[inside] & RELATION_MASK, len(rows))
    wanted = _keys(typed.ends[:, 0], typed.ends[:, 1], typed.relation, len(rows))
    found: list[int] = entries.relation[inside][np.searchsorted(keys, wanted)].tolist()
    return [flag & (OUT | IN) for flag in found]


def _keys(
    i: npt.NDArray[Any], j: npt.NDArray[Any], relation: npt.NDArray[np.uint8], n: int
) -> npt.NDArray[np.int64]:
    keys: npt.NDArray[np.int64] = (i.astype(np.int64) * n + j) * len(RELATIONS) + relation
    return keys


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
