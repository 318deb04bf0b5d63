"""The way of a query: candidates, neighbourhood, gates, rank, settle, receipt, result."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.candidates import (
    DenseMatches,
    TextMatches,
    dense_matches,
    named_rows,
    text_matches,
)
from oscillink_store.engine.diagnose import Diagnosis, diagnose
from oscillink_store.engine.explain import explanation
from oscillink_store.engine.json_text import stored_value
from oscillink_store.engine.margins import Margins
from oscillink_store.engine.query import Query
from oscillink_store.engine.ranked import NOTHING, Ranked
from oscillink_store.engine.route import route
from oscillink_store.engine.search_receipt import receipt_content
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.explanation.values import Explanation
from oscillink_store.kernels.dense import products
from oscillink_store.kernels.mmr import mmr
from oscillink_store.lattice.graph import cut_out, neighbors, whole_degrees
from oscillink_store.lattice.names import named_values
from oscillink_store.lattice.rank import (
    evidence,
    final_scores,
    order,
    scaled,
    source_rows,
    source_weights,
    standardize,
    trusted,
)
from oscillink_store.lattice.routing import Routed
from oscillink_store.lattice.settle import diffuse, settle
from oscillink_store.model import Hit, SearchResult
from oscillink_store.storage.schemas import FIXED_COLUMNS
from oscillink_store.storage.wal import Ledger

__all__ = ["answer", "found"]

_NOT_SHOWN = {"sequence", "position", "links", "gate", "digest"}

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


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
    hits = _hits(snapshot, ranked, diagnosis, query.k)
    return hits, receipt_content(snapshot, query, ranked, diagnosis, hits)


def _rank(snapshot: Snapshot, query: Query, executor: Executor) -> Ranked:
    parameters = query.parameters
    if len(snapshot) == 0:
        return NOTHING
    found = _gather(snapshot, query, executor)
    rows = query.only if query.only is not None else found.rows()
    measured = _Evidence(snapshot, found, rows)
    if parameters.ranking != "lattice":
        return _flat(found, rows, measured)
    allowed = found.allowed
    if query.only is None and len(rows):
        # the neighbourhood of the best seeds
        seeds = rows[source_rows(measured.total, rows, parameters)]
        near = neighbors(snapshot.lattice.entries(np.sort(seeds)))
        if allowed is not None:
            near = near[allowed[near] == 1]
        rows = np.union1d(rows, near)
        measured = _Evidence(snapshot, found, rows)
    return _settle(snapshot, found, rows, measured) if len(rows) else NOTHING


def _gather(snapshot: Snapshot, query: Query, executor: Executor) -> _Found:
    """What the parts of the query that its ranking looks at find."""
    parameters = query.parameters
    allowed = None if query.where is None else snapshot.allowed(query.where)
    pending = None
    if query.words is not None:  # beside the scan of the vectors, on another core
        limit, among = max(parameters.text_matches, query.k), allowed
        if query.only is not None and parameters.ranking == "text":
            # each has a score of its own, however many other anchors match better
            limit, among = max(limit, len(query.only)), np.zeros(snapshot.slots, np.uint8)
            among[query.only] = 1
        pending = executor.submit(text_matches, snapshot, query.words, limit, among)
    dense = None
    if query.vector is not None:
        # rows that are given need the moments alone, not the scan
        count = 0 if query.only is not None else query.dense_count
        routed = None
        if query.route and snapshot.sharded is not None:
            routed = route(snapshot, snapshot.sharded, query.vector, count, parameters)
        dense = dense_matches(snapshot, query.vector, count, allowed, routed)
    matches, named = None, np.empty(0, np.int64)
    if query.words is not None and pending is not None:
        if parameters.ranking != "text":
            named = named_rows(snapshot, query.words, allowed)
        matches = pending.result()
    return _Found(query=query, dense=dense, text=matches, named=named, allowed=allowed)


def _flat(found: _Found, rows: Rows, measured: _Evidence) -> Ranked:
    """The ranking of the candidates by themselves, without the lattice."""
    parameters = found.query.parameters
    scores = measured.total
    if parameters.ranking == "text" and found.text is not None:
        scores = found.text.scores_of(rows)
    elif parameters.ranking in ("dense", "mmr") and measured.cosine is not None:
        scores = measured.cosine
    best = order(scores, rows)
    if parameters.ranking == "mmr":
        chosen = mmr(measured.vectors[best], scores[best], found.query.k, parameters.mmr_lambda)
        best = best[chosen]
    return Ranked(
        rows=rows, vectors=measured.vectors, best=best, scores=scores, evidence=measured.total,
        named=measured.named, faceted=np.zeros(len(rows), np.bool_), gates=None,
        cosine=measured.cosine, adjacency=None, edges=None, settled=None, routed=found.routed,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """What the gathering of candidates found, under the filter's mask (None: no filter)."""

    query: Query
    dense: DenseMatches | None
    text: TextMatches | None
    named: Rows
    allowed: npt.NDArray[np.uint8] | None

    @property
    def routed(self) -> Routed | None:
        """The shards that the vector was looked for in; None for all."""
        return None if self.dense is None else self.dense.routed

    def rows(self) -> Rows:
        """The candidates: dense, full text and named, ascending."""
        parts = [self.named]
        if self.dense is not None:
            parts.append(self.dense.rows)
        if self.text is not None:
            parts.append(self.text.rows[: self.query.text_count])
        return np.unique(np.concatenate(parts))


class _Evidence:
    """Vectors (n, D), cosine (n,), trust (n,) and, weighed by it, evidence (n,) of some rows."""

    def __init__(self, snapshot: Snapshot, found: _Found, rows: Rows) -> None:
        self.vectors = snapshot.vectors(rows)
        self.cosine: Floats | None = None
        dense = text = None
        if found.query.vector is not None and found.dense is not None:
            self.cosine = products(self.vectors, found.query.vector)
            dense = standardize(self.cosine, found.dense.mean, found.dense.deviation)
        if found.text is not None:
            text = standardize(found.text.scores_of(rows), found.text.mean, found.text.deviation)
        self.named = np.isin(rows, found.named)
        self.trust = snapshot.trust(rows).astype(np.float64)
        total = evidence(dense, text, self.named, found.query.parameters)
        self.total = trusted(total, self.trust)


def _settle(snapshot: Snapshot, found: _Found, rows: Rows, measured: _Evidence) -> Ranked:
    query = found.query
    parameters = query.parameters
    entries = snapshot.lattice.entries(rows)
    adjacency, edges = cut_out(entries, parameters.relation_weights)
    strength = scaled(measured.total, parameters)
    sources = source_rows(measured.total, rows, parameters)
    diffused = diffuse(
        adjacency,
        source_weights(strength, sources),
        parameters,
        degrees=whole_degrees(entries, parameters.relation_weights, found.allowed),
        trust=None if (measured.trust == 1.0).all() else measured.trust,
    ).gates
    faceted = _faceted(snapshot, found, rows)
    scores = final_scores(strength, diffused, faceted, parameters)
    peak = diffused.max()
    gates = (diffused / peak if peak > 0.0 else diffused) * measured.trust
    vectors = measured.vectors
    psi = query.vector
    if psi is None:
        # a question of words alone is settled towards what its best source says
        psi = vectors[sources[0]]
    settled = settle(vectors, psi, gates, adjacency, parameters)
    return Ranked(
        rows=rows, vectors=vectors, best=order(scores, rows), scores=scores,
        evidence=measured.total, named=measured.named, faceted=faceted, gates=gates,
        cosine=measured.cosine,
        adjacency=adjacency, edges=edges, settled=settled, routed=found.routed,
    )  # fmt: skip


def _faceted(snapshot: Snapshot, found: _Found, rows: Rows) -> npt.NDArray[np.bool_]:
    # Which anchors hold the one facet value that the question names.
    lifted = np.zeros(len(rows), np.bool_)
    if found.query.text is None:
        return lifted
    for column, values in snapshot.facets.items():
        named = named_values(found.query.text, list(values))
        if found.allowed is not None and len(named) > 1:
            # a value that no allowed anchor has cannot be meant
            present = snapshot.facet_values(column, found.allowed)
            named = [value for value in named if value in present]
        if len(named) == 1:
            held = snapshot.values(column, rows)
            lifted |= np.array([value is not None and str(value) == named[0] for value in held])
    return lifted


def _hits(snapshot: Snapshot, ranked: Ranked, diagnosis: Diagnosis, k: int) -> tuple[Hit, ...]:
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
