"""The tasks of a search of several stores: each opens one store, wherever it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.fold import find_receipt
from oscillink_store.engine.gather import cut, facets_named, gather, measured, neighbourhood
from oscillink_store.engine.part import Candidates, Joint, lifted_by, part_found
from oscillink_store.engine.ranked import Ranked
from oscillink_store.engine.replay import Asked, obstacle, replay
from oscillink_store.engine.snapshot import Snapshot
from oscillink_store.engine.standing import Numbers
from oscillink_store.engine.verify import verify
from oscillink_store.engine.views import statistics
from oscillink_store.errors import IntegrityError, MissingError
from oscillink_store.filters import Filter
from oscillink_store.lattice.names import NamedRun, named_runs
from oscillink_store.lattice.postings import TextStatistics, frequencies
from oscillink_store.many.answers import (
    Description,
    Gathered,
    PartQuestion,
    Place,
    Settled,
    Spread,
    Survey,
)
from oscillink_store.many.opened import Opened, opened
from oscillink_store.model import Parameters
from oscillink_store.receipts.canonical import text_digest
from oscillink_store.receipts.key import Keys
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.reports import ReplayReport, VerifyReport
from oscillink_store.storage.mirror import local_copy

__all__ = [
    "describe", "gather_part", "replay_part", "settle_part", "spread_part", "statistics_of",
    "survey", "verify_part",
]  # fmt: skip

_ATTEMPTS = 5

Answer = TypeVar("Answer")
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


def describe(place: Place) -> Description:
    """Say what a store holds."""
    snapshot = opened(place).snapshot()
    return Description(
        generation=snapshot.generation,
        anchors=len(snapshot),
        dimension=snapshot.manifest.dimension,
        embedder=_embedder(snapshot),
        mean=snapshot.moments[0] if len(snapshot) else None,
    )


def survey(
    place: Place, text: str | None, where: str | Filter | None, generation: int | None
) -> Survey:
    """Count what the statistics of all stores are made of; of the live generation, if None."""

    def count(snapshot: Snapshot) -> Survey:
        names: list[NamedRun] = []
        counted = None
        if text is not None:
            counted = frequencies(snapshot.word_parts, text, snapshot.alive)
            names = named_runs(
                text, snapshot.name_parts, snapshot.alive,
                lambda slot: snapshot.values("title", np.array([slot]))[0], snapshot.parameters,
            )  # fmt: skip
        allowed = None if where is None else snapshot.allowed(where)
        facets = facets_named(snapshot, text)
        present = None
        if allowed is not None:
            present = {
                column: frozenset(map(text_digest, snapshot.facet_values(column, allowed)))
                & {text_digest(span.value) for span in spans}
                for column, spans in facets.items()
            }
        return Survey(
            generation=snapshot.generation,
            anchors=len(snapshot),
            dimension=snapshot.manifest.dimension,
            embedder=_embedder(snapshot),
            parameters=snapshot.parameters,
            sharded=snapshot.sharded is not None,
            words=snapshot.text_statistics.length,
            frequencies=counted,
            names=names,
            facets={
                column: [span._replace(value=text_digest(span.value)) for span in spans]
                for column, spans in facets.items()
            },
            present=present,
        )

    return _answered(opened(place), generation, count)


def _answered(store: Opened, generation: int | None, run: Callable[[Snapshot], Answer]) -> Answer:
    for attempt in range(_ATTEMPTS):
        snapshot = store.snapshot(generation)
        try:
            return run(snapshot)
        except IntegrityError:
            # a writer may have taken away files that were not open yet
            if attempt == _ATTEMPTS - 1 or store.snapshot(generation) is snapshot:
                raise
    raise AssertionError("unreachable")


def _embedder(snapshot: Snapshot) -> str | None:
    recorded = snapshot.manifest.embedder
    return None if recorded is None else str(recorded["name"])


def gather_part(place: Place, question: PartQuestion) -> Gathered:
    """Find the candidates of a store."""
    store, query = opened(place), question.query
    snapshot = store.snapshot(question.generation)
    if len(snapshot) == 0:
        return _nothing(question)
    statistics = None if question.statistics is None else TextStatistics(*question.statistics)
    named = question.named
    if query.where is not None:
        named = named[snapshot.allowed(query.where)[named] == 1]
    found = gather(snapshot, query, store.executor, statistics=statistics, named=named)
    rows = found.rows()
    numbers, vectors = measured(snapshot, query, rows, named, found.text)
    dense, text = found.dense, found.text
    return Gathered(
        anchors=len(snapshot) if found.allowed is None else int(found.allowed.sum()),
        similarity=None if dense is None else (dense.mean, dense.deviation),
        dense=named[:0] if dense is None else dense.rows,
        text=named[:0] if text is None else text.rows,
        bm25=np.empty(0) if text is None else text.scores,
        numbers=numbers,
        lifted=lifted_by(snapshot, query, question.facets, rows),
        vectors=vectors if query.parameters.ranking == "mmr" else None,
        routed=found.routed,
    )


def _nothing(question: PartQuestion) -> Gathered:
    query, no_rows, none = question.query, question.named[:0], np.empty(0)
    has_vector, D = query.vector is not None, 0 if query.vector is None else len(query.vector)
    return Gathered(
        anchors=0,
        similarity=(0.0, 0.0) if has_vector else None,
        dense=no_rows,
        text=no_rows,
        bm25=none,
        numbers=Numbers(
            no_rows, none if has_vector else None, None if query.words is None else none,
            none > 0, none,
        ),
        lifted=none > 0,
        vectors=np.empty((0, D), np.float32) if query.parameters.ranking == "mmr" else None,
        routed=None,
    )  # fmt: skip


def spread_part(place: Place, question: PartQuestion, rows: Rows, seeds: Rows) -> Spread:
    """Add the neighbours of the seeds to the candidates, and cut out the lattice between them."""
    query = question.query
    snapshot = opened(place).snapshot(question.generation)
    allowed = None if query.where is None else snapshot.allowed(query.where)
    rows = neighbourhood(snapshot, rows, seeds, allowed, query.parameters)
    numbers, vectors = measured(snapshot, query, rows, question.named, None)
    return Spread(
        numbers=numbers,
        lifted=lifted_by(snapshot, query, question.facets, rows),
        graph=cut(snapshot, rows, allowed, query.parameters)._replace(edges=None),
        vectors=vectors if query.vector is None else None,
    )


def settle_part(
    place: Place, question: PartQuestion, joint: Joint, candidates: Candidates, record: bool
) -> Settled:
    """Settle the candidates of a store, record the receipt of that, and give its hits away."""
    started = time.perf_counter()
    store, query = opened(place), question.query
    snapshot = store.snapshot(question.generation)
    hits, content, ranked = part_found(snapshot, query, joint, candidates)
    seconds = time.perf_counter() - started
    ledger = store.ledger if record else store.unrecorded
    receipt = ledger.record(content, label=query.label, payload=query.payload, seconds=seconds)
    settled = ranked.settled
    return Settled(
        hits=hits,
        receipt=receipt,
        ids=[] if settled is None else snapshot.values("id", ranked.rows),
        digests=[] if settled is None else snapshot.values("digest", ranked.rows),
        own=np.empty(0) if settled is None else _own(ranked, settled.U, query.parameters),
    )


def _own(ranked: Ranked, U: npt.NDArray[np.float32], parameters: Parameters) -> Floats:
    """The terms of ΔH that are an anchor's alone, (λ_G + λ_Q b_i)‖Y_i − U_i‖², (n,)."""
    assert ranked.gates is not None
    moved = ranked.vectors.astype(np.float64) - U
    squares = np.add.accumulate(moved * moved, axis=1)[:, -1]  # in one order everywhere
    return (parameters.anchor_term + parameters.query_term * ranked.gates) * squares


def statistics_of(place: Place) -> dict[str, Any]:
    """Counts and sizes of the live generation, as plain JSON values."""
    return statistics(opened(place).snapshot())


def verify_part(place: Place, keys: Keys | None) -> VerifyReport:
    """Check every checksum of a store, every manifest and chain of receipts."""
    return verify(local_copy(place.path, place.cache), keys=keys)


def replay_part(place: Place, told: Receipt | str, asked: Asked) -> ReplayReport:
    """Replay the receipt of a store's part, or the one with this hash, by itself."""
    store = opened(place)
    receipt = told if isinstance(told, Receipt) else find_receipt(store.root, store.snapshot, told)
    receipt.verify(place.key if place.key and receipt.key_id == place.key.id else None)
    reason = obstacle(receipt)
    if reason is None:
        try:
            snapshot = store.snapshot(receipt.generation)
        except MissingError:
            reason = f"generation {receipt.generation} has been dropped"
        else:
            return replay(snapshot, receipt, asked, None, store.executor)
    return ReplayReport(receipt=receipt, status="not replayable", reason=reason, differences=())
