"""The part that a store has in the search of several: settled, told in a receipt, replayed.

What such a store cannot know by itself, the statistics of all anchors and what flows from the
sources, it is given (:class:`Joint`); its receipt tells that, so that it can be replayed alone.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.diagnose import diagnose
from oscillink_store.engine.gather import (
    Found,
    cut,
    facets_named,
    gather,
    holding,
    measured,
    neighbourhood,
)
from oscillink_store.engine.query import Query
from oscillink_store.engine.ranked import NOTHING, Ranked, settled_ranking
from oscillink_store.engine.search import hits_of
from oscillink_store.engine.search_receipt import receipt_content
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.standing import Moments, Numbers, flat, standing
from oscillink_store.lattice.postings import TextStatistics
from oscillink_store.lattice.rank import order, scaled_to, score_sums
from oscillink_store.lattice.routing import Routed
from oscillink_store.model import Hit
from oscillink_store.receipts.canonical import digest, text_digest
from oscillink_store.receipts.receipt import Payload
from oscillink_store.receipts.state import state_signature

__all__ = ["Candidates", "Joint", "Kept", "kept", "lifted_by", "part_found", "replayed_part"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


class Kept(NamedTuple):
    """How many of a store's own, best first, are among the best of all stores.

    ``dense`` and ``text`` candidates, and full-text ``matches`` whose scores count.
    """

    dense: int
    text: int
    matches: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """What a store is told about all ``stores`` that are searched together.

    Rows are its own. ``named`` are those whose title the question names, and ``facets`` the
    digests of the facet values that it names, by column. In rankings with the lattice ``seeds``
    are those whose neighbours became candidates, ``scale`` is that of the evidence, ``sources``
    (S,) have ``weights``, ``flowing`` (F,) are the candidates with ``shares`` of the largest
    diffusion gate, and ``pull`` (D,) is ψ where the question is none.
    """

    stores: int
    statistics: TextStatistics | None
    moments: Moments
    kept: Kept
    named: Rows
    facets: Mapping[str, str]
    seeds: Rows
    scale: tuple[float, float] | None = None
    sources: Rows
    weights: Floats
    flowing: Rows
    shares: Floats
    pull: npt.NDArray[np.float32] | None = None


class Candidates(NamedTuple):
    """A store's candidates as all of them were ranked.

    ``evidence``, ``lifted`` (a named facet), ``shares`` of the largest gate and ``scores`` are
    (n,); ``chosen`` are places of the hits, best first. ``routed`` are the shards that similar
    ones were looked for in.
    """

    numbers: Numbers
    evidence: Floats
    lifted: Bools
    shares: Floats
    scores: Floats
    chosen: Rows
    routed: Routed | None


def kept(found: Found, counts: Kept) -> Found:
    """What a store found as far as it is among the best of all."""
    dense, text = found.dense, found.text
    if dense is not None:
        dense = replace(dense, rows=dense.rows[: counts.dense])
    if text is not None:
        matches = slice(counts.matches)
        text = replace(text, rows=text.rows[matches], scores=text.scores[matches])
    return replace(found, dense=dense, text=text, text_count=counts.text)


def lifted_by(snapshot: Snapshot, query: Query, facets: Mapping[str, str], rows: Rows) -> Bools:
    """Which rows (n,) hold one of the facet values of which the digests are given."""
    spans = facets_named(snapshot, query.text) if facets else {}
    meant = {
        column: span.value
        for column, found in spans.items()
        for span in found
        if text_digest(span.value) == facets.get(column)
    }
    return holding(snapshot, meant, rows)


def part_found(
    snapshot: Snapshot, query: Query, joint: Joint, candidates: Candidates
) -> tuple[tuple[Hit, ...], dict[str, Any], Ranked]:
    """The hits of a store's part, what its receipt says, and the ranking behind it.

    Of anchors that are no hits it holds no words.
    """
    ranked = _ranked(snapshot, query, joint, candidates)
    taken = len(candidates.chosen)
    diagnosis = diagnose(snapshot, ranked, replace(query, k=taken, payload="minimal"))
    hits = hits_of(snapshot, ranked, diagnosis, taken)
    content = receipt_content(snapshot, query, ranked, diagnosis, hits)
    part = _told(snapshot, joint, query.payload)
    content["part"] = part
    content["state"] = {**content["state"], "part": digest(part)}
    content["state_sig"] = state_signature(content)
    return hits, content, ranked


def _ranked(snapshot: Snapshot, query: Query, joint: Joint, candidates: Candidates) -> Ranked:
    numbers, evidence, lifted, shares, scores, chosen, routed = candidates
    rows = numbers.rows
    if len(rows) == 0:
        return NOTHING
    vectors = snapshot.vectors(rows)
    if query.parameters.ranking != "lattice":
        return Ranked(
            rows=rows, vectors=vectors, best=chosen, scores=scores, evidence=evidence,
            named=numbers.named, faceted=lifted, gates=None, cosine=numbers.cosine,
            adjacency=None, edges=None, settled=None, routed=routed,
        )  # fmt: skip
    allowed = None if query.where is None else snapshot.allowed(query.where)
    graph = cut(snapshot, rows, allowed, query.parameters)
    psi = joint.pull if query.vector is None else query.vector
    assert psi is not None
    ranked = settled_ranking(
        numbers, vectors, evidence, lifted, shares, scores, graph, psi, query.parameters
    )
    return replace(ranked, best=chosen, routed=routed)


def replayed_part(
    snapshot: Snapshot, query: Query, content: Mapping[str, Any], executor: Executor
) -> dict[str, Any]:
    """What the receipt of a part says when it is found again from the store and what it tells."""
    joint = _joint(snapshot, content)
    candidates = _found_again(snapshot, query, joint, content, executor)
    return part_found(snapshot, query, joint, candidates)[1]


def _found_again(
    snapshot: Snapshot, query: Query, joint: Joint, content: Mapping[str, Any], executor: Executor
) -> Candidates:
    parameters = query.parameters
    nothing = np.empty(0)
    if len(snapshot) == 0:
        numbers = Numbers(joint.named, None, None, nothing > 0, nothing)
        return Candidates(numbers, nothing, nothing > 0, nothing, nothing, joint.named, None)
    found = kept(
        gather(snapshot, query, executor, statistics=joint.statistics, named=joint.named),
        joint.kept,
    )
    rows = found.rows()
    if len(joint.seeds):
        rows = neighbourhood(snapshot, rows, joint.seeds, found.allowed, parameters)
    numbers, vectors = measured(snapshot, query, rows, found.named, found.text)
    evidence = standing(numbers, joint.moments, parameters)
    shares, lifted = np.zeros(len(rows)), np.zeros(len(rows), np.bool_)
    if parameters.ranking == "lattice":
        shares[np.isin(rows, joint.flowing)] = joint.shares
        lifted = lifted_by(snapshot, query, joint.facets, rows)
        scale = joint.scale or (0.0, 0.0)
        scores = score_sums(scaled_to(evidence, *scale), shares, lifted, parameters)
        best = order(scores, rows)
    else:
        scores, best = flat(numbers, evidence, vectors, query)
    taken = len(content["results"])
    if parameters.ranking == "mmr":  # which are chosen depends on those of other stores
        hits = snapshot.slots_of_ids(list(content["results"]))
        best = np.searchsorted(rows, hits[np.isin(hits, rows)])
    return Candidates(numbers, evidence, lifted, shares, scores, best[:taken], found.routed)


def _told(snapshot: Snapshot, joint: Joint, payload: Payload) -> dict[str, Any]:
    """What a part's receipt tells of what the store was told."""

    def ids(rows: Rows) -> list[str]:
        return snapshot.values("id", rows)

    def pairs(rows: Rows, values: Floats) -> list[list[Any]]:
        return [list(pair) for pair in zip(ids(rows), values.tolist(), strict=True)]

    corpus, moments, pull = joint.statistics, joint.moments, joint.pull
    if pull is not None:
        # the embedding of an anchor, perhaps another store's, says almost what its text does
        pull = None if payload == "minimal" else np.ascontiguousarray(pull, "<f4")
    counted = None if corpus is None else corpus.frequencies
    return {
        "stores": joint.stores,
        "statistics": None if corpus is None else {
            "anchors": corpus.anchors,
            "words": corpus.length,
            "frequencies": [] if counted is None else counted.tolist(),
        },
        "cosine": None if moments.dense is None else list(moments.dense),
        "bm25": None if moments.text is None else list(moments.text),
        "kept": joint.kept._asdict(),
        "named": ids(joint.named),
        "facets": dict(joint.facets),
        "seeds": ids(joint.seeds),
        "scale": None if joint.scale is None else list(joint.scale),
        "sources": pairs(joint.sources, joint.weights),
        "shares": pairs(joint.flowing, joint.shares),
        "pull": None if pull is None else b64encode(pull.tobytes()).decode("ascii"),
    }  # fmt: skip


def _joint(snapshot: Snapshot, content: Mapping[str, Any]) -> Joint:
    told = content["part"]

    def rows(ids: list[str]) -> Rows:
        return snapshot.slots_of_ids(ids)

    def pair(name: str) -> tuple[float, float] | None:
        return None if told[name] is None else (float(told[name][0]), float(told[name][1]))

    def columns(name: str) -> tuple[Rows, Floats]:
        return rows([each[0] for each in told[name]]), np.array(
            [each[1] for each in told[name]], np.float64
        )

    corpus = told["statistics"]
    sources, weights = columns("sources")
    flowing, shares = columns("shares")
    pull = told["pull"]
    return Joint(
        stores=told["stores"],
        statistics=None if corpus is None else TextStatistics(
            corpus["anchors"], corpus["words"], np.array(corpus["frequencies"], np.int64)
        ),
        moments=Moments(pair("cosine"), pair("bm25")),
        kept=Kept(**told["kept"]),
        named=rows(told["named"]),
        facets=told["facets"],
        seeds=rows(told["seeds"]),
        scale=pair("scale"),
        sources=sources,
        weights=weights,
        flowing=flowing,
        shares=shares,
        pull=None if pull is None else np.frombuffer(b64decode(pull), "<f4").astype(np.float32),
    )  # fmt: skip
