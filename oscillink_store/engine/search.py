"""The way of a query: candidates, neighbourhood, gates, rank, settle, receipt, result."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from oscillink_store.engine.diagnose import Diagnosis, diagnose
from oscillink_store.engine.explain import explanation
from oscillink_store.engine.gather import cut, faceted, gather, measured, neighbourhood
from oscillink_store.engine.json_text import stored_value
from oscillink_store.engine.margins import Margins
from oscillink_store.engine.query import Query
from oscillink_store.engine.ranked import NOTHING, Ranked, settled_ranking
from oscillink_store.engine.search_receipt import receipt_content
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.standing import flat, flow, seeds, standing
from oscillink_store.explanation.values import Explanation
from oscillink_store.model import Hit, SearchResult
from oscillink_store.storage.schemas import FIXED_COLUMNS
from oscillink_store.storage.wal import Ledger

__all__ = ["answer", "found", "hits_of"]

_NOT_SHOWN = {"sequence", "position", "links", "gate", "digest"}


def answer(
    snapshot: Snapshot, query: Query, ledger: Ledger, margins: Margins, executor: Executor
) -> SearchResult:
    """Answer a query on one generation and record its receipt."""
    started = time.perf_counter()
    hits, content = found(snapshot, query, executor)
    seconds = time.perf_counter() - started
    receipt = ledger.record(content, label=query.label, payload=query.payload, seconds=seconds)
    margins.add(receipt)

    def explain() -> Explanation:
        with ThreadPoolExecutor(1) as beside:  # the store may have been closed since
            return explanation(snapshot, query, _rank(snapshot, query, beside), receipt)

    return SearchResult(
        hits=hits,
        receipt=receipt,
        seconds=time.perf_counter() - started,
        _explain=explain,
        _rate=lambda: margins.confidence(receipt.content, snapshot),
    )


def found(
    snapshot: Snapshot, query: Query, executor: Executor
) -> tuple[tuple[Hit, ...], dict[str, Any]]:
    """The hits of a query, and what its receipt says; the same at every call."""
    ranked = _rank(snapshot, query, executor)
    diagnosis = diagnose(snapshot, ranked, query)
    hits = hits_of(snapshot, ranked, diagnosis, query.k)
    return hits, receipt_content(snapshot, query, ranked, diagnosis, hits)


def _rank(snapshot: Snapshot, query: Query, executor: Executor) -> Ranked:
    parameters = query.parameters
    if len(snapshot) == 0:
        return NOTHING
    found = gather(snapshot, query, executor)
    moments = found.moments()
    rows = query.only if query.only is not None else found.rows()
    numbers, vectors = measured(snapshot, query, rows, found.named, found.text)
    total = standing(numbers, moments, parameters)
    if parameters.ranking != "lattice":
        scores, best = flat(numbers, total, vectors, query)
        return Ranked(
            rows=rows, vectors=vectors, best=best, scores=scores, evidence=total,
            named=numbers.named, faceted=np.zeros(len(rows), np.bool_), gates=None,
            cosine=numbers.cosine, adjacency=None, edges=None, settled=None, routed=found.routed,
        )  # fmt: skip
    if query.only is None and len(rows):
        near = rows[seeds(total, numbers, parameters)]
        rows = neighbourhood(snapshot, rows, near, found.allowed, parameters)
        numbers, vectors = measured(snapshot, query, rows, found.named, found.text)
        total = standing(numbers, moments, parameters)
    if len(rows) == 0:
        return NOTHING
    graph = cut(snapshot, rows, found.allowed, parameters)
    lifted = faceted(snapshot, found, rows)
    flowed = flow(total, numbers, graph, lifted, parameters)
    # a question of words alone is settled towards what its best source says
    psi = vectors[flowed.sources[0]] if query.vector is None else query.vector
    ranked = settled_ranking(
        numbers, vectors, total, lifted, flowed.shares, flowed.scores, graph, psi, parameters
    )
    return replace(ranked, routed=found.routed)


def hits_of(snapshot: Snapshot, ranked: Ranked, diagnosis: Diagnosis, k: int) -> tuple[Hit, ...]:
    """The first ``k`` of a ranking."""
    places = ranked.best[:k]
    if len(places) == 0:
        return ()
    settled, gates = ranked.settled, ranked.gates
    rows = ranked.rows[places]
    columns = {
        name: snapshot.values(name, rows)
        for name in snapshot.rows.schema.names
        if name not in _NOT_SHOWN
    }
    metadata = [name for name in columns if name not in FIXED_COLUMNS]
    return tuple(
        Hit(
            rank=rank,
            score=float(ranked.scores[place]),
            id=columns["id"][at],
            text=columns["text"][at],
            title=columns["title"][at],
            metadata={name: columns[name][at] for name in metadata},
            payload=stored_value(columns["payload"][at]),
            evidence=float(ranked.evidence[place]),
            gate=None if gates is None else float(gates[place]),
            coherence=None if settled is None else float(settled.coherence[place]),
            cosine=None if ranked.cosine is None else float(ranked.cosine[place]),
            contested=diagnosis.twins_of(columns["id"][at]),
        )
        for at, (rank, place) in enumerate(enumerate(places.tolist(), 1))
    )
